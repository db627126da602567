"""Prices of models as the registry says them now, with their first days."""

from collections.abc import Sequence

import polars as pl

from warehouse.catalogue import refuse_unknown
from warehouse.connection import Session
from warehouse.contracts import PriceFrame, validated
from warehouse.errors import ContractError


class Prices:
    """Reads and writes ``price``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def replace(self, frame: pl.DataFrame, models: Sequence[str] | None = None) -> int:
        """Put the prices of some models in the place of what they had, in one transaction.

        Args:
            frame: the prices (`contracts.PriceFrame`).
            models: whose prices are replaced; one without a row in the frame has none afterwards.
                By default those of the frame. Prices of other models stay.

        Returns:
            Number of prices that these models have now.

        Raises:
            ContractError: a row breaks the contract, or belongs to a model that is not there or
                not among ``models``; nothing is written.
        """
        rows = validated(PriceFrame, frame)
        whose = list(rows["model_id"].unique()) if models is None else list(models)
        stray = rows.filter(~pl.col("model_id").is_in(whose))
        if stray.height:
            rule = "is not among the models whose prices are replaced"
            shown = stray.head(3).select("model_id").to_dicts()
            raise ContractError("price", "model_id", rule, shown, n_rows=stray.height)
        session = self._session
        with session.transaction(), session.staged(rows):
            refuse_unknown(session, "price", "model_id")
            session.execute(
                "DELETE FROM price WHERE model_id IN (SELECT unnest(?::VARCHAR[]))", [whose]
            )
            session.execute("INSERT INTO price BY NAME FROM incoming")
        return rows.height

    def list(self) -> pl.DataFrame:
        """All prices, by model, the oldest first: the columns of ``price``."""
        return self._session.frame("SELECT * FROM price ORDER BY model_id, valid_from NULLS FIRST")
