"""`locus models`: what is watched, and what is known of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.terminal import say, table

if TYPE_CHECKING:
    from locus.registry import Scalar

app = typer.Typer(no_args_is_help=True, help="Models to watch: add, list, show, schema.")

# Arguments that are text whatever they look like; `--arg model=007` is a name, not the number 7.
_TEXT_ARGUMENTS = ("model", "pretrained", "tokenizer", "base_url", "api_key_env")


@app.command()
def add(
    model_id: Annotated[str, typer.Argument(help="Its id, for example org/name.")],
    pretrained: Annotated[
        str | None, typer.Option(help="For weights (hf, vllm): a local folder or a hub id.")
    ] = None,
    backend: Annotated[str, typer.Option(help="lm-eval backend that runs it.")] = "hf",
    model: Annotated[
        str | None, typer.Option(help="For a service: the model's name there (args.model).")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="For a service: its address (args.base_url).")
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(help="For a service: environment variable that holds its key, not the key."),
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            help="Backend argument KEY=VALUE; may be repeated. What YAML reads as a number, true "
            "or false is one; quote it for text: --arg 'stop=\"7\"'."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit of a hub model, 40 digits; for a service any text.")
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Put questions through its chat template.")
    ] = False,
    params_b: Annotated[float | None, typer.Option(help="Parameters, in billions.")] = None,
    family: Annotated[str | None, typer.Option(help="Architecture or lineage.")] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", help="Name of its licence.")
    ] = None,
    released: Annotated[
        str | None, typer.Option(help="Release: 2026-01-31, 2026-01 or 2026.")
    ] = None,
    price_in: Annotated[
        float | None, typer.Option(help="US dollars per million tokens read.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="US dollars per million tokens written.")
    ] = None,
) -> None:
    """Add a model to models.yaml; docs/models.md explains the file.

    Where a Prefect server is configured, or `locus serve` runs, the model is evaluated at once.
    Otherwise nothing is evaluated yet.

    Example: `locus models add zoo/new --pretrained ./models/new`, then `locus add-model zoo/new`.

    Example of an API: `locus models add org/chat --backend local-chat-completions --model
    chat-large --base-url https://api.example.com/v1/chat/completions --api-key-env
    EXAMPLE_API_KEY --arg num_concurrent=8 --price-in 0.5 --price-out 1.5`
    """
    from pydantic import ValidationError

    from locus.registry import ModelSpec, RegistryError
    from locus.registry.faults import reasons
    from tasks.settings import load_settings
    from tasks.watch import file_model

    settings = load_settings()
    named = {
        "pretrained": None if pretrained is None else _folder(pretrained, settings.models_file),
        "model": model,
        "base_url": base_url,
        "api_key_env": api_key_env,
    }
    given = [_pair(text) for text in arg or []]
    given += [(key, value) for key, value in named.items() if value is not None]
    twice = {key for key, _ in given if [k for k, _ in given].count(key) > 1}
    if twice:
        raise RegistryError(
            f"{model_id!r} was not added: args.{min(twice)} is given twice: give it once"
        )
    try:
        spec = ModelSpec(
            id=model_id,
            backend=backend,
            args=dict(given),
            revision=revision,
            chat_template=chat_template,
            params_b=params_b,
            family=family,
            license=license_name,
            released=released,
            price_in_usd_per_mtok=price_in,
            price_out_usd_per_mtok=price_out,
        )
    except ValidationError as error:
        why = "; ".join(reasons(error, list(ModelSpec.model_fields)))
        raise RegistryError(f"{model_id!r} was not added: {why}") from error
    filed = file_model(settings, spec, "cli")
    added = f"added {spec.id} to" if filed.added else f"{spec.id} is the same already in"
    what = (
        "it is evaluated now, by the deployment add-model"
        if filed.announced
        else f"evaluate it with: locus add-model {spec.id}"
    )
    say(f"{added} {settings.models_file}; {what}")


def _pair(text: str) -> "tuple[str, Scalar]":
    """KEY=VALUE, the value as `models.yaml` would read it if it is a number, true or false."""
    import yaml

    key, sign, value = text.partition("=")
    if not sign or not key or not value:
        raise typer.BadParameter(
            f"{text!r}: write KEY=VALUE, such as num_concurrent=4", param_hint="--arg"
        )
    # A value that begins like this is YAML's own business, and PyYAML fails over some.
    if key in _TEXT_ARGUMENTS or value[0] in "!&*{[":
        return key, value
    try:
        read = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        return key, value
    return key, read if isinstance(read, str | int | float | bool) else value


def _folder(pretrained: str, models_file: Path) -> str:
    """A folder as the registry finds it, which reads relative ones from where it lies itself."""
    given, there = Path(pretrained), models_file.parent / pretrained
    for folder in (there, given):
        if folder.is_dir():
            same = there.resolve() == given.resolve()
            return pretrained if same else str(folder.resolve())
    return pretrained


@app.command()
def schema() -> None:
    """Print the JSON Schema of models.yaml, for editors and programs that write the file.

    Example: `locus models schema > models.schema.json`
    """
    import json

    from locus.registry import registry_schema

    say(json.dumps(registry_schema(), indent=2, ensure_ascii=False))


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
