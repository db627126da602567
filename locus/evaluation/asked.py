"""A task as it is asked: some of its documents, its number of examples, no fault that spreads.

lm-eval builds prompts and scores answers by calling the task. What it gets here is a copy of the
loaded task, of a class that puts four things right; the loaded one stays as it is.

- Only the chosen documents are evaluated.
- The examples before a question follow from the question alone. lm-eval draws them from one random
  state that runs on from document to document, so that they would depend on what else was asked;
  and it leaves the asked document out only where the split of examples is named and is the test
  split, so that some tasks would show a question with its answer.
- A filter or a scoring function that raises on one answer loses that one, not the run.
- Nothing is aggregated: a mean over a sample of a benchmark is nobody's business here, and an
  aggregation may raise.
"""

import copy
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from locus.evaluation.questions import HarnessError, content, effective_fewshot
from locus.ids import short_hash

log = logging.getLogger(__name__)

# Under this name a sample carries why it has no metrics.
FAULT = "locus_fault"
_SAID = 300


class Fault:
    """Stands where a filter would have put an answer, had it not raised.

    Attributes:
        text: what it raised.
    """

    def __init__(self, text: str) -> None:
        self.text = text


class _Unaggregated(dict[str, Callable[[Any], float]]):
    """An aggregation for every metric, that computes nothing."""

    def __missing__(self, metric: str) -> Callable[[Any], float]:
        return lambda values: 0.0


class _Examples:
    """The documents that examples are drawn from, and where each stands among them."""

    def __init__(self, documents: Iterable[Any]) -> None:
        self.documents = list(documents)
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, document in enumerate(self.documents):
            self._places[_key(document)].append(place)

    def without(self, document: Any) -> list[Any]:
        """All but this one, however often it stands there."""
        places = self._places.get(_key(document))
        if places is None:
            return self.documents
        return [one for i, one in enumerate(self.documents) if i not in places]


class _Drawn:
    """A sampler that has drawn."""

    def __init__(self, documents: Sequence[Any]) -> None:
        self._documents = documents

    def sample(self, n: int, **_: Any) -> Sequence[Any]:
        return self._documents


class _Asked:
    """Mixed in before a task's own class."""

    config: Any
    sampler: Any
    _sampler: Any
    fewshot_rnd: Any
    _documents: Sequence[Any]
    _examples: _Examples | None
    _instances: list[Any]
    _filters: list[Any]

    @property
    def eval_docs(self) -> Sequence[Any]:
        return self._documents

    def aggregation(self) -> dict[str, Callable[[Any], float]]:
        return _Unaggregated()

    def fewshot_context(self, doc: Any, num_fewshot: int, *args: Any, **kwargs: Any) -> Any:
        if num_fewshot:
            # The same draw for the same question, in every chunk, process and machine.
            seed = int(short_hash(f"fewshot:{self.config.task}:{_key(doc)}"), 16)
            self.fewshot_rnd = random.Random(seed)  # noqa: S311 - a draw of examples
            if self._examples is not None:
                self._show(self._examples.without(doc), num_fewshot, seed)
        return super().fewshot_context(doc, num_fewshot, *args, **kwargs)  # type: ignore[misc]

    def _show(self, pool: list[Any], n: int, seed: int) -> None:
        """Draw examples by the task's own sampler, from a random state of this question's own."""
        if n > len(pool):
            raise HarnessError(
                f"task {self.config.task!r} has {len(pool)} documents to take examples from, and "
                f"num_fewshot is {n}: set less"
            )
        sampler = copy.copy(self._sampler)
        sampler.replace_df(pool)
        # Its own choice by positions was made when `_Examples` was.
        sampler._loaded = True
        sampler.set_rnd(seed)
        self.sampler = _Drawn(sampler.sample(n=n))

    def apply_filters(self) -> None:
        """Filter all answers, and where that raises, those of each document by themselves."""
        for ensemble in self._filters:
            try:
                _filter(ensemble, self._instances)
            except ImportError as error:
                raise _lacking(self, error) from error
            except Exception as error:
                log.warning("filter %s raised %s; trying each document", ensemble.name, said(error))
                self._filter_each(ensemble)

    def _filter_each(self, ensemble: Any) -> None:
        by_document: dict[Any, list[Any]] = defaultdict(list)
        for instance in self._instances:
            by_document[instance.doc_id].append(instance)
        for instances in by_document.values():
            try:
                _filter(ensemble, instances)
            except Exception as error:
                fault = Fault(f"filter {ensemble.name} raised {said(error)}")
                for instance in instances:
                    instance.filtered_resps[ensemble.name] = fault

    def process_results(self, doc: Any, results: Sequence[Any]) -> Mapping[str, Any]:
        for one in results:
            if isinstance(one, Fault):
                return {FAULT: one.text}
        try:
            # A copy: a task's code may change its document, and by it the answer is identified.
            own = copy.deepcopy(doc)
            metrics = super().process_results(own, results)  # type: ignore[misc]
        except ImportError as error:
            raise _lacking(self, error) from error
        except Exception as error:
            return {FAULT: f"scoring raised {said(error)}"}
        if not isinstance(metrics, Mapping):
            return {FAULT: f"scoring gave {type(metrics).__name__}, not metrics"}
        return metrics


def _filter(ensemble: Any, instances: Sequence[Any]) -> None:
    for instance in instances:
        # Of a run over all of them that broke off, or put answers in wrong places.
        instance.filtered_resps.pop(ensemble.name, None)
    ensemble.apply(instances)
    kept = sum(ensemble.name in instance.filtered_resps for instance in instances)
    if kept < len(instances):
        raise ValueError(f"{kept} answers came out of {len(instances)}")


def as_asked(task: Any, documents: Sequence[Any], num_fewshot: int | None = None) -> Any:
    """A copy of a loaded task that evaluates exactly these documents.

    Args:
        task: a loaded task; it stays as it is.
        documents: documents of it.
        num_fewshot: examples before a question; None for what the task says.

    Raises:
        HarnessError: the number of examples is none.
    """
    base = type(task)
    asked: Any = object.__new__(type(base.__name__, (_Asked, base), {}))
    vars(asked).update(vars(task))
    asked._config = copy.copy(task._config)
    asked._config.num_fewshot = effective_fewshot(task, num_fewshot)
    asked._documents = list(documents)
    asked._examples = None
    if asked._config.num_fewshot and getattr(task, "sampler", None) is not None:
        asked._sampler = task.sampler
        asked._examples = _examples(task)
    return asked


def _examples(task: Any) -> _Examples:
    """Made once a loaded task: a training split may be long."""
    kept: _Examples | None = getattr(task, "_locus_examples", None)
    if kept is None:
        kept = task._locus_examples = _Examples(copy.copy(task.sampler).fewshot_docs())
    return kept


def _key(document: Any) -> str:
    return short_hash(content(document), 32)


def _lacking(task: Any, error: ImportError) -> HarnessError:
    return HarnessError(
        f"task {task.config.task!r} can't be scored here: {said(error)}; install what it needs "
        "(lm-eval names it in the task's README)"
    )


def said(error: BaseException) -> str:
    """An exception in one line; its text may be a model's, so only what can be printed stays."""
    text = " ".join(str(error).split())[:_SAID]
    text = "".join(c for c in text if c.isprintable())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
