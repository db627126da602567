"""A hook for LiteLLM's proxy: requests for `locus-best` or `locus-cheap` go to the routed model.

Needs LiteLLM, which is imported here only. docs/serving.md shows how it is set up.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from locus.routing.router import Choice, RoutingError
from locus.routing.serving.aliases import ALIASES, pick
from locus.routing.serving.desk import BusyError, Desk
from locus.routing.serving.follow import Follower
from locus.routing.serving.wire import CHARACTERS_MOST, last_user_text


class LocusRouting(CustomLogger):  # type: ignore[misc] # LiteLLM is not checked
    """Puts the routed model in place of an alias before LiteLLM chooses a deployment.

    It follows the published folder as the HTTP service does.

    Args:
        published: the published folder.
        names: for each model of LOCUS that may answer, the ``model_name`` that LiteLLM knows it
            by; None lets the whole pool answer, by the names that it has in LOCUS.
        encoder: sentence encoder to use; None takes the one that is named in the manifest.
    """

    def __init__(
        self,
        published: Path | str,
        names: Mapping[str, str] | None = None,
        encoder: str | None = None,
    ) -> None:
        super().__init__()
        self._names = None if names is None else dict(names)
        self._desk = Desk()
        self.follower = Follower(Path(published), encoder)
        self.follower.start()

    def close(self) -> None:
        """Stop following."""
        self._desk.close()
        self.follower.close()

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Called by LiteLLM's proxy with each request; gives it back with the model put in.

        Raises:
            HTTPException: 400 where the request has no text of a user, 503 where no snapshot is
                loaded or nobody may answer. LiteLLM gives it to the caller.
        """
        alias = data.get("model")
        if alias not in ALIASES:
            return data
        chosen = await self._pick(str(alias), _text(data))
        model = chosen.model_id if self._names is None else self._names[chosen.model_id]
        return {**data, "model": model}

    async def _pick(self, alias: str, text: str) -> Choice:
        if not text.strip():
            raise HTTPException(400, f"{alias}: there is no text of a user to route by")
        now = self.follower.serving
        if now is None:
            said = "nothing that is published can be used: see the log"
            if self.follower.problem is None:
                said = "the snapshot is being loaded: try again in some seconds"
            raise HTTPException(503, f"{alias}: {said}", {"Retry-After": "5"})
        # The pool changes with every snapshot: who is not in it can't be asked about.
        only = [m for m in self._names or () if m in now.router.models]
        if self._names is not None and not only:
            raise HTTPException(
                503, f"{alias}: none of the models that may answer is in {now.snapshot_id}"
            )
        try:
            return await self._desk.run(partial(pick, now.router, text, alias, only))
        except (RoutingError, BusyError) as error:
            raise HTTPException(503, f"{alias}: {error}") from error


def _text(data: Mapping[str, Any]) -> str:
    """What a request asks: its last user message, or its prompt."""
    for name in ("messages", "input", "prompt"):
        found = data.get(name)
        text = last_user_text(found) if isinstance(found, list) else found
        if isinstance(text, str) and text:
            return text[:CHARACTERS_MOST]
    return ""
