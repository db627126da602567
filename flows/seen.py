"""What people see of a run in Prefect: a short artifact with the outcome."""

import logging

from prefect.artifacts import create_markdown_artifact

from flows.outcome import Outcome

log = logging.getLogger("locus.pipeline")


def show(name: str, outcome: Outcome) -> None:
    """Log the outcome and leave it as an artifact of the flow run."""
    log.info("%s: %s", name, outcome.headline())
    lines = [outcome.headline(), ""]
    why = {**outcome.stopped, **outcome.failed}
    if outcome.plan:
        lines += ["| model | queries | ended early because |", "|---|---|---|"]
        lines += [
            f"| `{model}` | {expected.queries} | {_cell(why.get(model, ''))} |"
            for model, expected in sorted(outcome.plan.items())
        ]
    for title, found in (("Left alone", outcome.resting), ("Changed", outcome.drifted)):
        if found:
            lines += ["", f"| {title} | why |", "|---|---|"]
            lines += [f"| `{model}` | {_cell(said)} |" for model, said in sorted(found.items())]
    create_markdown_artifact(key=f"{name}-outcome", markdown="\n".join(lines))


def _cell(text: str) -> str:
    """Text of a model's log as a table cell: no markup, no line breaks."""
    flat = " ".join(text.split())
    return f"`{flat.replace('`', chr(39)).replace('|', '/')}`" if flat else ""
