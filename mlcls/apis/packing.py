"""Packing a data set: one file or tar shards of images at the size that training needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlcls.config import load_config
from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.packs import Packed, PackJob, PackSettings, verify_pack, write_pack
from mlcls.datasets.shards import ShardSize, verify_shards, write_shards
from mlcls.errors import ConfigError, DataError, did_you_mean
from mlcls.structures import StringList

PARTS = ('train', 'val', 'test')
#: Arguments of a dataset that choose or rename: not applied here, since the config that reads the pack repeats them.
_REPEATED = ('class_map', 'indices')
#: Seconds between two lines about progress.
_INTERVAL = 5.0

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class PackFlags:
    """How `pack_data` works.

    Args:
        part: Of a config: whose data to pack, ``'train'``, ``'val'`` or ``'test'``.
        dataset: Arguments of ``MultiLabelDataset`` that say how to read the annotations, such as ``split``; they are
            stronger than a config's.
        settings: How to prepare the images.
        shards: Size of tar shards to write; None writes one pack.
        workers: Processes that prepare images.
        on_error: ``'raise'``, or ``'skip'`` to leave out images that cannot be used.

    Raises:
        ConfigError: ``part`` is none of the three.
    """

    part: str = 'train'
    dataset: Mapping[str, Any] = field(default_factory=dict)
    settings: PackSettings = field(default_factory=PackSettings)
    shards: ShardSize | None = None
    workers: int = 0
    on_error: str = 'raise'

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ConfigError(f"part must be one of {', '.join(PARTS)}, got '{self.part}'")


def pack_data(
    source: str | Path, target: str | Path, flags: PackFlags | None = None, progress: Progress | None = None
) -> Packed:
    """Pack a data set, or go on where an earlier call was stopped.

    Args:
        source: Annotations of any known format, or a config file (``.py``).
        target: The pack to write or, for shards, the folder.
        flags: How.
        progress: Called with the number of images done and of all.

    Returns:
        What was written.

    Raises:
        UserError: Annotations, config, an image or the target cannot be used.
    """
    flags = flags or PackFlags()
    arguments = _dataset_arguments(Path(source), flags)
    dataset = _open_dataset(source, arguments)
    ann_file = Path(dataset.ann_file)
    # The bytes of a pack shall not depend on where its source lies.
    notes = tuple(note.replace(dataset.ann_file, ann_file.name) for note in dataset.annotations.notes)
    annotations = replace(dataset.annotations, notes=notes)
    paths = StringList(map(dataset.img_path, range(len(dataset))))
    job = PackJob(annotations, paths, flags.settings, arguments.get('split'), flags.workers, flags.on_error, progress)
    return write_pack(target, job) if flags.shards is None else write_shards(target, job, flags.shards)


def verify_packed(path: str | Path, progress: Progress | None = None) -> int:
    """Compare a pack, or a folder of shards, with its checksums; gives the number of images.

    Raises:
        DataError: Something is missing or damaged; the message names it.
    """
    return verify_shards(path, progress) if Path(path).is_dir() else verify_pack(path, progress)


def _dataset_arguments(source: Path, flags: PackFlags) -> dict[str, Any]:
    arguments = _dataset_config(source, flags.part) if source.suffix == '.py' else {'ann_file': str(source)}
    arguments = {name: value for name, value in arguments.items() if name not in _REPEATED}
    # Images that are missing are found out now; with 'skip', they are left out and listed like damaged ones.
    missing = 'error' if flags.on_error == 'raise' else 'later'
    return {**arguments, **flags.dataset, 'pipeline': (), 'missing': missing, 'on_error': 'raise'}


def _open_dataset(source: str | Path, arguments: Mapping[str, Any]) -> MultiLabelDataset:
    try:
        dataset = MultiLabelDataset(**arguments)
    except TypeError as error:
        raise ConfigError(f'{source}: the dataset cannot be built: {error}') from error
    if dataset.annotations.format == 'pack':
        raise DataError(f'{dataset.ann_file}: is a pack already; pack the annotations that it was made of')
    return dataset


def _dataset_config(source: Path, part: str) -> dict[str, Any]:
    """Arguments of the innermost dataset of a config's loader."""
    config = load_config(source)
    found = config.get(f'{part}_dataloader')
    if not found or 'dataset' not in found:
        parts = [name for name in PARTS if config.get(f'{name}_dataloader')]
        raise ConfigError(f'{source}: has no {part}_dataloader{did_you_mean("", parts)} with --part')
    while 'dataset' in found:
        found = found['dataset']
    arguments = dict(found.to_dict())
    kind = str(arguments.pop('type', ''))
    if kind.rpartition('.')[2] != 'MultiLabelDataset':
        raise ConfigError(f'{source}: the {part} data are a {kind}; only a MultiLabelDataset can be packed')
    return arguments


class ProgressLines:
    """Prints how far it is, every few seconds."""

    def __init__(self) -> None:
        self._begun = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """Called with the number of images done and of all."""
        now = time.monotonic()
        if self._first is None or done < self._first:  # a new pass
            self._begun, self._first = now, done
        if now - self._last >= _INTERVAL:
            rate = (done - self._first) / max(now - self._begun, 1e-9)
            print(f'  {done:,} of {total:,} images ({rate:,.0f} images/s)', flush=True)
            self._last = now


def describe(target: str | Path, packed: Packed) -> str:
    """What a person should know about what was written, in lines."""
    before = packed.images + len(packed.left_out) - packed.made
    how = '' if not before else f', {before:,} of them from before' if packed.made else ' (already there)'
    lines = [f'{target}: {packed.images:,} images, {packed.size / 2**20:,.1f} MiB{how}']
    if packed.left_out:
        count = len(packed.left_out)
        lines.append(f'left out {count} image{"s" * (count > 1)} that cannot be used:')
        lines += [f'  {path}: {reason}' for path, reason in packed.left_out]
    return '\n'.join(lines)
