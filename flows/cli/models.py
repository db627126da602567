"""`locus models`: what is watched, and what is known of it."""

from typing import Annotated

import typer

from flows.cli.terminal import say, table

app = typer.Typer(no_args_is_help=True, help="Models to watch: add, list, show.")


@app.command()
def add(
    model_id: Annotated[str, typer.Argument(help="Its id, for example org/name.")],
    pretrained: Annotated[
        str | None, typer.Option(help="For the hf backend: a local folder or a hub id.")
    ] = None,
    backend: Annotated[str, typer.Option(help="lm-eval backend that runs it.")] = "hf",
    arg: Annotated[
        list[str] | None, typer.Option(help="Backend argument KEY=VALUE; may be repeated.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a hub model, 40 digits.")] = None,
    params_b: Annotated[float | None, typer.Option(help="Parameters, in billions.")] = None,
    family: Annotated[str | None, typer.Option(help="Architecture or lineage.")] = None,
    price_in: Annotated[
        float | None, typer.Option(help="US dollars per million tokens read.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="US dollars per million tokens written.")
    ] = None,
) -> None:
    """Add a model to models.yaml. Nothing is evaluated yet.

    Example: `locus models add zoo/new --pretrained ./models/new`, then `locus add-model zoo/new`.
    """
    from pydantic import ValidationError

    from locus.registry import ModelSpec, RegistryError, Scalar, append_model
    from tasks.settings import load_settings

    args: dict[str, Scalar] = dict(_pair(text) for text in arg or [])
    if pretrained is not None:
        args["pretrained"] = pretrained
    settings = load_settings()
    try:
        spec = ModelSpec(
            id=model_id,
            backend=backend,
            args=args,
            revision=revision,
            params_b=params_b,
            family=family,
            price_in_usd_per_mtok=price_in,
            price_out_usd_per_mtok=price_out,
        )
    except ValidationError as error:
        reasons = "; ".join(f["msg"].removeprefix("Value error, ") for f in error.errors())
        raise RegistryError(f"{model_id!r} was not added: {reasons}") from error
    append_model(settings.models_file, spec)
    say(f"added {spec.id} to {settings.models_file}; evaluate it with: locus add-model {spec.id}")


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--arg")
    return key, value


@app.command("list")
def list_models() -> None:
    """List the models of the registry, with what is published of them.

    Example: `locus models list`
    """
    import polars as pl

    from locus.registry import load_registry
    from locus.snapshots import SnapshotError, current
    from tasks.settings import load_settings

    settings = load_settings()
    specs = load_registry(settings.models_file)
    registry = pl.DataFrame(
        [(s.id, s.backend, s.family, s.params_b) for s in specs],
        schema={
            "model_id": pl.String,
            "backend": pl.String,
            "family": pl.String,
            "params_b": pl.Float64,
        },
        orient="row",
    )
    try:
        folder = current(settings.published).folder
        placed = pl.read_parquet(
            folder / "similarity" / "embeddings.parquet", columns=["model_id", "n_scores"]
        )
    except SnapshotError:
        placed = pl.DataFrame(schema={"model_id": pl.String, "n_scores": pl.Int64})
    joined = registry.join(placed, on="model_id", how="full", coalesce=True).sort("model_id")
    table(joined.with_columns(published=pl.col("n_scores").is_not_null()), most=2000)
    say(f"{registry.height} in {settings.models_file}, {placed.height} published")


@app.command()
def show(model_id: Annotated[str, typer.Argument(help="A published model.")]) -> None:
    """Show what is known of one model: facts, accuracy per task, neighbours.

    Example: `locus models show zoo/arith-s`
    """
    from flows.cli.look import published_model, similar_rows
    from tasks.settings import load_settings
    from warehouse.console import run_sql

    snapshot, row = published_model(load_settings(), model_id)
    for key, value in row.items():
        if key not in ("vector", "covariance") and value is not None:
            say(f"{key:24} {value}")
    accuracy = run_sql(snapshot.folder / "warehouse.duckdb", "FROM model_accuracy ORDER BY task")
    table(accuracy.filter(model_id=model_id).drop("model_id"), "Accuracy per task")
    table(similar_rows(snapshot, model_id, 5), "Nearest models")
