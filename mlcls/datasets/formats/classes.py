"""Class names: reading them, checking them, and putting labels in their order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .files import read_lines


def check_classes(names: object, where: str) -> tuple[str, ...]:
    """Check class names: a list of strings, none empty, none twice.

    Args:
        names: What was given.
        where: Where it was given; begins the error message.

    Returns:
        The names, stripped of white space at both ends.

    Raises:
        DataError: If they cannot be used.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise DataError(f'{where}: classes must be a list of names, got {names!r}')
    checked: dict[str, int] = {}
    for position, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"{where}: class {position} must be a string, got {name!r}; write '{name}'")
        name = name.strip()
        if not name:
            raise DataError(f'{where}: the name of class {position} is empty')
        if name in checked:
            raise DataError(f"{where}: class name '{name}' is given twice, as class {checked[name]} and {position}")
        checked[name] = position
    if not checked:
        raise DataError(f'{where}: no class names')
    return tuple(checked)


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Read class names from a text file, one a line; blank lines at its end are ignored.

    Raises:
        DataError: If it cannot be read or a name cannot be used.
    """
    names = list(read_lines(path))
    while not names[-1].strip():
        names.pop()
    return check_classes(names, str(path))


def order_classes(annotations: Annotations, classes: Sequence[str] | None, where: str) -> Annotations:
    """Put the labels in the order of ``classes``, which must be the same names.

    Args:
        annotations: What was read.
        classes: The order wanted; None leaves it.
        where: The annotation file; begins the error message.

    Raises:
        DataError: If the names differ; the message gives the first that is on one side only.
    """
    have = annotations.classes
    wanted = have if classes is None else tuple(classes)
    if wanted == have:
        return annotations
    for name in wanted:
        if name not in have:
            raise DataError(
                f"{where}: class '{name}' of the config is not among the {len(have)} classes of the "
                f'annotations{did_you_mean(name, have)}'
            )
    for name in have:
        if name not in wanted:
            raise DataError(
                f"{where}: class '{name}' of the annotations is not among the {len(wanted)} classes of the "
                f'config{did_you_mean(name, wanted)}'
            )
    note = f'{where}: the config lists the classes in another order, which the labels now follow'
    return replace(sort_classes(annotations, wanted), notes=(*annotations.notes, note))


def sort_classes(annotations: Annotations, wanted: Sequence[str]) -> Annotations:
    """Put the labels in another order of the same classes."""
    number = {name: place for place, name in enumerate(wanted)}
    places = np.array([number[name] for name in annotations.classes], np.int32)
    labels = replace(annotations.labels, indices=places[annotations.labels.indices])
    return replace(annotations, classes=tuple(wanted), labels=labels)
