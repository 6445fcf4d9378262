"""Splitting a data set into parts or folds, each written as a native annotation file."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlcls.apis.prepare import relocate
from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.formats import check_classes, recognise_format, write_native
from mlcls.datasets.formats.table import Table
from mlcls.datasets.splitting import (
    ALGORITHM,
    SplitQuality,
    join_groups,
    k_folds,
    measure_split,
    part_sizes,
    split_images,
)
from mlcls.errors import ConfigError, DataError
from mlcls.structures import StringList

DEFAULT_PARTS = {'train': 0.8, 'val': 0.1, 'test': 0.1}
#: Shortcomings that are shown; of more, the number.
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Grouping:
    """Which images stay together; at most one of the first three, and near-duplicates with any.

    Args:
        column: Of a CSV source: the column that names the group; an empty cell is an image for itself.
        regex: Searched in image paths: what its first group (or else all of it) matches is the name.
        file: A CSV file with a column of image paths, as the source spells them, and a column ``group``.
        duplicates: Near-identical images stay together, by perceptual hashes.
        workers: Processes that hash images.
    """

    column: str | None = None
    regex: str | None = None
    file: str | None = None
    duplicates: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ('column', 'regex', 'file') if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(f'groups come from a column, a pattern or a file, got {" and ".join(given)}')


@dataclass(frozen=True)
class SplitFlags:
    """How `split_data` works.

    Args:
        parts: Name and share of each part; shares add up to 1.
        folds: Number of folds to make instead of parts.
        grouping: Which images stay together.
        dataset: Arguments of ``MultiLabelDataset`` that say how to read the source, such as ``format``.
        seed: Of the split.
        force: Replace files that are there.
        command: The command line, kept in the files.

    Raises:
        ConfigError: The shares do not add up to 1, or a name cannot be a file's.
    """

    parts: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_PARTS))
    folds: int | None = None
    grouping: Grouping = field(default_factory=Grouping)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    force: bool = False
    command: str = ''

    def __post_init__(self) -> None:
        for name in self.parts:
            if not re.fullmatch(r'[\w-]+', name):
                raise ConfigError(f"a part's name becomes a file name: letters, digits, _ and - only, got '{name}'")
        total = sum(self.parts.values())
        if self.folds is None and not abs(total - 1) < 1e-6:
            shares = ' '.join(f'{name}={share:g}' for name, share in self.parts.items())
            raise ConfigError(f'the shares of parts must add up to 1, those of {shares} add up to {total:g}')


@dataclass(frozen=True, eq=False)
class Split:
    """What `split_data` made.

    Args:
        names: Names of the parts (or folds).
        parts: int64 (N,): the part of each image.
        classes: Class names.
        quality: Measures of the split.
        files: The files written.
        notes: Sentences about the source.
    """

    names: tuple[str, ...]
    parts: np.ndarray
    classes: tuple[str, ...]
    quality: SplitQuality
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def split_data(source: str | Path, out: str | Path, flags: SplitFlags | None = None) -> Split:
    """Split annotations and write each part as a native file, with image paths relative to its folder.

    Parts give ``<name>.json``; folds give ``fold<i>_val.json`` with the fold, ``fold<i>_train.json`` with all others.

    Args:
        source: Annotations of any known format.
        out: Folder of the files; made if missing.
        flags: How.

    Raises:
        UserError: The source cannot be used or split so, or a file is there already.
    """
    flags = flags or SplitFlags()
    dataset = _open_dataset(str(source), flags)
    groups = _groups(dataset, flags)
    if flags.folds is None:
        names, shares = tuple(flags.parts), list(flags.parts.values())
        for name, size in zip(names, part_sizes(len(dataset), shares)):
            if size == 0:
                raise DataError(
                    f"{source}: part '{name}', a share of {flags.parts[name]:g}, would have none of the "
                    f'{len(dataset)} images'
                )
        parts = split_images(dataset.labels, shares, groups, flags.seed)
        members = {name: np.flatnonzero(parts == number) for number, name in enumerate(names)}
    else:
        names, shares = tuple(f'fold{number}' for number in range(flags.folds)), [1.0] * flags.folds
        parts = k_folds(dataset.labels, flags.folds, groups, flags.seed)
        members = {f'{name}_train': np.flatnonzero(parts != number) for number, name in enumerate(names)}
        members |= {f'{name}_val': np.flatnonzero(parts == number) for number, name in enumerate(names)}
    files = {name: Path(out) / f'{name}.json' for name in members}
    _check_free(files.values(), dataset.ann_file, flags.force)
    record = _record(dataset, flags, groups)
    for name, path in files.items():
        _write_part(dataset, members[name], path, {'part': name, **record})
    quality = measure_split(dataset.labels, parts, shares, groups)
    return Split(names, parts, dataset.classes, quality, tuple(files.values()), dataset.notes)


def describe_split(split: Split) -> str:
    """What a person should know about a split: images of each class in each part, and what could not be had."""
    quality = split.quality
    totals = quality.counts.sum(0)
    title = max(len('all images'), *(len(name) for name in split.classes))
    wide = max(8, *(len(name) + 2 for name in split.names))
    rows = [('', ['all', *split.names])]
    rows += [
        (split.classes[number], [str(totals[number]), *map(str, quality.counts[:, number])])
        for number in np.argsort(totals, kind='stable').tolist()
    ]
    rows.append(('all images', [str(quality.sizes.sum()), *map(str, quality.sizes)]))
    lines = [f'{name:{title}}' + ''.join(f'{cell:>{wide}}' for cell in cells) for name, cells in rows]
    lines += [
        '',
        f'labels distribution (LD, 0 is best): {quality.labels_distribution:.2e}',
        f'shares of classes in parts differ from those in all by {quality.mean_deviation:.1%} on average',
    ]
    deviations = np.nan_to_num(quality.deviations)
    part, number = np.unravel_index(np.argmax(np.abs(deviations)), deviations.shape)
    lines.append(
        f"largest deviation: the share of '{split.classes[number]}' in '{split.names[part]}' is "
        f'{deviations[part, number]:+.1%} off its share in all'
    )
    found = quality.shortcomings(split.names, split.classes)
    lines += found[:_MOST_SHOWN] + ([f'and {len(found) - _MOST_SHOWN} more'] if len(found) > _MOST_SHOWN else [])
    if not found:
        lines.append('every class is in every part, and sizes are exact')
    return '\n'.join([*split.notes, *lines, f'wrote {", ".join(str(path) for path in split.files)}'])


def _open_dataset(source: str, flags: SplitFlags) -> MultiLabelDataset:
    arguments = {'ann_file': source, **flags.dataset}
    column = flags.grouping.column
    if column is not None:
        known = arguments.get('format', 'auto')
        if (recognise_format(source)[0] if known == 'auto' else known) != 'csv':
            raise DataError(f"{source}: is no CSV file, so it has no column '{column}'; use a group file or a pattern")
        table = Table(source, **_table_options(flags, 'path_column'))
        others = {table.images, table.splits, table.column(column)}
        names = [name for number, name in enumerate(table.header) if number not in others]
        arguments.setdefault('classes', check_classes(names, f'{source}, header'))
    dataset = MultiLabelDataset(**arguments)
    if dataset.annotations.format == 'pack':
        raise DataError(f'{source}: is a pack; split the annotations that it was made of')
    return dataset


def _groups(dataset: MultiLabelDataset, flags: SplitFlags) -> np.ndarray | None:
    """The group of each image, int64 (N,); None where every image is for itself."""
    grouping, paths = flags.grouping, list(dataset.annotations.img_paths)
    found: list[np.ndarray] = []
    if grouping.column is not None:
        table = Table(dataset.ann_file, **_table_options(flags, 'split', 'path_column'))
        found.append(_from_table(table, grouping.column, paths))
    if grouping.file is not None:
        found.append(_from_table(Table(grouping.file), 'group', paths))
    if grouping.regex is not None:
        found.append(_from_regex(grouping.regex, paths))
    if grouping.duplicates:
        from mlcls.datasets.checking.duplicates import image_hashes

        files = list(map(dataset.img_path, range(len(dataset))))
        found.append(image_hashes(files, grouping.workers).groups())
    return join_groups(*found) if found else None


def _table_options(flags: SplitFlags, *names: str) -> dict[str, Any]:
    given = {**(flags.dataset.get('format_options') or {}), **flags.dataset}
    return {name: given[name] for name in names if name in given}


def _from_table(table: Table, column: str, paths: Sequence[str]) -> np.ndarray:
    place = table.column(column)
    names: dict[str, str] = {}
    for line, img_path, cells in table.rows():
        name = cells[place].strip()
        if names.setdefault(posixpath.normpath(img_path), name) != name:
            first = names[posixpath.normpath(img_path)]
            raise DataError(f"{table.path}, line {line} (image '{img_path}'): group '{name}', but '{first}' before")
    keys = [posixpath.normpath(path) for path in paths]
    without = [path for path, key in zip(paths, keys) if key not in names]
    if without:
        raise DataError(f"{table.path}: {len(without)} of {len(paths)} images are not in it, first '{without[0]}'")
    return _numbered([names[key] for key in keys])


def _from_regex(regex: str, paths: Sequence[str]) -> np.ndarray:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise ConfigError(f"the pattern of groups '{regex}' is not a regular expression: {error}") from None
    matches = [pattern.search(path) for path in paths]
    without = [path for path, match in zip(paths, matches) if match is None]
    if without:
        raise DataError(
            f"the pattern of groups '{regex}' does not match {len(without)} of {len(paths)} image paths, "
            f"first '{without[0]}'"
        )
    return _numbered([(match[1] if pattern.groups else match[0]) or '' for match in matches if match is not None])


def _numbered(names: Sequence[str]) -> np.ndarray:
    """Numbers for names; an image without a name gets a number of its own."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(name or place, len(numbers)) for place, name in enumerate(names)])


def _check_free(files: Iterable[Path], source: str, force: bool) -> None:
    for path in files:
        if path.exists() and os.path.exists(source) and os.path.samefile(path, source):
            raise DataError(f'{path}: is the source itself; write to another folder')
        if path.exists() and not force:
            raise DataError(f'{path}: is there already; --force replaces it')


def _record(dataset: MultiLabelDataset, flags: SplitFlags, groups: np.ndarray | None) -> dict[str, Any]:
    """What it takes to make the split again."""
    grouping = {name: value for name, value in vars(flags.grouping).items() if value and name != 'workers'}
    return {
        'shares': dict(flags.parts) if flags.folds is None else None,
        'folds': flags.folds,
        'seed': flags.seed,
        'groups': None if groups is None else {**grouping, 'number': int(groups.max()) + 1},
        'source': dataset.ann_file,
        'source_sha256': _digest(dataset),
        'algorithm': ALGORITHM,
        'command': flags.command,
    }


def _digest(dataset: MultiLabelDataset) -> str:
    """SHA-256 of the source file; of a folder, of classes, image paths and labels as they were read."""
    digest = hashlib.sha256()
    if os.path.isfile(dataset.ann_file):
        with open(dataset.ann_file, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    labels = dataset.labels
    digest.update('\n'.join([*dataset.classes, *dataset.annotations.img_paths]).encode())
    for array in (labels.indptr, labels.indices, labels.values):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write_part(dataset: MultiLabelDataset, images: np.ndarray, path: Path, record: Mapping[str, Any]) -> None:
    """Write images as a native file that keeps the record in its metainfo."""
    part = dataset.annotations.select(images)
    paths = relocate(part.img_paths, Path(dataset.img_root or '.'), path.parent)
    write_native(replace(part, img_paths=StringList(paths)), path, {'split': dict(record)})
