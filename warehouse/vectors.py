"""What is computed per query and per model: encodings, embeddings, predictions."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from warehouse.catalogue import refuse_unknown
from warehouse.connection import Session, now
from warehouse.contracts import EmbeddingFrame, EncodingFrame, PredictionFrame, validated
from warehouse.errors import ContractError
from warehouse.sql import query


class Vectors:
    """Reads and writes ``query_encoding``, ``model_embedding`` and ``prediction``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def missing_encodings(self, encoder: str, ids: Sequence[str] | None = None) -> pl.DataFrame:
        """Queries without a vector of this encoder.

        Args:
            encoder: name of the sentence encoder.
            ids: look at these queries only.

        Returns:
            ``query_id``, ``text``, ordered by id.
        """
        return self._session.frame(
            query("missing_encodings"),
            {"encoder": encoder, "ids": None if ids is None else list(ids)},
        )

    def add_encodings(self, frame: pl.DataFrame) -> int:
        """Add encodings (`contracts.EncodingFrame`); those there already stay as they are.

        Returns:
            Number of encodings that were not there before.

        Raises:
            ContractError: a row breaks the contract, its query is not there, or its length differs
                from that of the encoder's other vectors.
        """
        session = self._session
        rows = validated(EncodingFrame, frame)
        with session.transaction(), session.staged(rows):
            refuse_unknown(session, "query_encoding", "query_id")
            mixed = session.frame(query("mixed_dims"))
            if mixed.height:
                raise ContractError(
                    "query_encoding",
                    "dim",
                    "must be the same for all vectors of an encoder",
                    mixed.to_dicts(),
                )
            return session.execute(query("insert_encoding"), {"now": now()})

    def encodings(
        self, encoder: str, ids: Sequence[str] | None = None
    ) -> tuple[list[str], npt.NDArray[np.float32]]:
        """Vectors of this encoder.

        Args:
            encoder: name of the sentence encoder.
            ids: only these queries; one without a vector is left out.

        Returns:
            Ids of N queries in alphabetical order, and their vectors as a float32 matrix
            ``[N, dim]`` (``[0, 0]`` when there are none).
        """
        rows = self._session.frame(
            query("encodings"), {"encoder": encoder, "ids": None if ids is None else list(ids)}
        )
        if rows.is_empty():
            return [], np.zeros((0, 0), dtype=np.float32)
        flat = rows["vector"].explode().to_numpy().astype(np.float32, copy=True)
        return rows["query_id"].to_list(), flat.reshape(rows.height, -1)

    def replace_embeddings(self, checkpoint_id: str, frame: pl.DataFrame) -> int:
        """Store the place of the given models (`contracts.EmbeddingFrame`) under a checkpoint.

        Models that are not in the frame keep theirs.

        Returns:
            Number of rows written.

        Raises:
            ContractError: a row breaks the contract, its model is not there, or the vectors differ
                in length among themselves or from the checkpoint's others.
        """
        session = self._session
        rows = validated(EmbeddingFrame, frame)
        with session.transaction(), session.staged(rows):
            refuse_unknown(session, "model_embedding", "model_id")
            session.execute(
                "DELETE FROM model_embedding WHERE checkpoint_id = ? "
                "AND model_id IN (SELECT model_id FROM incoming)",
                [checkpoint_id],
            )
            written = session.execute(
                query("insert_embedding"), {"checkpoint_id": checkpoint_id, "now": now()}
            )
            dims = session.frame(
                "SELECT DISTINCT dim FROM model_embedding WHERE checkpoint_id = ? ORDER BY dim",
                [checkpoint_id],
            )
            if dims.height > 1:
                raise ContractError(
                    "model_embedding",
                    "dim",
                    f"must be the same for all models of checkpoint {checkpoint_id}",
                    dims.to_dicts(),
                )
            return written

    def embeddings(self, checkpoint_id: str) -> pl.DataFrame:
        """The places of all models under a checkpoint, ordered by model.

        Returns:
            The columns of ``model_embedding``.
        """
        return self._session.frame(
            "SELECT * FROM model_embedding WHERE checkpoint_id = ? ORDER BY model_id",
            [checkpoint_id],
        )

    def replace_predictions(self, checkpoint_id: str, frame: pl.DataFrame) -> int:
        """Store all predictions of the given models (`contracts.PredictionFrame`).

        Every older prediction of these models under this checkpoint goes, also for queries that
        are not in the frame: it came from an older embedding. Other models keep theirs.

        Returns:
            Number of rows written.

        Raises:
            ContractError: a row breaks the contract, or its model or query is not there.
        """
        session = self._session
        rows = validated(PredictionFrame, frame)
        with session.transaction(), session.staged(rows):
            refuse_unknown(session, "prediction", "model_id", "query_id")
            session.execute(
                "DELETE FROM prediction WHERE checkpoint_id = ? "
                "AND model_id IN (SELECT DISTINCT model_id FROM incoming)",
                [checkpoint_id],
            )
            return session.execute(
                "INSERT INTO prediction BY NAME "
                "SELECT *, ? AS checkpoint_id, ?::TIMESTAMPTZ AS predicted_at FROM incoming",
                [checkpoint_id, now()],
            )

    def predictions(self, checkpoint_id: str) -> pl.DataFrame:
        """All predictions under a checkpoint, ordered by model and query.

        Returns:
            ``model_id``, ``query_id``, ``p_correct`` (0 to 1), ``deviation``, ``predicted_at``.
        """
        return self._session.frame(
            "SELECT model_id, query_id, p_correct, deviation, predicted_at FROM prediction "
            "WHERE checkpoint_id = ? ORDER BY model_id, query_id",
            [checkpoint_id],
        )
