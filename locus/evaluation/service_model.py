"""lm-eval's models of services, with our way of asking: one query a request, outcomes kept.

lm-eval's own asking loses a whole run to one failed request, and scores null content as a wrong
answer. Its classes still say what is sent and how an answer is read; `service.Caller` sends.
"""

import copy
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from locus.evaluation.backends import KEY_ARGUMENT, SERVICES, check_arguments, key_variable
from locus.evaluation.harness import HarnessError
from locus.evaluation.request import EvaluationRequest
from locus.evaluation.service import Call, Caller
from locus.evaluation.service_answer import (
    Outcome,
    RequestFailedError,
    TryAgainError,
    one_choice,
    read_text,
)


class ServiceModel:
    """What is mixed into an lm-eval class of completions or chat completions.

    Attributes:
        takes_messages: whether the service is one of chat.
    """

    takes_messages: bool
    _caller: Caller
    _outcomes: list[tuple[Any, Outcome]]
    _asked: Sequence[Any]

    def connect(self, caller: Caller, chat: bool) -> None:
        """Say how to ask."""
        self._caller, self.takes_messages, self._outcomes = caller, chat, []

    @property
    def stopped(self) -> str | None:
        """Why nothing more is asked; None while all is well."""
        return self._caller.stopped

    def take_outcomes(self) -> list[tuple[Any, Outcome]]:
        """(lm-eval instance, outcome) of every request since the last call."""
        taken, self._outcomes = self._outcomes, []
        return taken

    def _keep(self, requests: Sequence[Any], outcomes: Sequence[Outcome]) -> None:
        self._outcomes += zip(requests, outcomes, strict=True)

    def generate_until(self: Any, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Answers; what is not an answer is an empty text here, and never scored as one."""
        calls = []
        for request in requests:
            context, gen_kwargs, *more = request.args
            if more:
                raise HarnessError(
                    f"task {request.task_name!r} shows images, and services are asked text only: "
                    "take it out of `tasks`"
                )
            payload = self._create_payload(
                json.loads(context.prompt) if self.takes_messages else context,
                generate=True,
                gen_kwargs=copy.deepcopy(gen_kwargs),
                seed=self._seed,
                eos=self.eos_string,
            )
            calls.append(Call(payload, partial(self._read_generation, _stops(gen_kwargs))))
        outcomes = self._caller.ask(calls)
        self._keep(requests, outcomes)
        return [o.value or "" for o in outcomes]

    def _read_generation(self: Any, stops: Sequence[str], body: dict[str, Any]) -> Outcome:
        outcome = read_text(
            body, self.takes_messages, lambda b: self.parse_generations(outputs=b)[0]
        )
        return cut_at(stops, outcome)

    def loglikelihood(self, requests: Sequence[Any], **kwargs: Any) -> Any:
        """(log-likelihood, greedy) of each; (0, False), never scored, where there is none."""
        self._asked = requests
        return super().loglikelihood(requests, **kwargs)  # type: ignore[misc]

    def _loglikelihood_tokens(self: Any, requests: Sequence[Any], **_: Any) -> list[Any]:
        calls, too_long = [], {}
        for i, request in enumerate(requests):
            n_tokens = len(request[1]) + len(request[2])
            if n_tokens > self.max_length:
                # lm-eval would cut the beginning off, and score another question.
                too_long[i] = Outcome(
                    "error",
                    detail=f"{n_tokens} tokens are more than {self.max_length}; set "
                    "args.max_length to what the service takes",
                )
                continue
            tokens, lengths, _ = self.batch_loglikelihood_requests([[request]])
            payload = self._create_payload(
                self.create_message(tokens), generate=False, seed=self._seed
            )

            def read(body: dict[str, Any], tokens: Any = tokens, lengths: Any = lengths) -> Outcome:
                check_logprobs(body, len(tokens[0]))
                parsed = self.parse_logprobs(outputs=body, tokens=tokens, ctxlens=lengths)
                return Outcome("ok", parsed[0])

            calls.append(Call(payload, read))
        answered = iter(self._caller.ask(calls))
        outcomes = [too_long.get(i) or next(answered) for i in range(len(requests))]
        self._keep(self._asked, outcomes)
        return [o.value or (0.0, False) for o in outcomes]


def _stops(gen_kwargs: Mapping[str, Any]) -> list[str]:
    """Texts that end an answer, as the task says."""
    until = gen_kwargs.get("until") or []
    return [stop for stop in ([until] if isinstance(until, str) else until) if stop]


def cut_at(stops: Sequence[str], outcome: Outcome) -> Outcome:
    """The answer up to the first stop string.

    Not every service leaves it out as OpenAI does (transformers and some others keep it), and chat
    services are told of four at most. An answer that has one is whole, whatever limit it hit.
    """
    if outcome.status not in ("ok", "truncated") or not isinstance(outcome.value, str):
        return outcome
    ends = [at for stop in stops if (at := outcome.value.find(stop)) >= 0]
    if not ends:
        return outcome
    text = outcome.value[: min(ends)]
    if not text.strip():
        return replace(outcome, status="empty", value=text, detail="the answer is empty")
    return replace(outcome, status="ok", value=text, detail="")


def check_logprobs(body: dict[str, Any], n_tokens: int) -> None:
    """Check that log-probabilities belong to the tokens that were sent, and to one more.

    lm-eval sums whatever is there, so a shorter or longer list would be a score of something else.

    Raises:
        TryAgainError: the answer has not exactly one choice.
        RequestFailedError: no log-probabilities, or of other tokens.
    """
    logprobs = one_choice(body).get("logprobs")
    if not isinstance(logprobs, dict):
        raise RequestFailedError(
            "the service gives no log-probabilities of the prompt (`echo` with `logprobs`), which "
            "tasks of multiple choice need"
        )
    for name in ("token_logprobs", "top_logprobs"):
        values = logprobs.get(name)
        good = _is_number if name == "token_logprobs" else _has_numbers
        # The first token has no probability; every other must.
        if not isinstance(values, list) or not all(map(good, values[1:])):
            raise TryAgainError(f"the answer has no whole list of {name}")
        if len(values) != n_tokens + 1:
            raise RequestFailedError(
                f"the service tells {name} of {len(values)} tokens, not of the {n_tokens} that "
                "were sent and one more; args.tokenizer must be the service's own"
            )


def _is_number(value: Any) -> bool:
    # An integer may be too long for a float, but never too long to be compared with one.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _has_numbers(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(map(_is_number, value.values()))


def load_service(request: EvaluationRequest) -> Any:
    """The lm-eval model of a request whose backend is a service.

    Raises:
        HarnessError: wrong arguments, a key that is not set, or a package that is missing.
    """
    try:
        check_arguments(request.backend, request.args)
    except ValueError as error:
        raise HarnessError(f"model {request.model_id!r}: {error}") from error
    missing = [name for name in ("aiohttp", "requests", "tenacity") if find_spec(name) is None]
    if missing:
        raise HarnessError(
            f"backend {request.backend} needs {', '.join(missing)}: pip install 'lm-eval[api]'"
        )
    variable = key_variable(request.backend, request.args)
    key = os.environ.get(variable, "").strip() if variable else None
    if variable and not key:
        raise HarnessError(
            f"the key of {request.model_id!r} is not set: put it into the environment variable "
            f"{variable} where the pipeline runs"
        )
    if key and not (key.isascii() and key.isprintable()):
        raise HarnessError(f"the environment variable {variable} holds no key: odd characters")
    from lm_eval.api.registry import get_model

    service = SERVICES[request.backend]
    args = {name: value for name, value in request.args.items() if name != KEY_ARGUMENT}
    if service.chat or "tokenizer" not in args:
        # Left to itself, lm-eval would ask the service and the hub for a tokenizer.
        args.pop("tokenizer", None)
        args.update(tokenizer_backend=None, tokenized_requests=False)
    else:
        args.setdefault("tokenizer_backend", "huggingface")
    base = get_model(request.backend)
    lm = type(f"Service{base.__name__}", (ServiceModel, base), {})(**args, batch_size=1)
    patience = replace(
        request.patience,
        timeout_s=float(args.get("timeout", request.patience.timeout_s)),
        attempts=max(1, int(args.get("max_retries", request.patience.attempts))),
    )
    caller = Caller(
        lm.base_url,
        patience,
        key,
        concurrent=int(args.get("num_concurrent", 4)),
        verify=bool(args.get("verify_certificate", True)),
        ca_file=args.get("ca_cert_path"),
        rate=request.rate,
    )
    lm.connect(caller, service.chat)
    return lm
