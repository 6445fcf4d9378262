"""The Pascal VOC format: a folder with one XML file an image, and lists that name the images of each split.

::

    Annotations/000005.xml    ImageSets/Main/train.txt    JPEGImages/000005.jpg
                              ImageSets/Main/val.txt

A class is present in an image if it has an ``object`` of this ``name``. Format: Everingham et al., "The PASCAL Visual
Object Classes Challenge 2007 Development Kit".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from mlcls.errors import DataError, SplitError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes
from .files import read_file_text, xml_errors
from .head import Head
from .text import IMAGE_EXTENSIONS

#: What may be done with difficult objects, see `read_voc`.
DIFFICULT = ('ignore', 'positive', 'negative')
_LISTS = os.path.join('ImageSets', 'Main')


class _Object(NamedTuple):
    name: str
    difficult: bool
    line: int


def read_voc(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    split: str | None = None,
    difficult: str = 'ignore',
    img_dir: str = 'JPEGImages',
    ann_dir: str = 'Annotations',
) -> Annotations:
    """Read a folder in VOC's layout.

    Args:
        path: The folder that contains ``Annotations``.
        classes: Class names. If None, all names in all XML files, sorted: the same for every split.
        split: A list in ``ImageSets/Main``, such as ``'train'``, or the path of a list (ending in ``.txt``, relative to
            the folder). If None, the only list or, where there is none, all XML files.
        difficult: What a class is that an image shows only in objects marked difficult: ``'ignore'``: unknown;
            ``'positive'``: present; ``'negative'``: absent.
        img_dir: Folder of the images, relative to the folder; their paths begin with it.
        ann_dir: Folder of the XML files, relative to the folder.

    Raises:
        DataError: If it cannot be used; the message names file and line.
    """
    if difficult not in DIFFICULT:
        raise DataError(f"{path}: unknown difficult='{difficult}'{did_you_mean(str(difficult), DIFFICULT)}")
    xml_dir = Path(path, ann_dir)
    if not xml_dir.is_dir():
        raise DataError(f"{path}: has no folder '{ann_dir}' of XML files; give the folder that contains it")
    source, ids = _image_ids(Path(path), xml_dir, split)
    known: dict[str, list[_Object]] = {}
    if classes is None:
        known = {file: _read_xml(xml_dir / file) for file in sorted(os.listdir(xml_dir)) if file.endswith('.xml')}
        names = {each.name for objects in known.values() for each in objects}
        if not names:
            raise DataError(f'{xml_dir}: no XML file names an object, so there are no classes; give classes=[...]')
        classes = sorted(names)
    builder = AnnotationsBuilder(source, check_classes(classes, 'classes'), 'line' if source.is_file() else 'XML file')
    files = _image_files(Path(path, img_dir), img_dir)
    for line, image in ids:
        file = f'{image}.xml'
        if file not in known and not os.path.isfile(xml_dir / file):
            raise DataError(f"{builder.where(line)}: image '{image}' has no file '{file}' in {xml_dir}{_hint(image)}")
        objects = known[file] if file in known else _read_xml(xml_dir / file)
        present, unknown = _labels(xml_dir / file, objects, builder.classes, difficult)
        builder.add(line, files.get(image, f'{img_dir}/{image}.jpg'), present, unknown)
    return builder.build()


def _hint(image: str) -> str:
    if image.split()[-1] in ('-1', '0', '1'):
        return '; this looks like the list of one class, which is no split'
    return '; write it without the extension' if image.lower().endswith(IMAGE_EXTENSIONS) else ''


def _image_ids(folder: Path, xml_dir: Path, split: str | None) -> tuple[Path, list[tuple[int, str]]]:
    """The list that was chosen (or the folder of XML files), and its images with their lines."""
    lists = sorted((folder / _LISTS).glob('*.txt'))
    if split is None:
        offered = _splits(lists)
        if not offered:
            files = sorted(file[:-4] for file in os.listdir(xml_dir) if file.endswith('.xml'))
            return xml_dir, list(enumerate(files, start=1))
        if len(offered) > 1:
            names = ', '.join(f"'{name}'" for name in offered)
            raise SplitError(f"{folder}: has the splits {names}; say which one with split='...'", offered)
        split = offered[0]
    chosen = folder / (split if split.endswith('.txt') else os.path.join(_LISTS, f'{split}.txt'))
    if not os.path.isfile(chosen):
        choices = [] if split.endswith('.txt') else _splits(lists)
        raise DataError(f"{chosen}: no such list, so there is no split '{split}'{did_you_mean(split, choices)}")
    lines = enumerate(read_file_text(chosen).split('\n'), start=1)
    return chosen, [(number, line.strip()) for number, line in lines if line.strip()]


def _splits(lists: Sequence[Path]) -> list[str]:
    """Names of the lists that are splits; VOC also has a list of each class and split, with a label behind each id."""
    names = [file.stem for file in lists]

    def of_a_class(file: Path) -> bool:
        if not any(file.stem.endswith(f'_{name}') for name in names):
            return False
        words = read_file_text(file).lstrip().split('\n', 1)[0].split()
        return len(words) > 1 and words[-1] in ('-1', '0', '1')

    return [file.stem for file in lists if not of_a_class(file)]


def _image_files(folder: Path, img_dir: str) -> dict[str, str]:
    """Path of each image by its name without extension; JPEG where several have the same."""
    found: dict[str, str] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        stem, extension = os.path.splitext(name)
        if extension[1:].lower() in IMAGE_EXTENSIONS and (stem not in found or extension.lower() == '.jpg'):
            found[stem] = f'{img_dir}/{name}'
    return found


def _labels(
    file: Path, objects: Iterable[_Object], classes: tuple[str, ...], difficult: str
) -> tuple[list[int], list[int]]:
    """Ids of the present and the unknown classes."""
    numbers = {name: number for number, name in enumerate(classes)}
    present: set[int] = set()
    doubtful: set[int] = set()
    for each in objects:
        if each.name not in numbers:
            near = did_you_mean(each.name, classes)
            raise DataError(f"{file}, line {each.line}: '{each.name}' is none of the {len(classes)} classes{near}")
        (doubtful if each.difficult else present).add(numbers[each.name])
    if difficult == 'positive':
        present |= doubtful
    return sorted(present), sorted(doubtful - present) if difficult == 'ignore' else []


def _read_xml(path: Path) -> list[_Object]:
    """The objects of an XML file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from error
    return _Objects(path).parse(data)


class _Objects:
    """Collects the objects while an XML file is parsed: their names and lines are all that is kept.

    Entities may make a short file huge or fetch another file (the reason why parsers are attacked with them), and no
    annotation needs one, so a file that declares any is refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.objects: list[_Object] = []
        self._open: list[str] = []
        self._fields: dict[str, str] = {}
        self._line = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.EntityDeclHandler = self._refuse

    def parse(self, data: bytes) -> list[_Object]:
        """The objects in the bytes of a file."""
        with xml_errors(self.path):
            self._parser.Parse(data, True)
        return self.objects

    def _refuse(self, name: str, *_: object) -> None:
        where = f'{self.path}, line {self._parser.CurrentLineNumber}'
        raise DataError(f"{where}: declares the entity '{name}'; annotation files with entities are not read")

    def _start(self, tag: str, _: dict[str, str]) -> None:
        if not self._open and tag != 'annotation':
            raise DataError(f'{self.path}: the outermost element of a VOC file is <annotation>, found <{tag}>')
        self._open.append(tag)
        if self._open == ['annotation', 'object']:
            self._fields, self._line = {}, self._parser.CurrentLineNumber

    def _text(self, text: str) -> None:
        # Only direct children: the parts of an object (VOC's head, hand, foot) have names too.
        if len(self._open) == 3 and self._open[1] == 'object':
            self._fields[self._open[2]] = self._fields.get(self._open[2], '') + text

    def _end(self, _: str) -> None:
        if self._open == ['annotation', 'object']:
            where = f'{self.path}, line {self._line}'
            name, difficult = (self._fields.get(key, '').strip() for key in ('name', 'difficult'))
            if not name:
                raise DataError(f'{where}: an <object> without a <name>')
            if difficult not in ('', '0', '1'):
                raise DataError(f"{where}: <difficult> of '{name}' must be 0 or 1, got '{difficult}'")
            self.objects.append(_Object(name, difficult == '1', self._line))
        self._open.pop()


def recognise(head: Head) -> str:
    """Why a folder looks like this format, or nothing."""
    if 'Annotations' in head.names and head.names & {'JPEGImages', 'ImageSets'}:
        other = 'JPEGImages' if 'JPEGImages' in head.names else 'ImageSets'
        return f"a folder with 'Annotations' and '{other}'"
    return ''
