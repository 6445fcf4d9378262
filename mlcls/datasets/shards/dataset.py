"""A data set in tar shards, for data that do not fit on one machine's disk."""

from __future__ import annotations

import io
import os
import random
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from mlcls.errors import ConfigError, DataError
from mlcls.registry import DATASETS
from mlcls.structures import Annotations

from ..arguments import Annotated
from ..formats.classes import check_classes, order_classes, read_classes
from ..randomness import keyed_generator
from ..samplers import epoch_order
from ..transforms import build_pipeline
from ..workers import note_reading
from .index import check_files, read_index
from .plan import Piece, cut, rank_range, taken, worker_range

#: A sample of a shard: image number, extension of the image (``jpg`` or ``npy``), and its bytes.
Stored = tuple[int, str, bytes]
#: In the place of a sample that is left out.
_LEFT_OUT: Stored = (-1, '', b'')


@DATASETS.register_module()
class ShardDataset(Annotated, IterableDataset):
    """Reads tar shards that ``tools/pack_data.py --shards`` has written, from a folder or a server, with webdataset.

    An epoch is a row of shards, shuffled in training, of which each rank and each of its workers reads its own stretch
    (see ``mlcls.datasets.shards.plan``); in training, each worker also draws its images at random from a buffer. Both
    orders depend on (seed, epoch, rank, worker) alone; augmentation depends on (seed, epoch, image). In evaluation
    every image comes exactly once. In training all ranks draw equally many: if the images do not divide, the last rank
    begins the epoch's row again.

    A loader takes it without a sampler: its builder calls `configure`.

    Args:
        root: Folder or URL of the shards, with their ``index.json``.
        pipeline: Configs of the transforms, as of ``MultiLabelDataset``.
        metainfo: ``dict(classes=...)``, the same as ``classes`` and stronger; other keys are kept.
        classes: Class names, or a text file with one a line: another order of the classes of the shards.
        shuffle_buffer: Images, encoded, from which each worker draws; 0 or 1 keeps the order within shards.

    Raises:
        ConfigError: If an argument has an impossible value, or webdataset is missing.
        DataError: If the index or a shard is missing, damaged or truncated, or classes differ.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        pipeline: Sequence[Any] = (),
        metainfo: Mapping[str, Any] | None = None,
        classes: str | os.PathLike[str] | Sequence[str] | None = None,
        shuffle_buffer: int = 1000,
    ) -> None:
        from mmengine.dist import get_dist_info

        _need_webdataset()
        if not isinstance(root, (str, os.PathLike)) or not str(root):
            raise ConfigError(f'ShardDataset: root must name a folder of shards, got {root!r}')
        if isinstance(shuffle_buffer, bool) or not isinstance(shuffle_buffer, int) or shuffle_buffer < 0:
            raise ConfigError(f'ShardDataset: shuffle_buffer must be a number of images, got {shuffle_buffer!r}')
        self._index = read_index(root)
        check_files(self._index)
        self.pipeline = build_pipeline(pipeline)
        self.shuffle_buffer = shuffle_buffer
        self._metainfo = dict(metainfo or {})
        classes = self._metainfo.pop('classes', classes)
        if isinstance(classes, (str, os.PathLike)):
            classes = read_classes(classes)
        elif classes is not None:
            classes = check_classes(classes, 'classes')
        #: Class names, image paths (as in the annotations that were packed) and labels of all images.
        self.annotations: Annotations = order_classes(self._index.annotations, classes, self._index.root)
        self.rank, self.world_size = get_dist_info()
        self.shuffle, self.seed, self.round_up, self.batch_size = False, 0, False, 1
        # Epoch and start, in shared memory: workers that live on from epoch to epoch see them change.
        self._place = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._starts_inside = False

    def configure(self, shuffle: bool, seed: int, round_up: bool, batch_size: int = 1) -> None:
        """Say how epochs are read; called by the builder of the loader.

        Args:
            shuffle: Shuffle shards and images (training).
            seed: At least 0, the same on all ranks.
            round_up: Give all ranks equally many images (training) instead of each image exactly once (evaluation).
            batch_size: Of the loader: workers read whole batches, so that its number of batches is known.

        Raises:
            ConfigError: If a number is out of its range.
        """
        if seed < 0:
            raise ConfigError(f'ShardDataset: seed must be at least 0, got {seed}')
        if batch_size < 1:
            raise ConfigError(f'ShardDataset: batch_size must be at least 1, got {batch_size}')
        self.shuffle, self.seed, self.round_up, self.batch_size = shuffle, int(seed), round_up, batch_size

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch that is read from now on, also in workers that are running already.

        Args:
            epoch: Its number, from 0.
            start: How many of this rank's draws the next iteration over its `ShardLoader` leaves out at its beginning,
                to resume inside an epoch. What follows equals the rest of a whole epoch with as many workers, batch for
                batch where it is a multiple of the batch size. Images that are left out are not decoded, and shards
                with no others are not opened.
        """
        self._place[0], self._place[1] = epoch, start
        self._starts_inside = start > 0

    def begin_iteration(self) -> None:
        """Called by the loader when an iteration begins: only the first after `set_epoch` starts inside the epoch."""
        if not self._starts_inside:
            self._place[1] = 0
        self._starts_inside = False

    @property
    def num_images(self) -> int:
        """Images of all shards; ``len`` is what this rank draws in an epoch."""
        return len(self.annotations)

    def __len__(self) -> int:
        start, stop = rank_range(self.num_images, self.rank, self.world_size, self.round_up)
        return stop - start

    def summary(self) -> str:
        """One line: images, shards, classes, labels per image."""
        per_image = self.labels.counts().sum() / self.num_images
        shards = len(self._index.shards)
        return (
            f'{self.num_images} images in {shards} shard{"s" * (shards > 1)}, {len(self.classes)} classes, '
            f'{per_image:.2f} labels per image'
        )

    def img_path(self, number: int) -> str:
        """What names an image in messages: its shards, its number there, and its path when they were made."""
        return f'{self._index.root}, image {number}: {self.annotations.img_paths[number]}'

    def full_init(self) -> None:
        """Nothing: everything but the images is read at construction."""

    def pieces(self, worker: int = 0, workers: int = 1) -> list[Piece]:
        """What a worker of this rank reads in the present epoch, in this order."""
        counts = [shard.images for shard in self._index.shards]
        epoch = int(self._place[0])
        order = epoch_order(len(counts), self.seed, epoch) if self.shuffle else np.arange(len(counts))
        start, stop = rank_range(self.num_images, self.rank, self.world_size, self.round_up)
        return cut(counts, order, *worker_range(start, stop, self.batch_size, worker, workers))

    def __getitem__(self, index: int) -> Any:
        """Refused.

        Raises:
            ConfigError: Always; a wrapper that chooses images by their number has been put around the shards.
        """
        raise ConfigError(
            'a ShardDataset is read in its own order, not image by image: it cannot be wrapped in another data set '
            'such as ClassBalancedDataset'
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The packed samples of this rank and worker.

        Raises:
            DataError: A shard cannot be read or is another than the index says, or an image cannot be used; the
                message names the shard.
        """
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        epoch, start = (int(value) for value in self._place)
        left_out = 0
        if start:
            worker, left_out = self._role(worker, workers, start)
        parts = self._parts(worker, workers)
        skipped: list[int] = []
        if left_out:  # which ones is known without reading them
            numbers = (number for part in parts for number in part[1])
            skipped = list(islice(self._mixed(numbers, epoch, worker), left_out))
        stored = self._mixed(self._stored(parts, frozenset(skipped)), epoch, worker)
        try:
            for item in islice(stored, len(skipped), None):
                note_reading(item[0])
                sample = self._load(item, epoch)
                note_reading()
                yield sample
        finally:
            note_reading()

    def _role(self, worker: int, workers: int, start: int) -> tuple[int, int]:
        """The worker of a whole epoch in whose place this one reads, and how many of its images are left out: torch
        begins with worker 0, but it may be another's turn.
        """
        first, last = rank_range(self.num_images, self.rank, self.world_size, self.round_up)
        stretches = [worker_range(first, last, self.batch_size, number, workers) for number in range(workers)]
        batches = [-(-(end - begin) // self.batch_size) for begin, end in stretches]
        turn, counts = taken(batches, start // self.batch_size)
        role = (turn + worker) % workers
        rest = start % self.batch_size if role == turn else 0
        return role, counts[role] * self.batch_size + rest

    def _mixed(self, items: Iterator[Any], epoch: int, worker: int) -> Iterator[Any]:
        """Items in the order in which a worker draws them; how many there are decides, not what they are."""
        if not self.shuffle or self.shuffle_buffer <= 1:
            return items
        from webdataset.filters import shuffle

        rng = random.Random(f'{self.seed} {epoch} {self.rank} {worker}')
        return shuffle(self.shuffle_buffer, initial=self.shuffle_buffer, rng=rng)(items)

    def _parts(self, worker: int, workers: int) -> list[tuple[str, range]]:
        """Paths of the shards that a worker reads, and the numbers of their images."""
        firsts = np.cumsum([0, *(shard.images for shard in self._index.shards)])
        return [
            (
                self._index.path(self._index.shards[piece.shard]),
                range(int(firsts[piece.shard]) + piece.start, int(firsts[piece.shard]) + piece.stop),
            )
            for piece in self.pieces(worker, workers)
        ]

    def _stored(self, parts: Sequence[tuple[str, range]], skipped: Collection[int]) -> Iterator[Stored]:
        for path, numbers in parts:
            images: Iterator[Stored] | None = None
            for number in numbers:
                if number in skipped:
                    yield _LEFT_OUT
                    continue
                images = images or read_images(path, numbers, skipped)
                note_reading(number)
                yield next(images)
            if images is not None:
                next(images, None)  # it closes the shard

    def _load(self, item: Stored, epoch: int) -> dict[str, Any]:
        number, extension, data = item
        path = self.annotations.img_paths[number]
        sample: dict[str, Any] = {'img_path': path, 'targets': self.labels.row(number), 'index': number}
        if extension == 'npy':
            sample['img'] = np.load(io.BytesIO(data), allow_pickle=False)
        else:
            sample['img_bytes'] = data
        try:
            return self.pipeline(sample, keyed_generator((self.seed, epoch, number)))
        except DataError as error:
            raise DataError(f'{self._index.root}, image {number}: {error}') from error


def read_images(path: str, numbers: range, skipped: Collection[int] = ()) -> Iterator[Stored]:
    """Read images of one shard.

    Args:
        path: The tar file, or its URL.
        numbers: Numbers of the images, which follow each other in the shard.
        skipped: Numbers of images to leave out.

    Raises:
        DataError: The shard cannot be read, is truncated, or holds other images.
    """
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys, tar_file_expander

    def wanted(name: str) -> bool:  # what does not look like ours is refused below
        key = name.partition('.')[0]
        if name.endswith('.json'):
            return False
        return not key.isdecimal() or (int(key) >= numbers.start and int(key) not in skipped)

    try:
        with closing(gopen(path)) as stream:
            samples = group_by_keys(tar_file_expander([{'url': path, 'stream': stream}], select_files=wanted))
            for number in numbers:
                if number not in skipped:
                    yield _stored_image(next(samples, None), number, path)
    except DataError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = error.args[0] if isinstance(error, tarfile.TarError) else error
        raise DataError(f'{path}: the shard cannot be read ({reason}); copy or make it again') from error


def _stored_image(sample: Mapping[str, Any] | None, number: int, path: str) -> Stored:
    if sample is None:
        raise DataError(f'{path}: the shard ends before image {number}; it is truncated, copy or make it again')
    extension = next((name for name in ('jpg', 'npy') if name in sample), None)
    if sample['__key__'] != f'{number:09d}' or extension is None:
        raise DataError(
            f"{path}: has '{sample['__key__']}' where image {number} should be; it belongs to another index.json"
        )
    return number, extension, sample[extension]


def _need_webdataset() -> None:
    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise ConfigError(
            "ShardDataset reads shards with the library webdataset, which is not installed: pip install 'mlcls[shards]'"
        ) from None
