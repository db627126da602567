"""Settings of the gates: where each ends, and what follows."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

Level = Literal["block", "warn", "off"]

GATES = ("coverage", "errors", "rows", "models", "routing", "canaries", "moved", "choices")
"""Names of the gates that have settings; ``empty`` is always on and can't be accepted."""


class UnknownGateError(ValueError):
    """A gate that isn't one; the message names those that there are."""


class Gate(BaseModel):
    """One gate: where it ends, and what follows."""

    model_config = ConfigDict(extra="forbid")

    limit: float = Field(ge=0, le=1, description="share beyond which the gate fails")
    level: Level = Field(
        default="block",
        description="block: the old snapshot stays and the run fails; warn: it is only said; off",
    )


class CoverageGate(Gate):
    """Tasks that too few models have answered."""

    limit: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="least share of models with an answer to a task; judged once it was reached",
    )


class ErrorsGate(Gate):
    """Queries of this run that ended without an answer."""

    limit: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="most of the run's queries that may end without an answer, the model with most "
        "of them left out",
    )


class RowsGate(Gate):
    """Scores that are gone."""

    limit: float = Field(
        default=0.05, ge=0, le=1, description="most of the parent's scores that may be gone"
    )


class ModelsGate(Gate):
    """Models that are gone."""

    limit: float = Field(
        default=0.1, ge=0, le=1, description="most of the parent's models that may be gone"
    )


class RoutingGate(Gate):
    """Routing accuracy on held-out queries."""

    limit: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="drop in accuracy that is put up with; a greater one must also be more than "
        "chance",
    )


class CanariesGate(Gate):
    """Models that changed behind their address, all at once."""

    limit: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="most of the watched models that may have changed since the parent, of three "
        "or more",
    )


class MovedGate(Gate):
    """Models whose place jumped."""

    limit: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="most models that may move by more than three times their uncertainty on an "
        "unchanged map",
    )


class ChoicesGate(Gate):
    """Queries that would now go to another model."""

    limit: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="most reference queries whose best model may be another, of models in both",
    )
    level: Level = Field(
        default="warn", description="as of the others; two good models may well change places"
    )


class GateSettings(BaseModel):
    """When a new snapshot does not replace the old one, and when the old one is stale."""

    model_config = ConfigDict(extra="forbid")

    coverage: CoverageGate = CoverageGate()
    errors: ErrorsGate = ErrorsGate()
    rows: RowsGate = RowsGate()
    models: ModelsGate = ModelsGate()
    routing: RoutingGate = RoutingGate()
    canaries: CanariesGate = CanariesGate()
    moved: MovedGate = MovedGate()
    choices: ChoicesGate = ChoicesGate()
    stale_after_hours: PositiveFloat = Field(
        default=36,
        description="hours after the last night that ended well at which the data counts as stale; "
        "a night that found nothing new ended well",
    )

    def gate(self, name: str) -> Gate:
        """The settings of one gate."""
        found = getattr(self, name)
        if not isinstance(found, Gate):
            raise UnknownGateError(f"{name!r} is no gate; there are: {', '.join(GATES)}")
        return found
