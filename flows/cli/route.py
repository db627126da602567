"""`locus route`: who should answer a query never seen, under a policy."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.output import Format, FormatOption, emit, known_columns, note, some
from flows.cli.terminal import safe

if TYPE_CHECKING:
    import polars as pl

    from locus.routing.policy import Policy
    from locus.routing.router import Choice, Routed, Topic


class Kind(StrEnum):
    """Policies by name; `locus.routing.policy` says what each one does."""

    best = "best"
    cost_aware = "cost-aware"
    budget = "budget"
    lower_bound = "lower-bound"
    abstain = "abstain"


_NEEDED = {Kind.cost_aware: "--lambda", Kind.budget: "--budget", Kind.abstain: "--abstain-below"}

_MANY = "; may be repeated."

# Columns of what the query is like, for programs; people read it with --explain.
_TOPIC = (
    "topic", "topic_words", "far_from_topics",
    "topic_accuracy", "topic_n_observed", "topic_lower_bound",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(route)


def route(
    text: Annotated[list[str], typer.Argument(help="One query, or several.")],
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="Candidates to show.")] = 3,
    policy: Annotated[Kind, typer.Option(help="How to choose.")] = Kind.best,
    weight: Annotated[
        float | None,
        typer.Option("--lambda", min=0, help="Right answers that 1 USD per Mtok is worth."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="USD per Mtok that all queries of this call may cost together."),
    ] = None,
    max_price: Annotated[
        float | None, typer.Option(min=0, help="Dearest model that may answer, USD per Mtok.")
    ] = None,
    abstain_below: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Nobody answers if p (or the lower bound) is below this."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="A model that may answer" + _MANY)] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A model that may not answer" + _MANY)
    ] = None,
    unavailable: Annotated[
        list[str] | None, typer.Option(help="A model that is down: says who steps in" + _MANY)
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, help="Of the lower bound, one-sided.")
    ] = 0.95,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why, and what topic the query is like.")
    ] = False,
    output: FormatOption = Format.table,
) -> None:
    """Say which published model should answer a query never seen.

    A price is that of a million tokens read, plus a million written where that is known.

    Examples: `locus route "Sort the letters: d a c"`;
    `locus route "..." --policy cost-aware --lambda 0.1 --explain`;
    `locus route "..." "..." --policy budget --budget 1.5`;
    `locus route "..." --policy lower-bound --abstain-below 0.5`;
    `locus route "..." --unavailable org/name`
    """
    chosen = _policy(policy, weight, budget, max_price, abstain_below)
    from locus.routing.router import Router
    from tasks.settings import load_settings

    routed = Router.load(load_settings().published).decide(
        text,
        k,
        exclude or [],
        chosen,
        only=only or [],
        unavailable=unavailable or [],
        confidence=confidence,
    )
    if output is Format.table:
        for query, choices, why in zip(text, routed.choices, routed.reasons, strict=True):
            if choices:
                frame = _frame(choices).drop("price_in_usd_per_mtok", *_TOPIC)
                emit(known_columns(frame, output), output, safe(query))
            else:
                note(query, output)
            if explain or not choices:
                note(why, output)
        if explain and None in routed.topics:
            note("this snapshot has no topics that queries could be like", output)
    else:
        emit(_all(text, routed, explain), output, None)
    _notes(routed, chosen, text, output)


def _policy(
    kind: Kind,
    weight: float | None,
    budget: float | None,
    max_price: float | None,
    abstain_below: float | None,
) -> "Policy":
    given = {"--lambda": weight, "--budget": budget, "--abstain-below": abstain_below}
    needed = _NEEDED.get(kind)
    if needed and given[needed] is None:
        raise typer.BadParameter(f"the policy {kind.value} needs {needed}", param_hint="--policy")
    for option in ("--lambda", "--budget"):
        if given[option] is not None and option != needed:
            fitting = next(k.value for k, o in _NEEDED.items() if o == option)
            raise typer.BadParameter(
                f"{option} would be ignored: it belongs to --policy {fitting}", param_hint=option
            )
    from locus.routing.policy import Policy

    return Policy(
        kind.value,
        price_weight=weight,
        budget=budget,
        price_cap=max_price,
        abstain_below=abstain_below,
    )


def _frame(choices: "list[Choice]", topic: "Topic | None" = None) -> "pl.DataFrame":
    import polars as pl

    like = {
        "topic": topic and topic.name,
        "topic_words": topic and ", ".join(topic.words),
        "far_from_topics": topic and topic.far,
    }
    rows = [
        {
            "rank": c.rank,
            "model_id": c.model_id,
            "p_correct": c.p_correct,
            "lower_bound": c.lower_bound,
            "price_in_usd_per_mtok": c.price_in_usd_per_mtok,
            "price_usd_per_mtok": c.price_usd_per_mtok,
            "stand_ins": ", ".join(c.stand_ins[:3]),
            **like,
            "topic_accuracy": c.in_topic and c.in_topic.observed_accuracy,
            "topic_n_observed": c.in_topic and c.in_topic.n_observed,
            "topic_lower_bound": c.in_topic and c.in_topic.lower_bound,
        }
        for c in choices
    ]
    schema = {
        "rank": pl.Int64,
        "model_id": pl.String,
        "p_correct": pl.Float64,
        "lower_bound": pl.Float64,
        "price_in_usd_per_mtok": pl.Float64,
        "price_usd_per_mtok": pl.Float64,
        "stand_ins": pl.String,
        "topic": pl.String,
        "topic_words": pl.String,
        "far_from_topics": pl.Boolean,
        "topic_accuracy": pl.Float64,
        "topic_n_observed": pl.Int64,
        "topic_lower_bound": pl.Float64,
    }
    # A query that nobody answers has a row without a model.
    return pl.DataFrame(rows or [{**dict.fromkeys(schema), **like}], schema=schema)


def _all(text: list[str], routed: "Routed", explain: bool) -> "pl.DataFrame":
    """All queries in one frame."""
    import polars as pl

    frames = []
    told = zip(text, routed.choices, routed.reasons, routed.topics, strict=True)
    for query, choices, why, topic in told:
        frame = _frame(choices, topic)
        frame = frame.insert_column(0, pl.Series("query", [query] * frame.height))
        frames.append(frame.with_columns(why=pl.lit(why)) if explain else frame)
    return pl.concat(frames)


def _notes(routed: "Routed", policy: "Policy", text: list[str], output: Format) -> None:
    for away in routed.away:
        lost = [text[i] for i in away.would_answer]
        chosen = (
            f"would have answered {some([repr(t) for t in lost])}"
            if lost
            else ("would not have been chosen")
        )
        note(
            f"{away.model_id} is unavailable and {chosen}; its stand-ins, nearest first: "
            f"{', '.join(away.stand_ins)}",
            output,
        )
    if routed.unknown_price:
        note(
            f"no known price, so not to be chosen under this policy: {some(routed.unknown_price)}",
            output,
        )
    if policy.kind == "budget":
        spent = "unknown" if routed.cost is None else f"{routed.cost:.4g}"
        note(
            f"all queries together: {spent} of {policy.budget:g} USD per Mtok, "
            f"{routed.expected:.2f} of {len(text)} right answers expected",
            output,
        )
