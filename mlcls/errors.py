"""Errors that are the user's to mend. The command lines print their message alone and exit with 2.

A message says what was wrong, where (file, line or key), and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user gave (config, data, checkpoint, flag) cannot be used."""


class ConfigError(UserError, ValueError):
    """A config does not say something that can be run."""


class DataError(UserError, ValueError):
    """An annotation file or an image cannot be used."""


class SplitError(DataError):
    """Annotations hold several parts, and it was not said which is meant.

    Args:
        message: What to show.
        splits: Names of the parts.
    """

    def __init__(self, message: str, splits: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.splits = tuple(splits)


class CheckpointError(UserError, RuntimeError):
    """A checkpoint or weights file cannot be used."""


class TrainingError(UserError, RuntimeError):
    """A run cannot go on, for example because its loss is no longer finite."""


class RunStopped(Exception):
    """A run was asked to stop from outside, and has done so in order; no fault.

    Args:
        message: What to show.
        exit_code: What the command ends with.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of an error message: the nearest choice or, where nothing is near, the choices.

    Args:
        word: What was given.
        choices: What would have been valid.

    Returns:
        ``"; did you mean 'x'?"``, or ``"; choose from a, b, c"`` (at most 12), or an empty string without choices.
    """
    choices = sorted(set(choices))
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if not near:  # a wrong case alone is never far away
        near = [choice for choice in choices if choice.lower() == word.lower()]
    if near:
        return f"; did you mean '{near[0]}'?"
    if not choices:
        return ''
    shown = ', '.join(choices[:12]) + (f', ... ({len(choices)} in all)' if len(choices) > 12 else '')
    return f'; choose from {shown}'
