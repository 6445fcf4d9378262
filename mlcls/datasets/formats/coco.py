"""The COCO instances format: one JSON file with ``images``, ``categories`` and one annotation an object.

::

    {"images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
     "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
     "annotations": [{"image_id": 7, "category_id": 3, "iscrowd": 0}]}

A class is present in an image if an annotation says so, and absent otherwise; boxes and masks are not looked at.
Format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_json, shown
from .head import Head

#: What may be done with annotations of crowds, see `read_coco`.
CROWD = ('present', 'unknown', 'ignore')
#: COCO's other kinds of files, by a key of their annotations.
_OTHER_KINDS = {
    'caption': 'captions',
    'keypoints': 'keypoints of persons',
    'segments_info': 'panoptic segmentation',
    'question': 'questions',
}
_SHAPES = frozenset(('segmentation', 'bbox', 'area'))


def read_coco(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None, crowd: str = 'present'
) -> Annotations:
    """Read a COCO instances file.

    Args:
        path: The JSON file.
        classes: Not used: the file names its classes, in the order of their category ids (which may have gaps).
        crowd: What annotations with ``iscrowd=1`` say. ``'present'``: a crowd of persons shows persons. ``'unknown'``:
            a class that an image shows only as a crowd is unknown. ``'ignore'``: nothing, so that such a class is
            absent.

    Returns:
        The images in the order of the file, those without annotations too; paths are ``file_name``, as it is written.

    Raises:
        DataError: If it cannot be used; the message names file and place.
    """
    if crowd not in CROWD:
        raise DataError(f"{path}: unknown crowd='{crowd}'{did_you_mean(str(crowd), CROWD)}")
    content = _parse(path)
    names, columns = _categories(path, content['categories'])
    images, file_names = _images(path, content['images'])
    present, unknown = _labels(path, content['annotations'], images, columns, crowd)
    builder = AnnotationsBuilder(path, names, 'images entry')
    ends = np.arange(1, len(file_names) + 1) * len(names)
    rows = zip(file_names, _split(present, ends), _split(unknown, ends))
    for row, (file_name, row_present, row_unknown) in enumerate(rows):
        builder.add(row, file_name, row_present, row_unknown)
    backslashes = sum('\\' in entry['file_name'] for entry in content['images'])
    if backslashes:
        builder.notes.append(f'{path}: {backslashes} image paths are written with \\, which is taken as /')
    return builder.build()


def _split(keys: np.ndarray, ends: np.ndarray) -> Iterator[list[int]]:
    """The class ids of each image; keys are sorted numbers image * C + class."""
    width = int(ends[0]) if len(ends) else 1
    start = 0
    for stop in np.searchsorted(keys, ends).tolist():
        yield (keys[start:stop] % width).tolist()
        start = stop


def _parse(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The three lists of the file, without what takes the memory: boxes and masks."""
    content = read_json(path, without=_SHAPES)
    needed = "a COCO instances file has 'images', 'annotations' and 'categories'"
    if not isinstance(content, dict):
        what = 'list, as results of a detector are' if isinstance(content, list) else type(content).__name__
        raise DataError(f'{path}: is a {what}; {needed}')
    annotations = content.get('annotations')
    first = annotations[0] if isinstance(annotations, list) and annotations else {}
    for key, kind in _OTHER_KINDS.items():
        if isinstance(first, dict) and key in first:
            raise DataError(f"{path}: has {kind} ('{key}'), not instances; take the file instances_*.json")
    for key in ('images', 'annotations', 'categories'):
        if key not in content:
            hint = '; files such as image_info_*.json hold no labels' if key == 'annotations' else ''
            raise DataError(f"{path}: has no key '{key}'{did_you_mean(key, content)}; {needed}{hint}")
        if not isinstance(content[key], list):
            raise DataError(f"{path}: '{key}' must be a list of objects, got {shown(content[key])}")
        for number, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise DataError(f'{path}, {key} entry {number}: must be an object, got {shown(entry)}')
    return content


def _categories(path: str | os.PathLike[str], entries: list[dict[str, Any]]) -> tuple[tuple[str, ...], dict[int, int]]:
    """Class names in the order of their ids, and the class number of each category id."""
    first: dict[int, int] = {}
    for number, entry in enumerate(entries):
        where = f'{path}, categories entry {number}'
        category = _whole(entry, 'id', where)
        if category < 0:
            raise DataError(f'{where}: id must be at least 0, got {category}')
        if category in first:
            raise DataError(f'{where}: the category id {category} is also that of entry {first[category]}')
        if 'name' not in entry:
            raise DataError(f"{where}: has no key 'name'{did_you_mean('name', entry)}")
        first[category] = number
    ids = sorted(first)
    names = check_classes([entries[first[category]]['name'] for category in ids], f'{path}, categories by id')
    return names, {category: column for column, category in enumerate(ids)}


def _images(path: str | os.PathLike[str], entries: list[dict[str, Any]]) -> tuple[dict[int, int], list[str]]:
    """The row of each image id, and the image path of each row."""
    rows: dict[int, int] = {}
    file_names: list[str] = []
    for row, entry in enumerate(entries):
        where = f'{path}, images entry {row}'
        image = _whole(entry, 'id', where)
        if image in rows:
            raise DataError(f'{where}: the image id {image} is also that of entry {rows[image]}')
        if 'neg_category_ids' in entry:
            raise DataError(
                f"{where}: 'neg_category_ids' is LVIS's, where classes not listed are unknown, not absent; "
                'this file cannot be read as COCO instances'
            )
        file_name = entry.get('file_name')
        if not isinstance(file_name, str) or not file_name.strip():
            found = f'got {shown(file_name)}' if 'file_name' in entry else 'there is none'
            raise DataError(f'{where} (id {image}): file_name must be the path of the image, {found}')
        rows[image] = row
        file_names.append(file_name.replace('\\', '/'))
    return rows, file_names


def _labels(
    path: str | os.PathLike[str],
    entries: list[dict[str, Any]],
    images: dict[int, int],
    columns: dict[int, int],
    crowd: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Present and unknown labels as sorted numbers image * C + class, each once."""
    keys, crowds = array('q'), array('b')
    for number, entry in enumerate(entries):
        where = f'{path}, annotations entry {number}'
        image, category = _whole(entry, 'image_id', where), _whole(entry, 'category_id', where)
        if image not in images:
            raise DataError(f"{where}: image_id {image} is the id of none of the {len(images)} 'images'")
        if category not in columns:
            raise DataError(
                f'{where} (image_id {image}): category_id {category} is the id of none of the {len(columns)} '
                f"'categories'{did_you_mean(str(category), map(str, columns))}"
            )
        is_crowd = entry.get('iscrowd', 0)
        if is_crowd not in (0, 1):
            raise DataError(f'{where} (image_id {image}): iscrowd must be 0 or 1, got {shown(is_crowd)}')
        keys.append(images[image] * len(columns) + columns[category])
        crowds.append(int(is_crowd))
    all_keys, in_crowd = np.array(keys, np.int64), np.array(crowds, bool)
    if crowd == 'present':
        in_crowd[:] = False
    present = np.unique(all_keys[~in_crowd])
    unknown = np.setdiff1d(all_keys[in_crowd], present) if crowd == 'unknown' else all_keys[:0]
    return present, unknown


def _whole(entry: dict[str, Any], key: str, where: str) -> int:
    """A whole number from an object."""
    if key not in entry:
        raise DataError(f"{where}: has no key '{key}'{did_you_mean(key, entry)}")
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f'{where}: {key} must be a whole number, got {shown(value)}')
    return value


def recognise(head: Head) -> str:
    """Why a file looks like COCO's (of any kind: the reader says if it has no instances), or nothing."""
    keys = head.json_keys
    if keys & {'metainfo', 'data_list'}:
        return ''
    for marks in (('images', 'file_name'), ('categories', 'supercategory'), ('annotations', 'image_id')):
        if keys.issuperset(marks):
            return f"a JSON object with '{marks[0]}' and '{marks[1]}'"
    if keys.issuperset(('image_id', 'category_id')):
        return "a JSON file with 'image_id' and 'category_id'"
    return ''
