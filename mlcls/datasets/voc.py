"""Pascal VOC, with the arguments of mmpretrain's dataset of this name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mlcls.errors import ConfigError
from mlcls.registry import DATASETS

from .arguments import Paths, find_file
from .multi_label import MultiLabelDataset

#: The 20 classes of VOC 2007 to 2012.
VOC_CLASSES = (
    'aeroplane',
    'bicycle',
    'bird',
    'boat',
    'bottle',
    'bus',
    'car',
    'cat',
    'chair',
    'cow',
    'diningtable',
    'dog',
    'horse',
    'motorbike',
    'person',
    'pottedplant',
    'sheep',
    'sofa',
    'train',
    'tvmonitor',
)


@DATASETS.register_module()
class VOC(MultiLabelDataset):
    """A folder in VOC's layout, see ``mlcls.datasets.formats.voc``.

    Two things differ from mmpretrain: a class that an image shows only in difficult objects is unknown by default (in
    training, mmpretrain takes it as absent: ``difficult='negative'``), and an object of a class that is not among the
    classes is an error, not left out.

    Args:
        data_root: The folder that contains ``Annotations``, ``ImageSets`` and ``JPEGImages``.
        split: A list in ``ImageSets/Main``, such as ``'train'``.
        image_set_path: Path of a list relative to ``data_root``, stronger than ``split``.
        data_prefix: Folders of the images and the XML files, relative to ``data_root``, as ``dict(img_path=...,
            ann_path=...)``, or that of the images alone; ``'JPEGImages'`` and ``'Annotations'`` where left out.
        metainfo: ``dict(classes=...)``; other keys are kept.
        classes: Class names if ``metainfo`` has none; the 20 of VOC by default.
        difficult: ``'ignore'``, ``'positive'`` or ``'negative'``, see ``read_voc``.
        **others: Arguments of `MultiLabelDataset`, such as ``pipeline``.

    Raises:
        ConfigError: If an argument has an impossible value.
        DataError: If the folder cannot be used, or images are missing.
    """

    def __init__(
        self,
        data_root: Paths,
        split: str | None = 'trainval',
        image_set_path: str = '',
        data_prefix: Paths | Mapping[str, str] = '',
        metainfo: Mapping[str, Any] | None = None,
        classes: Paths | Sequence[str] | None = None,
        difficult: str = 'ignore',
        **others: Any,
    ) -> None:
        if not isinstance(data_root, (str, os.PathLike)) or not str(data_root):
            raise ConfigError(f"VOC: data_root must be the folder of 'Annotations', got {data_root!r}")
        img_dir, ann_dir = _folders(data_prefix)
        if image_set_path and not image_set_path.endswith('.txt'):
            raise ConfigError(f'VOC: image_set_path must be the path of a list (.txt), got {image_set_path!r}')
        super().__init__(
            ann_file=os.path.expanduser(data_root),
            metainfo=metainfo,
            data_root='',
            data_prefix='',
            classes=VOC_CLASSES if classes is None else find_file(classes, data_root),
            format='voc',
            split=image_set_path or split,
            format_options={'img_dir': img_dir, 'ann_dir': ann_dir, 'difficult': difficult},
            **others,
        )


def _folders(data_prefix: Paths | Mapping[str, str]) -> tuple[str, str]:
    """Folders of images and XML files."""
    if not isinstance(data_prefix, Mapping):
        data_prefix = {'img_path': os.fspath(data_prefix)} if data_prefix else {}
    folders = {'img_path': 'JPEGImages', 'ann_path': 'Annotations', **data_prefix}
    if len(folders) > 2 or not all(isinstance(folder, str) and folder for folder in folders.values()):
        raise ConfigError(
            f"VOC: data_prefix must be dict(img_path='JPEGImages', ann_path='Annotations') or the like, got "
            f'{dict(data_prefix)!r}'
        )
    img_dir, ann_dir = (os.path.expanduser(folders[key]).rstrip('/') for key in ('img_path', 'ann_path'))
    return img_dir, ann_dir
