"""The dataset: annotations plus a pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlcls.errors import DataError
from mlcls.registry import DATASETS
from mlcls.structures import UNKNOWN, Annotations, Batch, SampleIndex

from .arguments import AcceptedArguments, Annotated, Paths, check_choice, chosen, find_file, locate
from .bad_images import BadImages
from .batching import make_batch
from .formats import read_annotations
from .image_files import find_missing
from .randomness import keyed_generator
from .transforms import build_pipeline
from .workers import note_reading

MISSING = ('error', 'skip', 'later')
ON_ERROR = ('raise', 'skip', 'replace')
#: Images tried in the place of one that cannot be used.
_MAX_REPLACEMENTS = 20


@DATASETS.register_module()
class MultiLabelDataset(Annotated, AcceptedArguments):
    """Images with any number of labels each, from an annotation file.

    Arguments that mmpretrain's dataset of this name has mean the same. At construction all are checked, the annotation
    file is read, and the image files are looked for; afterwards only images are read.

    Args:
        ann_file: Annotation file, relative to ``data_root``.
        metainfo: ``dict(classes=...)``, the same as ``classes`` and stronger; other keys are kept.
        data_root: Folder to which ``ann_file`` and ``data_prefix`` are relative.
        data_prefix: Folder of the images, or ``dict(img_path=...)``. If it and ``data_root`` are empty, image paths are
            relative to the annotation file's folder. Absolute image paths stay as they are.
        pipeline: Configs of the transforms, see ``mlcls.datasets.transforms``.
        classes: Class names, or a text file with one a line. They must be those of the annotation file; in another
            order, labels are put in this order. Of a CSV file, the columns to take.
        format: A name from ``mlcls.datasets.formats.FORMATS``, or ``'auto'`` to recognise it.
        split: Of a format that holds several parts: the part to take.
        path_column: Of a CSV file: the column of image paths, if its name is unusual.
        format_options: Further arguments of the format's reader, such as ``dict(difficult='positive')``.
        class_map: New names of classes, or a YAML or JSON file of them: several old names to one merge, None drops.
        missing: What to do about images whose file does not exist: ``'error'``, ``'skip'`` (leave them out), or
            ``'later'``: do not look for the files; ``on_error`` says what happens when one is drawn.
        on_error: What to do when an image that is drawn cannot be used: ``'raise'``; ``'skip'``, which shortens its
            batch; or ``'replace'``, which takes another image, drawn by the same key (training only). What is skipped
            or replaced is counted and listed in ``bad_images``.
        indices: Use only the first (if negative the last) so many images, or those whose numbers are listed.
        **mmpretrain: See `AcceptedArguments`.

    Raises:
        ConfigError: If an argument has an impossible value.
        DataError: If the annotation file cannot be used, classes differ, or images are missing.
    """

    # More arguments than elsewhere: they are what a person writes in a config, most of them mmpretrain's.
    def __init__(
        self,
        ann_file: Paths,
        metainfo: Mapping[str, Any] | None = None,
        data_root: Paths = '',
        data_prefix: Paths | Mapping[str, str] = '',
        pipeline: Sequence[Any] = (),
        classes: Paths | Sequence[str] | None = None,
        format: str = 'auto',
        *,
        split: str | None = None,
        path_column: str | None = None,
        format_options: Mapping[str, Any] | None = None,
        class_map: Paths | Mapping[str, str | None] | None = None,
        missing: str = 'error',
        on_error: str = 'raise',
        indices: int | Sequence[int] | None = None,
        **mmpretrain: Any,
    ) -> None:
        super().__init__(**mmpretrain)
        check_choice('missing', missing, MISSING)
        check_choice('on_error', on_error, ON_ERROR)
        self.on_error = on_error
        #: Where images that cannot be used are listed; a run sets a file.
        self.bad_images = BadImages()
        self.ann_file, self.img_root = locate(ann_file, data_root, data_prefix)
        self.pipeline = build_pipeline(pipeline)
        self._metainfo = dict(metainfo or {})
        for key in ('CLASSES', 'classes'):  # as in mmpretrain, metainfo wins over classes
            classes = self._metainfo.pop(key, classes)
        named = {'split': split, 'path_column': path_column, 'class_map': find_file(class_map, data_root)}
        options = {**(format_options or {}), **{name: value for name, value in named.items() if value is not None}}
        annotations = read_annotations(self.ann_file, format, find_file(classes, data_root), **options)
        self._pack = _open_pack(self.ann_file) if annotations.format == 'pack' else None
        self._pack_numbers: np.ndarray | None = None
        if indices is not None:
            self._pack_numbers = chosen(indices, len(annotations))
            annotations = annotations.select(self._pack_numbers)
        self._notes: list[str] = []
        #: Class names, image paths (as in the file) and labels.
        self.annotations = annotations if self._pack or missing == 'later' else self._check_files(annotations, missing)
        self._note_classes_without_images()

    def _check_files(self, annotations: Annotations, missing: str) -> Annotations:
        absent = find_missing(annotations.img_paths, self.img_root)
        if not len(absent.images):
            return annotations
        count = f'{len(absent.images)} of {len(annotations)} images'
        every = len(absent.images) == len(annotations)
        if missing == 'error' or every:
            advice = '' if every else "; missing='skip' leaves missing images out"
            raise DataError(
                f"{self.ann_file}: {count} do not exist: {absent.describe()}; looked in '{self.img_root}' "
                f'(see data_root and data_prefix){advice}'
            )
        self._notes.append(f'{self.ann_file}: {count} do not exist and were left out: {absent.describe()}')
        return annotations.select(np.setdiff1d(np.arange(len(annotations)), absent.images))

    def _note_classes_without_images(self) -> None:
        names = [f"'{name}'" for name, count in zip(self.classes, self.labels.counts()) if count == 0]
        if names:
            shown = ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')
            self._notes.append(f'{self.ann_file}: no image shows {shown}')

    def img_path(self, index: int) -> str:
        """Where the file of an image is."""
        path = self.annotations.img_paths[index]
        return path if '://' in path else os.path.join(self.img_root, path)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the data that should be shown once."""
        return (*super().notes, *self._notes)

    def __len__(self) -> int:
        return len(self.annotations)

    def get_cat_ids(self, index: int) -> list[int]:
        """Ids of the classes present in an image."""
        return self.labels.present(range(len(self))[index]).tolist()

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Path (``img_path``), ids of present (``gt_label``) and unknown classes (``gt_unknown``) of an image."""
        index = range(len(self))[index]
        return {
            'img_path': self.img_path(index),
            'gt_label': self.get_cat_ids(index),
            'gt_unknown': np.flatnonzero(self.labels.row(index) == UNKNOWN).tolist(),
            'sample_idx': index,
        }

    def __getitem__(self, index: int) -> dict[str, Any] | None:
        """Run the pipeline on one image; `load` without a place for the pixels."""
        return self.load(index)

    def __getitems__(self, indices: Sequence[int]) -> Batch | None:
        """A whole batch, its pixels written where the main process will read them."""
        return make_batch(self.load, indices)

    def load(self, index: int, out: np.ndarray | None = None) -> dict[str, Any] | None:
        """Run the pipeline on one image.

        Args:
            index: Its position. A ``SampleIndex`` also names the draw, from which the random generator is seeded; for a
                plain number it is always the same, (0, 0, index).
            out: uint8 (H, W, 3): where the pixels should go, if they have this size.

        Returns:
            The packed sample; None if the image cannot be used and ``on_error='skip'``.

        Raises:
            DataError: If the image cannot be used; the message names its path and what is wrong.
        """
        number = range(len(self))[index]
        key = index.key if isinstance(index, SampleIndex) and index.key else (0, 0, number)
        try:
            return self._load(number, keyed_generator(key), out)
        except DataError as error:
            if self.on_error == 'raise':
                raise
            entry: dict[str, Any] = {'img_path': self.img_path(number), 'reason': str(error)}
            entry |= {'epoch': key[1], 'position': key[-1]}
            if self.on_error == 'skip':
                self.bad_images.record({**entry, 'action': 'skipped'})
                return None
            return self._replace(entry, keyed_generator((*key, 1)), out)

    def _load(self, number: int, rng: np.random.Generator, out: np.ndarray | None) -> dict[str, Any]:
        path = self.img_path(number)
        sample: dict[str, Any] = {'img_path': path, 'targets': self.labels.row(number), 'index': number}
        if out is not None:
            sample['out'] = out
        note_reading(number)
        try:
            if self._pack is not None:
                stored = self._pack.image(number if self._pack_numbers is None else int(self._pack_numbers[number]))
                sample['img' if isinstance(stored, np.ndarray) else 'img_bytes'] = stored
            return self.pipeline(sample, rng)
        except DataError as error:
            if path in str(error):
                raise
            raise DataError(f'{path}: {error}') from error
        finally:
            note_reading()

    def _replace(self, entry: dict[str, Any], rng: np.random.Generator, out: np.ndarray | None) -> dict[str, Any]:
        for _ in range(_MAX_REPLACEMENTS):
            number = int(rng.integers(len(self)))
            try:
                sample = self._load(number, rng, out)
            except DataError:
                continue
            other = self.img_path(number)
            self.bad_images.record({**entry, 'action': 'replaced', 'replaced_by': other})
            return sample
        raise DataError(
            f'{entry["reason"]}; {_MAX_REPLACEMENTS} images drawn in its place cannot be used either, so the data or '
            'the pipeline are at fault'
        )

    def full_init(self) -> None:
        """Nothing: everything is read at construction. Kept for code written for mmengine's datasets."""

    def summary(self) -> str:
        """One line: images, classes, labels per image, the rarest class, and the format if it was recognised."""
        counts = self.labels.counts()
        rarest = int(np.argmin(counts))
        unknown = self.labels.counts(UNKNOWN).sum() / np.prod(self.labels.shape)
        return (
            f'{len(self)} images, {len(self.classes)} classes, {counts.sum() / len(self):.2f} labels per image, '
            f"rarest class '{self.classes[rarest]}' ({counts[rarest]} images)"
            + (f', {unknown:.1%} of the labels unknown' if unknown else '')
            + (f'; read as {self.annotations.source}' if ':' in self.annotations.source else '')
        )


def innermost(dataset: Any) -> Any:
    """The dataset inside of all wrappers."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    return dataset


def _open_pack(path: str) -> Any:
    from .packs import PackReader

    return PackReader(path)
