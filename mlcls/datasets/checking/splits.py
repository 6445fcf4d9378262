"""The splits that a check looks at, read so that a defect is a finding and not the end of the check."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mlcls.datasets.arguments import locate
from mlcls.datasets.formats import FORMATS, read_annotations, recognise_format
from mlcls.datasets.multi_label import innermost
from mlcls.errors import DataError, SplitError, UserError
from mlcls.registry import DATASETS
from mlcls.structures import Annotations

from .report import Finding

_ENDINGS = ('.json', '.csv', '.tsv', '.txt', '.lst')
_SPLIT_FILE = re.compile(r'(?:^|[-_.])(train|training|trn|valid|validation|val|dev|test|testing)(?:\d{4})?(?=[-_.]|$)')
#: How readers say which splits there are.
#: Names of parts that are made of other parts.
_UNIONS = ('trainval', 'all')
#: What readers and datasets say that the check says itself, with the images.
_SAID_BY_THE_CHECK = ('without a present label', ': no image shows ')


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Args:
        name: Such as ``'train'`` or ``'val'``.
        annotations: Classes, paths and labels.
        img_root: Folder to which the paths are relative.
        missing: What the config says about missing images: ``'error'``, ``'skip'`` or ``'later'``.
        on_error: What it says about images that cannot be used: ``'raise'``, ``'skip'`` or ``'replace'``.
        packed: The images are not files of their own.
        balanced: Images of rare classes are drawn more often.
    """

    name: str
    annotations: Annotations
    img_root: str = ''
    missing: str = 'error'
    on_error: str = 'raise'
    packed: bool = False
    balanced: bool = False

    @cached_property
    def paths(self) -> list[str]:
        """Path of each image file."""
        return [path if '://' in path else os.path.join(self.img_root, path) for path in self.annotations.img_paths]

    @property
    def is_training(self) -> bool:
        """Is it to be trained on (and not to measure with)? Told by its name."""
        return is_training(self.name)

    def __len__(self) -> int:
        return len(self.annotations)


def is_training(name: str) -> bool:
    """Does the name of a split say that it is trained on?"""
    return name.lower().startswith(('train', 'trn'))


@dataclass(frozen=True)
class SplitSet:
    """Splits that could be read, and findings about those that could not.

    Args:
        splits: By position; names differ.
        findings: Errors of reading, and remarks of the readers.
    """

    splits: tuple[Split, ...]
    findings: tuple[Finding, ...]


def splits_of_datasets(configs: Mapping[str, Mapping[str, Any]]) -> SplitSet:
    """Read the splits that the datasets of a config describe.

    Args:
        configs: Split name to the config of its dataset; wrappers such as ``ClassBalancedDataset`` are looked through.
    """
    splits: list[Split] = []
    findings: list[Finding] = []
    for name, config in configs.items():
        arguments: dict[str, Any] = dict(config)
        balanced = False
        while isinstance(arguments.get('dataset'), Mapping):
            balanced |= 'oversample_thr' in arguments
            arguments = dict(arguments['dataset'])
        known = 'ann_file' in arguments
        # Built so that missing files are no error: the check looks for them itself, and finds them all.
        lenient = {**arguments, 'pipeline': (), 'missing': 'later'} if known else arguments
        try:
            dataset = DATASETS.build(lenient)
            split = split_of(name, dataset, arguments.get('missing', 'error'))
        except UserError as error:
            findings.append(Finding('error', 'split-unreadable', str(error), name, count=1))
            continue
        splits.append(replace(split, balanced=balanced))
        findings += _remarks(name, getattr(dataset, 'notes', ()))
    return SplitSet(tuple(splits), tuple(findings))


def split_of(name: str, dataset: Any, missing: str = 'error') -> Split:
    """The split that a built dataset is; its ``annotations`` are taken.

    Args:
        name: Of the split.
        dataset: A ``MultiLabelDataset`` or what wraps one.
        missing: What its config says about missing images.

    Raises:
        DataError: If it has no ``annotations``.
    """
    dataset = innermost(dataset)
    if not hasattr(dataset, 'annotations'):
        kind = type(dataset).__name__
        raise DataError(f'{name}: a {kind} has no annotations that could be checked; use MultiLabelDataset')
    on_error = getattr(dataset, 'on_error', 'raise')
    root = getattr(dataset, 'img_root', '')
    return Split(name, dataset.annotations, root, missing, on_error, dataset.annotations.format == 'pack')


def splits_of_source(
    source: str | os.PathLike[str],
    format: str = 'auto',
    split: str | None = None,
    classes: str | Sequence[str] | None = None,
    images: str = '',
    options: Mapping[str, Any] | None = None,
) -> SplitSet:
    """Read the splits of annotations of any format: a file, a folder, or a folder with a file a split.

    Args:
        source: The file or folder.
        format: See `read_annotations`.
        split: Read this split alone.
        classes: Class names, or a text file of them, for formats that name none; of a folder of text files, its
            ``classes.txt`` is taken by itself.
        images: Folder of the images; that of the annotations if empty.
        options: Further arguments of the format's reader.

    Raises:
        DataError: If no file is that of ``split``. Annotations that cannot be read are a finding.
    """
    files = _split_files(Path(source)) if Path(source).is_dir() and not _is_format(source, format) else {}
    if not files:
        return _splits_inside(source, format, split, classes, images, dict(options or {}))
    if split is not None:
        if split not in files:
            raise DataError(f"{source}: no file of a split '{split}'; there are {', '.join(files)}")
        files = {split: files[split]}
    if classes is None and (Path(source) / 'classes.txt').is_file():
        classes = str(Path(source) / 'classes.txt')
    return _read_all(
        (name, path, format, None if _has_names(path, format) else classes, images, dict(options or {}))
        for name, path in files.items()
    )


def _has_names(path: Path, format: str) -> bool:
    """Does a file name its classes? Then it must not be held to a list in another order."""
    name = recognise_format(path)[0] if format == 'auto' else format
    return name in FORMATS and FORMATS[name].has_names


def _splits_inside(
    source: str | os.PathLike[str],
    format: str,
    split: str | None,
    classes: Any,
    images: str,
    options: dict[str, Any],
) -> SplitSet:
    """The splits of one file, or of a folder that is one data set."""
    chosen = options if split is None else {**options, 'split': split}
    try:
        only = _read(split or 'data', source, format, classes, images, chosen)
        return SplitSet((only,), _remarks(only.name, only.annotations.notes))
    except SplitError as error:
        names = [name for name in error.splits if name not in _UNIONS or len(error.splits) == 1]
    except DataError as error:
        return SplitSet((), (Finding('error', 'split-unreadable', str(error), split or '', count=1),))
    names.sort(key=_order)
    return _read_all((name, source, format, classes, images, {**options, 'split': name}) for name in names)


def _read_all(arguments: Iterable[tuple[Any, ...]]) -> SplitSet:
    """Read splits, each with its arguments of `_read`; one that cannot be read is a finding."""
    splits: list[Split] = []
    findings: list[Finding] = []
    for each in arguments:
        try:
            splits.append(_read(*each))
        except DataError as error:
            findings.append(Finding('error', 'split-unreadable', str(error), each[0], count=1))
            continue
        findings += _remarks(each[0], splits[-1].annotations.notes)
    return SplitSet(tuple(splits), tuple(findings))


def _order(name: str) -> tuple[bool, bool, str]:
    return not is_training(name), name.lower().startswith('test'), name


def _is_format(source: str | os.PathLike[str], format: str) -> bool:
    """Is a folder one data set (and not a place where annotation files of several splits lie)?"""
    if format != 'auto':
        return not _split_files(Path(source))
    try:
        name, _ = recognise_format(source)
    except DataError:
        return False
    # Folders of images beside the files are no classes.
    return name != 'folders' or not _split_files(Path(source))


def _split_files(folder: Path) -> dict[str, Path]:
    """Annotation files in a folder (or in ``annotations`` in it) that are named after splits, by split."""
    found: dict[str, Path] = {}
    # COCO's folder has files of captions and key points beside the instances.
    for path in sorted(folder.iterdir(), key=lambda path: (not path.name.startswith('instances'), path.name)):
        match = _SPLIT_FILE.search(path.stem.lower())
        if not match or not path.is_file() or path.suffix.lower() not in _ENDINGS:
            continue
        if match[1] not in found:
            found[match[1]] = path
        elif not found[match[1]].name.startswith('instances'):
            found[path.name] = path
    if not found and (folder / 'annotations').is_dir():
        return _split_files(folder / 'annotations')
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _read(
    name: str, source: str | os.PathLike[str], format: str, classes: Any, images: str, options: dict[str, Any]
) -> Split:
    annotations = read_annotations(source, format, classes, **options)
    root = images or _image_root(name, Path(source), annotations)
    return Split(name, annotations, root, packed=annotations.format == 'pack')


def _image_root(name: str, source: Path, annotations: Annotations) -> str:
    """The folder of the images: that of the annotations, or the usual ones near it, such as COCO's ``../train2017``."""
    root = Path(locate(source, '', '')[1])
    first = annotations.img_paths[0]
    subset = _SPLIT_FILE.search(source.stem.lower())
    words = ('', name, subset[0].lstrip('-_.') if subset else name)
    folders = [base / word for base in (root, root.parent, root / 'images', root.parent / 'images') for word in words]
    return str(next((folder for folder in folders if (folder / first).is_file()), root))


def _remarks(split: str, notes: Sequence[str]) -> tuple[Finding, ...]:
    """What a reader mended or left out, as findings."""
    return tuple(
        Finding('note', 'reader-remark', note, split)
        for note in notes
        if not any(words in note for words in _SAID_BY_THE_CHECK)
    )
