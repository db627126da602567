"""Kinds of failure of an evaluation, as far as they can be told apart for sure."""

from enum import StrEnum


class Failure(StrEnum):
    """Why an evaluation ended before everything was asked.

    What a worker says for itself (a service that refuses the key, a query that no task has) is one
    kind, and an exception (a model that can't be loaded) is one: their words are told, and not
    guessed from.
    """

    SAID = "the worker's reason"
    CRASHED = "an exception"
    KILLED = "killed"
    TIME = "time limit"
    MEMORY = "memory limit"
    ANSWERS = "answers refused"
    MACHINES = "machines lost"
    NOBODY = "nobody took it"
