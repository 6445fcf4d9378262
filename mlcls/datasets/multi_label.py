"""The dataset: annotations plus a pipeline."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mlcls.errors import ConfigError, DataError
from mlcls.registry import DATASETS
from mlcls.structures import UNKNOWN, Annotations, LabelMatrix, SampleIndex

from .formats import read_annotations
from .image_files import find_missing
from .transforms import build_pipeline

Paths = str | os.PathLike[str]


class AcceptedArguments(Dataset[dict[str, Any]]):
    """Arguments of mmpretrain's datasets that have no meaning here: accepted with values that change nothing.

    Args:
        test_mode: Either; failing images are errors in both modes.
        serialize_data: Either; annotations are arrays, which workers share.
        lazy_init: Only False.
        filter_cfg: Only None or empty.
        max_refetch: Only the default (or 0): a failing image is never replaced by another.
    """

    def __init__(
        self,
        *,
        test_mode: bool = False,
        serialize_data: bool = True,
        lazy_init: bool = False,
        filter_cfg: Mapping[str, Any] | None = None,
        max_refetch: int = 1000,
    ) -> None:
        for name, value, fine in (
            ('lazy_init', lazy_init, not lazy_init),
            ('filter_cfg', filter_cfg, not filter_cfg),
            ('max_refetch', max_refetch, max_refetch in (0, 1000)),
        ):
            if not fine:
                raise ConfigError(f'{type(self).__name__}: {name}={value!r} is not supported; leave it out')


@DATASETS.register_module()
class MultiLabelDataset(AcceptedArguments):
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
        format: ``'native'``, ``'text'``, ``'csv'`` or ``'auto'``, see ``mlcls.datasets.formats``.
        split: Of a CSV file with a ``split`` column: the rows to take.
        path_column: Of a CSV file: the column of image paths, if its name is unusual.
        missing: ``'error'`` or ``'skip'``: what to do about images whose file does not exist.
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
        missing: str = 'error',
        indices: int | Sequence[int] | None = None,
        **mmpretrain: Any,
    ) -> None:
        super().__init__(**mmpretrain)
        if missing not in ('error', 'skip'):
            raise ConfigError(f"MultiLabelDataset: missing must be 'error' or 'skip', got {missing!r}")
        self.ann_file, self.img_root = _locate(ann_file, data_root, data_prefix)
        self.pipeline = build_pipeline(pipeline)
        self._metainfo = dict(metainfo or {})
        for key in ('CLASSES', 'classes'):  # as in mmpretrain, metainfo wins over classes
            classes = self._metainfo.pop(key, classes)
        options = {'split': split, 'path_column': path_column}
        annotations = read_annotations(
            self.ann_file,
            format,
            _find_class_file(classes, data_root),
            **{name: value for name, value in options.items() if value is not None},
        )
        if indices is not None:
            annotations = annotations.select(_chosen(indices, len(annotations)))
        self._notes: list[str] = []
        #: Class names, image paths (as in the file) and labels.
        self.annotations = self._check_files(annotations, missing)
        self._note_classes_without_images()

    def _check_files(self, annotations: Annotations, missing: str) -> Annotations:
        absent = find_missing([self._path(path) for path in annotations.img_paths])
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

    def _path(self, img_path: str) -> str:
        return img_path if '://' in img_path else os.path.join(self.img_root, img_path)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; their order is that of the targets."""
        return self.annotations.classes

    @property
    def metainfo(self) -> dict[str, Any]:
        """``dict(classes=...)``, and what else the config's ``metainfo`` said."""
        return {**self._metainfo, 'classes': self.classes}

    @property
    def labels(self) -> LabelMatrix:
        """Labels of all images, (N, C)."""
        return self.annotations.labels

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the data that should be shown once."""
        return (*self.annotations.notes, *self._notes)

    def __len__(self) -> int:
        return len(self.annotations)

    def get_cat_ids(self, index: int) -> list[int]:
        """Ids of the classes present in an image."""
        return self.labels.present(range(len(self))[index]).tolist()

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Path (``img_path``), ids of present (``gt_label``) and unknown classes (``gt_unknown``) of an image."""
        index = range(len(self))[index]
        return {
            'img_path': self._path(self.annotations.img_paths[index]),
            'gt_label': self.get_cat_ids(index),
            'gt_unknown': np.flatnonzero(self.labels.row(index) == UNKNOWN).tolist(),
            'sample_idx': index,
        }

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Run the pipeline on one image.

        Args:
            index: Its position. A ``SampleIndex`` also names the draw, from which the random generator is seeded; for a
                plain number it is always the same, (0, 0, index).

        Raises:
            DataError: If the image cannot be used; the message names its path and what is wrong.
        """
        number = range(len(self))[index]
        key = index.key if isinstance(index, SampleIndex) and index.key else (0, 0, number)
        path = self._path(self.annotations.img_paths[number])
        sample = {'img_path': path, 'targets': self.labels.row(number), 'index': number}
        try:
            return self.pipeline(sample, np.random.default_rng(key))
        except DataError as error:
            if path in str(error):
                raise
            raise DataError(f'{path}: {error}') from error

    def full_init(self) -> None:
        """Nothing: everything is read at construction. Kept for code written for mmengine's datasets."""

    def summary(self) -> str:
        """One line: images, classes, labels per image, and the rarest class."""
        counts = self.labels.counts()
        rarest = int(np.argmin(counts))
        unknown = self.labels.counts(UNKNOWN).sum() / np.prod(self.labels.shape)
        return (
            f'{len(self)} images, {len(self.classes)} classes, {counts.sum() / len(self):.2f} labels per image, '
            f"rarest class '{self.classes[rarest]}' ({counts[rarest]} images)"
            + (f', {unknown:.1%} of the labels unknown' if unknown else '')
        )


def _locate(ann_file: Paths, data_root: Paths, data_prefix: Paths | Mapping[str, str]) -> tuple[str, str]:
    """Paths of the annotation file and of the folder of the images."""
    if not isinstance(ann_file, (str, os.PathLike)) or not str(ann_file):
        raise ConfigError(f'MultiLabelDataset: ann_file must name an annotation file, got {ann_file!r}')
    if isinstance(data_prefix, Mapping):
        if set(data_prefix) - {'img_path'}:
            raise ConfigError(
                f"MultiLabelDataset: data_prefix may only have the key 'img_path', got {list(data_prefix)}"
            )
        data_prefix = data_prefix.get('img_path', '')
    root, prefix = (os.path.expanduser(folder or '') for folder in (data_root, data_prefix))
    ann_path = os.path.join(root, os.path.expanduser(ann_file))
    img_root = prefix if '://' in prefix else os.path.join(root, prefix)
    return ann_path, img_root or os.path.dirname(ann_path)


def _find_class_file(classes: Paths | Sequence[str] | None, data_root: Paths) -> Paths | Sequence[str] | None:
    """Where a file of class names is: as it is given, or below ``data_root``."""
    if not isinstance(classes, (str, os.PathLike)):
        return classes
    path = os.path.expanduser(classes)
    below = os.path.join(os.path.expanduser(data_root or ''), path)
    return below if os.path.exists(below) else path


def _chosen(indices: int | Sequence[int], length: int) -> np.ndarray:
    """Image numbers that ``indices`` names; a number means the first, if negative the last, so many (as mmengine)."""
    if isinstance(indices, int):
        chosen = np.arange(length)[indices:] if indices < 0 else np.arange(length)[:indices]
    else:
        chosen = np.asarray(indices, np.int64)
        if chosen.size and (chosen.min() < -length or chosen.max() >= length):
            raise ConfigError(f'MultiLabelDataset: indices must lie in 0 to {length - 1}, got {int(chosen.max())}')
        chosen = chosen % length
    if not chosen.size:
        raise ConfigError(f'MultiLabelDataset: indices={indices!r} leaves no images')
    return chosen
