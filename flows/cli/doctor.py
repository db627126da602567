"""`locus doctor`: what is wrong with the state and its surroundings, and mending it."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, say_error, start_progress

if TYPE_CHECKING:
    from tasks.doctor import Finding

EXIT_BROKEN = 1


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(doctor)


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Mend what loses nothing: remove leftovers, set damaged parts and snapshots "
            "aside, show readers a whole snapshot.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All findings, as JSON.")] = False,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for another run.")] = 0,
) -> None:
    """Look at settings, disk, warehouse, answers, maps and snapshots; say what to do about each.

    Without `--repair` nothing is changed, and a run that goes on isn't disturbed. Exit status 1 if
    anything is broken (after the repair), 0 otherwise. Every byte of every snapshot is read.

    Examples: `locus doctor`; `locus doctor --repair`; `locus doctor --json`
    """
    import json
    from dataclasses import asdict

    from tasks.settings import SettingsError, load_settings

    if repair:
        start_progress()
    try:
        settings = load_settings()
    except SettingsError as error:
        finding = {"item": "settings", "state": "broken", "said": str(error), "next_step": ""}
        if as_json:
            say(json.dumps({"findings": [finding], "repaired": [], "broken": 1}, indent=1))
            raise typer.Exit(EXIT_BROKEN) from error
        raise
    from datetime import UTC, datetime

    from tasks.doctor import State, diagnose, mend
    from tasks.lock import PipelineBusyError
    from warehouse.errors import WarehouseError

    done: list[str] = []
    if repair:
        try:
            done = mend(settings, wait)
        except (PipelineBusyError, WarehouseError) as error:
            say_error(f"nothing was repaired: {safe(error)}")
    found = diagnose(settings, datetime.now(UTC))
    n_broken = sum(one.state is State.broken for one in found)
    if as_json:
        report = {"findings": [asdict(f) for f in found], "repaired": done, "broken": n_broken}
        say(json.dumps(report, indent=1))
    else:
        _tell(found, done, repair)
    if n_broken:
        raise typer.Exit(EXIT_BROKEN)


def _tell(found: "list[Finding]", done: list[str], repair: bool) -> None:
    for one in found:
        say(f"{one.state.value:<8} {one.item:<12} {safe(one.said)}")
        if one.next_step:
            say(f"{'':21} -> {safe(one.next_step)}")
    for line in done:
        say(f"repaired: {safe(line)}")
    if repair and not done:
        say("repaired: nothing")
