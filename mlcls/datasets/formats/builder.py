"""From the rows of an annotation file to `Annotations`.

What a label list may contain, and what happens to one that is not right, is decided here for every format.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from mlcls.errors import DataError
from mlcls.structures import PRESENT, UNKNOWN, Annotations, LabelMatrix

from .files import shown
from .path_index import PathIndex


class AnnotationsBuilder:
    """Collects the rows of one annotation file, checking each.

    Args:
        path: The file, for messages.
        classes: Class names, checked.
        place: What a row is called in messages, before its number: ``'line'`` or ``'data_list entry'``.
    """

    def __init__(self, path: str | os.PathLike[str], classes: tuple[str, ...], place: str) -> None:
        self.path, self.classes, self.place = str(path), classes, place
        self.notes: list[str] = []
        self._ids = {name: number for number, name in enumerate(classes)}
        # Arrays throughout: as objects, millions of images would take gigabytes.
        self._img_paths = PathIndex()
        self._rows = array('q')  # where each image stands in the file
        self._indptr, self._indices = array('q', [0]), array('i')
        self._values: array[int] | None = None  # made when the first label comes that is not PRESENT
        self._repeated_ids = self._repeated_images = self._empty_images = 0
        self._widths: set[int] = set()  # lengths of lists of 0 and 1 with repeats; -1 for any other list

    def where(self, row: int, img_path: str | None = None) -> str:
        """The beginning of a message about a row."""
        image = '' if img_path is None else f" (image '{img_path}')"
        return f'{self.path}, {self.place} {row}{image}'

    def check_ids(self, ids: object, row: int, img_path: str, what: str = 'gt_label') -> list[int]:
        """Check a list of class ids: whole numbers from 0 to C - 1; repeats are dropped and counted.

        Raises:
            DataError: If it is not that; the message says what to write.
        """
        last = len(self.classes) - 1
        if type(ids) is list and self._is_plain(ids, last):
            self._widths.add(-1)
            return ids.copy()
        where = self.where(row, img_path)
        if not isinstance(ids, list):
            raise DataError(f'{where}: {what} must be a list of class ids such as [0, 3], got {shown(ids)}')
        if self._is_multi_hot(ids):
            present = [number for number, value in enumerate(ids) if value == 1]
            raise DataError(f'{where}: {what} looks multi-hot ({shown(ids)}); write the ids of its classes, {present}')
        for value in ids:
            if isinstance(value, bool) or not isinstance(value, int):
                raise DataError(f'{where}: {what} contains {self._explain(value)}')
            if not 0 <= value <= last:
                raise DataError(
                    f'{where}: class id {value} of {what} is out of range; {len(self.classes)} classes '
                    f'have the ids 0 to {last}{self._counted_from_one(ids, value)}'
                )
        unique = list(dict.fromkeys(ids))
        repeats = len(unique) < len(ids)
        self._repeated_ids += repeats
        self._widths.add(len(ids) if repeats and max(ids) <= 1 else -1)
        return unique

    @staticmethod
    def _is_plain(ids: list[int], last: int) -> bool:
        """Nothing to object to, as nearly all lists: told by few and fast calls."""
        if not ids:
            return True
        if set(map(type, ids)) != {int}:
            return False
        return min(ids) >= 0 and max(ids) <= last and len(set(ids)) == len(ids)

    def _is_multi_hot(self, ids: list[object]) -> bool:
        """One entry a class, all 1, 0 or -1, with a repeat, which no list of ids of that length can have."""
        return (
            len(ids) == len(self.classes) >= 2
            and all(isinstance(value, (int, float)) for value in ids)
            and set(ids) <= {-1, 0, 1}
            and len(set(ids)) < len(ids)
        )

    def _counted_from_one(self, ids: list[int], value: int) -> str:
        if value != len(self.classes) or 0 in ids or 0 in self._indices:
            return ''
        return f' (no id 0 came before it; do the ids run from 1 to {value}? then subtract 1)'

    def _explain(self, value: object) -> str:
        if isinstance(value, str) and value in self._ids:
            return f"the class name '{value}'; write its id, {self._ids[value]}"
        if isinstance(value, str):
            number = value.strip()
            return f'the string {value!r}; write a whole number' + (f', {int(number)}' if number.isdecimal() else '')
        if isinstance(value, float) and value.is_integer():
            return f'the fraction {value}; write the whole number {int(value)}'
        return f'{shown(value)}; class ids are whole numbers'

    def add(self, row: int, img_path: object, present: Sequence[int], unknown: Sequence[int] = ()) -> None:
        """Add one image with the (checked) ids of its present and unknown classes."""
        if not isinstance(img_path, str) or not img_path.strip():
            raise DataError(f'{self.where(row)}: the image path must be a string, got {shown(img_path)}')
        if '\0' in img_path:
            raise DataError(f'{self.where(row)}: the image path contains a NUL character, {shown(img_path)}')
        if unknown and not set(unknown).isdisjoint(present):
            both = min(set(unknown) & set(present))
            raise DataError(
                f"{self.where(row, img_path)}: class id {both} ('{self.classes[both]}') is both present and unknown"
            )
        earlier = self._img_paths.add(img_path)
        if earlier is not None:
            self._add_again(row, img_path, earlier, present, unknown)
            return
        self._rows.append(row)
        if unknown and self._values is None:
            self._values = array('b', [PRESENT]) * len(self._indices)
        self._indices.extend(present)
        self._indices.extend(unknown)
        if self._values is not None:
            self._values.extend([PRESENT] * len(present) + [UNKNOWN] * len(unknown))
        self._indptr.append(len(self._indices))
        self._empty_images += not present

    def _add_again(self, row: int, img_path: str, earlier: int, present: Iterable[int], unknown: Iterable[int]) -> None:
        part = slice(self._indptr[earlier], self._indptr[earlier + 1])
        before = dict.fromkeys(self._indices[part], PRESENT)
        if self._values is not None:
            before = dict(zip(self._indices[part], self._values[part]))
        if before != {**dict.fromkeys(present, PRESENT), **dict.fromkeys(unknown, UNKNOWN)}:
            raise DataError(
                f'{self.where(row, img_path)}: the image is also in {self.place} {self._rows[earlier]}, '
                'with other labels; keep one of them, or write all its labels in one'
            )
        self._repeated_images += 1

    def build(self) -> Annotations:
        """The annotations of all rows added.

        Its arrays are those of the builder, which takes no more rows.

        Raises:
            DataError: If there are none, or if all label lists look multi-hot for another number of classes.
        """
        if not self._rows:
            raise DataError(f'{self.path}: lists no images')
        width = max(self._widths, default=-1)
        if width > 2 and len(self._rows) > 1 and self._widths == {width}:
            raise DataError(
                f'{self.path}: every label list has {width} entries of 0 or 1, which looks multi-hot for '
                f'{width} classes, but there are {len(self.classes)} classes; write class ids'
            )
        notes = list(self.notes)
        if self._repeated_ids:
            images = _count(self._repeated_ids, 'image')
            notes.append(f'{self.path}: {images} listed a class more than once; once counts')
        if self._repeated_images:
            rows = _count(self._repeated_images, 'row')
            notes.append(f'{self.path}: dropped {rows} that repeated an image with the same labels')
        if self._empty_images:
            images = _count(self._empty_images, 'image')
            notes.append(f'{self.path}: {images} of {len(self._rows)} without a present label')
        return Annotations(self.classes, self._img_paths.strings(), self._labels(), tuple(notes))

    def _labels(self) -> LabelMatrix:
        indices = np.frombuffer(self._indices, np.int32)
        if self._values is None:
            values = LabelMatrix.alike(PRESENT, len(indices))
        else:
            values = np.frombuffer(self._values, np.int8)
        return LabelMatrix(np.frombuffer(self._indptr, np.int64), indices, values, len(self.classes))


def _count(number: int, what: str) -> str:
    return f'{number} {what}' if number == 1 else f'{number} {what}s'
