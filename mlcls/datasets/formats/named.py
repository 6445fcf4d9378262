"""For formats that write the names of classes, not their ids."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from mlcls.errors import DataError, did_you_mean
from mlcls.structures import Annotations

from .builder import AnnotationsBuilder
from .classes import check_classes, sort_classes
from .files import shown


class NamedBuilder(AnnotationsBuilder):
    """Collects rows whose labels are names.

    Args:
        path: The file, for messages.
        classes: The classes there are; None: those that occur, sorted by name.
        place: What a row is called in messages, before its number.
    """

    def __init__(self, path: str | os.PathLike[str], classes: Sequence[str] | None, place: str) -> None:
        given = () if classes is None else check_classes(classes, 'classes')
        super().__init__(path, given, place)
        self._discover = classes is None
        self._repeats = 0

    def check_names(self, names: Iterable[object], row: int, img_path: str | None = None) -> list[int]:
        """Numbers of the classes named; repeats are dropped and counted.

        Raises:
            DataError: If one is no string, empty, or not among the classes given.
        """
        numbers: list[int] = []
        for name in names:
            if not isinstance(name, str) or not name.strip():
                raise DataError(f'{self.where(row, img_path)}: a label must be the name of a class, got {shown(name)}')
            name = name.strip()
            if name not in self._ids:
                if not self._discover:
                    near = did_you_mean(name, self.classes)
                    raise DataError(
                        f"{self.where(row, img_path)}: '{name}' is none of the {len(self.classes)} classes{near}"
                    )
                self._ids[name] = len(self._ids)
            numbers.append(self._ids[name])
        unique = list(dict.fromkeys(numbers))
        self._repeats += len(unique) < len(numbers)
        return unique

    def name(self, number: int) -> str:
        """The class of a number that `check_names` gave."""
        return next(name for name, known in self._ids.items() if known == number)

    def build(self) -> Annotations:
        """The annotations of all rows added.

        Raises:
            DataError: If there are no images or no classes.
        """
        self.classes = tuple(self._ids)
        if self._repeats:
            self.notes.append(f'{self.path}: {self._repeats} label lists named a class more than once; once counts')
        annotations = super().build()
        if not self._discover:
            return annotations
        if not self.classes:
            raise DataError(f'{self.path}: no image has a label, so there are no classes; give classes=[...]')
        return sort_classes(annotations, sorted(self.classes))
