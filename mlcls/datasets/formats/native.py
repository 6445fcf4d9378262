"""The native format: one JSON file with class names and one entry an image (as mmpretrain's multi-label data sets).

::

    {"metainfo": {"classes": ["person", "car", "dog"]},
     "data_list": [{"img_path": "a.jpg", "gt_label": [0, 2], "gt_unknown": [1]},
                   {"img_path": "b.jpg", "gt_label": []}]}

``gt_unknown`` (optional, ours) lists the classes whose label is not known; all other classes are absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_file_text, shown

_KEYS = ('img_path', 'gt_label', 'gt_unknown')


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
    if not isinstance(entries, list):
        found = "has no key 'data_list'" if 'data_list' not in content else "'data_list' is not a list"
        raise DataError(f'{path}: {found}; it should hold one entry an image')
    for row, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f'{builder.where(row)}: must be an object with img_path and gt_label, got {shown(entry)}')
        for key in ('img_path', 'gt_label'):
            if key not in entry:
                near = did_you_mean(key, [other for other in entry if other not in _KEYS])
                raise DataError(f"{builder.where(row, entry.get('img_path'))}: has no key '{key}'{near}")
        img_path = entry['img_path']
        present = builder.check_ids(entry['gt_label'], row, img_path)
        unknown = builder.check_ids(entry.get('gt_unknown', []), row, img_path, 'gt_unknown')
        builder.add(row, img_path, present, unknown)
    return builder.build()


def _parse(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = json.loads(read_file_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f'{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}') from None
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
