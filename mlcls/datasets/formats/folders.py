"""One folder for each class, as for single-label classification.

::

    cat/001.jpg    cat/002.jpg    dog/002.jpg        or below folders of splits:    train/cat/001.jpg ...

A file that lies in several class folders, under the same name and with the same bytes, is one image with several
labels; its path is that in the first of them. Files of the same name with other bytes are different images.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mlcls.errors import DataError, SplitError, did_you_mean
from mlcls.structures import Annotations

from .classes import check_classes
from .head import Head
from .named import NamedBuilder
from .text import IMAGE_EXTENSIONS

#: Folders that other formats have, and that are no classes.
_NO_CLASSES = frozenset(('images', 'labels', 'annotations', 'jpegimages', 'imagesets', 'data', 'img', 'imgs'))
_HIDDEN = ('.', '__MACOSX')
#: Files that may hold labels.
_SHEETS = ('.csv', '.tsv', '.json', '.xml')
#: Folders of a folder that are looked into to recognise the format.
_LOOKS = 20


class _Folder(NamedTuple):
    name: str
    images: list[str]
    others: list[str]
    folders: list[str]


def read_folders(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None, split: str | None = None
) -> Annotations:
    """Read images from one folder a class.

    Args:
        path: The folder in which the class folders lie, or, with ``split``, the folder above.
        classes: Class names; a folder that is none of them is an error, a class without a folder is absent everywhere.
            If None, the names of the folders, sorted.
        split: The folder in ``path`` in which the class folders lie. Image paths begin with it.

    Raises:
        DataError: If it cannot be used; the message names the folder.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f'{path}: {"is a file, not a folder" if root.exists() else "no such folder"}')
    top = _list(root, '')
    if split is not None:
        if split not in top.folders:
            raise DataError(f"{path}: has no folder '{split}'{did_you_mean(split, top.folders)}")
        if classes is None:  # of all splits, so that every one has the same
            found = {name for each in top.folders for name in _list(root, each).folders}
            classes = check_classes(sorted(found), str(path))
        top = _list(root, split)
    folders = [_list(root, f'{split}/{name}' if split else name) for name in top.folders]
    _check_depth(root, folders, split)
    names = [os.path.basename(folder.name) for folder in folders]
    builder = NamedBuilder(path, check_classes(names, str(path)) if classes is None else classes, 'image')
    where = dict(zip((folder.name for folder in folders), (builder.check_names([name], 0)[0] for name in names)))
    different: set[str] = set()
    for row, (img_path, inside, alone) in enumerate(_images(root, folders)):
        builder.add(row, img_path, [where[name] for name in inside])
        if not alone:
            different.add(os.path.basename(img_path))
    if different:
        builder.notes.append(
            f'{path}: {len(different)} file names occur in several class folders with different contents; they are '
            'different images'
        )
    _note_others(builder, [*top.images, *top.others], [name for folder in folders for name in folder.others])
    return builder.build()


def _list(root: Path, name: str) -> _Folder:
    """What lies in a folder, sorted, without what is hidden."""
    folder = _Folder(name, [], [], [])
    try:
        for entry in sorted(os.scandir(root / name), key=lambda entry: entry.name):
            if entry.name.startswith(_HIDDEN):
                continue
            if entry.is_dir():
                folder.folders.append(entry.name)
            else:
                (folder.images if _is_image(entry.name) else folder.others).append(entry.name)
    except OSError as error:
        raise DataError(f'{root / name}: cannot be read ({error.strerror})') from error
    return folder


def _is_image(name: str) -> bool:
    return name.rpartition('.')[2].lower() in IMAGE_EXTENSIONS


def _check_depth(root: Path, folders: list[_Folder], split: str | None) -> None:
    if not folders:
        raise DataError(f'{root / (split or "")}: has no folders, which would be the classes')
    for folder in folders:
        if folder.folders:
            message = (
                f"{root / folder.name}: has folders of its own ('{folder.folders[0]}', ...), but a class folder holds "
                'images only'
            )
            if split is not None or any(folder.images for folder in folders):
                raise DataError(message)
            names = [folder.name for folder in folders]
            raise SplitError(f"{message}; if they are splits, say which one with split='{folder.name}'", names)
    if not any(folder.images for folder in folders):
        raise DataError(f'{root / (split or "")}: no class folder holds an image ({", ".join(IMAGE_EXTENSIONS)})')


def _images(root: Path, folders: list[_Folder]) -> Iterator[tuple[str, list[str], bool]]:
    """Path of each image, the folders it lies in, and whether no other image has its name."""
    places: dict[str, list[str]] = {}
    for folder in folders:
        for name in folder.images:
            places.setdefault(name, []).append(folder.name)
    done: set[tuple[str, str]] = set()
    for folder in folders:
        for name in folder.images:
            if (folder.name, name) not in done:
                same = [other for other in places[name] if _equal(root / folder.name / name, root / other / name)]
                done.update((other, name) for other in same[1:])
                yield f'{folder.name}/{name}', same, len(same) == len(places[name])


def _equal(one: Path, other: Path) -> bool:
    try:
        return one == other or filecmp.cmp(one, other, shallow=False)
    except OSError as error:
        raise DataError(f'{error.filename}: cannot be read ({error.strerror})') from error


def _note_others(builder: NamedBuilder, outside: list[str], inside: list[str]) -> None:
    for what, names in (('lie outside of the class folders', outside), ('are no images', inside)):
        if names:
            more = ', ...' if len(names) > 3 else ''
            builder.notes.append(
                f'{builder.path}: {len(names)} files {what} and were left out ({", ".join(names[:3])}{more})'
            )


def recognise(head: Head) -> str:
    """Why a folder looks like class folders, or nothing."""
    if any(name.lower().endswith(_SHEETS) and not name.startswith(_HIDDEN) for name in head.names):
        return ''  # the labels are in a file, and the folders beside it hold its images
    names = list(_folders(head))
    for level in ('', 'folders of '):
        if any(os.path.basename(name).lower() in _NO_CLASSES for name in names):
            return ''
        heads = [Head.of(head.path / name) for name in names]
        if any(map(_is_image, (name for inside in heads for name in inside.names))):
            return f'{level}folders with images'
        names = [f'{name}/{inner}' for name, inside in zip(names, heads) for inner in _folders(inside)]
    return ''


def _folders(head: Head) -> list[str]:
    names = (name for name in sorted(head.names) if not name.startswith(_HIDDEN))
    return list(islice((name for name in names if (head.path / name).is_dir()), _LOOKS))
