"""Readers: one small pure function per annotation format, and `read_annotations`, which finds the right one.

To add a format, write ``read_<name>(path, classes=None, ...) -> Annotations`` and ``recognise(head) -> str`` in a file
here and list them in `FORMATS`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from . import (
    attributes,
    coco,
    csv,
    cvat,
    fiftyone,
    folders,
    label_list,
    label_studio,
    native,
    nus_wide,
    open_images,
    pack,
    text,
    voc,
    yolo,
)
from .cache import read_through_cache
from .class_map import map_classes, read_class_map
from .classes import check_classes, order_classes, read_classes
from .csv import read_csv
from .head import Head
from .native import read_native
from .text import IMAGE_EXTENSIONS, read_text
from .write import find_difference, write_native


class Format(NamedTuple):
    """An annotation format.

    Args:
        read: Its reader.
        recognise: From the beginning of a file (or the names in a folder) to the reason why it is this format, such as
            ``"a JSON file with 'metainfo'"``; empty if it is not.
        has_names: Whether files of the format name their classes. If not, they cannot be read without ``classes``.
        files: Options that name further files that are read; None: other files are read too, so annotations are not
            kept in the cache.
    """

    read: Callable[..., Annotations]
    recognise: Callable[[Head], str]
    has_names: bool = True
    files: tuple[str, ...] | None = None


#: All formats; the first that recognises a path is taken, so the stricter ones stand first.
FORMATS: dict[str, Format] = {
    'pack': Format(pack.read_pack, pack.recognise),
    'coco': Format(coco.read_coco, coco.recognise, files=()),
    'fiftyone': Format(fiftyone.read_fiftyone, fiftyone.recognise),
    'label_studio': Format(label_studio.read_label_studio, label_studio.recognise, files=()),
    'cvat': Format(cvat.read_cvat, cvat.recognise, files=()),
    'native': Format(read_native, native.recognise, files=()),
    'voc': Format(voc.read_voc, voc.recognise),
    'yolo': Format(yolo.read_yolo, yolo.recognise),
    'nus_wide': Format(nus_wide.read_nus_wide, nus_wide.recognise, files=()),
    'open_images': Format(open_images.read_open_images, open_images.recognise, files=('class_descriptions',)),
    'attributes': Format(attributes.read_attributes, attributes.recognise),
    'label_list': Format(label_list.read_label_list, label_list.recognise, files=()),
    'csv': Format(read_csv, csv.recognise, files=()),
    'text': Format(read_text, text.recognise, has_names=False, files=()),
    'folders': Format(folders.read_folders, folders.recognise),
}

__all__ = [
    'FORMATS',
    'Format',
    'Head',
    'check_classes',
    'find_difference',
    'map_classes',
    'read_annotations',
    'read_class_map',
    'read_classes',
    'read_csv',
    'read_native',
    'read_text',
    'recognise_format',
    'write_native',
]


def recognise_format(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The format of annotations, by their content where that is plain and else by the extension.

    Returns:
        The format's name, and why it is thought to be that.

    Raises:
        DataError: If none is recognised.
    """
    head = Head.of(path)
    for name, known in FORMATS.items():
        if reason := known.recognise(head):
            return name, reason
    if not head.path.exists():
        raise DataError(f'{path}: no such file or folder')
    raise DataError(f'{path}: {_unrecognised(head)}')


def _unrecognised(head: Head) -> str:
    """Why nothing is recognised, and what to do."""
    if head.path.is_dir():
        files = [name for name in sorted(head.names) if not name.startswith('.')]
        if not files:
            return 'the folder is empty'
        sheets = [name for name in files if name.lower().endswith(('.csv', '.tsv', '.json', '.txt', '.xml', '.yaml'))]
        if sheets:
            return f"this folder is of no known format; if '{sheets[0]}' in it has the labels, name that file"
        if any(name.rpartition('.')[2].lower() in IMAGE_EXTENSIONS for name in files):
            return 'this folder has images, but no labels'
    if head.text.startswith('PK') and head.extension in ('.xlsx', '.ods', '.numbers'):
        return 'is a workbook of a spreadsheet; save the sheet as CSV (UTF-8)'
    what = 'this folder is' if head.names else f"content and extension '{head.extension}' are"
    return f"{what} of no known format; give format='...'{did_you_mean('', FORMATS)}"


def read_annotations(
    path: str | os.PathLike[str],
    format: str = 'auto',
    classes: Sequence[str] | str | os.PathLike[str] | None = None,
    class_map: Mapping[str, str | None] | str | os.PathLike[str] | None = None,
    **options: Any,
) -> Annotations:
    """Read annotations of any known format.

    Args:
        path: The file or folder.
        format: A name from `FORMATS`, or ``'auto'`` to recognise it.
        classes: Class names, or a text file with one name a line: the order wanted for the labels. Formats that name
            their classes must name the same ones (a CSV file may have more columns, which are left out).
        class_map: New names of classes, see `map_classes`, or a YAML or JSON file of them. It is applied before
            ``classes``, which then are the new names; but of a format without names (``'text'``) they are the old ones.
        **options: Further arguments of the reader, such as ``split`` of ``'csv'``.

    Raises:
        DataError: If the format or an option is unknown, or the file cannot be used.
    """
    name, reason = recognise_format(path) if format == 'auto' else (format, '')
    if name not in FORMATS:
        raise DataError(f"unknown annotation format '{name}'{did_you_mean(name, [*FORMATS, 'auto'])}")
    reader = FORMATS[name].read
    _check_options(str(path), name, options)
    if isinstance(classes, (str, os.PathLike)):
        classes = read_classes(classes)
    elif classes is not None:
        classes = check_classes(classes, 'classes')
    source = f'{name}: {reason}' if reason else name

    def read() -> Annotations:
        if class_map is None:
            found = order_classes(reader(path, classes=classes, **options), classes, str(path))
        elif FORMATS[name].has_names:
            mapped = _map(reader(path, classes=None, **options), class_map, str(path))
            found = order_classes(mapped, classes, str(path))
        else:
            found = _map(reader(path, classes=classes, **options), class_map, str(path))
        return replace(found, source=source)

    files = FORMATS[name].files
    if files is None:
        return read()
    given = [options[option] for option in files if options.get(option) is not None]
    given += [class_map] if isinstance(class_map, (str, os.PathLike)) else []
    inputs = [each for file in given for each in (Path(file), Path(path).parent / file) if each.exists()]
    key = {'format': name, 'source': source, 'classes': classes, 'class_map': class_map, 'options': options}
    return read_through_cache(path, key, read, inputs=inputs)


def _check_options(path: str, name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that the reader does not have, and values of another type than it says."""
    parameters = inspect.signature(FORMATS[name].read).parameters
    known = [option for option in parameters if option not in ('path', 'classes')]
    for option, value in options.items():
        if option not in known:
            raise DataError(f"{path}: annotation format '{name}' has no option '{option}'{did_you_mean(option, known)}")
        kind = str(parameters[option].annotation)  # a string already: annotations are not evaluated
        if value is None and 'None' in kind:
            continue
        for type_name, wanted, words in (('bool', bool, 'True or False'), ('str', str, 'a string')):
            fits = isinstance(value, wanted) or (
                wanted is str and 'PathLike' in kind and isinstance(value, os.PathLike)
            )
            if kind.startswith(type_name) and not fits:
                raise DataError(f"{path}: option '{option}' must be {words}, got {value!r}")


def _map(
    annotations: Annotations, class_map: Mapping[str, str | None] | str | os.PathLike[str], where: str
) -> Annotations:
    if isinstance(class_map, (str, os.PathLike)):
        where, class_map = f'{where} with {class_map}', read_class_map(class_map)
    return map_classes(annotations, class_map, where)
