# Every verb works on a fresh machine: it makes the virtual environment it needs first.
PYTHON      ?= python3
VENV        ?= .venv
BIN         := $(VENV)/bin
# A machine with an NVIDIA GPU keeps torch free (CUDA build); every other one takes the pinned CPU build.
CONSTRAINTS ?= $(if $(shell command -v nvidia-smi 2>/dev/null),constraints/gpu.txt,constraints/cpu.txt)
# Tests run beside one another, a file at a time; more than there are cores, since they often wait.
TEST_WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n + 2 : 6)))
# Where nobody may write bytecode, each of the many processes here compiles the project anew.
unexport PYTHONDONTWRITEBYTECODE
# In the order of tests/conftest.py; xdist would start files of many tests first, whole nights last.
PYTEST_ARGS ?= -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
STAMP       := $(VENV)/.installed-$(shell cat pyproject.toml $(CONSTRAINTS) constraints/sdks.txt constraints/tested.txt | cksum | cut -d' ' -f1)

.DEFAULT_GOAL := help
.PHONY: help setup demo bench bench-eval bench-router test test-kills test-load fuzz lint format audit licences sbom clean

help: ## Show these verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(STAMP) ## Create .venv and install everything (about 2 minutes the first time)

$(STAMP): pyproject.toml $(CONSTRAINTS) constraints/sdks.txt constraints/tested.txt
	@echo "==> setting up $(VENV) with $(CONSTRAINTS) (2-3 minutes the first time)"
	@# Without Debian's python3-venv an environment is left half made: it has no pip.
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit("Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --use-pep517 -c $(CONSTRAINTS) -e '.[dev]'
	@rm -f $(VENV)/.installed-* && touch $@
	@echo "==> installed"

demo: setup ## Run the main job end to end on a zoo of tiny local models
	@$(BIN)/locus demo

bench: setup ## Time everything beside the plain ways to do it (under half an hour; BENCH_ARGS="--quick refresh")
	@$(BIN)/locus bench $(BENCH_ARGS)

bench-eval: setup ## Time our evaluation beside bare lm-eval (about 15 minutes; BENCH_ARGS=--quick)
	@$(BIN)/python -m locus.evaluation.overhead $(BENCH_ARGS)

bench-router: setup ## Time the router beside its plain path (about 2 minutes; BENCH_ARGS="--quick --json")
	@$(BIN)/python -m locus.routing.speed $(BENCH_ARGS)

test: setup ## Run linters' import contract and the whole test suite
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-kills: setup ## Kill fifty nights, a thousand short loops, twenty workers and one machine of two at random instants (about 45 minutes)
	@LOCUS_KILLS=50 $(BIN)/python -m pytest -o log_cli=true --log-cli-level=INFO tests/promises/test_13_killed_at_any_instant.py tests/tasks/test_kills.py
	@LOCUS_SHORT_KILLS=1000 $(BIN)/python -m pytest -o log_cli=true --log-cli-level=INFO tests/promises/test_13_short_loops.py
	@LOCUS_POOL_MODELS=16 $(BIN)/python -m pytest tests/flows/test_pool.py

test-load: setup ## 10,000 requests at rising concurrency, and 50 readers, while snapshots are published
	@LOCUS_LOAD_REQUESTS=10000 $(BIN)/python -m pytest -o log_cli=true --log-cli-level=INFO tests/flows/test_route_load.py
	@LOCUS_READERS=50 $(BIN)/python -m pytest -o log_cli=true --log-cli-level=INFO tests/promises/test_03_readers_see_whole_snapshots.py

fuzz: setup ## 100,000 hostile inputs for each way in (hours; LOCUS_FUZZ_EXAMPLES=5000, LOCUS_FUZZ_SEED=1)
	@LOCUS_FUZZ_EXAMPLES=$${LOCUS_FUZZ_EXAMPLES:-100000} $(BIN)/python -m pytest -s tests/fuzz

lint: setup ## Style (ruff), types (mypy --strict) and the import contract
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: setup ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

# Tools that look at an environment live in one of their own: what they need is not what we ship.
TOOLS       := $(VENV)/tools
$(TOOLS)/.installed: $(STAMP)
	@$(BIN)/python -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --disable-pip-version-check --quiet 'pip-audit>=2.10,<3' 'cyclonedx-bom>=7,<8' 'pip-licenses>=5,<6'
	@touch $@

audit: $(TOOLS)/.installed ## Ask a vulnerability service about everything installed (network; AUDIT_ARGS="-s osv")
	@$(TOOLS)/bin/pip-audit --strict --skip-editable --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') $(AUDIT_ARGS)

licences: $(TOOLS)/.installed ## List the licence of everything installed, as CSV
	@$(TOOLS)/bin/pip-licenses --python $(BIN)/python --format=csv --order=license --with-urls

sbom: $(TOOLS)/.installed ## Write sbom.cdx.json: everything installed, as CycloneDX
	@$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --of JSON -o sbom.cdx.json
	@echo "==> sbom.cdx.json"

clean: ## Remove the environment and caches (your data/ stays)
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache *.egg-info
