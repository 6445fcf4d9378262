"""FiftyOne's exports: a folder with ``labels.json`` or ``samples.json`` and the images in ``data/``.

::

    {"classes": ["cat", "dog"],
     "labels": {"000001": [0, 1], "birds/000002": [], "000003": null}}

In ``labels.json`` an image is named by its path below ``data/`` without extension; a target is a class or a list of
them, by name or, if the file has classes, by id. ``null`` says that nobody labelled the image. In ``samples.json`` (the
export of whole data sets) labels stand in a field of each sample. Image paths are relative to the JSON file's folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_json, shown
from .head import Head
from .named import NamedBuilder
from .text import IMAGE_EXTENSIONS

_FILES = ('labels.json', 'samples.json')
_NO_FORMAT = "should be FiftyOne's labels.json (an object with 'labels') or samples.json (with 'samples')"
#: Where labels lie in a field, by the kind that FiftyOne calls ``_cls``.
_LISTS = {'Classifications': 'classifications', 'Detections': 'detections', 'Polylines': 'polylines'}


def read_fiftyone(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    field: str | None = None,
    data: str = 'data',
) -> Annotations:
    """Read the labels of a FiftyOne export.

    Args:
        path: ``labels.json`` or ``samples.json``, or the folder in which one of them lies.
        classes: Class names for a file that has none; else its own are used.
        split: Of ``samples.json``: take only the samples with this tag.
        field: Of ``samples.json``: the field with the labels, if several hold some. Boxes count as presence.
        data: Of ``labels.json``: the folder of the images, relative to the file's folder.

    Raises:
        DataError: If it cannot be used; the message names file and image.
    """
    file = _find_file(Path(path))
    content = read_json(file)
    if not isinstance(content, dict) or not ({'labels', 'samples'} & set(content)):
        raise DataError(f'{file}: {_NO_FORMAT}')
    if 'samples' in content:
        return _read_samples(file, content, classes, split, field)
    for name, value in (('split', split), ('field', field)):
        if value is not None:
            raise DataError(f"{file}: {name}='{value}' is an option for samples.json; labels.json has none")
    return _read_labels(file, content, classes, data)


def _find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [name for name in _FILES if (path / name).is_file()]
    if len(found) != 1:
        what = 'both labels.json and samples.json; name the file' if found else 'neither labels.json nor samples.json'
        raise DataError(f'{path}: has {what}')
    return path / found[0]


def _read_labels(file: Path, content: dict[str, Any], classes: Sequence[str] | None, data: str) -> Annotations:
    labels, names = content['labels'], content.get('classes') or None
    if not isinstance(labels, dict):
        raise DataError(f"{file}: 'labels' must be an object of one target an image, got {shown(labels)}")
    known = classes if names is None else check_classes(names, str(file))
    builder = NamedBuilder(file, known, 'labels entry')
    images = _Images(file.parent / data)
    unlabelled = missing = 0
    for row, (key, target) in enumerate(labels.items()):
        if target is None:
            unlabelled += 1
            continue
        img_path, exists = images.find(key, builder.where(row, key))
        missing += not exists
        builder.add(row, f'{data}/{img_path}', _labels_of(builder, row, key, target, known is not None))
    _note_unlabelled(builder, unlabelled, len(labels))
    if missing:
        builder.notes.append(f"{file}: {missing} of {len(labels)} images have no file in '{data}'")
    return builder.build()


def _labels_of(builder: NamedBuilder, row: int, key: str, target: Any, by_id: bool) -> list[int]:
    targets = target if isinstance(target, list) else [target]
    # With confidences or attributes, a target is an object.
    targets = [item.get('label') if isinstance(item, dict) else item for item in targets]
    if targets and by_id and not any(isinstance(item, str) for item in targets):
        return builder.check_ids(targets, row, key, 'the target')
    return builder.check_names(targets, row, key)


class _Images:
    """The images below a folder, found by their path without extension.

    Raises:
        DataError: If there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(
                f"{root}: no such folder; FiftyOne's labels.json leaves out the extensions of the images, so they must "
                "be there (data='...' names another folder)"
            )
        self._root = root
        self._folders: dict[str, dict[str, list[str]]] = {}

    def find(self, key: str, where: str) -> tuple[str, bool]:
        """Path below the folder, and whether there is such a file (if not, the path is the key)."""
        folder, _, stem = key.rpartition('/')
        if folder not in self._folders:
            self._folders[folder] = self._list(folder)
        found = self._folders[folder].get(stem, [])
        if len(found) > 1:
            raise DataError(f"{where}: '{self._root}' has several such images: {', '.join(found)}")
        if not found:
            return key, False
        return f'{folder}/{found[0]}' if folder else found[0], True

    def _list(self, folder: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        path = self._root / folder
        for name in sorted(os.listdir(path)) if path.is_dir() else ():
            stem, _, extension = name.rpartition('.')
            if stem and extension.lower() in IMAGE_EXTENSIONS:
                names.setdefault(stem, []).append(name)
                names.setdefault(name, [name])
        return names


def _read_samples(
    file: Path, content: dict[str, Any], classes: Sequence[str] | None, split: str | None, field: str | None
) -> Annotations:
    samples = content['samples']
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise DataError(f"{file}: 'samples' must be a list of objects, got {shown(samples)}")
    field = _choose_field(file, samples, field)
    builder = NamedBuilder(file, classes, 'samples entry')
    unlabelled = 0
    chosen = list(_of_split(file, samples, split))
    for row, sample in chosen:
        img_path = sample.get('filepath')
        labels = _label_names(sample.get(field), builder.where(row, img_path), field)
        if labels is None:
            unlabelled += 1
        else:
            builder.add(row, img_path, builder.check_names(labels, row, img_path))
    _note_unlabelled(builder, unlabelled, len(chosen))
    return builder.build()


def _choose_field(file: Path, samples: list[dict[str, Any]], field: str | None) -> str:
    kinds = ('Classification', *_LISTS)
    items = (item for sample in samples for item in sample.items())
    found = sorted({name for name, value in items if isinstance(value, dict) and value.get('_cls') in kinds})
    if field is None and len(found) == 1:
        return found[0]
    if field is None:
        what = (
            f'several fields hold labels ({", ".join(found)}); say which with'
            if found
            else 'no field holds labels; see'
        )
        raise DataError(f"{file}: {what} field='...'")
    if field not in found:
        raise DataError(f"{file}: no sample has labels in the field '{field}'{did_you_mean(field, found)}")
    return field


def _of_split(file: Path, samples: list[dict[str, Any]], split: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    tags = [sample.get('tags') or [] for sample in samples]
    if split is not None and not any(split in row for row in tags):
        known = {tag for row in tags for tag in row}
        raise DataError(f"{file}: no sample has the tag '{split}'{did_you_mean(split, known)}")
    return ((row, sample) for row, sample in enumerate(samples) if split is None or split in tags[row])


def _label_names(value: Any, where: str, field: str) -> list[Any] | None:
    """Names in a sample's field; None if nobody labelled it."""
    if value is None:
        return None
    kind = value.get('_cls') if isinstance(value, dict) else None
    if kind == 'Classification':
        return [value.get('label')]
    items = value.get(_LISTS[kind]) if kind in _LISTS else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise DataError(f"{where}: the field '{field}' holds no labels, {shown(value)}")
    return [item.get('label') for item in items]


def _note_unlabelled(builder: AnnotationsBuilder, unlabelled: int, count: int) -> None:
    if unlabelled:
        builder.notes.append(f'{builder.path}: {unlabelled} of {count} images are not labelled and were left out')


def recognise(head: Head) -> str:
    """Why a file or folder looks like a FiftyOne export, or nothing."""
    if head.names:
        found = next((name for name in _FILES if name in head.names and 'data' in head.names), None)
        inside = recognise(Head.of(head.path / found)) if found else ''
        return f"a folder with 'data' and '{found}', {inside}" if inside else ''
    if head.json_keys & {'metainfo', 'data_list', 'file_name', 'image_id'}:
        return ''
    if re.match(r'\s*\{\s*("classes"\s*:\s*(null|\[[^]]*\])\s*,\s*)?"labels"\s*:\s*\{', head.text):
        return "a JSON object with 'labels'"
    if re.match(r'\s*\{\s*"samples"\s*:\s*\[', head.text) and 'filepath' in head.json_keys:
        return "a JSON object with 'samples' and 'filepath'"
    return ''
