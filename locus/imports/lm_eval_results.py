"""The results files of lm-evaluation-harness: who was evaluated, how, and with which settings.

Here belong the reading of ``results_<timestamp>.json`` and what is kept of it for the record,
secrets left out. Scores come from the samples files alone: `lm_eval_samples`.
"""

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PureWindowsPath
from typing import Any

from locus.imports.bundle import ProblemLog, is_revision
from locus.imports.lm_eval_records import is_shallow, repair

_TIMESTAMP = r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}(?:\.\d{1,6})?"
SAMPLES_NAME = re.compile(rf"samples_(?P<task>.+)_(?P<stamp>{_TIMESTAMP})\.jsonl", re.DOTALL)
RESULTS_NAME = re.compile(rf".+_(?P<stamp>{_TIMESTAMP})\.json", re.DOTALL)

# What is kept of a results file for the record, beside the arguments of the model.
_KEPT = (
    "lm_eval_version",
    "transformers_version",
    "git_hash",
    "upper_git_hash",
    "date",
    "model_source",
    "model_name",
    "system_instruction_sha",
    "fewshot_as_multiturn",
    "chat_template_sha",
    "task_hashes",
    "n-shot",
    "n-samples",
)
_KEPT_CONFIG = ("limit", "batch_size", "gen_kwargs", "random_seed", "fewshot_seed")

_SECRET_NAME = re.compile(
    r"(?:^|[^a-z])(?:api_?key|key|secret|passwd|password|pwd|auth|authorization|bearer|headers?"
    r"|credentials?|cookie)$"
)
_TOKEN_NAME = re.compile(r"(?:^|[^a-z])token$")
_SECRET_VALUE = re.compile(
    r"\b(?:sk|hf|ghp|gho|github_pat|xox[abp]|AKIA|AIza)[-_A-Za-z0-9]{16,}"
    r"|(?i:bearer)\s+[^\s,\"']+"
    r"|(?<=://)[^/@\s]+(?=@)"
    r"|(?<=[?&])[\w-]*(?i:key|token|secret|password|signature)=[^&\s,]+"
)
REDACTED = "(redacted)"


@dataclass(frozen=True)
class ResultsFile:
    """What one results file says about its run.

    Attributes:
        file: its name, relative to the folder that is read.
        model_name: the model's name as the harness had it; None if the file does not say.
        backend: the harness' model type, such as 'hf' or 'local-chat-completions'.
        model_args: the arguments of the model, without secrets.
        revision: commit of the model if known, else 'import'.
        params_b: billions of parameters, if known.
        date: when the run began, in UTC, if known.
        versions: task -> version.
        configs: task -> the task's configuration.
        settings: what is kept for the record.
    """

    file: str
    model_name: str | None
    backend: str
    model_args: dict[str, str]
    revision: str
    params_b: float | None
    date: datetime | None
    versions: dict[str, str]
    configs: dict[str, dict[str, Any]]
    settings: dict[str, Any] = field(repr=False)

    def filters(self, task: str) -> list[str]:
        """Names of the task's filters in their order; empty if the file does not say."""
        return _names(self.configs.get(task, {}).get("filter_list"), "name")

    def metrics(self, task: str) -> list[str]:
        """Names of the task's metrics in their order; empty if the file does not say."""
        return _names(self.configs.get(task, {}).get("metric_list"), "metric")

    def output_type(self, task: str) -> str | None:
        """The task's output type; None if the file does not say."""
        value = self.configs.get(task, {}).get("output_type")
        return value if isinstance(value, str) else None


def read_results(path: Path, file: str, log: ProblemLog) -> ResultsFile | None:
    """Read one results file; None, with a problem in ``log``, if it is not one."""
    try:
        loaded = json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        log.add(file, file, f"not valid JSON: {error.msg}", error.lineno)
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.add(file, file, f"it can't be read: {error}")
        return None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("results"), dict):
        log.add(file, file, "expected the results of lm-eval: an object with the key 'results'")
        return None
    if not is_shallow(loaded):
        log.add(file, file, "nested too deeply: expected at most 64 levels")
        return None
    data = repair(loaded)
    config = _dict(data.get("config"))
    raw_args = config.get("model_args")
    model_args = redacted_args(raw_args)
    name = data.get("model_name")
    if not isinstance(name, str) or not name:
        name = model_args.get("pretrained") or model_args.get("model")
    backend = data.get("model_source") or config.get("model")
    versions = {task: str(v) for task, v in _dict(data.get("versions")).items() if v is not None}
    configs = {t: c for t, c in _dict(data.get("configs")).items() if isinstance(c, dict)}
    for task, task_config in configs.items():
        version = _dict(task_config.get("metadata")).get("version")
        if version is not None:
            versions.setdefault(task, str(version))
    settings = {key: data[key] for key in _KEPT if data.get(key) is not None}
    settings |= {key: config[key] for key in _KEPT_CONFIG if config.get(key) is not None}
    return ResultsFile(
        file=file,
        model_name=name,
        backend=backend if isinstance(backend, str) and backend else "unknown",
        model_args=model_args,
        revision=_revision(config, model_args),
        params_b=_billions(config.get("model_num_parameters")),
        date=_date(data.get("date")),
        versions=versions,
        configs=configs,
        settings=_redact(settings) | {"model_args": model_args},
    )


def _names(entries: object, key: str) -> list[str]:
    if not isinstance(entries, list):
        return []
    names = [entry.get(key) for entry in entries if isinstance(entry, dict)]
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _billions(count: object) -> float | None:
    """A number of parameters in billions; None if it is none."""
    if isinstance(count, bool) or not isinstance(count, int):
        return None
    return count / 1e9 if 0 < count < 10**15 else None


def _revision(config: dict[str, Any], model_args: dict[str, str]) -> str:
    """The commit if it was recorded, else the branch or tag that was asked for, else 'import'."""
    given = (config.get("model_sha"), config.get("model_revision"), model_args.get("revision"))
    return next((r for r in given if isinstance(r, str) and is_revision(r)), "import")


def _date(value: object) -> datetime | None:
    """The start of the run from seconds since 1970; None if that is no sensible time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # The harness exists since 2020; what lies before or far ahead is a broken clock. An integer may
    # be too long for a float, but never too long to be compared with one.
    if not 1.5e9 < value < 1e11:
        return None
    return datetime.fromtimestamp(value, UTC)


def stamp_time(stamp: str) -> datetime | None:
    """The time in a file's name, taken as UTC; None if there is no such time."""
    day, clock = stamp.split("T", 1)
    try:
        return datetime.fromisoformat(f"{day}T{_padded(clock.replace('-', ':'))}").replace(
            tzinfo=UTC
        )
    except ValueError:
        return None


def _padded(clock: str) -> str:
    """A clock time whose fraction has six digits."""
    whole, _, fraction = clock.partition(".")
    return f"{whole}.{fraction.ljust(6, '0')}"


def redacted_args(raw: object) -> dict[str, str]:
    """The arguments of a model, ``a=1,b=2`` or an object, as text and without secrets."""
    if isinstance(raw, dict):
        pairs = {str(key): _text(value) for key, value in raw.items()}
    elif isinstance(raw, str):
        pairs = {}
        last = None
        for part in _SECRET_VALUE.sub(REDACTED, raw).split(","):
            key, equals, value = part.partition("=")
            if equals:
                last = key.strip()
                pairs[last] = value
            elif last is not None:  # a comma inside a value
                pairs[last] += f",{part}"
    else:
        return {}
    return {
        key: REDACTED if _is_secret(key, value) else _SECRET_VALUE.sub(REDACTED, value)
        for key, value in pairs.items()
    }


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _is_secret(name: str, value: object) -> bool:
    """Whether an argument of this name must not be kept. ``add_bos_token=True`` may."""
    name = name.lower()
    if _SECRET_NAME.search(name):
        return True
    harmless = str(value).lower() in ("true", "false", "none", "null") or str(value).isdigit()
    return bool(_TOKEN_NAME.search(name)) and not harmless


def _redact(value: Any) -> Any:
    """``value`` with every secret in it replaced, however deep."""
    if isinstance(value, dict):
        return {k: REDACTED if _is_secret(k, v) else _redact(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_redact(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _SECRET_VALUE.sub(REDACTED, value) if isinstance(value, str) else value


def local_name(name: str) -> str | None:
    """The last part of a model name that is a path on someone's disk; None if it is not one.

    A path that climbs (``..``) is not taken apart: it is no name that anybody gave a model.
    """
    is_path = name.startswith(("/", "./", "~/")) or bool(PureWindowsPath(name).drive)
    if not is_path or ".." in name or ":/" in name[2:]:
        return None
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or None
