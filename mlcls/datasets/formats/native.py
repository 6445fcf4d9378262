"""The native format: one JSON file with class names and one entry an image (as mmpretrain's multi-label data sets).

::

    {"metainfo": {"classes": ["person", "car", "dog"]},
     "data_list": [{"img_path": "a.jpg", "gt_label": [0, 2], "gt_unknown": [1]},
                   {"img_path": "b.jpg", "gt_label": []}]}

``gt_unknown`` (optional, ours) lists the classes whose label is not known; all other classes are absent. Where few
labels are known, it is shorter to list those that are absent (ours too)::

    {"metainfo": {"classes": ["person", "car", "dog"], "default": "unknown"},
     "data_list": [{"img_path": "a.jpg", "gt_label": [0], "gt_absent": [2]}]}
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import ABSENT, UNKNOWN, Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import shown
from .head import Head
from .long_json import LongList, read_long_json

_KEYS = ('img_path', 'gt_label', 'gt_unknown', 'gt_absent')
#: What the labels that are not listed are, and the key of those that are listed besides the present ones.
_DEFAULTS = {'absent': (ABSENT, 'gt_unknown'), 'unknown': (UNKNOWN, 'gt_absent')}


def read_native(path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Annotations:
    """Read a native annotation file.

    Args:
        path: The JSON file.
        classes: Class names to use if the file names none (otherwise its own are used).

    Raises:
        DataError: If it cannot be used; the message names file and place.
    """
    content = _parse(path)
    builder = AnnotationsBuilder(path, _classes(path, content, classes), 'data_list entry')
    entries = content.get('data_list')
    if not isinstance(entries, (list, LongList)):
        found = "has no key 'data_list'" if 'data_list' not in content else "'data_list' is not a list"
        raise DataError(f'{path}: {found}; it should hold one entry an image')
    default, listed = _default(path, content)
    refused = 'gt_absent' if listed == 'gt_unknown' else 'gt_unknown'
    seen = set(_KEYS)
    for row, entry in enumerate(entries):
        _check_entry(builder, row, entry, refused)
        if new := entry.keys() - seen:
            _check_spelling(builder, row, entry, new)
            seen |= new
        img_path = entry['img_path']
        present = builder.check_ids(entry['gt_label'], row, img_path)
        others = builder.check_ids(entry[listed], row, img_path, listed) if listed in entry else []
        if default == UNKNOWN and not set(present).isdisjoint(others):
            both = min(set(present) & set(others))
            name = builder.classes[both]
            raise DataError(f"{builder.where(row, img_path)}: class id {both} ('{name}') is in gt_label and gt_absent")
        builder.add(row, img_path, present, others)
    annotations = builder.build()
    if default == ABSENT:
        return annotations
    labels = annotations.labels
    values = np.where(labels.values == UNKNOWN, np.int8(ABSENT), labels.values)
    return replace(annotations, labels=replace(labels, values=values, default=UNKNOWN))


def _check_entry(builder: AnnotationsBuilder, row: int, entry: Any, refused: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f'{builder.where(row)}: must be an object with img_path and gt_label, got {shown(entry)}')
    for key in ('img_path', 'gt_label'):
        if key not in entry:
            near = did_you_mean(key, [other for other in entry if other not in _KEYS])
            raise DataError(f"{builder.where(row, entry.get('img_path'))}: has no key '{key}'{near}")
    if refused in entry:
        default = 'unknown' if refused == 'gt_unknown' else 'absent'
        raise DataError(
            f'{builder.where(row, entry["img_path"])}: has {refused}, but labels that are not listed are {default} '
            f"""already (metainfo's "default")"""
        )


def _check_spelling(builder: AnnotationsBuilder, row: int, entry: dict[str, Any], keys: set[str]) -> None:
    """Other keys are left alone, but a misspelt one would turn labels that are unknown into absent ones."""
    for key in sorted(keys):
        near = get_close_matches(key, _KEYS[2:], n=1, cutoff=0.8)
        if near:
            raise DataError(f"{builder.where(row, entry['img_path'])}: has a key '{key}'; did you mean '{near[0]}'?")


def _default(path: str | os.PathLike[str], content: dict[str, Any]) -> tuple[int, str]:
    default = content.get('metainfo', {}).get('default', 'absent')
    if not isinstance(default, str) or default not in _DEFAULTS:
        raise DataError(f"{path}, metainfo: 'default' must be 'absent' or 'unknown', got {shown(default)}")
    return _DEFAULTS[default]


def _parse(path: str | os.PathLike[str]) -> dict[str, Any]:
    content = read_long_json(path, 'data_list')
    if not isinstance(content, dict):
        found = type(content).__name__
        raise DataError(f"{path}: should be an object with 'metainfo' and 'data_list', found a {found}")
    if 'data_list' not in content and {'images', 'annotations', 'categories'} <= set(content):
        raise DataError(f"{path}: looks like COCO instances; should be an object with 'metainfo' and 'data_list'")
    return content


def _classes(path: str | os.PathLike[str], content: dict[str, Any], classes: Sequence[str] | None) -> tuple[str, ...]:
    metainfo = content.get('metainfo', {})
    if not isinstance(metainfo, dict):
        raise DataError(f"{path}: 'metainfo' must be an object, got {shown(metainfo)}")
    for key in ('classes', 'CLASSES'):
        if key in metainfo:
            return check_classes(metainfo[key], f'{path}, metainfo')
    if 'categories' in metainfo:
        return _categories(path, metainfo['categories'])
    if classes is not None:
        return check_classes(classes, 'classes')
    raise DataError(
        f"{path}: metainfo has no key 'classes'{did_you_mean('classes', metainfo)}; "
        'add it, or give classes=[...] in the config'
    )


def _categories(path: str | os.PathLike[str], categories: Any) -> tuple[str, ...]:
    """Names from mmpretrain's other spelling, ``[{"id": 0, "category_name": "person"}, ...]``."""
    try:
        by_id = {item['id']: item['category_name'] for item in categories}
    except (TypeError, KeyError):
        raise DataError(f"{path}, metainfo: 'categories' must be a list of objects with id and category_name") from None
    if sorted(by_id) != list(range(len(categories))):
        raise DataError(f"{path}, metainfo: the ids of 'categories' must be 0 to {len(categories) - 1}, each once")
    return check_classes([by_id[number] for number in range(len(by_id))], f'{path}, metainfo')


def recognise(head: Head) -> str:
    """Why a file looks like the native format, or nothing."""
    if not head.text.lstrip().startswith('{'):
        return "its extension '.json'" if head.extension == '.json' else ''
    keys = head.json_keys & {'metainfo', 'data_list'}
    return f"a JSON object with '{min(keys, key=head.text.find)}'" if keys else 'a JSON object'
