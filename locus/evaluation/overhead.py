"""What our evaluation costs beside bare lm-eval: the same models and documents, timed in turns.

``python -m locus.evaluation.overhead`` makes random models and two tasks, then runs each model
through ``lm_eval run`` and through `locus.evaluation.launch.evaluate`, every run as a process that
starts from nothing. Both load the same tasks, use the same batch size, threads and device, and
must give the same scores. Wall and processor time are told as medians, with the ratio of both.

What belongs here: the comparison. What is compared is in `locus.evaluation.launch` and
`locus.evaluation.worker`; the numbers that were found stand in docs/evaluation-overhead.md.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from locus.evaluation.launch import EvaluationFailedError, Progress, evaluate, worker_environment
from locus.evaluation.request import EvaluationRequest

CHOICE, WRITE = "overhead_choice", "overhead_write"
_METRICS = {CHOICE: "acc", WRITE: "exact_match"}
_TIMEOUT_S = 3600.0

_TASKS = {
    CHOICE: """\
output_type: multiple_choice
doc_to_text: "{{question}} ->"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
""",
    WRITE: """\
output_type: generate_until
doc_to_text: "{{question}} ->"
doc_to_target: "{{target}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 24, do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
""",
}

_DOCUMENTS = """\
import json
from pathlib import Path

from datasets import Dataset


def _read(name):
    lines = Path(__file__).with_name(f"{name}.jsonl").read_text().splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}


"""


class BenchmarkError(RuntimeError):
    """A run failed, so that there is nothing to compare; says which, and where its log is."""


@dataclass(frozen=True)
class Size:
    """A model, and how much it is asked.

    Attributes:
        name: what the table calls it.
        hidden: width of the model.
        layers: depth of the model.
        choices: documents of the multiple-choice task, four options each.
        writes: documents of the generation task.
    """

    name: str
    hidden: int
    layers: int
    choices: int
    writes: int


# The first has next to nothing to do: what both sides need to start and to end.
SIZES = (
    Size("start", 256, 4, 8, 2),
    Size("small", 256, 4, 1000, 200),
    Size("large", 512, 8, 300, 60),
)
QUICK = (Size("quick", 32, 1, 24, 6),)


@dataclass(frozen=True)
class Timing:
    """One run.

    Attributes:
        wall_s: seconds from the start of the process to its end.
        cpu_s: processor seconds of it and its children.
        load: load average of the machine over the minute before.
        stages: seconds of the run's parts, where they are known.
    """

    wall_s: float
    cpu_s: float
    load: float
    stages: Mapping[str, float]


@dataclass(frozen=True)
class Setting:
    """What both sides have in common."""

    folder: Path
    batch_size: int
    threads: int
    seed: int


def write_world(setting: Setting, size: Size) -> tuple[Path, Path]:
    """Write a random model and its two tasks.

    Returns:
        (folder of the model, folder of the tasks).
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from locus.zoo.tokenizer import BOS, EOS, PAD, UNK, make_tokenizer, vocabulary

    model = setting.folder / size.name / "model"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(),
        pad_token=PAD, bos_token=BOS, eos_token=EOS, unk_token=UNK,
    )  # fmt: skip
    torch.manual_seed(setting.seed)
    config = GPT2Config(
        vocab_size=len(vocabulary()), n_positions=256, n_embd=size.hidden, n_layer=size.layers,
        n_head=max(1, size.hidden // 64), bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(model, safe_serialization=True)
    tokenizer.save_pretrained(model)
    tasks = setting.folder / size.name / "tasks"
    tasks.mkdir()
    draw = random.Random(setting.seed)  # noqa: S311
    functions = _DOCUMENTS
    for name, n in ((CHOICE, size.choices), (WRITE, size.writes)):
        rows = [_document(draw, i) for i in range(n)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tasks / f"{name}.jsonl").write_text(text)
        source = f"custom_dataset: !function overhead_documents.{name}\ntest_split: test\n"
        head = f"task: {name}\nmetadata: {{version: 1.0}}\n{source}"
        (tasks / f"{name}.yaml").write_text(head + _TASKS[name])
        functions += f"def {name}(**_):\n    return _read({name!r})\n\n\n"
    (tasks / "overhead_documents.py").write_text(functions)
    return model, tasks


def _document(draw: random.Random, number: int) -> dict[str, Any]:
    """A document of 40 to 80 tokens; its number makes it another than every other."""
    words = " ".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(20, 60)))
    choices = [" ".join(draw.choice("abcdefghij") for _ in range(4)) for _ in range(4)]
    answer = draw.randrange(4)
    return {
        "number": number,
        "question": f"Number {number}: {words}",
        "choices": choices,
        "answer": answer,
        "target": choices[answer],
    }


def timed(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Timing:
    """Run a command to its end.

    Raises:
        BenchmarkError: it failed.
    """
    load = os.getloadavg()[0]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with log.open("wb") as stream:
        status = subprocess.run(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False,
        ).returncode  # fmt: skip
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if status:
        raise BenchmarkError(f"{' '.join(command[:4])} ended with status {status}: see {log}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall_s, cpu_s, load, {})


Answers = dict[tuple[str, int], tuple[float, str]]
"""(score, answer) by (task, number of the document)."""


def run_bare(setting: Setting, model: Path, tasks: Path, out: Path) -> tuple[Timing, Answers]:
    """lm-eval's own command line."""
    command = [
        sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--model_args",
        f"pretrained={model}", "--tasks", CHOICE, WRITE, "--include_path", str(tasks),
        "--batch_size", str(setting.batch_size), "--device", "cpu", "--log_samples",
        "--output_path", str(out),
    ]  # fmt: skip
    timing = timed(command, worker_environment(setting.threads), out.with_suffix(".log"))
    answers: Answers = {}
    for path in out.rglob("samples_*.jsonl"):
        task = CHOICE if CHOICE in path.name else WRITE
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            said = str(row["resps"][0][0]) if task == WRITE else ""
            answers[task, row["doc"]["number"]] = (float(row[_METRICS[task]]), said)
    return timing, answers


def run_ours(
    setting: Setting, request: EvaluationRequest, numbers: Mapping[str, int], out: Path
) -> tuple[Timing, Answers]:
    """Our evaluation, from the start of the process that launches the worker to its end.

    Args:
        setting: what both sides have in common.
        request: what is asked; its parts go to another folder.
        numbers: number of its document, by query.
        out: folder for all that is written.
    """
    import polars as pl

    out.mkdir()
    request = replace(request, parts=str(out / "parts"))
    request.write(out / "asked.json")
    command = [
        sys.executable, "-m", "locus.evaluation.overhead", "--asked", str(out / "asked.json"),
        "--threads", str(setting.threads),
    ]  # fmt: skip
    timing = timed(command, worker_environment(setting.threads), out / "launch.log")
    timing = replace(timing, stages=json.loads((out / "stages.json").read_text()))
    task_of = {query: task for task, queries in request.queries.items() for query in queries}
    rows = pl.concat([pl.read_parquet(p) for p in sorted((out / "parts").glob("*.parquet"))])
    answers: Answers = {}
    for query, score, said in rows.select("query_id", "score", "response").iter_rows():
        task = task_of[query]
        answers[task, numbers[query]] = (score, said if task == WRITE else "")
    return timing, answers


def ask(path: Path, threads: int) -> None:
    """Our side of a comparison, in a process of its own: evaluate a request, note the stages."""
    started = time.perf_counter()
    seen: list[float] = []

    def note(_: Progress) -> None:
        seen.append(time.perf_counter() - started)

    evaluate(EvaluationRequest.read(path), path.parent, _TIMEOUT_S, threads, note)
    ended = time.perf_counter() - started
    # The first event tells that the model is loaded, the last that the last part is written.
    stages = {"until loaded": seen[0], "asking": seen[-1] - seen[0], "ending": ended - seen[-1]}
    (path.parent / "stages.json").write_text(json.dumps(stages))


def compare(
    setting: Setting, size: Size, repetitions: int, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Time both sides in turns (bare ours, ours bare, and so on) and compare their answers."""
    from locus.evaluation.catalogue import read_catalogue

    model, tasks = write_world(setting, size)
    started = time.perf_counter()
    bank = read_catalogue([CHOICE, WRITE], [tasks])[1]
    catalogue_s = time.perf_counter() - started
    numbers = {
        query: json.loads(doc)["number"]
        for query, doc in bank.select("query_id", "doc").iter_rows()
    }
    by_task = bank.group_by("task", maintain_order=True)
    request = EvaluationRequest(
        run_id="overhead",
        model_id=f"overhead/{size.name}",
        revision="random",
        backend="hf",
        args={"pretrained": str(model)},
        queries={str(task): rows["query_id"].to_list() for (task,), rows in by_task},
        parts="",
        task_folders=[str(tasks)],
        batch_size=setting.batch_size,
        device="cpu",
    )
    timings: dict[str, list[Timing]] = {"bare": [], "ours": []}
    found: dict[str, list[Answers]] = {"bare": [], "ours": []}
    for i in range(repetitions):
        for side in ("bare", "ours") if i % 2 == 0 else ("ours", "bare"):
            out = setting.folder / size.name / f"{side}-{i}"
            if side == "bare":
                timing, answers = run_bare(setting, model, tasks, out)
            else:
                timing, answers = run_ours(setting, request, numbers, out)
            timings[side].append(timing)
            found[side].append(answers)
            tell(f"{size.name} {side}: {timing.wall_s:.1f} s, load {timing.load:.1f}")
    reference = found["bare"][0]
    return {
        "size": asdict(size),
        "documents": len(reference),
        "catalogue_s": catalogue_s,
        "runs": {side: [asdict(t) for t in runs] for side, runs in timings.items()},
        "wall": _ratio(timings, lambda t: t.wall_s),
        "cpu": _ratio(timings, lambda t: t.cpu_s),
        "documents_missing": _count(found, lambda a: len(reference.keys() ^ a.keys())),
        "scores_differing": _count(found, lambda a: _differing(reference, a, 0)),
        "texts_differing": _count(found, lambda a: _differing(reference, a, 1)),
    }


def _count(found: Mapping[str, Iterable[Answers]], count: Callable[[Answers], int]) -> int:
    """The largest count over all runs of both sides."""
    return max(count(answers) for runs in found.values() for answers in runs)


def _differing(one: Answers, other: Answers, part: int) -> int:
    return sum(one[key][part] != other[key][part] for key in one.keys() & other.keys())


def _ratio(
    timings: Mapping[str, Sequence[Timing]], of: Callable[[Timing], float]
) -> dict[str, Any]:
    """Medians and ranges (s), the ratio of medians, and the range of ratios of neighbours."""
    bare, ours = ([of(t) for t in timings[side]] for side in ("bare", "ours"))
    ratios = [b / a for a, b in zip(bare, ours, strict=True)]
    return {
        "bare_median_s": median(bare),
        "bare_range_s": [min(bare), max(bare)],
        "ours_median_s": median(ours),
        "ours_range_s": [min(ours), max(ours)],
        "ratio_of_medians": median(ours) / median(bare),
        "ratio_range": [min(ratios), max(ratios)],
    }


def run(
    sizes: Sequence[Size], repetitions: int, setting: Setting, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The whole comparison, as plain data."""
    packages = ("lm_eval", "torch", "transformers", "polars")
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "seed": setting.seed,
        "threads": setting.threads,
        "batch_size": setting.batch_size,
        "repetitions": repetitions,
        "models": [compare(setting, size, repetitions, tell) for size in sizes],
    }


def table(result: Mapping[str, Any]) -> str:
    """A result as text."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"{result['machine']}; {versions}",
        f"seed {result['seed']}, threads {result['threads']}, batch size {result['batch_size']}, "
        f"{result['repetitions']} repetitions",
        "| model | documents | time | bare, s | ours, s | ours / bare | scores differing |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in result["models"]:
        for kind in ("wall", "cpu"):
            t = one[kind]
            cells = [
                f"{t[f'{side}_median_s']:.1f} ({_span(t[f'{side}_range_s'], 1)})"
                for side in ("bare", "ours")
            ]
            lines.append(
                f"| {one['size']['name']} | {one['documents']} | {kind} | {' | '.join(cells)} | "
                f"{t['ratio_of_medians']:.3f} ({_span(t['ratio_range'], 3)}) | "
                f"{one['scores_differing']} |"
            )
    return "\n".join(lines) + "\n"


def _span(ends: Sequence[float], digits: int) -> str:
    return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def main() -> int:
    """Compare, write the result as JSON, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m locus.evaluation.overhead")
    parser.add_argument("--quick", action="store_true", help="a few documents, once")
    parser.add_argument("--repetitions", type=int, default=4, help="runs of each side")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of a run")
    parser.add_argument("--out", type=Path, default=Path("build/evaluation-overhead.json"))
    parser.add_argument("--asked", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()

    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        if options.asked:
            ask(options.asked, options.threads)
            return 0
        sizes, repetitions = (QUICK, 1) if options.quick else (SIZES, options.repetitions)
        with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
            setting = Setting(Path(folder), batch_size=32, threads=options.threads, seed=1234)
            result = run(sizes, repetitions, setting, tell)
    except (BenchmarkError, EvaluationFailedError) as error:
        tell(f"error: {error}")
        return 2
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(table(result))
    same = all(one["scores_differing"] == one["documents_missing"] == 0 for one in result["models"])
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
