"""Builds the zoo: trains the missing models in parallel processes and keeps them by their hash.

A model lies in ``<folder>/<hash>/``, where the hash covers what decides its weights: the recipe and
the code that makes documents, tokens and weights. So a changed recipe is another model beside the
old one, an unchanged one is never trained twice, and a model folder is there whole or not at all.
"""

import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from filelock import FileLock

from locus.durable import whole_file
from locus.ids import short_hash
from locus.zoo.recipes import LICENSE, RECIPES, Recipe
from locus.zoo.train import DESCRIPTION, TEMPORARY

_CODE = ("skills.py", "world.py", "tokenizer.py", "train.py")
_ERROR_LINES = 15
_LEFTOVER = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{16}-([0-9]+)")


class ZooBuildError(RuntimeError):
    """Models that could not be trained; the message names each with its reason."""


@dataclass(frozen=True)
class ZooModel:
    """A finished model of the zoo.

    Attributes:
        recipe: what it was made from.
        path: absolute folder of weights, configuration and tokenizer.
        params: number of weights, counted on the model.
        content_hash: hash of the recipe and the training code; the name of its folder.
    """

    recipe: Recipe
    path: Path
    params: int
    content_hash: str

    @property
    def name(self) -> str:
        """The model id, ``zoo/...``."""
        return self.recipe.name


@cache
def code_hash() -> str:
    """Hash of the code that decides documents, tokens and weights."""
    digest = hashlib.sha256()
    for name in _CODE:
        digest.update(Path(__file__).with_name(name).read_bytes())
    return digest.hexdigest()


def content_hash(recipe: Recipe) -> str:
    """Hash of all that decides the model's weights; 16 hexadecimal digits."""
    return short_hash(json.dumps([recipe.training_fields(), code_hash()], sort_keys=True))


def build_zoo(
    folder: Path,
    *,
    workers: int = 2,
    on_progress: Callable[[str], None] | None = None,
    names: Sequence[str] | None = None,
    recipes: Sequence[Recipe] = RECIPES,
) -> list[ZooModel]:
    """Train what is missing of ``recipes`` and return them all, in the recipes' order.

    Args:
        folder: where models are kept; made if missing. Two builds of one folder take turns.
        workers: training processes, of one torch thread each.
        on_progress: called with a line after each model, in the caller's thread.
        names: only the recipes of these names; all by default.
        recipes: the recipes to choose from.

    Raises:
        ValueError: a name is not among the recipes, or ``workers`` is below 1.
        ZooBuildError: some models could not be trained; all others are kept.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: at least one process has to train")
    wanted = _chosen(recipes, names)
    folder = folder.resolve()
    if any(not _is_built(folder, recipe) for recipe in wanted):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".build.lock"):
            _remove_leftovers(folder)
            # Looked up again: the build that held the lock may have made some.
            missing = {content_hash(r): r for r in wanted if not _is_built(folder, r)}
            _train_all(folder, list(missing.values()), workers, on_progress or (lambda _line: None))
    return [_finished(folder, recipe) for recipe in wanted]


def write_models_yaml(models: Sequence[ZooModel], path: Path) -> None:
    """Write the registry's ``models.yaml`` for these models."""
    entries = [
        {
            "id": model.name,
            "backend": "hf",
            "args": {"pretrained": str(model.path)},
            "params_b": model.params / 1e9,
            "family": model.recipe.family,
            "license": LICENSE,
            "released": model.recipe.released,
            "price_in_usd_per_mtok": model.recipe.price_in_usd_per_mtok,
            "price_out_usd_per_mtok": model.recipe.price_out_usd_per_mtok,
        }
        for model in models
    ]
    text = yaml.safe_dump({"models": entries}, sort_keys=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as stream:
        stream.write(text.encode())


def _chosen(recipes: Sequence[Recipe], names: Sequence[str] | None) -> list[Recipe]:
    if names is None:
        return list(recipes)
    unknown = set(names) - {recipe.name for recipe in recipes}
    if unknown:
        raise ValueError(
            f"no recipe named {', '.join(sorted(unknown))}; there are "
            f"{', '.join(recipe.name for recipe in recipes)}"
        )
    return [recipe for recipe in recipes if recipe.name in set(names)]


def _is_built(folder: Path, recipe: Recipe) -> bool:
    return (folder / content_hash(recipe) / DESCRIPTION).is_file()


def _finished(folder: Path, recipe: Recipe) -> ZooModel:
    key = content_hash(recipe)
    described = json.loads((folder / key / DESCRIPTION).read_text())
    return ZooModel(recipe, folder / key, int(described["params"]), key)


def _remove_leftovers(folder: Path) -> None:
    """Remove half-written models of processes that are gone."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        writer = _LEFTOVER.fullmatch(leftover.name)
        if writer is None:
            continue  # not a model's
        try:
            os.kill(int(writer[1]), 0)
        except ProcessLookupError:
            shutil.rmtree(leftover)
        except PermissionError:
            continue  # another user's process has that number: it is alive


class _Outcome(NamedTuple):
    recipe: Recipe
    answer: dict[str, Any]


def _train_all(
    folder: Path, recipes: list[Recipe], workers: int, report: Callable[[str], None]
) -> None:
    """Hand the recipes to workers, longest first.

    Raises:
        ZooBuildError: some models could not be trained.
    """
    jobs: queue.SimpleQueue[Recipe] = queue.SimpleQueue()
    for recipe in sorted(recipes, key=lambda recipe: -recipe.work):
        jobs.put(recipe)
    outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
    crew = [_Worker(folder, jobs, outcomes) for _ in range(min(workers, len(recipes)))]
    failures = []
    try:
        for member in crew:
            member.start()
        for done in range(1, len(recipes) + 1):
            recipe, answer = outcomes.get()
            if "error" in answer:
                failures.append(f"{recipe.name}: {answer['error']}")
                report(f"{recipe.name} failed ({done} of {len(recipes)})")
            else:
                seconds = answer["seconds"]
                report(f"{recipe.name} trained in {seconds:.1f} s ({done} of {len(recipes)})")
    finally:
        for member in crew:
            member.stop()
    if failures:
        raise ZooBuildError(
            f"{len(failures)} of {len(recipes)} models could not be trained; the others are kept, "
            "and the next build tries again. " + "\n".join(failures)
        )


class _Worker(threading.Thread):
    """One training process and the thread that feeds it; a process that dies is replaced."""

    def __init__(
        self,
        folder: Path,
        jobs: "queue.SimpleQueue[Recipe]",
        outcomes: "queue.SimpleQueue[_Outcome]",
    ) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._jobs = jobs
        self._outcomes = outcomes
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()

    def run(self) -> None:
        while not self._stopped:
            try:
                recipe = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                answer = self._train(recipe)
            except Exception as error:  # handed over: the build must not wait for ever
                answer = {"error": f"{type(error).__name__}: {error}"}
            self._outcomes.put(_Outcome(recipe, answer))

    def stop(self) -> None:
        """End the process, at once if it is still training."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
        if self.ident is not None:
            self.join()
        self._close()
        self._log.close()

    def _close(self) -> None:
        if self._process is not None:
            self._process.kill()
            with self._process:  # closes the pipes and waits
                self._process = None

    def _train(self, recipe: Recipe) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._close()
            self._process = self._launch()
        process = self._process
        if self._stopped:  # stop() may have looked just before the process was there
            process.kill()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("a training process was started without pipes")
        target = str(self._folder / content_hash(recipe))
        try:
            process.stdin.write(json.dumps({"recipe": recipe.to_json(), "target": target}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._log.seek(0)
        tail = " | ".join(self._log.read().splitlines()[-_ERROR_LINES:])
        return {"error": f"the training process ended with {process.wait()}: {tail}"}

    def _launch(self) -> "subprocess.Popen[str]":
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        return subprocess.Popen(
            [sys.executable, "-m", "locus.zoo.train"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | one_thread | offline,
        )
