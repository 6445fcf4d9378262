"""Other names for classes: renamed, merged, dropped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, Annotations, LabelMatrix

from .files import read_file_text, read_json, shown


def map_classes(annotations: Annotations, mapping: Mapping[str, str | None], where: str) -> Annotations:
    """Rename, merge and drop classes.

    Old names that are mapped to one new name merge: the new class is present where any of them is present, else unknown
    where any is unknown, else absent. Classes that are not mentioned stay, and merge with what is mapped to their
    name. The order is that in which the new names first appear among the old classes.

    Args:
        annotations: What was read.
        mapping: New name by old name; None drops the class.
        where: The annotation file; begins error messages and notes.

    Raises:
        DataError: If an old name does not exist, a new one cannot be used, or no class is left.
    """
    old = annotations.classes
    _check(mapping, old, where)
    names = [mapping.get(name, name) for name in old]
    classes = tuple(dict.fromkeys(name.strip() for name in names if name is not None))
    if not classes:
        raise DataError(f'{where}: the class map drops all {len(old)} classes')
    number = {name: place for place, name in enumerate(classes)}
    places = np.array([-1 if name is None else number[name.strip()] for name in names], np.int64)
    labels = _merge(annotations.labels, places, len(classes))
    notes = (*annotations.notes, *_notes(names, old, where))
    lost = _images_without(labels) - _images_without(annotations.labels)
    if lost > 0:
        notes = (*notes, f'{where}: by the class map {lost} of {len(labels)} images lose their last present label')
    return replace(annotations, classes=classes, labels=labels, notes=notes)


def read_class_map(path: str | os.PathLike[str]) -> dict[str, str | None]:
    """Read a class map from a file of ``old name: new name``, JSON if its extension is ``.json`` and else YAML.

    Raises:
        DataError: If it is not such a file.
    """
    content = read_json(path) if Path(path).suffix.lower() == '.json' else _read_yaml(path)
    if not isinstance(content, dict):
        raise DataError(f'{path}: a class map is written as old name: new name, got {shown(content)}')
    for name in content.items():
        for part in name:
            if not isinstance(part, str) and (part is not None or name[0] is None):
                raise DataError(f"{path}: {part!r} is no string; put the name in quotes, as in '{part}'")
    return content


def _check(mapping: Mapping[str, str | None], old: tuple[str, ...], where: str) -> None:
    if not isinstance(mapping, Mapping):
        raise DataError(f'{where}: a class map is a mapping from old to new names, got {shown(mapping)}')
    for name, new in mapping.items():
        if name not in old:
            raise DataError(
                f"{where}: '{name}' of the class map is none of the {len(old)} classes{did_you_mean(str(name), old)}"
            )
        if new is not None and (not isinstance(new, str) or not new.strip()):
            raise DataError(
                f"{where}: the class map gives '{name}' the name {new!r}; write a string, or null to drop it"
            )


def _merge(labels: LabelMatrix, places: np.ndarray, count: int) -> LabelMatrix:
    """Labels of the new classes; ``places`` (old C,) says the new number of each old class, or -1."""
    columns = places[labels.indices]
    kept = columns >= 0
    rows = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))[kept]
    keys, group, stored = np.unique(rows * count + columns[kept], return_inverse=True, return_counts=True)
    values = labels.values[kept]
    columns = keys % count
    # Pairs that are not stored have the default, so where some of the merged classes are not stored it takes part.
    default_too = stored < np.bincount(places[places >= 0], minlength=count)[columns]
    merged = np.full(len(keys), ABSENT, np.int8)
    for value in (UNKNOWN, PRESENT):  # the stronger last
        merged[group[values == value]] = value
        if value == labels.default:
            merged[default_too] = value
    differs = merged != labels.default
    indptr = np.zeros(len(labels) + 1, np.int64)
    np.cumsum(np.bincount(keys[differs] // count, minlength=len(labels)), out=indptr[1:])
    return LabelMatrix(indptr, columns[differs].astype(np.int32), merged[differs], count, labels.default)


def _images_without(labels: LabelMatrix) -> int:
    """Number of images without a present label."""
    if labels.default == PRESENT:
        return 0
    rows = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
    return len(labels) - len(np.unique(rows[labels.values == PRESENT]))


def _notes(names: list[str | None], old: tuple[str, ...], where: str) -> list[str]:
    notes = []
    dropped = [before for before, name in zip(old, names) if name is None]
    if dropped:
        notes.append(f'{where}: the class map drops {_listed(dropped)}')
    for name in dict.fromkeys(names):
        merged = [before for before, after in zip(old, names) if after == name]
        if name is not None and len(merged) > 1:
            notes.append(f"{where}: the class map merges {_listed(merged)} to '{name}'")
    return notes


def _listed(names: list[str]) -> str:
    return ', '.join(f"'{name}'" for name in names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')


def _read_yaml(path: str | os.PathLike[str]) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Refuses a key that is given twice, of which YAML would keep the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            content = super().construct_mapping(node, deep)
            if len(content) < len(node.value):
                keys = [key.value for key, _ in node.value]
                twice = next((key for key in keys if keys.count(key) > 1), keys[0])
                raise DataError(f"{path}, line {node.start_mark.line + 1}: the key '{twice}' is given twice")
            return content

    try:
        return yaml.load(read_file_text(path), Loader)
    except yaml.YAMLError as error:
        raise DataError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from None
