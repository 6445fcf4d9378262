"""Label Studio's exports JSON and JSON-MIN of choices for whole images.

::

    [{"id": 1, "data": {"image": "/data/upload/1/3fa8-cat.jpg"},
      "annotations": [{"was_cancelled": false, "result": [
          {"from_name": "animals", "type": "choices", "value": {"choices": ["cat", "dog"]}}]}]}]

    [{"image": "/data/local-files/?d=photos/cat.jpg", "animals": {"choices": ["cat", "dog"]}, "annotator": 1}]

Tasks without an annotation (or with cancelled ones only) say nothing about their image: they are left out and counted.
An annotation without a choice says that no class is present. ``/data/upload/1/x.jpg`` becomes ``upload/1/x.jpg`` (below
Label Studio's media folder) and ``/data/local-files/?d=a/x.jpg`` becomes ``a/x.jpg``; other addresses stay.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .files import read_json, shown
from .head import Head
from .named import NamedBuilder
from .text import IMAGE_EXTENSIONS

ANNOTATORS = ('agree', 'majority', 'any')
#: Keys of JSON-MIN that Label Studio adds.
_MIN_KEYS = frozenset(
    ('id', 'annotator', 'annotation_id', 'created_at', 'updated_at', 'lead_time', 'agreement', 'project')
)
_LABEL_KEYS = ('choice', 'choices', 'label', 'labels', 'class', 'classes', 'category', 'categories', 'tag', 'tags')


def read_label_studio(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    annotators: str = 'agree',
    control: str | Sequence[str] | None = None,
    image_key: str | None = None,
) -> Annotations:
    """Read the choices of a Label Studio export.

    Args:
        path: The JSON file.
        classes: Class names; a choice that is none of them is an error. If None, the choices that occur, sorted.
        annotators: What to make of several annotations of an image. ``'agree'``: they must be the same, or it is an
            error. ``'majority'``: a class is present if more than half chose it, unknown if exactly half did.
            ``'any'``: present if anybody chose it.
        control: Name (``from_name``) of the choices to take, or several names; needed if there are several.
        image_key: Key of the image's address in a task's data, if there are several.

    Raises:
        DataError: If it cannot be used; the message names file and task.
    """
    if annotators not in ANNOTATORS:
        raise DataError(f"{path}: unknown annotators='{annotators}'{did_you_mean(str(annotators), ANNOTATORS)}")
    tasks = read_json(path)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f'{path}: should be a list of tasks, as Label Studio exports JSON, found {shown(tasks)}')
    controls = None if control is None else {control} if isinstance(control, str) else set(map(str, control))
    full = [isinstance(task.get('data'), dict) for task in tasks]
    if any(full) and not all(full):
        raise DataError(f"{path}, task {full.index(False)}: has no object 'data'")
    if any(full):
        key = _image_key(path, [task['data'] for task in tasks], image_key)
        addresses, images = [task['data'].get(key) for task in tasks], _read_full(path, tasks, controls)
    else:
        addresses, images = _read_min(path, tasks, controls, _image_key(path, tasks, image_key))
    builder = NamedBuilder(path, classes, 'task')
    left_out = 0
    for row, (address, votes) in enumerate(zip(addresses, images)):
        if not votes:
            left_out += 1
            continue
        img_path = image_path(address, builder.where(row))
        numbers = [builder.check_names(choices, row, img_path) for choices in votes]
        builder.add(row, img_path, *_decide(builder, row, img_path, numbers, annotators))
    if left_out:
        builder.notes.append(f'{path}: {left_out} of {len(addresses)} tasks have no annotation and were left out')
    return builder.build()


def image_path(address: object, where: str) -> str:
    """The path of an image from its address in Label Studio.

    Args:
        address: Such as ``/data/upload/1/x.jpg``, ``/data/local-files/?d=a/x.jpg``, or any other.
        where: Begins the error message.

    Raises:
        DataError: If it is no address of a file.
    """
    if not isinstance(address, str) or not address.strip():
        raise DataError(f"{where}: the image's address must be a string, got {shown(address)}")
    if address.startswith('data:'):
        raise DataError(f'{where}: the image itself stands in the file ({shown(address)}); images must be files')
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise DataError(f"{where}: the image's address {shown(address)} cannot be read ({error})") from None
    if parts.path.startswith('/data/local-files'):
        if not parts.query.startswith('d='):
            raise DataError(f"{where}: the address {shown(address)} names no file with '?d='")
        return unquote(parts.query.removeprefix('d=')).lstrip('/')
    if parts.path.startswith('/data/upload/'):
        return unquote(parts.path.removeprefix('/data/'))
    return address


def _image_key(path: str | os.PathLike[str], entries: Sequence[Mapping[str, Any]], key: str | None) -> str:
    keys = list(dict.fromkeys(name for entry in entries for name in entry))
    if key is not None:
        if key not in keys:
            raise DataError(f"{path}: no task has the key '{key}'{did_you_mean(key, keys)}")
        return key
    if 'image' in keys:
        return 'image'
    found = [name for name in keys if any(_looks_like_image(entry.get(name)) for entry in entries)]
    if len(found) != 1:
        what = f'several keys look like images ({", ".join(found)})' if found else 'no key of the tasks holds an image'
        raise DataError(f"{path}: {what}; say which with image_key='...'{'' if found else did_you_mean('', keys)}")
    return found[0]


def _looks_like_image(value: object) -> bool:
    return isinstance(value, str) and value.rpartition('.')[2].lower() in IMAGE_EXTENSIONS


def _read_full(
    path: str | os.PathLike[str], tasks: list[dict[str, Any]], controls: set[str] | None
) -> list[list[list[Any]]]:
    """The choices of each annotation of each task."""
    images = []
    seen: set[str] = set()
    for row, task in enumerate(tasks):
        where = f'{path}, task {row}'
        votes = []
        annotations = task.get('annotations', task.get('completions', []))  # completions: the old name
        for annotation in _objects(annotations, f"{where}: 'annotations'"):
            if annotation.get('was_cancelled') or annotation.get('skipped'):
                continue
            choices: list[Any] = []
            for result in _objects(annotation.get('result', []), f"{where}: 'result'"):
                if result.get('type') != 'choices':
                    continue
                seen.add(str(result.get('from_name')))
                if controls is None or result.get('from_name') in controls:
                    choices += _choices(result.get('value'), where)
            votes.append(choices)
        images.append(votes)
    _check_controls(path, seen, controls)
    return images


def _read_min(
    path: str | os.PathLike[str], tasks: list[dict[str, Any]], controls: set[str] | None, image_key: str
) -> tuple[list[Any], list[list[list[Any]]]]:
    """Address of each image, and the choices of each annotation of it (each is an entry of its own in the file)."""
    others = [name for task in tasks for name in task if name not in _MIN_KEYS and name != image_key]
    found = {name for task in tasks for name in others if isinstance(task.get(name), dict) and 'choices' in task[name]}
    # A single choice is a plain string, as any other text of the task is: told by its name.
    found |= {name for name in others if name in (controls or _LABEL_KEYS)}
    _check_controls(path, found, controls)
    images: dict[str, list[list[Any]]] = {}
    for row, task in enumerate(tasks):
        where = f'{path}, task {row}'
        address = task.get(image_key)
        if not isinstance(address, str):
            raise DataError(f"{where}: the image's address must be a string, got {shown(address)}")
        votes = images.setdefault(address, [])
        values = [task[name] for name in sorted(found if controls is None else controls) if task.get(name) is not None]
        if values or 'annotation_id' in task:
            votes.append([choice for value in values for choice in _choices(value, where)])
    return list(images), list(images.values())


def _objects(value: Any, what: str) -> Iterable[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f'{what} must be a list of objects, got {shown(value)}')
    return value


def _choices(value: Any, where: str) -> list[Any]:
    choices = value.get('choices') if isinstance(value, dict) else value
    if isinstance(choices, str):
        return [choices]
    if not isinstance(choices, list):
        raise DataError(f'{where}: choices must be a list of names, got {shown(value)}')
    return choices


def _check_controls(path: str | os.PathLike[str], found: set[str], controls: set[str] | None) -> None:
    if not found:
        raise DataError(f'{path}: no task has choices, which are what labels of whole images are called here')
    for name in sorted(controls or ()):
        if name not in found:
            raise DataError(f"{path}: there are no choices called '{name}'{did_you_mean(name, found)}")
    if controls is None and len(found) > 1:
        raise DataError(
            f'{path}: there are several groups of choices ({", ".join(sorted(found))}); say which to take with '
            "control='...' or control=[...]"
        )


def _decide(
    builder: NamedBuilder, row: int, img_path: str, votes: list[list[int]], annotators: str
) -> tuple[list[int], list[int]]:
    """Present and unknown classes, from the choices of all annotators."""
    counts: dict[int, int] = {}
    for number in (number for vote in votes for number in vote):
        counts[number] = counts.get(number, 0) + 1
    if annotators == 'any':
        return list(counts), []
    if annotators == 'majority':
        present = [number for number, count in counts.items() if 2 * count > len(votes)]
        return present, [number for number, count in counts.items() if 2 * count == len(votes)]
    for number, count in counts.items():
        if count < len(votes):
            raise DataError(
                f"{builder.where(row, img_path)}: {count} of {len(votes)} annotators chose '{builder.name(number)}'; "
                "annotators='majority' or 'any' decides such cases"
            )
    return list(counts), []


def recognise(head: Head) -> str:
    """Why a file looks like a Label Studio export, or nothing."""
    if not re.match(r'\s*\[\s*\{', head.text):
        return ''
    keys = head.json_keys
    if {'annotations', 'data', 'result'} <= keys or {'completions', 'data', 'result'} <= keys:
        return "a JSON list of tasks with 'data' and 'result'"
    if 'annotation_id' in keys or {'annotator', 'lead_time'} <= keys:
        return "a JSON list of annotations with 'annotation_id'"
    return "a JSON list with 'choices'" if 'choices' in keys else ''
