"""Private folders that a killed run leaves beside what is whole."""

from pathlib import Path

from locus.snapshots import REMOVING, SNAPSHOTS
from tasks.settings import Settings

BUILDING = ".building-"


def half_made(settings: Settings) -> list[Path]:
    """Snapshots, maps and catalogues half built, and snapshots half removed.

    While a run goes on it may be at work on them: whether one does is for the caller to know.
    """
    snapshots = settings.published / SNAPSHOTS
    parents = (snapshots, settings.checkpoints, settings.home / "catalogue")
    built = [half for parent in parents for half in parent.glob(f"{BUILDING}*")]
    return [*built, *snapshots.glob(f"{REMOVING}*")]
