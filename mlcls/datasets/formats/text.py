"""The text format: one image a line, its path followed by the ids of its classes.

::

    images/a.jpg 0,2
    my photos/b.jpg 1 3
    c.jpg

Path and ids are separated by a tab or spaces, ids by commas or spaces. A path may contain spaces if it ends like an
image file or is followed by a tab. A line without ids is an image in which every class is absent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from mlcls.errors import DataError
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_lines
from .head import Head

#: Endings by which a path with spaces is told from what follows it.
IMAGE_EXTENSIONS = ('jpg', 'jpeg', 'png', 'bmp', 'webp', 'tif', 'tiff', 'gif', 'ppm', 'pgm', 'jfif', 'jp2')
# Greedy: ids never look like an image file, so the last ending on the line closes the path.
_IMAGE = re.compile(rf'(.+\.(?:{"|".join(IMAGE_EXTENSIONS)}))(?:[\s,]+(.*))?$', re.IGNORECASE)
_INTEGER = re.compile(r'[+-]?[0-9]+')


def read_text(path: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Annotations:
    """Read a text annotation file.

    Args:
        path: The file.
        classes: Class names in the order of their ids; the format itself has no place for them.

    Raises:
        DataError: If it cannot be used; the message names file, line and image.
    """
    if classes is None:
        raise DataError(
            f'{path}: a text annotation file has no class names; give classes=[...] or '
            "classes='classes.txt' (one name a line)"
        )
    builder = AnnotationsBuilder(path, check_classes(classes, 'classes'), 'line')
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            img_path, words = split_line(line.strip())
            builder.add(number, img_path, builder.check_ids(_ids(words), number, img_path, 'the label list'))
    return builder.build()


def split_line(line: str) -> tuple[str, list[str]]:
    """Split a line into the path and the words of the label list."""
    if '\t' in line:
        img_path, rest = line.split('\t', 1)
    elif match := _IMAGE.match(line):
        img_path, rest = match[1], match[2] or ''
    else:
        img_path, rest = [*line.split(None, 1), ''][:2]
    return img_path.strip(), rest.replace(',', ' ').split()


def _ids(words: list[str]) -> list[int | float | str]:
    digits = ''.join(words)
    if digits.isascii() and digits.isdecimal():  # nearly always, and much faster than to ask of each
        return list(map(int, words))
    return [int(word) if _INTEGER.fullmatch(word) else _number(word) for word in words]


def _number(word: str) -> float | str:
    """A fraction if it is one, so that the message can tell it from a name."""
    try:
        return float(word)
    except ValueError:
        return word


def recognise(head: Head) -> str:
    """Why a file looks like this format, or nothing."""
    return f"its extension '{head.extension}'" if head.extension in ('.txt', '.lst') else ''
