"""The flow that evaluates one model on whatever machine a worker of the pool runs."""

import logging
import os

from prefect import flow

from locus.evaluation.remote import Machine, run_job
from tasks.settings import Settings, load_settings

log = logging.getLogger("locus.pipeline")


class JobFailedError(RuntimeError):
    """The model of a job failed; the pipeline has the reason and what was answered before."""


@flow(name="evaluate-model", persist_result=False)
def evaluate_model(job: str) -> str:
    """Ask one model what a pipeline elsewhere has planned; its answers go to shared storage.

    Keys are this machine's: of storage, and of a service that is asked.

    Args:
        job: address of the job in shared storage.

    Raises:
        JobFailedError: the model failed.
        StorageError: storage can't be reached.
        WrongMachineError: this machine's versions are not those of the pipeline.
    """
    report = run_job(job, _this_machine(load_settings()))
    said = f"{report.done} of {report.of} queries"
    if report.error:
        raise JobFailedError(f"{said}: {report.error}")
    return f"{said}: {report.stopped}" if report.stopped else said


def _this_machine(settings: Settings) -> Machine:
    """What this machine's own settings say of it, as far as they say anything."""
    ask, said = settings.evaluation, settings.evaluation.model_fields_set
    return Machine(
        threads=max(1, (os.cpu_count() or 1) // ask.parallel),
        task_folders=[str(f) for f in settings.task_folders] or None,
        batch_size=ask.batch_size if "batch_size" in said else None,
        device=ask.device,
        memory_gb=ask.memory_gb,
    )
