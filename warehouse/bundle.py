"""Taking in a whole set of models, queries and scores from elsewhere, all of it or nothing."""

import logging
from collections.abc import Mapping
from typing import Any

import polars as pl

from warehouse.catalogue import Catalogue
from warehouse.connection import Session
from warehouse.contracts import ScoreFrame, validated
from warehouse.scores import Scores

logger = logging.getLogger(__name__)


def import_bundle(
    session: Session,
    *,
    run_id: str,
    kind: str,
    models: pl.DataFrame,
    revisions: pl.DataFrame,
    tasks: pl.DataFrame,
    queries: pl.DataFrame,
    scores: pl.DataFrame,
    settings: Mapping[str, Any],
    versions: Mapping[str, Any] | None = None,
    git_sha: str | None = None,
) -> dict[str, int]:
    """Take in a bundle in one transaction.

    Idempotent: scores that were imported before, in any order of rows and whatever their
    ``scored_at``, are not inserted again and make no new run; models, revisions, tasks and queries
    that are there already are kept as `Catalogue` says.

    Args:
        session: the database.
        run_id: id of the run that the scores will name; not used when they are there already.
        kind: kind of the run, for example ``import``.
        models: `contracts.ModelFrame`.
        revisions: `contracts.RevisionFrame`.
        tasks: `contracts.TaskFrame`.
        queries: `contracts.QueryFrame`.
        scores: `contracts.ScoreFrame`.
        settings: where the bundle comes from, JSON-like.
        versions: software that read it, JSON-like.
        git_sha: commit of this project.

    Returns:
        Number of new rows: ``models``, ``revisions``, ``tasks``, ``queries``, ``scores``.

    Raises:
        ContractError: a row breaks its contract or names a model or query that is not there;
            nothing is written.
        WarehouseError: the run is there already with other scores.
    """
    catalogue, store = Catalogue(session), Scores(session)
    rows = validated(ScoreFrame, scores)
    with session.transaction():
        counts = {
            "models": catalogue.add_models(models),
            "revisions": catalogue.add_revisions(revisions),
            "tasks": catalogue.add_tasks(tasks),
            "queries": catalogue.add_queries(queries),
            "scores": 0,
        }
        sha256 = store.content_sha256(rows)
        if rows.is_empty() or store.merged(sha256):
            logger.info("import %s: these scores are there already", run_id)
            return counts
        whose = rows.select("model_id", "revision").unique().to_dicts()
        only = whose[0] if len(whose) == 1 else {"model_id": None, "revision": None}
        store.start_run(
            run_id,
            kind,
            only["model_id"],
            only["revision"],
            settings,
            versions or {},
            git_sha,
            rows.height,
        )
        store.insert(rows, run_id, sha256)
        store.finish_run(run_id, "finished")
        counts["scores"] = rows.height
    return counts
