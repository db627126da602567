"""`locus rescore`: stored answers by a new metric."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, say_error, start_progress, table

if TYPE_CHECKING:
    from tasks.rescore import Rescored

EXIT_TASKS_REFUSED = 3


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(rescore)


def rescore(
    task: Annotated[
        list[str] | None, typer.Argument(help="Only these of the configured tasks.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Only this model; may be repeated.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Score, say what would change, file nothing.")
    ] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for another run to end.")] = 0,
) -> None:
    """Score stored answers by the metric that is configured now. Asks no model anything.

    For tasks whose first metric or filter has changed, or whose `metric` is set under
    `[task_settings.NAME]`. Old scores stay; the new ones count.

    Examples: `locus rescore --dry-run`; `locus rescore gsm8k --model org/name`
    """
    start_progress()
    from flows.rescore import rescore as flow

    _finish(flow(task or None, model or None, dry_run, wait))


def _finish(outcome: "Rescored") -> None:
    """Print the outcome; tasks that were refused make the exit status 3."""
    import polars as pl

    scored = [one for one in outcome.tasks if one.n_answers]
    if scored:
        rows = [
            (o.task, o.metric, ", ".join(o.was), o.n_answers, o.n_models, o.before, o.after)
            for o in scored
        ]
        columns = ["task", "metric", "was", "answers", "models", "mean before", "mean after"]
        table(pl.DataFrame(rows, schema=columns, orient="row"))
    for one in outcome.tasks:
        for left in one.left:
            text = f"{left.n} answers keep their score: {left.why} (first: {left.first})"
            say(f"note: task {safe(one.task)}: {safe(text)}")
    say(outcome.headline())
    if scored and not outcome.dry_run:
        say("next: `locus publish` places and publishes by the new scores")
    for name, why in sorted(outcome.refused.items()):
        say_error(f"task {safe(name)}: {safe(why)}")
    if outcome.refused:
        raise typer.Exit(EXIT_TASKS_REFUSED)
