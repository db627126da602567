"""Commands that decide with a published map: compare, clusters, portfolio, stand-ins, and more."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.output import Format, FormatOption, emit, known_columns, note, some
from flows.cli.terminal import safe

if TYPE_CHECKING:
    import polars as pl

_MODEL = Annotated[str, typer.Argument(help="A published model.")]
_OTHER = Annotated[str, typer.Argument(help="Another published model.")]


class Method(StrEnum):
    """How a portfolio of a given size is chosen."""

    k_center = "k-center"
    k_medoids = "k-medoids"
    best_of_set = "best-of-set"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(compare)
    app.command()(clusters)
    app.command()(portfolio)
    app.command("stand-ins")(stand_ins)
    app.command()(find)
    app.command()(fingerprint)
    app.command()(curve)


def compare(model_a: _MODEL, model_b: _OTHER, output: FormatOption = Format.table) -> None:
    """Put two models side by side: distance, disagreement, accuracy per task.

    Disagreement is the share of queries on which exactly one of them is right. With `--format csv`
    there are the rows per task only.

    Example: `locus compare zoo/arith-s zoo/arith-m`
    """
    from locus.decisions.comparison import compare as compared
    from tasks.published import load_published
    from tasks.settings import load_settings

    pair, tasks = compared(load_published(load_settings()), model_a, model_b)
    if output is Format.json:
        _json({**pair.to_dict(), "tasks": tasks.to_dicts()})
        return
    if output is Format.table:
        emit(_facts(pair.to_dict()), output, f"{safe(model_a)} and {safe(model_b)}")
    emit(tasks, output, "Per task: a is the first, b the second")
    if not pair.n_common:
        note("they were never asked the same query: only predictions tell how they differ", output)
    note(
        "predicted_disagreement supposes that they err independently, which is too high for models "
        "alike; where there are common queries, believe what was observed",
        output,
    )


def clusters(
    k: Annotated[
        int | None, typer.Option("--count", "-k", min=1, help="Clusters; the default depends.")
    ] = None,
    cluster: Annotated[
        int | None, typer.Option(min=1, help="List all members of this cluster instead.")
    ] = None,
    members: Annotated[
        int, typer.Option(min=1, help="Members to name of each, beside its centre.")
    ] = 2,
    output: FormatOption = Format.table,
) -> None:
    """Group models that answer alike, as the report does: rows next to each other are related.

    Examples: `locus clusters`; `locus clusters -k 12`; `locus clusters -k 12 --cluster 3`
    """
    from locus.decisions import groups
    from tasks.published import load_published
    from tasks.settings import load_settings

    published = load_published(load_settings())
    found = groups.find_clusters(published, k)
    if cluster is not None:
        if cluster > len(found):
            raise typer.BadParameter(
                f"there are {len(found)} clusters; ask for more with -k", param_hint="--cluster"
            )
        one = next(each for each in found if each.cluster == cluster)
        title = f"Cluster {cluster} of {len(found)}, nearest to {safe(one.centre)} first"
        emit(groups.members_frame(published, one), output, title)
        return
    frame = groups.as_frame(found, None if output is Format.json else members)
    emit(frame, output, f"{published.models.height} models in {len(found)} clusters")
    if output is Format.table:
        note(
            "lead: mean predicted accuracy on best_task, less that of the whole pool; "
            "`--cluster N` lists all members of one",
            output,
        )


def portfolio(
    size: Annotated[int | None, typer.Option(min=1, help="Models to choose.")] = None,
    method: Annotated[
        Method, typer.Option(help="How a set of a given size is chosen.")
    ] = Method.best_of_set,
    budget_params: Annotated[
        float | None, typer.Option(min=0, help="Billions of parameters the set may have.")
    ] = None,
    budget_price: Annotated[
        float | None, typer.Option(min=0, help="USD per Mtok that the set may cost together.")
    ] = None,
    output: FormatOption = Format.table,
) -> None:
    """Choose a few models that serve almost as well as all of them.

    By size: best-of-set covers queries, k-center and k-medoids cover the map. By budget: coverage
    gained per cost.

    Examples: `locus portfolio --size 5`; `locus portfolio --size 5 --method k-medoids`;
    `locus portfolio --budget-params 40`
    """
    if budget_params is not None and budget_price is not None:
        raise typer.BadParameter("give --budget-params or --budget-price, not both")
    if size is None and budget_params is None and budget_price is None:
        raise typer.BadParameter("give --size, --budget-params or --budget-price")
    budget = budget_price if budget_params is None else budget_params
    if budget is not None and method is not Method.best_of_set:
        raise typer.BadParameter(
            f"{method.value} has no budget: it goes with --size", param_hint="--method"
        )
    from locus.decisions.sets import choose_set
    from tasks.published import load_published
    from tasks.settings import load_settings

    chosen = choose_set(
        load_published(load_settings()),
        size=size,
        method=method.value,
        budget=budget,
        unit="params" if budget_price is None else "price",
    )
    emit(known_columns(chosen.rows, output), output, "In order of choice")
    note(f"value: {chosen.objective}", output)
    if chosen.rows["n_test"].max():
        note(
            "hit1: how often the set's first choice was right on held-out test queries; pool_hit1: "
            "the same with the whole pool",
            output,
        )
    else:
        note("no held-out test query was answered by these models: hit1 is not known", output)
    if chosen.unknown_cost:
        note(
            f"left out because their cost is unknown: {some(chosen.unknown_cost)}",
            output,
        )


def stand_ins(
    model_id: _MODEL,
    task: Annotated[str | None, typer.Option(help="Only for queries of this task.")] = None,
    output: FormatOption = Format.table,
) -> None:
    """Say who steps in when a model is away: the nearest, and in each task the best.

    Example: `locus stand-ins zoo/arith-s --task zoo_sort`
    """
    from locus.decisions.replacement import replacements
    from tasks.published import load_published
    from tasks.settings import load_settings

    frame = replacements(load_published(load_settings()), model_id, task)
    emit(frame, output, f"When {safe(model_id)} is away")
    note(
        "expected_agreement supposes that models err independently; where n_common is large, "
        "believe observed_agreement",
        output,
    )


def find(
    wanted: Annotated[list[str], typer.Argument(metavar="TASK=ACCURACY...", help="A profile.")],
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="Models to show.")] = 10,
    output: FormatOption = Format.table,
) -> None:
    """Find models like this: those nearest to where such accuracies would lie on the map.

    Example: `locus find zoo_sort=0.9 zoo_count=0.2`
    """
    from locus.decisions.profile import find_models, parse_wanted
    from tasks.published import load_placing, load_published
    from tasks.settings import load_settings

    settings = load_settings()
    profile = parse_wanted(wanted)
    published = load_published(settings)
    for task in profile:
        published.check_task(task)
    bank, place = load_placing(settings)
    frame = find_models(published, profile, bank, place, k)
    title = ", ".join(f"{safe(task)} {accuracy:g}" for task, accuracy in profile.items())
    emit(frame, output, f"Nearest to {title}")


def fingerprint(
    model_a: _MODEL,
    model_b: _OTHER,
    error_rate: Annotated[
        float, typer.Option(min=0.005, max=0.4, help="Of both kinds of error, at most.")
    ] = 0.05,
    rivals: Annotated[
        int | None,
        typer.Option(min=1, help="Calibrate against this many look-alikes, not against any model."),
    ] = None,
    self_disagreement: Annotated[
        float,
        typer.Option(
            min=0.0001, max=0.4, help="How often one model differs from itself, asked again."
        ),
    ] = 0.02,
    seed: Annotated[int, typer.Option(help="Of the calibration.")] = 0,
    output: FormatOption = Format.table,
) -> None:
    """Say whether it is one model behind two ids, at stated error rates.

    Example: `locus fingerprint org/name vendor/endpoint --rivals 5`
    """
    from locus.decisions.identity import identify
    from tasks.published import load_posterior, load_published
    from tasks.settings import load_settings

    settings = load_settings()
    bank, place = load_posterior(settings)
    published = load_published(settings)
    found = identify(
        published,
        model_a,
        model_b,
        bank,
        place,
        error_rate=error_rate,
        rivals=rivals,
        self_disagreement=self_disagreement,
        seed=seed,
    )
    if output is Format.json:
        _json({"model_a": model_a, "model_b": model_b, **found.to_dict()})
        return
    emit(_facts(found.to_dict()), output, f"{safe(model_a)} and {safe(model_b)}")
    against = "any model" if rivals is None else f"the {rivals} models most like each"
    note(
        f"of pairs like the pool's, at most {found.false_same:.1%} of different ones are called "
        f"same and {found.false_different:.1%} of same ones different; calibrated on "
        f"{found.calibration_models} models against {against}; one model is taken to differ from "
        f"itself on {self_disagreement:.2%} of queries",
        output,
    )


def curve(
    weight: Annotated[
        list[float] | None,
        typer.Option("--lambda", min=0, help="Right answers that 1 USD per Mtok is worth."),
    ] = None,
    output: FormatOption = Format.table,
) -> None:
    """Show what quality costs: cost-aware routing on test queries, from dear to cheap.

    Examples: `locus curve`; `locus curve --lambda 0 --lambda 0.1 --lambda 1`
    """
    from locus.decisions.curves import curve as curve_of
    from tasks.published import load_published
    from tasks.settings import load_settings

    frame, unknown = curve_of(load_published(load_settings()), weight)
    emit(frame, output, "Cost (USD per Mtok, mean of a query) and score on test queries")
    if unknown:
        note(f"left out because their price is unknown: {some(unknown)}", output)
    note("on_hull: no mix of other rows is both cheaper and better", output)


def _facts(values: dict[str, Any]) -> "pl.DataFrame":
    """Names and values as rows; numbers are rounded, what is unknown is left empty."""
    import polars as pl

    def text(value: Any) -> str | None:
        if value is None:
            return None
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return pl.DataFrame(
        {"what": list(values), "value": [text(v) for v in values.values()]},
        schema={"what": pl.String, "value": pl.String},
    )


def _json(value: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(value))
