"""The NUS-WIDE format: a list of images, and for each class a text file with a line of 0 or 1 for each of them.

::

    ImageList/TrainImagelist.txt                 actor\\0001_2124494179.jpg
    TrainTestLabels/Labels_airport_Train.txt     0
    Concepts81.txt                               airport

``AllLabels/Labels_airport.txt`` belongs to ``ImageList/Imagelist.txt``. Format: Chua et al., "NUS-WIDE: a real-world
web image database from National University of Singapore", CIVR 2009.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlcls.errors import DataError, SplitError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes, read_classes
from .files import read_file_text, shown
from .head import Head

# Where each lies in the archives as they are published, or directly in the folder.
_LABEL_FOLDERS = ('', 'Groundtruth')
_CONCEPT_FILES = ('Concepts81.txt', 'ConceptsList/Concepts81.txt')


def read_nus_wide(
    path: str | os.PathLike[str], classes: Sequence[str] | None = None, split: str | None = None
) -> Annotations:
    """Read a folder in NUS-WIDE's layout.

    Args:
        path: The folder that contains ``ImageList``.
        classes: Classes to take, in this order. If None, those of ``Concepts81.txt`` in its order or, without one, all
            that have a label file, sorted.
        split: ``'Train'`` or ``'Test'``; without, all images, if ``AllLabels`` is there.

    Returns:
        The images in the order of the list; ``\\`` in their paths becomes ``/``.

    Raises:
        DataError: If it cannot be used; the message names the file and line.
    """
    folder = Path(path)
    image_list, label_files = _find(folder, split)
    names = _names(folder, label_files, classes)
    builder = AnnotationsBuilder(image_list, names, 'line')
    img_paths = _lines(image_list)
    labels = np.empty((len(img_paths), len(names)), bool)
    for column, name in enumerate(names):
        values = _read_column(label_files[name])
        if len(values) != len(img_paths):
            raise DataError(
                f'{label_files[name]}: has {len(values)} lines, but {image_list} lists {len(img_paths)} images'
            )
        labels[:, column] = values
    for line, (img_path, row) in enumerate(zip(img_paths, labels), start=1):
        builder.add(line, img_path.strip().replace('\\', '/'), np.flatnonzero(row).tolist())
    return builder.build()


def _find(folder: Path, split: str | None) -> tuple[Path, dict[str, Path]]:
    """The list of images of a split, and the label file of each class."""
    lists = {}
    for file in sorted((folder / 'ImageList').glob('*.txt')):
        if file.stem.lower().endswith('imagelist'):
            lists[file.stem[: -len('imagelist')].lower()] = file
    if not lists:
        raise DataError(f"{folder}: has no 'ImageList/TrainImagelist.txt' or the like; give the folder of ImageList")
    kind, ending = ('AllLabels', '') if split is None else ('TrainTestLabels', f'_{split.lower()}')
    files = [file for parent in _LABEL_FOLDERS for file in sorted((folder / parent / kind).glob('Labels_*.txt'))]
    labels = {
        file.stem[len('Labels_') : len(file.stem) - len(ending)]: file
        for file in files
        if file.stem.lower().endswith(ending)
    }
    image_list = lists.get((split or '').lower())
    if image_list is None or not labels:
        splits = [name.capitalize() for name in lists if name]
        if split is None:
            names = ', '.join(f"'{name}'" for name in splits)
            raise SplitError(
                f"{folder}: has no 'AllLabels' with an 'ImageList/Imagelist.txt'; say which part of it with "
                f"split='...' ({names})",
                splits,
            )
        what = 'list of images' if image_list is None else f"'TrainTestLabels/Labels_<class>_{split.capitalize()}.txt'"
        raise DataError(f"{folder}: has no {what} for split '{split}'{did_you_mean(split, splits)}")
    return image_list, labels


def _names(folder: Path, files: dict[str, Path], classes: Sequence[str] | None) -> tuple[str, ...]:
    concepts = next((folder / name for name in _CONCEPT_FILES if (folder / name).is_file()), None)
    if classes is not None:
        names, where = check_classes(classes, 'classes'), str(folder)
    elif concepts is not None:
        names, where = read_classes(concepts), str(concepts)
    else:
        names, where = tuple(sorted(files)), str(folder)
    for name in names:
        if name not in files:
            raise DataError(f"{where}: class '{name}' has no file 'Labels_{name}...txt'{did_you_mean(name, files)}")
    return names


def _lines(path: Path) -> list[str]:
    """The lines of a file; an empty one at the end is none."""
    return read_file_text(path).rstrip().split('\n')


def _read_column(path: Path) -> np.ndarray:
    """The labels of one class, bool (N,)."""
    lines = [line.strip() for line in _lines(path)]
    if not {'0', '1'}.issuperset(lines):
        number = next(number for number, line in enumerate(lines) if line not in ('0', '1'))
        raise DataError(f'{path}, line {number + 1}: must be 0 or 1, got {shown(lines[number])}')
    return np.frombuffer(''.join(lines).encode(), np.uint8) == ord('1')


def recognise(head: Head) -> str:
    """Why a folder looks like this format, or nothing."""
    others = head.names & {'TrainTestLabels', 'AllLabels', 'Groundtruth'}
    return f"a folder with 'ImageList' and '{min(others)}'" if 'ImageList' in head.names and others else ''
