"""The YOLO format: images and, beside them, one text file an image with a line an object: class id, then its box.

::

    data.yaml                 names: [cat, dog]
    train/images/a.jpg        train: train/images
    train/labels/a.txt        0 0.5 0.5 0.2 0.3

Only the class ids are taken. ``data.yaml`` is Ultralytics' (https://docs.ultralytics.com/datasets/detect/) or
Roboflow's; without one, a folder with ``images``, ``labels`` and ``classes.txt`` is read too.
"""

from __future__ import annotations

import math
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mlcls.errors import DataError, SplitError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes, read_classes
from .files import read_file_text, shown
from .head import Head
from .text import IMAGE_EXTENSIONS

_YAML_NAMES = ('data.yaml', 'data.yml', 'dataset.yaml')
_SPLITS = ('train', 'val', 'valid', 'test')
_SAME = {'valid': 'val', 'val': 'valid'}
_NOTHING = ('', '~', 'null', 'Null', 'NULL')
_CLASS_FILES = ('classes.txt', 'labels/classes.txt')
_EXTENSIONS = tuple(f'.{extension}' for extension in IMAGE_EXTENSIONS)


def read_yolo(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None, split: str | None = None
) -> Annotations:
    """Read a data set in YOLO's layout.

    Args:
        path: ``data.yaml``, the folder that contains it, or a folder with ``images``, ``labels`` and ``classes.txt``.
        classes: Class names in the order of their ids, for data that name none (otherwise its own are used).
        split: ``'train'``, ``'val'`` (or ``'valid'``) or ``'test'``; of a folder without ``data.yaml``, a folder in
            ``images``. May be left out where there is only one.

    Returns:
        The images of the split; paths are relative to the folder of ``data.yaml``. An image whose label file is empty
        or missing shows no class.

    Raises:
        DataError: If it cannot be used; the message names file and line.
    """
    given = Path(path)
    notes: list[str] = []
    yaml_file = next((given / name for name in _YAML_NAMES if (given / name).is_file()), given)
    if yaml_file.is_dir():
        folder, names = given, _plain_classes(given, classes)
        entries = _plain_entries(given, split)
    else:
        folder, content = yaml_file.parent, _load_yaml(yaml_file)
        names = _names(yaml_file, content, classes)
        entries, notes = _entries(yaml_file, content, split)
    builder = AnnotationsBuilder(yaml_file, names, 'image')
    builder.notes += notes
    missing, first_missing, number = 0, '', 0
    for img_path in (each for entry in entries for each in _images(folder, entry)):
        number += 1
        label_file = label_path(img_path)
        present = _read_labels(folder / label_file, len(names))
        if present is None:
            missing, first_missing, present = missing + 1, first_missing or label_file, []
        builder.add(number, img_path, present)
    if missing:
        found = f"{yaml_file}: {missing} of {number} images have no label file, the first '{first_missing}'"
        if missing == number:
            raise DataError(f'{found} (looked for below {folder}); images and labels should lie in like folders')
        builder.notes.append(f'{found}; they are taken to show no class')
    return builder.build()


def label_path(img_path: str) -> str:
    """Where the labels of an image are: the last folder ``images`` becomes ``labels``, the extension ``.txt``."""
    folders, name = posixpath.split(img_path)
    parts = folders.split('/')
    if 'images' in parts:
        parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
    return posixpath.join('/'.join(parts), posixpath.splitext(name)[0] + '.txt')


def _load_yaml(path: Path) -> dict[str, Any]:
    """The content with every value as the string that is written: 1, no and null are names like others."""
    import yaml

    class Loader(yaml.BaseLoader):
        """Refuses keys given twice, of which PyYAML takes the last, and aliases, by which a short file may be huge."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                line = self.peek_event().start_mark.line + 1
                raise DataError(f'{path}, line {line}: aliases (*) are not read; write out what they stand for')
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            content = super().construct_mapping(node, deep)
            keys = [key.value for key, _ in node.value]
            if len(content) < len(keys):
                twice = max(keys, key=keys.count)
                line = next(key.start_mark.line for key, _ in reversed(node.value) if key.value == twice) + 1
                raise DataError(f"{path}, line {line}: the key '{twice}' is given twice")
            return content

    try:
        content = yaml.load(read_file_text(path), Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f'{path}:{mark.line + 1}:{mark.column + 1}' if mark else str(path)
        raise DataError(f'{place}: not valid YAML: {error.problem}') from None
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f'{path}: not valid YAML: {error}') from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: should have the keys 'names', 'train' and 'val', got {shown(content)}")
    return {key: value for key, value in content.items() if value not in _NOTHING}


def _names(path: Path, content: dict[str, Any], classes: Sequence[str] | None) -> tuple[str, ...]:
    names = content.get('names')
    if names is None:
        if classes is None:
            near = did_you_mean('names', content)
            raise DataError(f"{path}: has no key 'names'{near}; add it, or give classes=[...]")
        names = list(classes)
    if isinstance(names, dict):
        ids = [str(number) for number in range(len(names))]
        if set(names) != set(ids):
            raise DataError(f"{path}: the ids of 'names' must be 0 to {len(names) - 1}, got {shown(list(names))}")
        names = [names[number] for number in ids]
    checked = check_classes(names, f"{path}, 'names'")
    count = content.get('nc', str(len(checked)))
    if count != str(len(checked)):
        raise DataError(f"{path}: 'nc' is {shown(count)}, but 'names' has {len(checked)} names")
    return checked


def _entries(path: Path, content: dict[str, Any], split: str | None) -> tuple[list[str], list[str]]:
    """The folders and lists of images of a split, relative to the folder of the YAML file, and notes."""
    offered = {('val' if key == 'valid' else key): content[key] for key in _SPLITS if key in content}
    # Roboflow exports may contain a part that their data.yaml leaves out.
    beside = {part for part in _SPLITS if not {part, _SAME.get(part)} & set(offered)}
    beside = {part for part in beside if (path.parent / part / 'images').is_dir()}
    offered |= {part: f'{part}/images' for part in sorted(beside)}
    chosen = _choose(path, split, list(offered))
    notes = [f"{path}: has no key '{chosen}'; the folder '{chosen}/images' is taken"] if chosen in beside else []
    values = offered[chosen] if isinstance(offered[chosen], list) else [offered[chosen]]
    root = content.get('path', '')
    if not isinstance(root, str):
        raise DataError(f"{path}: 'path' must be the folder of the data set, got {shown(root)}")
    roots = [root.replace('\\', '/'), '']
    entries = []
    for value in values:
        if not isinstance(value, str) or not value:
            raise DataError(f"{path}: '{chosen}' must be a folder, a list of images, or several, got {shown(value)}")
        value = value.replace('\\', '/')
        # Roboflow writes ../train/images for train/images beside data.yaml, and Ultralytics follows it.
        spellings = [value] + ([value[3:]] if value.startswith('../') else [])
        candidates = [posixpath.normpath(posixpath.join(base, each)) for each in spellings for base in roots]
        found = next((each for each in candidates if os.path.exists(path.parent / each)), None)
        if found is None:
            looked = ', '.join(f"'{path.parent / each}'" for each in dict.fromkeys(candidates))
            raise DataError(f"{path}: '{chosen}' names '{value}', which does not exist; looked for {looked}")
        if found != candidates[0]:
            notes.append(f"{path}: '{chosen}' names '{candidates[0]}', which does not exist; '{found}' is taken")
        entries.append(found)
    return entries, notes


def _choose(path: Path, split: str | None, offered: list[str]) -> str:
    names = ', '.join(f"'{name}'" for name in offered)
    if not offered:
        raise DataError(f"{path}: names no images; add the keys 'train' and 'val'")
    if split is None:
        if len(offered) > 1:
            raise SplitError(f"{path}: has the splits {names}; say which one with split='...'", offered)
        return offered[0]
    if split not in offered:
        split = _SAME.get(split, split)
    if split not in offered:
        raise DataError(f"{path}: has no split '{split}'; there are {names}")
    return split


def _plain_classes(folder: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    for name in _CLASS_FILES:
        if (folder / name).is_file():
            return read_classes(folder / name)
    if classes is None:
        raise DataError(f'{folder}: has neither data.yaml nor classes.txt to name the classes; give classes=[...]')
    return check_classes(classes, 'classes')


def _plain_entries(folder: Path, split: str | None) -> list[str]:
    """The folders of images of a split, where no YAML file says."""
    if not (folder / 'images').is_dir():
        raise DataError(f"{folder}: has neither data.yaml nor a folder 'images'")
    offered = sorted(each.name for each in (folder / 'images').iterdir() if each.is_dir())
    if split is None and not offered:
        return ['images']
    return [f'images/{_choose(folder, split, offered)}']


def _images(folder: Path, entry: str) -> Iterator[str]:
    """Paths, relative to ``folder``, of the images below a folder (sorted) or in a list."""
    place = folder / entry
    if not place.is_dir():
        yield from _listed(folder, entry)
        return
    found = False
    for where, folders, names in os.walk(place, followlinks=True):
        folders.sort()
        below = os.path.relpath(where, place).replace(os.sep, '/')
        for name in sorted(names):
            if name.lower().endswith(_EXTENSIONS):
                found = True
                yield posixpath.normpath(posixpath.join(entry, below, name))
    if not found:
        raise DataError(f'{place}: contains no images ({", ".join(_EXTENSIONS)})')


def _listed(folder: Path, entry: str) -> Iterator[str]:
    """Images of a text file, one a line, relative to its folder or, if the first is not there, to ``folder``."""
    if not entry.lower().endswith('.txt'):
        raise DataError(f'{folder / entry}: must be a folder of images or a list of images (.txt)')
    base = None
    for number, line in enumerate(read_file_text(folder / entry).split('\n'), start=1):
        img_path = line.strip().replace('\\', '/')
        if not img_path:
            continue
        if not img_path.lower().endswith(_EXTENSIONS):
            raise DataError(f'{folder / entry}, line {number}: should be the path of an image, got {shown(img_path)}')
        if base is None:
            base = posixpath.dirname(entry)
            if not os.path.exists(folder / base / img_path) and os.path.exists(folder / img_path):
                base = ''
        yield posixpath.normpath(posixpath.join(base, img_path))


def _read_labels(path: Path, num_classes: int) -> list[int] | None:
    """Ids of the classes in a label file, sorted; None if there is no such file."""
    try:
        if not path.read_bytes().strip():
            return []
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error
    present = set()
    for number, line in enumerate(read_file_text(path).split('\n'), start=1):
        if words := line.split():
            present.add(_class_id(words, f'{path}, line {number}', num_classes))
    return sorted(present)


def _class_id(words: list[str], where: str, num_classes: int) -> int:
    """Check an object: a class id, then a box (4 numbers) or the corners of a polygon (6 and more)."""
    if len(words) != 5 and len(words) < 7:
        raise DataError(
            f'{where}: has {len(words)} columns; an object is a class id and 4 numbers of a box, or 6 and more of a '
            'polygon'
        )
    for column, word in enumerate(words[1:], start=2):
        if not _is_finite(word):
            raise DataError(f"{where}, column {column}: '{word}' is not a number")
    if not re.fullmatch(r'-?[0-9]{1,18}', words[0]):
        whole = _is_finite(words[0]) and float(words[0]).is_integer()
        better = f'write {int(float(words[0]))}' if whole else 'class ids are whole numbers'
        raise DataError(f"{where}: the class id is '{words[0]}'; {better}")
    if not 0 <= int(words[0]) < num_classes:
        raise DataError(
            f'{where}: class id {int(words[0])} is out of range; {num_classes} classes have the ids 0 to '
            f'{num_classes - 1}'
        )
    return int(words[0])


def _is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False


def recognise(head: Head) -> str:
    """Why a file or folder looks like this format, or nothing."""
    for name in _YAML_NAMES:
        if name in head.names:
            return f"a folder with '{name}'"
    if {'images', 'labels'} <= head.names:
        return "a folder with 'images' and 'labels'"
    if head.extension in ('.yaml', '.yml') and re.search(r'^(names|train|val)\s*:', head.text, re.MULTILINE):
        return "a YAML file with 'names' or 'train'"
    return ''
