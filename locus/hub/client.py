"""Asking the hub through its own client, with a patience that has an end.

`huggingface_hub` waits for an answer for ever, sleeps as long as a Retry-After header says, and
reads a body of any length. Its requests to the hub's model API therefore go through `_Client`,
which limits all three; every other request of that library in this process is left alone.
"""

import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx2
from huggingface_hub import HfApi, constants, is_offline_mode, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import ModelInfo

from locus.hub.settings import WatchSettings

log = logging.getLogger("locus.hub")

# A page of a hundred models with the properties that are asked for is about 200 KiB.
BODY_MOST = 1 << 25
WAIT_MOST_S = 60.0
_REDIRECTS = 3
_FIRST_WAIT_S = 1.0
_SAID = 200
_AGAIN = (408, 429, 500, 502, 503, 504)

# What the list is asked for: little, and made by the hub itself rather than by a repository.
_LISTED: Any = [
    "createdAt", "disabled", "gated", "library_name", "pipeline_tag", "private", "sha", "tags",
]  # fmt: skip
_LOOKED_AT: Any = [*_LISTED, "config", "safetensors", "siblings"]


class HubError(RuntimeError):
    """The hub could not be asked, or what it sent is no answer; one line."""


class Hub:
    """The hub's model API.

    Requests carry no token: only what everybody can load is watched.
    """

    def __init__(self, settings: WatchSettings) -> None:
        endpoint = (settings.endpoint or constants.ENDPOINT).rstrip("/")
        self.api = HfApi(endpoint=endpoint, token=False)
        # The library keeps one client per process, and this is the only way to it.
        set_client_factory(lambda: _Client(endpoint, settings))

    def newest(
        self, author: str | None, search: str | None, filters: list[str], most: int
    ) -> Iterator[ModelInfo]:
        """The newest models, newest first.

        Args:
            author: whose; None takes anybody's.
            search: what the name contains; None takes any.
            filters: tags, all of which a model has.
            most: how many at most.

        Raises:
            HubError: in the middle, too, after a page that was sound.
        """
        try:
            yield from self.api.list_models(
                author=author,
                search=search,
                filter=filters or None,
                sort="created_at",
                limit=most,
                expand=_LISTED,
            )
        except _FAULTS as error:
            raise _hub_error(error) from error

    def model(self, name: str, revision: str | None = None) -> ModelInfo:
        """What there is to know of one model, at a commit or now.

        Raises:
            HubError: it isn't there, or the hub can't be asked.
        """
        try:
            return self.api.model_info(name, revision=revision, expand=_LOOKED_AT)
        except _FAULTS as error:
            raise _hub_error(error) from error

    def head(self, name: str) -> str | None:
        """The newest commit of a model; None if the hub doesn't say.

        Raises:
            HubError: it isn't there, or the hub can't be asked.
        """
        try:
            return self.api.model_info(name, expand=["sha"]).sha
        except _FAULTS as error:
            raise _hub_error(error) from error


# The last five: an answer that is not of the form which the library reads without a check.
_FAULTS = (
    HubError, HfHubHTTPError, httpx2.HTTPError, httpx2.InvalidURL, HFValidationError,
    AttributeError, KeyError, RecursionError, TypeError, ValueError,
)  # fmt: skip


def _hub_error(error: Exception) -> HubError:
    if isinstance(error, HubError):
        return error
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        return HubError(_STATUS.get(status, f"the hub answers with status {status}"))
    if isinstance(error, httpx2.HTTPError):
        return HubError(f"the hub can't be reached ({_one_line(error)})")
    if isinstance(error, HFValidationError):
        return HubError(f"the hub's client refuses the name ({_one_line(error)})")
    return HubError(f"what the hub sent is no answer to this ({type(error).__name__})")


_STATUS = {
    401: "there is no such model, or it is not public (status 401)",
    403: "the hub refuses to show it (status 403)",
    404: "there is no such model or commit (status 404)",
}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_SAID] or type(error).__name__


class _Client(httpx2.Client):
    """A client whose requests to the hub's model API end: in time, in size, in number."""

    def __init__(self, endpoint: str, settings: WatchSettings) -> None:
        super().__init__(follow_redirects=True, timeout=None)
        self._api = httpx2.URL(f"{endpoint}/api/models")
        self._timeout_s = settings.request_timeout_seconds
        self._attempts = settings.request_attempts

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send, again where it may help.

        Raises:
            HubError: no sound answer came within the attempts.
        """
        if is_offline_mode():
            raise HubError("offline mode is on: unset HF_HUB_OFFLINE to ask the hub")
        if not self._ours(request.url):
            return super().send(request, **options)
        wait = _FIRST_WAIT_S
        for attempt in range(1, self._attempts + 1):
            try:
                response = self._once(request, options)
            except httpx2.TimeoutException:
                said = f"the hub gave no answer within {self._timeout_s:g} s"
                asked = None
            except (httpx2.NetworkError, httpx2.ProtocolError, httpx2.ProxyError) as error:
                said = f"the hub can't be reached ({_one_line(error)})"
                asked = None
            else:
                if response.status_code not in _AGAIN:
                    return response
                said = f"the hub answers with status {response.status_code}"
                asked = _retry_after(response)
            pause = wait if asked is None else asked
            if attempt == self._attempts:
                break
            if pause > WAIT_MOST_S:
                said += f" and wants to be left alone for {pause:g} s"
                break
            log.info("%s; asked again in %g s", said, pause)
            time.sleep(pause)
            wait *= 2
        raise HubError(f"{said} ({attempt} of {self._attempts} attempts)")

    def _ours(self, url: httpx2.URL) -> bool:
        """Whether an address belongs to the hub's model API."""
        api = self._api
        return (url.scheme, url.host, url.port) == (api.scheme, api.host, api.port) and (
            f"{url.path}/".startswith(f"{api.path}/")
        )

    def _once(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        """One request, redirects followed within the API, and its whole answer."""
        ends = time.monotonic() + self._timeout_s
        for _ in range(_REDIRECTS + 1):
            # The library asks for no time limit at all, request by request.
            limits = httpx2.Timeout(self._timeout_s).as_dict()
            request.extensions = {**request.extensions, "timeout": limits}
            streamed = {**options, "stream": True, "follow_redirects": False}
            response = super().send(request, **streamed)
            try:
                answer = self._read(response, ends)
            finally:
                response.close()
            if response.next_request is None:
                return answer
            request = response.next_request
            if not self._ours(request.url):
                raise HubError(f"the hub leads elsewhere ({str(request.url)[:_SAID]!r})")
        raise HubError(f"the hub redirects more than {_REDIRECTS} times")

    def _read(self, response: httpx2.Response, ends: float) -> httpx2.Response:
        """The same answer with its body, which is not longer than it may be."""
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > BODY_MOST:
                raise HubError(f"the hub's answer is longer than {BODY_MOST >> 20} MiB")
            if time.monotonic() > ends:
                raise httpx2.ReadTimeout("the answer took too long", request=response.request)
        following = response.links.get("next", {}).get("url")
        if following is not None and not self._ours(response.request.url.join(following)):
            raise HubError(f"the hub's next page lies elsewhere ({following[:_SAID]!r})")
        # What is read is unpacked already.
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code, headers=headers, content=bytes(body), request=response.request
        )


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
