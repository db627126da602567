"""The flow that watches: what is new in models.yaml and on the hub is filed and announced."""

import logging

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from tasks.settings import load_settings
from tasks.watch import Watched, watch_models

log = logging.getLogger("locus.watch")


@flow(name="watch", persist_result=False)
def watch(dry_run: bool = False) -> Watched:
    """Look at the registry and the hub once. No model is asked anything here.

    A fault of the hub ends no run: it is logged, shown, and the next look tries again.

    Args:
        dry_run: say what would be done, and do nothing.

    Raises:
        RegistryError: `models.yaml` is faulty.
    """
    settings = load_settings()
    outcome = watch_models(settings, settings.watch, dry_run)
    log.info("watch: %s", outcome.headline())
    for line in outcome.failed:
        log.warning("watch: %s", _flat(line))
    create_markdown_artifact(key="watch-outcome", markdown=_page(outcome))
    return outcome


def _page(outcome: Watched) -> str:
    lines = [outcome.headline(), "", "| model | what |", "|---|---|"]
    for names, what in (
        (outcome.added, "added"),
        (outcome.followed, "new commit"),
        (outcome.announced, "announced"),
        (outcome.untold, "could not be announced"),
    ):
        lines += [f"| `{name}` | {what} |" for name in names]
    lines += [f"| `{_flat(name)}` | {_flat(why)} |" for name, why in outcome.left.items()]
    lines += [f"| | {_flat(line)} |" for line in outcome.failed]
    return "\n".join(lines)


def _flat(text: str) -> str:
    """A stranger's text in one line without markup."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain.replace("`", "'").replace("|", "/").replace("<", "(").replace(">", ")")
