"""How numbers travel to the page: no more digits than it shows."""

import polars as pl


def thousandths(share: pl.Series) -> list[int | None]:
    """Shares in [0, 1] as whole thousandths; NULL stays NULL."""
    return (share * 1000).round().cast(pl.Int64).to_list()


def significant(value: float | None, digits: int = 4) -> float | None:
    """A number with ``digits`` significant digits, which is all that the page shows."""
    return None if value is None else float(f"{value:.{digits}g}")
