"""CVAT's export "CVAT for images 1.1": one XML file with the tags (and shapes) of every image.

::

    <annotations>
      <meta><task><labels><label><name>cat</name></label></labels></task></meta>
      <image id="0" name="a.jpg" width="640" height="480"><tag label="cat"/></image>
    </annotations>

The classes are the labels of ``<meta>``, in its order, else those that occur. CVAT does not write who has finished an
image, so one without a tag counts as one in which every class is absent.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.parsers import expat

from mlcls.errors import DataError, SplitError, did_you_mean
from mlcls.structures import Annotations

from .files import xml_errors
from .head import Head
from .named import NamedBuilder

SHAPES = frozenset(('box', 'polygon', 'polyline', 'points', 'ellipse', 'cuboid', 'mask', 'skeleton'))
_CHUNK = 1 << 16


class _Image(NamedTuple):
    line: int
    name: str
    subset: str
    tags: list[str]
    shapes: list[str]


def read_cvat(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    shapes: bool = False,
) -> Annotations:
    """Read a CVAT for images file.

    Args:
        path: The XML file.
        classes: Class names for a file whose ``<meta>`` names none; else its own are used.
        split: Take only the images of this subset (of an exported project).
        shapes: Whether a box, polygon or other shape says that its class is present; else only tags do.

    Raises:
        DataError: If it cannot be used; the message names file, line and image.
    """
    parser = _Parser(path)
    builder: NamedBuilder | None = None  # made at the first image, when <meta> has been read
    subsets: Counter[str] = Counter()
    tags = unused = 0
    for image in parser.images():
        if builder is None:
            builder = NamedBuilder(path, parser.classes(shapes) or classes, 'line')
        subsets[image.subset] += 1
        if split is not None and image.subset != split:
            continue
        labels = image.tags + image.shapes if shapes else image.tags
        tags, unused = tags + len(labels), unused + len(image.shapes) * (not shapes)
        builder.add(image.line, image.name, builder.check_names(labels, image.line, image.name))
    if builder is None:
        raise DataError(f'{path}: lists no images')
    _check_split(path, split, subsets)
    if unused and not tags:
        raise DataError(
            f'{path}: has no tags, but {unused} shapes; shapes=True takes their labels as those of the image'
        )
    if unused:
        builder.notes.append(f'{path}: {unused} shapes are not used (shapes=True would take their labels)')
    return builder.build()


def _check_split(path: str | os.PathLike[str], split: str | None, subsets: Counter[str]) -> None:
    shares = ', '.join(f"'{name}' ({count})" for name, count in subsets.most_common(12))
    if split is None and len(subsets) > 1:
        raise SplitError(f"{path}: has the subsets {shares}; say which one with split='...'", subsets)
    if split is not None and split not in subsets:
        raise DataError(f"{path}: no image is of the subset '{split}'{did_you_mean(split, filter(None, subsets))}")


class _Parser:
    """Reads the file in pieces: all that is kept is the image at hand and the labels of ``<meta>``.

    A document type is refused, since entities are declared in it: they may make a short file huge or fetch another.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._open: list[str] = []
        self._text = ''
        self._label: dict[str, str] = {}
        self._labels: list[dict[str, str]] = []
        self._image: _Image | None = None
        self._ready: list[_Image] = []
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._add_text
        self._expat.StartDoctypeDeclHandler = self._refuse

    def images(self) -> Iterator[_Image]:
        """The images, as they are read."""
        try:
            with open(self._path, 'rb') as file:
                for data in iter(lambda: file.read(_CHUNK), b''):
                    self._parse(data, last=False)
                    yield from self._ready
                    self._ready.clear()
                self._parse(b'', last=True)
        except FileNotFoundError:
            raise DataError(f'{self._path}: no such file') from None
        except OSError as error:
            raise DataError(f'{self._path}: cannot be read ({error.strerror})') from error

    def classes(self, shapes: bool) -> list[str]:
        """The labels of ``<meta>``; without ``shapes``, those that can be tags."""
        kinds = {label['name']: label.get('type', 'any') for label in self._labels if not label.get('parent')}
        return [name for name, kind in kinds.items() if shapes or kind in ('any', 'tag', '')]

    def _parse(self, data: bytes, last: bool) -> None:
        with xml_errors(self._path):
            self._expat.Parse(data, last)

    def _where(self) -> str:
        return f'{self._path}, line {self._expat.CurrentLineNumber}'

    def _refuse(self, *_: object) -> None:
        raise DataError(f'{self._where()}: has a <!DOCTYPE>, which no CVAT export has; such files are not read')

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._open and tag != 'annotations':
            raise DataError(f'{self._path}: the outermost element of a CVAT file is <annotations>, found <{tag}>')
        self._open.append(tag)
        self._text = ''
        if tag == 'track':
            raise DataError(f"{self._where()}: has a <track>, as 'CVAT for video' has; export 'CVAT for images'")
        if tag == 'label':
            self._label = {}
        elif self._open[1:] == ['image']:
            name = self._attribute(tag, attributes, 'name')
            self._image = _Image(self._expat.CurrentLineNumber, name, attributes.get('subset', ''), [], [])
        elif self._image is not None and len(self._open) == 3 and tag in SHAPES | {'tag'}:
            label = self._attribute(tag, attributes, 'label')
            (self._image.tags if tag == 'tag' else self._image.shapes).append(label)

    def _attribute(self, tag: str, attributes: dict[str, str], name: str) -> str:
        if name not in attributes:
            raise DataError(f"{self._where()}: <{tag}> has no attribute '{name}'{did_you_mean(name, attributes)}")
        return attributes[name]

    def _add_text(self, text: str) -> None:
        self._text += text

    def _end(self, tag: str) -> None:
        self._open.pop()
        if tag == 'image' and self._image is not None:
            self._ready.append(self._image)
            self._image = None
        elif self._open[-1:] == ['label'] and tag in ('name', 'type', 'parent'):
            self._label[tag] = self._text.strip()
        elif tag == 'label' and self._label.get('name'):
            self._labels.append(self._label)


def recognise(head: Head) -> str:
    """Why a file looks like a CVAT export, or nothing."""
    if re.search(r'<annotations>', head.text) and re.search(r'<(meta|version|image)\b', head.text):
        return 'an XML file with <annotations>'
    return ''
