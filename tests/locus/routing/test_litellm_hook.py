"""The hook in front of a real LiteLLM router, whose deployments answer without a network."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
from fastapi import HTTPException
from small_map import CAPITALS, SUMS, publish_small

pytestmark = [
    pytest.mark.slow,
    # Of how LiteLLM describes its own types.
    pytest.mark.filterwarnings("ignore:Item.*ReadOnly:UserWarning"),
]

SUM, CAPITAL = SUMS.format(a=5, b=9), CAPITALS.format(a=7, b=4)
NAMES = {f"{task}/m{i}": f"our-{task}-{i}" for task in ("sums", "capitals") for i in range(4)}


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        # Its list of prices is otherwise fetched at import.
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        yield pytest.importorskip("litellm")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hooked") / "published"
    publish_small(folder)
    return folder


def test_an_alias_becomes_the_routed_model(litellm: Any, published: Path) -> None:
    from locus.routing.litellm_hook import LocusRouting
    from locus.routing.router import Router

    hook = LocusRouting(published, NAMES | {"gone/m0": "our-gone"})
    some = LocusRouting(published, {"capitals/m1": "our-capitals-1"})
    try:
        for one in (hook, some):
            _wait(one)
        asyncio.run(_scene(litellm, hook, some, Router.load(published)))
    finally:
        hook.close()
        some.close()


async def _scene(litellm: Any, hook: Any, some: Any, locus: Any) -> None:
    router = litellm.Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{name}", "mock_response": f"I am {name}"},
            }
            for name in NAMES.values()
        ]
    )

    async def asked(model: str, hook: Any = hook, **content: Any) -> tuple[str, str]:
        """The model that LiteLLM is told to ask, and the answer."""
        before = {"model": model, "temperature": 0, **content}
        data = await hook.async_pre_call_hook(None, None, before, "acompletion")
        assert {**data, "model": model} == before and before["model"] == model
        data["messages"] = content.get("messages") or [{"role": "user", "content": "x"}]
        answer = await router.acompletion(model=data["model"], messages=data["messages"])
        return data["model"], answer.choices[0].message.content

    def said(text: str) -> list[dict[str, Any]]:
        return [{"role": "system", "content": CAPITAL}, {"role": "user", "content": text}]

    for text in (SUM, CAPITAL):
        best = NAMES[locus.route([text], 1)[0][0].model_id]
        assert await asked("locus-best", messages=said(text)) == (best, f"I am {best}")
        assert await asked("locus-best", prompt=text) == (best, f"I am {best}")
        cheap, _ = await asked("locus-cheap", messages=said(text))
        assert cheap.startswith(best[:-1])
    # Whom nobody asked LOCUS about stays; only who is named may answer.
    assert (await asked("our-sums-3", messages=said(CAPITAL)))[0] == "our-sums-3"
    assert (await asked("locus-best", some, messages=said(SUM)))[0] == "our-capitals-1"
    with pytest.raises(HTTPException, match="no text of a user") as refused:
        await asked("locus-best", messages=[{"role": "system", "content": SUM}])
    assert refused.value.status_code == 400


def test_nobody_to_answer(litellm: Any, tmp_path: Path, published: Path) -> None:
    from locus.routing.litellm_hook import LocusRouting

    asked = {"model": "locus-best", "messages": [{"role": "user", "content": SUM}]}
    for folder, names, said in (
        (tmp_path, None, "nothing that is published can be used"),
        (published, {"gone/m0": "x"}, "none of the models that may answer"),
    ):
        hook = LocusRouting(folder, names)
        try:
            _wait(hook)
            with pytest.raises(HTTPException, match=said) as refused:
                asyncio.run(hook.async_pre_call_hook(None, None, asked, "acompletion"))
            assert refused.value.status_code == 503
        finally:
            hook.close()


def _wait(hook: Any) -> None:
    serving.wait_for(lambda: hook.follower.serving or hook.follower.problem, 120)
