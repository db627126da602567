"""The lm-eval side: a model is loaded, and asked exactly the chosen questions.

lm-eval's own sampling by position mislabels documents when positions are not sorted, so nothing
here works by position: a task is handed just the chosen documents, and every row that comes back
is identified by its document again. `questions` knows what there is to ask, `asked` how a task is
asked, `answers` what becomes of what lm-eval logs.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from locus.evaluation.answers import Scoring, check_metric, grouped, local_row, service_row
from locus.evaluation.asked import as_asked, said
from locus.evaluation.backends import KEY_ARGUMENT, check_arguments
from locus.evaluation.hub_waits import end_waits
from locus.evaluation.questions import (
    HarnessError,
    Identities,
    Question,
    effective_fewshot,
    load_tasks,
    primary_metric,
    question,
    questions,
    some_questions,
    task_version,
    unsafe,
    unsuited,
)
from locus.evaluation.request import Conditions, EvaluationRequest
from locus.evaluation.service import Outcome
from locus.evaluation.trust import TRANSFORMERS, advice, check_code, weights
from locus.ids import QueryId

__all__ = [
    "HarnessError",
    "Question",
    "ask",
    "effective_fewshot",
    "load_local",
    "load_tasks",
    "primary_metric",
    "question",
    "questions",
    "some_questions",
    "task_version",
    "unsafe",
    "unsuited",
    "versions",
]

# What to install where a backend's own package is missing.
_INSTALL = {
    "hf": "pip install 'lm-eval[hf]'",
    "vllm": "pip install 'lm-eval[vllm]'",
    "sglang": "pip install 'sglang[all]'",
    "anthropic": "pip install anthropic",
    "litellm": "pip install 'lm-eval[litellm]'",
    "watsonx": "pip install 'lm-eval[ibm-watsonx-ai]'",
    "onnxruntime": "pip install 'lm-eval[onnxruntime]'",
    "openvino": "pip install 'lm-eval[optimum]'",
    "ipex": "pip install 'lm-eval[ipex]'",
    "mamba": "pip install mamba-ssm",
}
_NO_CONDITIONS = Conditions()


def versions() -> dict[str, str]:
    """Versions that a score depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("lm_eval", "torch", "transformers")}


def load_local(request: EvaluationRequest) -> Any:
    """The lm-eval model of a request whose backend is none of `backends.SERVICES`.

    Raises:
        HarnessError: lm-eval has no such backend, its arguments are wrong, or a package that it
            needs is missing; names the model, and what to install.
    """
    from lm_eval.api.registry import get_model, model_registry
    from lm_eval.models import MODEL_MAPPING

    name, backend = request.model_id, request.backend
    known = sorted({*MODEL_MAPPING, *model_registry.keys()})
    if backend not in known:
        raise HarnessError(
            f"model {name!r}: lm-eval has no backend {backend!r}; it has {', '.join(known)}"
        )
    try:
        check_arguments(backend, request.args)
    except ValueError as error:
        raise HarnessError(f"model {name!r}: {error}") from error
    if backend.startswith("vllm") and find_spec("vllm") is None:
        raise HarnessError(_missing(request, "vllm is not installed"))
    args = {key: value for key, value in request.args.items() if key != KEY_ARGUMENT}
    args = {**weights(backend, args), **args}
    extra = {key: value for key, value in _extra(request).items() if key not in args}
    end_waits()
    try:
        if request.trusted_code:
            args = {**args, **_with_code(request)}
        return get_model(backend).create_from_arg_obj(args, extra)
    except ImportError as error:
        raise HarnessError(_missing(request, said(error))) from error
    except (OSError, ValueError) as error:
        todo = advice(error, name, request.revision)
        if todo is None:
            raise
        raise HarnessError(f"model {name!r}: {todo}") from error


def _with_code(request: EvaluationRequest) -> dict[str, Any]:
    """What lets a model's own code run; only transformers is known to pin it.

    Raises:
        HarnessError: another backend, or code that the model's revision does not pin.
    """
    name = request.model_id
    if request.backend not in TRANSFORMERS:
        raise HarnessError(
            f"model {name!r}: evaluation.trusted_code is for {', '.join(TRANSFORMERS)}, not for "
            f"backend {request.backend}"
        )
    try:
        check_code(request.args)
    except ValueError as error:
        raise HarnessError(f"model {name!r}: {error}") from error
    return {"trust_remote_code": True}


def _extra(request: EvaluationRequest) -> dict[str, Any]:
    """What a backend is given besides its own arguments."""
    if request.backend.startswith("vllm"):
        # It batches by itself, and picks its GPUs by CUDA_VISIBLE_DEVICES.
        return {"batch_size": "auto"}
    extra: dict[str, Any] = {"batch_size": request.batch_size}
    if request.device:
        extra["device"] = request.device
    elif request.backend in ("hf", "hf-auto", "huggingface"):
        import torch

        extra["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    return extra


def _missing(request: EvaluationRequest, why: str) -> str:
    start = f"model {request.model_id!r}: backend {request.backend} needs a package: {why}"
    for prefix, command in _INSTALL.items():
        if request.backend.startswith(prefix):
            return f"{start}; install it with: {command}"
    return f"{start}; install what it names"


def ask(
    lm: Any,
    tasks: Mapping[str, Any],
    asked: Mapping[str, Sequence[Question]],
    conditions: Conditions = _NO_CONDITIONS,
) -> list[dict[str, Any]]:
    """Ask a model some questions through lm-eval.

    Args:
        lm: a loaded lm-eval model.
        tasks: loaded tasks by name; they stay as they are.
        asked: the questions of each task.
        conditions: how they are put and scored. With a chat template, examples are turns of their
            own, as lm-eval's command line does it.

    Returns:
        One dict a question, with the keys of `locus.frames.SCORES` that the harness knows:
        query_id, status, score, metric, filter, metrics, response, latency_ms (the mean of this
        call for a local model, the query's own for a service), tokens_in, tokens_out, hashes,
        scored_at. A service's failure, and an answer whose scoring fails, has another status than
        ``ok`` and no score, with the reason under ``detail``.

    Raises:
        HarnessError: an answer to something that was not asked, a question left out, a metric that
            is no score, or conditions that the model or a task can't meet. Nothing of such a call
            may be kept.
    """
    from lm_eval.evaluator import evaluate

    asked = {name: list(qs) for name, qs in asked.items() if qs}
    if not asked:
        return []
    scorings = {name: Scoring.of(tasks[name], conditions.metrics.get(name)) for name in asked}
    chosen: dict[str, Any] = {}
    for name, qs in asked.items():
        if why := unsafe(tasks[name]) or unsuited(tasks[name], lm):
            raise HarnessError(f"task {name!r} is not asked: {why}; take it out of `tasks`")
        documents = [q.document for q in qs]
        chosen[name] = as_asked(tasks[name], documents, conditions.num_fewshot.get(name))
    chat = conditions.chat_template or bool(getattr(lm, "takes_messages", False))
    if chat:
        _check_template(lm, conditions)
    started = time.perf_counter()
    try:
        result = evaluate(
            lm,
            {"tasks": chosen, "groups": {}, "group_map": {}},
            bootstrap_iters=0,
            log_samples=True,
            system_instruction=conditions.system_instruction,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )
    except NotImplementedError as error:
        raise HarnessError(
            f"the model can't be asked {', '.join(map(repr, asked))}: {said(error)}"
        ) from error
    n = sum(map(len, asked.values()))
    latency = 1000 * (time.perf_counter() - started) / n
    outcomes = _outcomes(lm, tasks, asked)
    rows: list[dict[str, Any]] = []
    for name, qs in asked.items():
        by_query = grouped(tasks[name], result["samples"][name], qs)
        check_metric(scorings[name], result["samples"][name])
        for identity, samples in by_query.items():
            known = {"query_id": identity, "latency_ms": latency}
            if outcomes is None:
                rows.append({**known, **local_row(lm, scorings[name], samples)})
            else:
                row = service_row(scorings[name], samples, outcomes[identity])
                rows.append({**known, **row})
    return rows


def _check_template(lm: Any, conditions: Conditions) -> None:
    """Messages must come out as they went in; lm-eval drops a system message that isn't taken."""
    render = getattr(lm, "apply_chat_template", None)
    said_first = (conditions.system_instruction or "").strip()
    messages = [{"role": "user", "content": "?"}]
    if said_first:
        messages.insert(0, {"role": "system", "content": said_first})
    if render is None:
        raise HarnessError("this backend has no chat template: leave chat_template out")
    try:
        rendered = render(messages, add_generation_prompt=True)
    except Exception as error:
        raise HarnessError(
            f"the chat template can't be used: {said(error)}; leave chat_template out"
        ) from error
    if isinstance(rendered, str) and said_first and said_first not in rendered:
        raise HarnessError(
            "the chat template of this model drops the system message: leave system_instruction "
            "out, or write it into the questions"
        )


def _outcomes(
    lm: Any, tasks: Mapping[str, Any], asked: Mapping[str, Sequence[Question]]
) -> dict[QueryId, list[Outcome]] | None:
    """What came of each question's requests, by the document they were made of; None if local."""
    if not hasattr(lm, "take_outcomes"):
        return None
    identities = {name: Identities(tasks[name], qs) for name, qs in asked.items()}
    found: dict[QueryId, list[Outcome]] = defaultdict(list)
    for instance, outcome in lm.take_outcomes():
        found[identities[instance.task_name].of(instance.doc)].append(outcome)
    return found
