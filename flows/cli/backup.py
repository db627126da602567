"""`locus backup` and `locus restore`: what can't be made again, kept elsewhere and put back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import safe, say, start_progress

if TYPE_CHECKING:
    from locus.backups import Backup

# Digits of a backup's id that are shown: enough to tell it from another by.
_SHOWN = 16


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(backup)
    app.command()(restore)


def backup(
    target: Annotated[
        Path,
        typer.Argument(help="A new folder, or a new file ending in .tar, .tar.gz or .tgz."),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Make none: check every byte of the one that is there.")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for another run to end.")
    ] = 600,
) -> None:
    """Copy what can't be made again: warehouse, answers, maps, what readers see, the registry.

    No run writes meanwhile. Secrets of locus.toml stay out. docs/operations.md says what is in it.

    Examples: `locus backup /backups/locus-1.tar.gz`; `locus backup --check /backups/locus-1.tar.gz`
    """
    start_progress()
    from tasks.backup import check_backup, make_backup
    from tasks.settings import load_settings

    if check:
        say(f"whole: {_shown(check_backup(target))}")
        return
    made = make_backup(load_settings(), target, wait)
    say(f"made: {_shown(made.backup)}")
    if made.hidden:
        say(f"{made.hidden} secret values of settings files are not in it")
    for one in made.left_out:
        say(f"LEFT OUT: {safe(one)}")


def restore(
    source: Annotated[Path, typer.Argument(help="A backup.")],
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Set the home that is there aside, under another name, and take its place.",
        ),
    ] = False,
) -> None:
    """Put a backup in the place of the home, all of it or nothing. Nothing is ever deleted.

    Every byte is checked before anything is touched, and the warehouse must hold the very rows that
    were backed up.

    Examples: `locus restore /backups/locus-1.tar.gz`; `LOCUS_HOME=/elsewhere locus restore ...`
    """
    start_progress()
    from tasks.restore import restore as act
    from tasks.settings import load_settings

    done = act(load_settings(), source, replace=replace)
    say(f"restored: {_shown(done.backup)}")
    say(f"home: {done.home}, {done.rows:,} rows, the same as were backed up")
    say(f"readers see: {done.snapshot_id or 'nothing yet: `locus publish`'}")
    if done.set_aside:
        say(f"what was there before is {done.set_aside}")
    for line in done.said:
        say(safe(line))


def _shown(one: "Backup") -> str:
    made = safe(one.manifest.get("made_at", ""))[:19]
    size = one.n_bytes / 1e6
    return (
        f"backup {one.backup_id[:_SHOWN]} of {made} UTC, {len(one.files)} files, {size:.1f} MB, "
        f"schema version {one.manifest.get('schema_version')}: {safe(one.path)}"
    )
