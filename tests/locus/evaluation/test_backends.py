"""Arguments of services: what the registry refuses, and which key goes where."""

from typing import Any

import pytest
from pydantic import ValidationError

from locus.evaluation.backends import check_arguments, key_variable
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
    check_arguments("openai-chat-completions", {"model": "m"})
