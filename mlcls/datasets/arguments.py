"""Arguments of datasets: those that are checked, resolved or only accepted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mlcls.errors import ConfigError
from mlcls.structures import Annotations, LabelMatrix

from .fingerprint import fingerprint

Paths = str | os.PathLike[str]


class AcceptedArguments(Dataset[dict[str, Any] | None]):
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


class Annotated:
    """What datasets with annotations have in common."""

    annotations: Annotations
    _metainfo: dict[str, Any]

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
        return self.annotations.notes

    @property
    def image_names(self) -> Sequence[str]:
        """Name of each image, as written in the annotations; row i of an evaluation is image i."""
        return self.annotations.img_paths

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over classes, image names and labels, see `mlcls.datasets.fingerprint`."""
        return fingerprint(self.annotations, getattr(self, 'img_root', ''))


def locate(ann_file: Paths, data_root: Paths, data_prefix: Paths | Mapping[str, str]) -> tuple[str, str]:
    """Paths of the annotation file (or folder) and of the folder of the images, from a dataset's arguments.

    Raises:
        ConfigError: If ``ann_file`` or ``data_prefix`` cannot be used.
    """
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
    if not prefix and os.path.isdir(ann_path):
        img_root = ann_path
    elif not img_root:
        img_root = os.path.dirname(ann_path)
    return ann_path, img_root


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value of an argument that is none of the choices.

    Raises:
        ConfigError: It is none of them.
    """
    if value not in choices:
        known = ', '.join(f"'{choice}'" for choice in choices)
        raise ConfigError(f'MultiLabelDataset: {name} must be one of {known}, got {value!r}')


def find_file(given: Any, data_root: Paths) -> Any:
    """Where a file (of class names, say) is: as it is given, or below ``data_root``; what is no path stays as it is."""
    if not isinstance(given, (str, os.PathLike)):
        return given
    path = os.path.expanduser(given)
    below = os.path.join(os.path.expanduser(data_root or ''), path)
    return below if os.path.exists(below) else path


def chosen(indices: int | Sequence[int], length: int) -> np.ndarray:
    """Image numbers that ``indices`` names; a number means the first, if negative the last, so many (as mmengine)."""
    if isinstance(indices, bool):
        raise ConfigError(f'MultiLabelDataset: indices must be a number or a list of numbers, got {indices}')
    if isinstance(indices, Integral):
        indices = int(indices)
        chosen = np.arange(length)[indices:] if indices < 0 else np.arange(length)[:indices]
    else:
        chosen = np.asarray(indices, np.int64)
        if chosen.size and (chosen.min() < -length or chosen.max() >= length):
            raise ConfigError(f'MultiLabelDataset: indices must lie in 0 to {length - 1}, got {int(chosen.max())}')
        chosen = chosen % length
    if not chosen.size:
        raise ConfigError(f'MultiLabelDataset: indices={indices!r} leaves no images')
    return chosen
