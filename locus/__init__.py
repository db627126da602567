"""The method and everything computed: encodings, embeddings, routing, similarity, reports.

Nothing here knows Prefect, DuckDB or where files live; callers hand in frames, arrays and folders.

What programs need to route is here, and imported on first use, so that `import locus` stays
light::

    from locus import Router

    Router.load(Path("state/published")).route(["What is 5 plus 9?"])
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locus.routing.policy import Policy
    from locus.routing.router import Router

__all__ = ["Policy", "Router"]


def __getattr__(name: str) -> Any:
    if name == "Router":
        from locus.routing.router import Router

        return Router
    if name == "Policy":
        from locus.routing.policy import Policy

        return Policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
