"""Converting annotations of any known format to the native one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlcls.datasets.corrections import apply_corrections
from mlcls.datasets.formats import find_difference, read_annotations, read_native, write_native
from mlcls.datasets.image_files import find_missing
from mlcls.errors import DataError
from mlcls.structures import PRESENT, UNKNOWN, Annotations, StringList

Paths = str | os.PathLike[str]


# One argument more than elsewhere: each is a flag of the command.
def prepare_data(
    src: Paths,
    dst: Paths,
    format: str = 'auto',
    classes: Sequence[str] | Paths | None = None,
    class_map: Mapping[str, str | None] | Paths | None = None,
    options: Mapping[str, Any] | None = None,
    images: Paths | None = None,
    force: bool = False,
    corrections: Paths | None = None,
) -> Annotations:
    """Convert annotations to the native format, and make sure that reading the new file gives the same.

    Image paths are rewritten so that from the folder of ``dst`` they lead to the same files as from ``images``;
    absolute ones and addresses (``scheme://``) stay as they are. Whether the files exist is looked up and noted.

    Args:
        src: File or folder of any format in ``mlcls.datasets.formats.FORMATS``.
        dst: The JSON file to write.
        format: Format of ``src``, or ``'auto'``.
        classes: As in `mlcls.datasets.formats.read_annotations`.
        class_map: As there.
        options: Further arguments of the format's reader, such as ``dict(split='train')``.
        images: Folder to which the image paths in ``src`` are relative; that of ``src`` (or itself, if it is a folder)
            if None.
        force: Whether to replace ``dst`` if it exists.
        corrections: CSV file of labels to change, see `mlcls.datasets.corrections`; its images are named as in ``src``,
            its classes as they are called after ``class_map``.

    Returns:
        What was written, with notes about ``src`` and how its format was recognised (``source``).

    Raises:
        DataError: If ``src`` or ``corrections`` cannot be used, ``dst`` exists, or the new file does not read back
            equal.
    """
    src, dst = Path(src), Path(dst)
    _check_target(src, dst, force)
    annotations = read_annotations(src, format, classes, class_map=class_map, **(options or {}))
    if corrections is not None:
        annotations = apply_corrections(annotations, corrections).annotations
    root = Path(images) if images is not None else src if src.is_dir() else src.parent
    if not root.is_dir():
        raise DataError(f'{root}: no such folder of images')
    annotations = replace(annotations, img_paths=StringList(relocate(annotations.img_paths, root, dst.parent)))
    try:
        write_native(annotations, dst)
    except OSError as error:
        raise DataError(f'{dst}: cannot be written ({error.strerror})') from error
    difference = find_difference(annotations, read_native(dst))
    if difference:
        raise DataError(f'{dst}: does not read back as it was written ({difference}); do not use it')
    absent = find_missing(annotations.img_paths, str(dst.parent))
    if len(absent.images):
        note = f'{dst}: {len(absent.images)} of {len(annotations)} images do not exist: {absent.describe()}'
        annotations = replace(annotations, notes=(*annotations.notes, note))
    return annotations


def relocate(img_paths: Sequence[str], old: Path, new: Path) -> list[str]:
    """Paths that lead from folder ``new`` where the given ones lead from ``old``."""
    # Symbolic links are resolved, since '..' behind one does not lead back.
    way = os.path.relpath(os.path.realpath(old), os.path.realpath(new)).replace(os.sep, '/')
    if way == '.':
        return list(img_paths)
    return [path if '://' in path or os.path.isabs(path) else f'{way}/{path}' for path in img_paths]


def describe(annotations: Annotations) -> str:
    """What was read, in a few lines: format, counts, notes."""
    labels = annotations.labels
    counts = labels.counts(PRESENT)
    unknown = int(labels.counts(UNKNOWN).sum())
    lines = [
        f'recognised as {annotations.source}' if ':' in annotations.source else f'read as {annotations.source}',
        f'{len(annotations)} images, {len(annotations.classes)} classes, {int(counts.sum())} present labels '
        f'({counts.sum() / len(annotations):.2f} an image), {unknown} unknown labels',
        *(f'  {name}: {count}' for name, count in zip(annotations.classes[:20], counts)),
    ]
    if len(annotations.classes) > 20:
        lines.append(f'  ... and {len(annotations.classes) - 20} more classes')
    return '\n'.join([*lines, *(f'note: {note}' for note in annotations.notes)])


def _check_target(src: Path, dst: Path, force: bool) -> None:
    if dst.is_dir():
        raise DataError(f'{dst}: is a folder; name the file to write')
    if not dst.exists():
        return
    if src.exists() and os.path.samefile(src, dst):
        raise DataError(f'{dst}: is the file that is read; write to another one')
    if not force:
        raise DataError(f'{dst}: exists; force=True (--force) replaces it')
