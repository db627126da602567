"""What people see of a run in Prefect: a short artifact with the outcome."""

import logging

from prefect.artifacts import create_markdown_artifact

from flows.pipeline import Outcome

log = logging.getLogger("locus.pipeline")


def show(name: str, outcome: Outcome) -> None:
    """Log the outcome and leave it as an artifact of the flow run."""
    log.info("%s: %s", name, outcome.headline())
    lines = [outcome.headline(), ""]
    if outcome.plan:
        lines += ["| model | queries | ended early because |", "|---|---|---|"]
        lines += [
            f"| `{model}` | {n} | {_cell(outcome.failed.get(model, ''))} |"
            for model, n in sorted(outcome.plan.items())
        ]
    create_markdown_artifact(key=f"{name}-outcome", markdown="\n".join(lines))


def _cell(text: str) -> str:
    """Text of a model's log as a table cell: no markup, no line breaks."""
    flat = " ".join(text.split())
    return f"`{flat.replace('`', chr(39)).replace('|', '/')}`" if flat else ""
