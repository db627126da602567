"""A report opened in a real browser, with an eye on everything it does besides being looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def watched(
    browser: Any,
    path: Path,
    width: int = 1280,
    before: str = "",
    ready: str = "html[data-ready]",
    **options: Any,
) -> Iterator[Any]:
    """Opens a report; on leaving, fails if it logged an error, spoke up or used the network.

    Args:
        browser: where.
        path: the report.
        width: of the window, in pixels.
        before: a script that runs before the page's own.
        ready: what must be there first; ``html[data-started]`` waits for no figure.
        **options: of the browser's context.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.add_init_script(before)
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            trouble.append(f"request: {request.url[:80]}")
            if not request.url.startswith(("file://", "data:", "blob:"))
            else None
        ),
    )
    page.goto(path.as_uri())
    page.wait_for_selector(ready, timeout=60_000)
    yield page
    assert trouble == []
    context.close()
