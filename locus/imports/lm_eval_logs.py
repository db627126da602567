"""Logs of lm-evaluation-harness: a folder, nested in any way, of samples and results files.

Here it is decided which model a file is about, which metric is a query's score, and what becomes of
what was logged twice; the rules are in docs/imports.md. How the two kinds of file are read is in
`lm_eval_results` and `lm_eval_samples`. Everything in a log is a stranger's text: data, never
instructions, never a path.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from locus.imports.bundle import (
    TASK_RULE,
    ProblemLog,
    ReadResult,
    model_id_reason,
    now_utc,
    visible,
)
from locus.imports.lm_eval_documents import About
from locus.imports.lm_eval_frames import Log, Run, ScoreRows, build_bundle
from locus.imports.lm_eval_metrics import Choice, choose, document_score
from locus.imports.lm_eval_parts import in_parts
from locus.imports.lm_eval_results import (
    RESULTS_NAME,
    SAMPLES_NAME,
    ResultsFile,
    local_name,
    read_results,
    stamp_time,
)
from locus.imports.lm_eval_samples import read_samples

UNKNOWN_VERSION = "?"

# query id -> where it was scored, the status and the score
_Taken = dict[str, tuple[str, str, float | None]]


@dataclass
class _Reading:
    """What one call of `read_lm_eval` gathers on its way."""

    folder: Path
    model: str | None
    problems: ProblemLog = field(default_factory=ProblemLog)
    notes: dict[str, None] = field(default_factory=dict)
    paths_of: dict[str, str] = field(default_factory=dict)  # model id -> local path it came from

    def note(self, text: str) -> None:
        """Add a note, once."""
        self.notes.setdefault(visible(text))


def read_lm_eval(
    folder: Path,
    run_id: str,
    *,
    model: str | None = None,
    metric: Mapping[str, str] | None = None,
    now: datetime | None = None,
    skip_bad: bool = False,
) -> ReadResult:
    """Read what lm-evaluation-harness wrote with ``--log_samples``.

    Args:
        folder: holds samples_<task>_<timestamp>.jsonl and, if there are any,
            results_<timestamp>.json, in any nesting.
        run_id: the evaluation run that the scores are booked under.
        model: the model's id; needed where neither a results file nor the folder's name says it.
        metric: task -> the metric that is its score, as 'acc_norm' or, with the filter,
            'exact_match,flexible-extract'.
        now: the time of the import; default: the present.
        skip_bad: leave out what is wrong and import the rest, instead of importing nothing.

    Returns:
        The frames and everything that was wrong. Nothing is raised for bad content.
    """
    run = _Reading(Path(folder), model)
    logs = _read_files(run)
    choices = _choose_metrics(run, logs, dict(metric or {}))
    moment = now_utc(now)
    scores = _score_rows(run, logs, choices, run_id)
    bundle = None
    if scores and (skip_bad or not run.problems.total):
        bundle = build_bundle(logs, choices, scores, moment)
    return run.problems.result(bundle, list(run.notes), skip_bad)


def _read_files(run: _Reading) -> list[Log]:
    """Every samples file below the folder, each with the run it belongs to."""
    samples: list[tuple[Path, str, str]] = []  # path, task, stamp
    results: dict[Path, dict[str, ResultsFile]] = {}  # folder -> stamp -> results
    for path in _files(run):
        name = _relative(run, path)
        found = SAMPLES_NAME.fullmatch(path.name)
        if found:
            samples.append((path, found["task"], found["stamp"]))
        elif path.name.startswith("samples_") and path.suffix == ".jsonl":
            run.problems.add(name, name, "expected a name like samples_<task>_<timestamp>.jsonl")
        elif found := RESULTS_NAME.fullmatch(path.name):
            read = read_results(path, name, run.problems)
            if read is not None:
                results.setdefault(path.parent, {})[found["stamp"]] = read
    if not samples:
        place = run.folder.name or "."
        run.problems.add(
            place, place, "no samples_<task>_<timestamp>.jsonl: run lm-eval with --log_samples"
        )
    _check_one_model(run, [r for by_stamp in results.values() for r in by_stamp.values()])
    abouts = {
        path: _about(task, _results_of(results, path, stamp)) for path, task, stamp in samples
    }
    logs = []
    fit = [(path, about) for path, about in abouts.items() if _is_task(about.task)]
    with in_parts(fit) as reader:
        for path, task, stamp in samples:
            name = _relative(run, path)
            if not _is_task(task):
                run.problems.add(name, task, f"task: {TASK_RULE}")
                continue
            said = _results_of(results, path, stamp)
            filters = said.filters(task) if said else []
            read_file = read_samples(reader.read(path), name, run.problems, filters)
            known = _run_of(run, path, name, stamp, said)
            if known is not None:
                logs.append(Log(task, abouts[path].version, known, read_file))
                if read_file.n_repeated:
                    run.note(f"{name}: {read_file.n_repeated} repeated records collapsed")
    return logs


def _is_task(name: str) -> bool:
    return len(name) <= 200 and name.isprintable()


def _about(task: str, said: ResultsFile | None) -> About:
    version = said.versions.get(task, UNKNOWN_VERSION) if said else UNKNOWN_VERSION
    return About(task, version, said.output_type(task) if said else None)


def _files(run: _Reading) -> list[Path]:
    """The regular files below the folder, in a fixed order; links to folders are not followed."""

    def report(error: OSError) -> None:
        run.problems.add(str(error.filename), str(error.filename), f"can't be read: {error}")

    paths = []
    for where, _, names in os.walk(run.folder, onerror=report, followlinks=False):
        paths += [Path(where) / name for name in names]
    return sorted(path for path in paths if path.is_file())


def _relative(run: _Reading, path: Path) -> str:
    # Names that are not UTF-8 come with surrogates, which are no text.
    return path.relative_to(run.folder).as_posix().encode("utf-8", "replace").decode()


def _results_of(
    results: dict[Path, dict[str, ResultsFile]], path: Path, stamp: str
) -> ResultsFile | None:
    """The results file of the same run: same timestamp, same folder, else the only one anywhere."""
    here = results.get(path.parent, {})
    if stamp in here:
        return here[stamp]
    elsewhere = [by_stamp[stamp] for by_stamp in results.values() if stamp in by_stamp]
    return elsewhere[0] if len(elsewhere) == 1 else None


def _check_one_model(run: _Reading, results: list[ResultsFile]) -> None:
    """``model`` names one model: it can't be the name of several."""
    if run.model is None:
        return
    reason = model_id_reason(run.model)
    if reason:
        run.problems.add(run.folder.name or ".", run.model, reason)
    names = {found.model_name: None for found in results if found.model_name}
    if len(names) > 1:
        run.problems.add(
            run.folder.name or ".",
            run.model,
            f"one model is given, but the results are of {len(names)}: import their folders "
            "one by one, or leave the model out",
        )


def _run_of(
    run: _Reading, path: Path, name: str, stamp: str, said: ResultsFile | None
) -> Run | None:
    """The run a samples file belongs to; None, with a problem, if its model has no valid id."""
    time = stamp_time(stamp)
    if time is None:
        run.problems.add(name, stamp, "the timestamp in the file's name is no date and time")
        return None
    if said is not None and said.date is not None:
        time = said.date
    else:
        run.note("the time of a run without a date in its results is its file's, taken as UTC")
    source = said.file if said is not None and said.model_name else name
    model = run.model or _model_name(run, path, said)
    reason = model_id_reason(model)
    if run.model is None and reason:
        run.problems.add(source, model, f"{reason}; give the model's id with the import")
    if reason:
        return None
    return Run(
        model_id=model,
        revision=said.revision if said else "import",
        backend=said.backend if said else "unknown",
        time=time,
        results=said,
    )


def _model_name(run: _Reading, path: Path, said: ResultsFile | None) -> str:
    """The model's name by its results file, or by the folder that holds the samples."""
    if said is None or said.model_name is None:
        folder = path.parent.resolve().name.encode("utf-8", "replace").decode()
        name = folder.replace("__", "/") if folder.count("__") == 1 else folder
        run.note(f"{name}: the model's id is taken from the folder {folder}, for want of results")
        return name
    short = local_name(said.model_name)
    if short is None:
        return said.model_name
    before = run.paths_of.setdefault(short, said.model_name)
    if before != said.model_name:
        run.problems.add(
            said.file,
            said.model_name,
            f"two local models are called {short}: import their folders one by one, each with "
            "its model's id",
        )
    run.note(f"{short}: the model's id is the last part of its local path")
    return short


def _choose_metrics(
    run: _Reading, logs: list[Log], wanted: dict[str, str]
) -> dict[str, Choice | None]:
    """For every task, which metric is its score; None, with a problem, if there is none."""
    by_task: dict[str, list[Log]] = {}
    for log in logs:
        by_task.setdefault(log.task, []).append(log)
    for task in set(wanted) - set(by_task):
        run.problems.add(run.folder.name or ".", task, "a metric is given, but not such a task")
    choices: dict[str, Choice | None] = {}
    for task, of_task in sorted(by_task.items()):
        listed = [m for log in of_task if log.run.results for m in log.run.results.metrics(task)]
        documents = [d for log in of_task for d in log.samples.documents]
        choice, passed = choose(wanted.get(task), listed, documents)
        choices[task] = choice
        if choice is None and documents:
            shown = ", ".join(passed) or "none"
            for log in of_task:
                run.problems.add(
                    log.samples.file,
                    f"task {task}",
                    f"no metric is a number within [0, 1]; logged are: {shown}",
                )
        elif choice is not None and passed:
            run.note(f"task {task}: {choice.metric} is the score; {', '.join(passed)} can't be")
    return choices


def _score_rows(
    run: _Reading, logs: list[Log], choices: dict[str, Choice | None], run_id: str
) -> list[ScoreRows]:
    """One row for every (model revision, query, time), in the order of the files."""
    parts = []
    taken: dict[tuple[str, str, datetime], _Taken] = {}
    same_question = 0
    for log in logs:
        choice = choices[log.task]
        if choice is None:
            continue
        name = choice.filter or (log.samples.filters[0] if log.samples.filters else "none")
        rows = ScoreRows(log, run_id, choice.metric, name)
        before = taken.setdefault((log.run.model_id, log.run.revision, log.run.time), {})
        for document in log.samples.documents:
            status, score, reason = document_score(document, choice.metric, name)
            if reason is None:
                earlier = before.get(document.query_id)
                if earlier is None:
                    before[document.query_id] = (log.samples.file, status, score)
                    rows.add(document, status, score)
                    continue
                file, *said = earlier
                if file == log.samples.file:
                    same_question += 1
                    continue
                if said == [status, score]:
                    run.note(f"{log.samples.file}: the same run is also in {file}")
                    continue
                reason = f"{file} has another score for the same model, query and time"
                line = document.line
            else:
                line = document.lines.get(name, document.line)
            item = f"task {log.task}, doc_id {visible(document.doc_id, 60)}"
            run.problems.add(log.samples.file, item, reason, line)
        parts.append(rows)
    if same_question:
        run.note(f"{same_question} documents ask what another of the same file asks: the first won")
    return [rows for rows in parts if rows.documents]
