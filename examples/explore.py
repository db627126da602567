"""A page to look around in what is published: a marimo notebook that only reads.

`marimo run examples/explore.py` opens it in a browser. It reads the snapshot that is current where
`LOCUS_CONFIG` (or `locus.toml` here) says, or the one in a folder given after two dashes::

    marimo run examples/explore.py -- --snapshot data/published/snapshots/<id>

As a script it writes the same tables as text, and can be asked for one model and one statement::

    python examples/explore.py --model zoo/arith-s --sql "FROM coverage"

All SQL goes through `warehouse.console.run_sql`, which lets nothing but reading through.
"""

import marimo

app = marimo.App(width="medium", app_title="LOCUS: look around")

with app.setup:
    import sys
    from html import escape
    from pathlib import Path

    import marimo as mo
    import polars as pl
    import polars.selectors as cs

    from locus.names import hint
    from locus.snapshots import current, verify
    from tasks.settings import load_settings
    from warehouse.console import run_sql
    from warehouse.errors import SqlError

    MAX_ROWS = 1000


@app.function
def show(title: str, content: pl.DataFrame | str, *, exact: bool = False) -> object:
    """A heading over a table or a sentence; in a script, as text on the standard output.

    Numbers are shown with four digits unless they shall be exact. Title and sentence may quote what
    was typed or what a model is called: they are shown as text, not as HTML.
    """
    if isinstance(content, pl.DataFrame) and not exact:
        content = content.with_columns(cs.float().round_sig_figs(4))
    if mo.app_meta().mode == "script":
        with pl.Config(tbl_rows=20, tbl_cols=-1, tbl_width_chars=160, fmt_str_lengths=60):
            sys.stdout.write(f"\n{title}\n{content}\n")
    heading = mo.Html(f"<h3>{escape(title)}</h3>")
    if isinstance(content, str):
        return mo.vstack([heading, mo.Html(f"<pre>{escape(content)}</pre>")])
    return mo.vstack([heading, mo.ui.table(content, selection=None)])


@app.cell
def _():
    arguments = mo.cli_args()
    return (arguments,)


@app.cell
def _(arguments):
    # A folder from a stranger is checked byte by byte; the pointer's own was checked when it was
    # published.
    _folder = arguments.get("snapshot")
    snapshot = verify(Path(_folder)) if _folder else current(load_settings().published)
    copy_path = snapshot.folder / "warehouse.duckdb"
    models = pl.read_parquet(snapshot.folder / "similarity" / "embeddings.parquet").drop(
        "vector", "covariance", strict=False
    )
    nearest = pl.read_parquet(snapshot.folder / "similarity" / "nearest.parquet")
    routing = pl.read_parquet(snapshot.folder / "routing" / "table.parquet")
    return copy_path, models, nearest, routing, snapshot


@app.cell
def _(copy_path):
    # All models at once: what is picked then only filters, and never becomes part of a statement.
    accuracy = run_sql(
        copy_path,
        """
        SELECT model_id, task, n, accuracy, accuracy_low, accuracy_high,
            rank() OVER (PARTITION BY task ORDER BY accuracy DESC) AS place,
            count(*) OVER (PARTITION BY task) AS of_models
        FROM model_accuracy
        ORDER BY model_id, task
        """,
    )
    coverage = run_sql(copy_path, "FROM coverage ORDER BY task")
    return accuracy, coverage


@app.cell
def _(coverage, models, snapshot):
    show(
        f"Snapshot {snapshot.snapshot_id}: {models.height} models, "
        f"{coverage['n_queries'].sum()} questions, {coverage['n_scores'].sum()} answers",
        coverage.select("task", "n_queries", "n_models", "n_scores", "share_filled"),
    )
    return


@app.cell
def _(arguments, models):
    _ids = models["model_id"].sort().to_list()
    _asked = arguments.get("model")
    if _asked is not None and _asked not in _ids:
        raise ValueError(
            f"model {_asked!r} is not in this snapshot: {hint(_asked, _ids, 'leave --model out')}"
        )
    model_picker = mo.ui.dropdown(_ids, value=_asked or _ids[0], searchable=True, label="Model")
    mo.vstack([model_picker])
    return (model_picker,)


@app.cell
def _(model_picker):
    picked = model_picker.value
    return (picked,)


@app.cell
def _(accuracy, models, picked):
    _about = models.filter(model_id=picked).select("org", "family", "params_b", "n_scores")
    picked_accuracy = accuracy.filter(model_id=picked).drop("model_id")
    mo.vstack(
        [
            show(f"{picked}: what is known", _about),
            show(f"{picked}: accuracy with its 95 % interval", picked_accuracy),
        ]
    )
    return (picked_accuracy,)


@app.cell
def _(nearest, picked):
    picked_nearest = (
        nearest.filter(model_id=picked)
        .sort("rank")
        .select(
            "rank", "neighbour_id", "euclidean_distance", "observed_agreement",
            "agreement_low", "agreement_high", "n_common",
        )
    )  # fmt: skip
    show(f"{picked}: nearest models, and how often they agree", picked_nearest)
    return (picked_nearest,)


@app.cell
def _(routing):
    bucket_picker = mo.ui.dropdown(
        routing["bucket"].unique(maintain_order=True).to_list(), value="all", label="Questions like"
    )
    mo.vstack([bucket_picker])
    return (bucket_picker,)


@app.cell
def _(bucket_picker, routing):
    ranking = routing.filter(bucket=bucket_picker.value).sort("rank").drop("bucket")
    show(f"Who should answer: {bucket_picker.value}", ranking)
    return (ranking,)


@app.cell
def _(arguments):
    sql_box = mo.ui.code_editor(
        arguments.get("sql") or "FROM coverage", language="sql", label="One SELECT statement"
    ).form(submit_button_label="Run")
    mo.vstack([mo.md("### Ask in SQL"), sql_box])
    return (sql_box,)


@app.cell
def _(arguments, sql_box):
    statement = sql_box.value or arguments.get("sql")
    return (statement,)


@app.cell
def _(copy_path, statement):
    mo.stop(not statement)
    try:
        answer = run_sql(copy_path, statement, max_rows=MAX_ROWS)
        _shown = show("Answer", answer, exact=True)
    except SqlError as _error:
        answer = None
        _shown = show("Not run", str(_error))
    mo.vstack([_shown])
    return (answer,)


if __name__ == "__main__":
    app.run()
