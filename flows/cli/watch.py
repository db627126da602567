"""`locus watch` and `locus webhook`: models that are added by others than you."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, say_error, start_progress

if TYPE_CHECKING:
    from tasks.watch import Watched

EXIT_FAULTS = 3


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(watch)
    app.command()(webhook)


def watch(
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="One look, which is all this does; `locus serve` looks on a schedule."
        ),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be added and why the rest is left out."),
    ] = False,
) -> None:
    """Look once for new models: in models.yaml, and on the hub as `[watch]` says.

    What is new is put into models.yaml and announced, which evaluates it where `locus serve` runs.

    Example: `locus watch --dry-run`
    """
    start_progress()
    if dry_run:
        from tasks.settings import load_settings
        from tasks.watch import watch_models

        settings = load_settings()
        # Nothing happens, so there is nothing that Prefect should keep a record of.
        return _finish(watch_models(settings, settings.watch, dry_run=True))
    from flows.watch import watch as flow

    return _finish(flow())


def webhook(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8600,
    proxy: Annotated[
        str | None,
        typer.Option(
            help="Address of a reverse proxy in front, such as 127.0.0.1: its X-Forwarded-For "
            "header tells who calls."
        ),
    ] = None,
) -> None:
    """Take new models over HTTP, until stopped. LOCUS_WEBHOOK_SECRET holds the callers' secret.

    Example: `LOCUS_WEBHOOK_SECRET=$(openssl rand -hex 24) locus webhook`
    """
    start_progress()
    from flows.webhook import serve_webhook
    from tasks.settings import load_settings

    settings = load_settings()
    serve_webhook(settings, settings.watch, settings.webhook, host, port, proxy)


def _finish(outcome: "Watched") -> None:
    """Print the outcome; faults make the exit status 3."""
    would = "would be " if outcome.dry_run else ""
    for names, what in (
        (outcome.added, "added"),
        (outcome.followed, "moved to its new commit"),
        (outcome.announced, "announced"),
    ):
        for name in names:
            say(f"{safe(name)}: {would}{what}")
    for name in outcome.untold:
        say(f"{safe(name)}: not announced, so the next nightly run evaluates it")
    if outcome.dry_run:
        for name, why in sorted(outcome.left.items()):
            say(f"{safe(name)}: left out: {safe(why)}")
    say(outcome.headline())
    for line in outcome.failed:
        say_error(safe(line))
    if outcome.failed:
        raise typer.Exit(EXIT_FAULTS)
