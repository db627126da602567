"""Doctor: what is wrong with a home and its surroundings, said item by item; and mending it.

Looking changes nothing, takes no lease and needs no Prefect. `mend` does only what loses nothing:
it moves what is damaged out of the way, removes what killed runs left half-made, and points readers
to a snapshot that is whole.
"""

from datetime import datetime

from tasks.doctor.finding import Finding, State
from tasks.doctor.holdings import look_at_holdings
from tasks.doctor.mend import mend
from tasks.doctor.surroundings import look_at_surroundings
from tasks.settings import Settings

__all__ = ["Finding", "State", "diagnose", "mend"]


def diagnose(settings: Settings, now: datetime) -> list[Finding]:
    """Look at everything.

    Args:
        settings: the pipeline's settings.
        now: the time it is (UTC).

    Returns:
        What was found, item by item, in the order in which it is best read.
    """
    return [*look_at_surroundings(settings, now), *look_at_holdings(settings, now)]
