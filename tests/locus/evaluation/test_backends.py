"""Backends: which arguments are refused, which key goes where, and what can't be loaded."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from locus.evaluation.backends import (
    SERVICES,
    WEIGHTS,
    address,
    check_arguments,
    key_variable,
    obstacle,
)
from locus.evaluation.harness import HarnessError, load_local
from locus.evaluation.request import EvaluationRequest
from locus.registry import ModelSpec

URL = "http://127.0.0.1:8000/v1/chat/completions"
GOOD = {"model": "m", "base_url": URL}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"auth_token": "marker-key"}, "args.auth_token is refused"),
        ({"header": "marker-key"}, "args.header is refused"),
        ({"api_key": "marker-key"}, "args.api_key is refused"),
        ({"model": ""}, "needs args.model"),
        ({"base_url": None}, "needs args.base_url"),
        ({"base_url": "file:///v1/chat/completions"}, "needs args.base_url"),
        ({"base_url": "http://127.0.0.1:8000/v1"}, "ends in /chat/completions"),
        ({"base_url": "http://a..b/v1/chat/completions"}, "host or port that can't be"),
        ({"base_url": "http://a:99999/v1/chat/completions"}, "host or port that can't be"),
        ({"base_url": "http://u:marker-key@host/v1/chat/completions"}, "user, password or query"),
        ({"base_url": f"{URL}?key=marker-key"}, "user, password or query"),
        ({"api_key_env": "AWS_SECRET_ACCESS_KEY"}, "ends in _API_KEY"),
        ({"api_key_env": "marker-key"}, "ends in _API_KEY"),
        ({"timeout": "long"}, "args.timeout is a number"),
        ({"num_concurrent": 0}, "args.num_concurrent is a number"),
    ],
)
def test_wrong_arguments_are_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        check_arguments("local-chat-completions", {**GOOD, **wrong})
    assert "marker-key" not in str(refused.value)


def test_the_registry_refuses_them() -> None:
    good = ModelSpec.model_validate(
        {"id": "a/b", "backend": "local-chat-completions", "args": GOOD}
    )
    assert good.resolved_revision() == "unversioned"
    with pytest.raises(ValidationError, match=r"args\.auth_token is refused"):
        ModelSpec.model_validate(
            {"id": "a/b", "backend": "local-chat-completions", "args": {**GOOD, "auth_token": "x"}}
        )


def test_keys_go_where_they_are_needed_only() -> None:
    named = {**GOOD, "api_key_env": "EXAMPLE_API_KEY"}
    assert key_variable("hf", named) is None
    # A local server gets no key unasked, least of all OpenAI's.
    assert key_variable("local-completions", GOOD) is None
    assert key_variable("local-completions", named) == "EXAMPLE_API_KEY"
    assert key_variable("openai-chat-completions", {"model": "m"}) == "OPENAI_API_KEY"
    assert key_variable("openai-chat-completions", named) == "EXAMPLE_API_KEY"
    # A name that check_arguments refuses opens nothing here either.
    assert key_variable("local-completions", {"api_key_env": "HF_TOKEN"}) is None


def test_openai_has_an_address_of_its_own() -> None:
    assert address("openai-chat-completions", {}) == "https://api.openai.com/v1/chat/completions"
    assert address("openai-chat-completions", GOOD) == GOOD["base_url"]
    assert address("hf", {"pretrained": "x"}) is None
    check_arguments("openai-chat-completions", {"model": "m"})


SECRETS = [
    "api_key", "apikey", "API_KEY", "openai_api_key", "token", "auth_token", "use_auth_token",
    "hf-token", "header", "extra_headers", "password", "client_secret", "authorization",
]  # fmt: skip
NO_SECRETS = [
    "add_bos_token", "think_end_token", "eos_token_id", "prefix_token_id", "max_gen_toks",
    "tokenizer", "tokenized_requests", "truncation_side",
]  # fmt: skip


@pytest.mark.parametrize("backend", ["hf", "vllm", "local-completions", "anthropic-chat", "dummy"])
def test_secrets_and_remote_code_are_refused_for_every_backend(backend: str) -> None:
    for name in SECRETS:
        with pytest.raises(ValueError, match=f"args.{name} is refused") as refused:
            check_arguments(backend, {"pretrained": "m", name: "marker-key"})
        assert "marker-key" not in str(refused.value)
    for value in (True, 1, "yes", "False"):
        with pytest.raises(ValueError, match="trust_remote_code is refused"):
            check_arguments(backend, {"pretrained": "m", "trust_remote_code": value})
    with pytest.raises(ValueError, match=r"args\.base_url holds a user") as refused:
        check_arguments(backend, {"pretrained": "m", "base_url": "http://u:marker-key@h/"})
    assert "marker-key" not in str(refused.value)


def test_arguments_that_sound_alike_pass() -> None:
    check_arguments("hf", {"pretrained": "m", "trust_remote_code": False}
                    | dict.fromkeys(NO_SECRETS, "x"))  # fmt: skip


@pytest.mark.parametrize("backend", WEIGHTS)
def test_weights_are_named_and_ask_no_service(backend: str) -> None:
    for wrong in ({}, {"pretrained": ""}, {"pretrained": 7}):
        with pytest.raises(ValueError, match=f"{backend} needs args.pretrained"):
            check_arguments(backend, wrong)
    with pytest.raises(ValueError, match="api_key_env is for services"):
        check_arguments(backend, {"pretrained": "m", "api_key_env": "EXAMPLE_API_KEY"})
    assert key_variable(backend, {"api_key_env": "EXAMPLE_API_KEY"}) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is a whole number"),
        ({"tensor_parallel_size": True}, "tensor_parallel_size is a whole number"),
        ({"max_model_len": 1.5}, "max_model_len is a whole number"),
        ({"gpu_memory_utilization": 1.2}, "gpu_memory_utilization is a share"),
        ({"gpu_memory_utilization": "most"}, "gpu_memory_utilization is a share"),
        ({"dtype": "int4"}, "dtype is one of auto"),
        ({"max_length": 10, "max_model_len": 10}, "are the same"),
        ({"temperature": float("nan")}, "temperature is nan"),
    ],
)
def test_arguments_of_vllm_are_checked_without_it(wrong: dict[str, Any], said: str) -> None:
    good = {"pretrained": "m", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.5}
    check_arguments("vllm", good)
    with pytest.raises(ValueError, match=said):
        check_arguments("vllm", {**good, **wrong})


def test_another_service_gets_the_key_that_is_named_and_no_other() -> None:
    assert key_variable("anthropic-chat", {"model": "m"}) is None
    named = {"model": "m", "api_key_env": "ANTHROPIC_API_KEY"}
    assert key_variable("anthropic-chat", named) == "ANTHROPIC_API_KEY"
    with pytest.raises(ValueError, match="ends in _API_KEY"):
        check_arguments("anthropic-chat", {"api_key_env": "AWS_SECRET_ACCESS_KEY"})


def test_what_a_backend_can_t_be_asked() -> None:
    assert obstacle("hf", {}, "multiple_choice") is None
    assert obstacle("vllm", {}, "loglikelihood_rolling") is None
    for backend in ("anthropic-chat", "litellm"):
        assert obstacle(backend, {}, "generate_until") is None
        assert "no log-likelihoods" in str(obstacle(backend, {}, "multiple_choice"))
    assert "args.tokenizer" in str(obstacle("local-completions", {}, "multiple_choice"))
    assert "type loglikelihood" in str(obstacle("local-completions", {}, "loglikelihood"))


@pytest.fixture
def request_(tiny_model: Path) -> EvaluationRequest:
    args = {"pretrained": str(tiny_model)}
    return EvaluationRequest("r", "org/tiny", "1", "hf", args, {}, "", batch_size=4)


def test_a_local_model_is_loaded(request_: EvaluationRequest) -> None:
    loaded = load_local(replace(request_, device="cpu"))
    assert (loaded.batch_size, loaded.device.type) == (4, "cpu")
    # What the registry says wins, and is given once.
    own = replace(request_, args={**request_.args, "batch_size": 2, "device": "cpu"})
    assert load_local(own).batch_size == 2
    assert type(load_local(replace(request_, backend="dummy", args={}))).__name__ == "DummyLM"


def test_a_hub_that_never_answers_is_not_waited_for() -> None:
    """Its library would wait for ever; each worker limits that, before it loads a model."""
    with socket.create_server(("127.0.0.1", 0)) as hub:
        hub.listen()
        script = (
            "import sys\nfrom huggingface_hub import HfApi\n"
            "from locus.evaluation.hub_waits import end_waits\nend_waits(0.3)\n"
            "HfApi(endpoint=sys.argv[1]).model_info('org/name')\n"
        )
        url = f"http://127.0.0.1:{hub.getsockname()[1]}"
        environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script, url],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "ReadTimeout" in done.stderr


def test_an_unknown_backend_is_named_with_the_known(request_: EvaluationRequest) -> None:
    with pytest.raises(HarnessError) as refused:
        load_local(replace(request_, backend="no-such"))
    said = str(refused.value)
    assert "'org/tiny': lm-eval has no backend 'no-such'; it has" in said
    # What the tables here speak of are backends that there are.
    for name in (*WEIGHTS, *SERVICES, "anthropic-chat", "litellm"):
        assert f" {name}," in said


def test_wrong_arguments_are_refused_where_a_model_is_loaded(request_: EvaluationRequest) -> None:
    with pytest.raises(HarnessError, match=r"'org/tiny': args\.token is refused"):
        load_local(replace(request_, args={**request_.args, "token": "x"}))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vllm is installed here")
def test_without_vllm_the_error_says_what_to_install(request_: EvaluationRequest) -> None:
    with pytest.raises(HarnessError, match=r"'org/tiny': .*vllm.*pip install 'lm-eval\[vllm\]'"):
        load_local(replace(request_, backend="vllm"))


def test_a_package_that_is_missing_is_named(
    request_: EvaluationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "anthropic", None)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "marker-key")
    wanted = {"model": "m", "api_key_env": "ANTHROPIC_API_KEY"}
    with pytest.raises(HarnessError, match=r"'org/tiny': .*needs a package.*pip install anthropic"):
        load_local(replace(request_, backend="anthropic-completions", args=wanted))
