"""Whole batches, in this process and through workers that use their memory again."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mlcls.datasets import MultiLabelDataset, collate_batch, shared_slots
from mlcls.datasets.batching import make_batch
from mlcls.errors import ConfigError, DataError
from mlcls.models.preprocessor import ClsDataPreprocessor
from mlcls.structures import SampleIndex

SIZE = 40, 50


def pixels(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (*size, 3), dtype=np.uint8)


def packed(index: int, out: np.ndarray | None = None, size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """As `PackInputs` packs."""
    image, targets = pixels(index, size), np.array([index % 2, 0, -1], np.int8)
    if out is not None and out.shape == image.shape:
        out[...] = image
        return {'inputs': out, 'targets': targets, 'index': index}
    inputs = torch.from_numpy(image).permute(2, 0, 1)
    return {'inputs': inputs, 'targets': torch.from_numpy(targets), 'index': index}


class Images(Dataset):
    """Images made of their number.

    Args:
        skipped: Numbers that are left out.
        killer: Number whose worker is killed.
    """

    def __init__(self, length: int = 96, skipped: Sequence[int] = (), killer: int = -1) -> None:
        self.length, self.skipped, self.killer = length, skipped, killer

    def __len__(self) -> int:
        return self.length

    def load(self, index: int, out: np.ndarray | None) -> dict[str, Any] | None:
        if index == self.killer:
            os.kill(os.getpid(), signal.SIGKILL)
        return None if index in self.skipped else packed(index, out)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        return make_batch(self.load, indices)


def loader(dataset: Dataset, batch_size: int = 4, workers: int = 1, **options: Any) -> DataLoader:
    if workers:
        options.setdefault('multiprocessing_context', 'fork')
    return DataLoader(dataset, batch_size, num_workers=workers, collate_fn=collate_batch, **options)


def check(batch: dict[str, torch.Tensor], indices: Sequence[int]) -> None:
    assert type(batch) is dict and list(batch) == ['inputs', 'targets', 'index']
    assert batch['index'].tolist() == list(indices) and batch['index'].dtype == torch.int64
    assert batch['targets'].tolist() == [[index % 2, 0, -1] for index in indices]
    assert batch['targets'].dtype == torch.int8
    inputs = batch['inputs']
    assert inputs.shape == (len(indices), 3, *SIZE) and inputs.dtype == torch.uint8
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([pixels(index) for index in indices]).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(inputs.numpy(), expected)


# In one process


def test_batch():
    check(make_batch(packed, [5, 3, 8]), [5, 3, 8])


def test_places():
    given = []

    def load(index, out):
        given.append(out)
        return packed(index, out)

    batch = make_batch(load, [5, 3, 8])
    assert given[0] is None and all(out.shape == (*SIZE, 3) and out.dtype == np.uint8 for out in given[1:])
    for row, out in ((1, given[1]), (2, given[2])):
        assert np.shares_memory(batch['inputs'][row].numpy(), out)


@pytest.mark.parametrize('skipped', [{5}, {3}, {8}, {5, 3}, {5, 8}, {3, 8}])
def test_images_that_are_left_out(skipped):
    batch = make_batch(lambda index, out: None if index in skipped else packed(index, out), [5, 3, 8])
    check(batch, [index for index in (5, 3, 8) if index not in skipped])


def test_no_image_at_all():
    assert make_batch(lambda index, out: None, [5, 3]) is None
    assert make_batch(packed, []) is None
    assert collate_batch(None) is None


def test_pixels_that_lie_elsewhere_are_copied():
    check(make_batch(lambda index, out: packed(index), [5, 3, 8]), [5, 3, 8])
    check(make_batch(lambda index, out: packed(index, copy.deepcopy(out)), [5, 3, 8]), [5, 3, 8])
    planar = lambda index, out: {**packed(index), 'inputs': packed(index)['inputs'].contiguous()}  # noqa: E731
    check(make_batch(planar, [5, 3, 8]), [5, 3, 8])


def test_a_batch_is_left_alone():
    batch = make_batch(packed, [1, 2])
    assert collate_batch(batch) is batch


def test_images_of_different_size():
    def load(index, out):
        return packed(index, out, (40, 50 + (index == 8)))

    with pytest.raises(
        DataError,
        match=r'the images of a batch differ in size .50x40, 51x40.; add Resize, or ResizeEdge and CenterCrop, to',
    ):
        make_batch(load, [5, 3, 8])


def test_soft_targets_make_the_batch_float():
    def load(index, out):
        soft = {'targets': np.array([0.25, 1, -1])} if index == 3 else {}
        return {**packed(index, out), **soft}

    batch = make_batch(load, [5, 3])
    assert batch['targets'].dtype == torch.float32 and batch['targets'].tolist() == [[1, 0, -1], [0.25, 1, -1]]


@pytest.mark.parametrize('broken', [{'img_path': 'a.jpg', 'targets': None}, 5, {'inputs': torch.zeros(1)}])
def test_samples_that_are_not_packed(broken):
    with pytest.raises(ConfigError, match='the pipeline must end with PackInputs'):
        make_batch(lambda index, out: broken, [0])


def test_other_inputs_are_stacked():
    def load(index, out):
        asked.append(index)
        if index == 9:
            return None
        return {'inputs': torch.full((5, 2), float(index)), 'targets': torch.zeros(3), 'index': index}

    asked: list[int] = []
    batch = make_batch(load, [9, 4, 9, 7])
    assert batch['inputs'].dtype == torch.float32 and batch['inputs'][:, 0, 0].tolist() == [4, 7]
    assert asked == [9, 4, 9, 7]


# Through workers


@pytest.mark.parametrize('workers', [0, 1, 2])
@pytest.mark.parametrize('batch_size', [1, 4, 7])
def test_through_workers(workers, batch_size):
    parts = torch.arange(96).split(batch_size)
    for batch, indices in zip(loader(Images(), batch_size, workers), parts, strict=True):
        check(batch, indices.tolist())


@pytest.mark.parametrize('context', ['spawn', 'forkserver'])
def test_however_workers_are_started(context):
    batches = loader(Images(24), workers=1, multiprocessing_context=context)
    for batch, indices in zip(batches, torch.arange(24).split(4), strict=True):
        check(batch, indices.tolist())


def test_left_out_in_workers():
    skipped = [0, 5, 6, 7, 20, 21, 22, 23, 95]
    for batch, indices in zip(loader(Images(skipped=skipped), workers=2), torch.arange(96).split(4), strict=True):
        left = [index for index in indices.tolist() if index not in skipped]
        if left:
            check(batch, left)
        else:
            assert batch is None


def test_memory_is_used_again():
    seen = set()
    for batch in loader(Images(400), workers=1):
        seen.add(batch['inputs'].data_ptr())
        assert batch['inputs'].data_ptr() % 64 == 0
    assert len(seen) <= 4  # of 100 batches: two that wait, one in the making, one in use


@pytest.mark.parametrize('workers', [1, 2])
def test_all_batches_may_be_kept(workers):
    """Far more than there are slots."""
    batches = list(loader(Images(), 2, workers))
    assert len({batch['inputs'].data_ptr() for batch in batches}) == 48 > workers * shared_slots.MAX_SLOTS
    for batch, indices in zip(batches, torch.arange(96).split(2), strict=True):
        check(batch, indices.tolist())


KEEP: dict[str, Callable[[torch.Tensor], Any]] = {
    'tensor': lambda inputs: inputs,
    'one image': lambda inputs: inputs[1],
    'flat view': lambda inputs: inputs.permute(0, 2, 3, 1).flatten(),
    'array': lambda inputs: inputs.numpy(),
    'view of an array': lambda inputs: inputs.numpy()[1:, ::2],
    'detached': lambda inputs: inputs.detach(),
    'storage': lambda inputs: inputs.untyped_storage(),
}


def content(kept: Any) -> bytes:
    if isinstance(kept, torch.UntypedStorage):
        kept = torch.empty(0, dtype=torch.uint8).set_(kept)
    return np.asarray(kept).tobytes()


@pytest.mark.parametrize('keep', KEEP)
def test_whatever_is_kept_of_a_batch_stays(keep):
    kept, choose = [], random.Random(0)
    for batch in loader(Images(200), 2, workers=2):
        part = KEEP[keep](batch['inputs'])
        if choose.random() < 0.3:
            kept.append((part, content(part)))
        if len(kept) > 5:
            kept.pop(choose.randrange(6))
        assert all(content(part) == expected for part, expected in kept)
        del batch, part


def test_kept_over_the_end_of_the_loader():
    kept = [batch for number, batch in enumerate(loader(Images(), workers=2)) if number in (3, 8, 9)]
    for _ in range(3):
        for _batch in loader(Images(), workers=2):
            pass
    for batch, number in zip(kept, (3, 8, 9)):
        check(batch, range(4 * number, 4 * number + 4))


def test_workers_that_go_on_in_the_next_epoch():
    batches = loader(Images(), workers=2, persistent_workers=True)
    seen = set()
    for epoch in range(4):
        for number, (batch, indices) in enumerate(zip(batches, torch.arange(96).split(4))):
            check(batch, indices.tolist())
            seen.add(batch['inputs'].data_ptr())
            if epoch == 2 and number == 10:
                break  # what was made in advance is dropped
    assert len(seen) <= 2 * shared_slots.MAX_SLOTS


def test_finished_workers_leave_no_memory_behind():
    for _ in range(4):
        list(loader(Images(16), workers=2))
        gc.collect()
    before = len(shared_slots._mapped)
    for _ in range(4):
        list(loader(Images(16), workers=2))
        gc.collect()
    assert len(shared_slots._mapped) <= before + 2 * shared_slots.MAX_SLOTS
    next(iter(loader(Images(16), workers=1)))
    assert len(shared_slots._mapped) <= shared_slots.MAX_SLOTS * 3


def test_loaders_that_are_left_early_leave_no_memory_behind():
    held = []
    for _ in range(8):
        for number, batch in enumerate(loader(Images(96), workers=2)):
            if number == 6:
                held.append((batch, number))
                break
        gc.collect()
    next(iter(loader(Images(16), workers=1)))
    # Slots of workers that are gone are let go of, but for the last loader's; batches in use are whole all the same.
    assert len(shared_slots._mapped) <= shared_slots.MAX_SLOTS * 3
    for batch, number in held:
        check(batch, range(4 * number, 4 * number + 4))


def lose_a_worker() -> None:
    """Read on until a worker is killed; then look at the batches that came before."""
    kept: list[Any] = []
    try:
        try:
            for batch in loader(Images(killer=60), workers=1):
                kept.append(batch)
        except (OSError, EOFError):  # it was handing a batch over; what follows comes when torch learns of its end
            time.sleep(60)
    except RuntimeError as error:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # through which torch raises again, anywhere
        assert 'DataLoader worker' in str(error), error
        assert 8 <= len(kept) <= 15
        for number, batch in enumerate(kept):
            check(batch, range(4 * number, 4 * number + 4))
        print('whole')
    sys.stdout.flush()
    os._exit(0)


def test_a_killed_worker_takes_nothing_with_it():
    command = [sys.executable, '-c', f'from {__name__} import lose_a_worker; lose_a_worker()']
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2], timeout=300)
    assert done.stdout == 'whole\n', done.stderr


def test_a_process_forked_meanwhile_does_not_free_the_memory():
    batches = iter(loader(Images(200), workers=1))
    held = next(batches)
    child = os.fork()
    if not child:
        del held
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    for _batch in batches:
        check(held, range(4))


def test_an_error_in_a_worker_arrives(tmp_path):
    class Broken(Images):
        def load(self, index, out):
            if index == 50:
                raise DataError('a.jpg: it is broken')
            return packed(index, out)

    with pytest.raises(DataError, match=r'a\.jpg: it is broken'):
        list(loader(Broken(), workers=1))


# Slots, as a worker has them


@pytest.fixture
def worker(monkeypatch):
    """This process takes itself for a worker."""
    monkeypatch.setattr(shared_slots, 'get_worker_info', lambda: object())
    monkeypatch.setattr(shared_slots, '_worker', None)
    monkeypatch.setattr(shared_slots, '_mapped', {})
    return lambda: [int(slot.memory[shared_slots.BUSY]) for slot in shared_slots._worker.slots]


def test_a_batch_that_is_never_sent_frees_its_slot(worker):
    batch = make_batch(packed, [1, 2])
    assert worker() == [1]
    del batch
    assert worker() == [0]

    def fails(index, out):
        if index == 2:
            raise DataError('broken')
        return packed(index, out)

    with pytest.raises(DataError):
        make_batch(fails, [1, 2])
    gc.collect()
    assert worker() == [0]


def test_a_sent_batch_is_the_receivers(worker):
    batch = make_batch(packed, [1, 2])
    received_by, arguments = batch.__reduce__()
    received = received_by(*arguments)
    del batch
    assert worker() == [1]
    check(received, [1, 2])
    del received, arguments
    assert worker() == [0]


def test_no_free_slot(worker):
    batches = [make_batch(packed, [number]) for number in range(shared_slots.MAX_SLOTS + 3)]
    assert worker() == [1] * shared_slots.MAX_SLOTS
    assert [type(batch) is dict for batch in batches] == [False] * shared_slots.MAX_SLOTS + [True] * 3
    for number, batch in enumerate(batches):
        np.testing.assert_array_equal(batch['inputs'][0].permute(1, 2, 0).numpy(), pixels(number))


def test_larger_batches_get_larger_slots(worker):
    for size in ((8, 8), (40, 50), (8, 8), (60, 70), (90, 90)):
        held = [make_batch(lambda index, out, size=size: packed(index, out, size), [n]) for n in range(10)]
        for number, batch in enumerate(held):
            np.testing.assert_array_equal(batch['inputs'][0].permute(1, 2, 0).numpy(), pixels(number, size))
        del held, batch
    assert len(worker()) <= shared_slots.MAX_SLOTS and not any(worker())


@pytest.mark.parametrize('duplicate', [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch)), dict])
def test_copies_of_a_batch_in_the_worker(worker, duplicate):
    """Nothing is overwritten while a copy is there, whatever becomes of the slot."""
    batch = make_batch(packed, [1, 2])
    twin = duplicate(batch)
    others = [make_batch(packed, [number, number]) for number in range(3, 20)]
    check(dict(batch), [1, 2])
    check(dict(twin), [1, 2])
    second = duplicate(batch)
    del second, others
    others = [make_batch(packed, [number, number]) for number in range(3, 20)]
    check(dict(batch), [1, 2])
    del batch, others
    others = [make_batch(packed, [number, number]) for number in range(3, 20)]
    check(dict(twin), [1, 2])
    assert len(others) == 17


def test_a_batch_that_is_sent_twice(worker):
    batch = make_batch(packed, [1, 2])
    first, second = batch.__reduce__(), batch.__reduce__()
    one, other = first[0](*first[1]), second[0](*second[1])
    del batch, first
    check(one, [1, 2])
    check(other, [1, 2])


# A whole data set


@pytest.fixture
def photographs(tmp_path) -> MultiLabelDataset:
    """A data set of JPEGs of several sizes, some of which are decoded at half their size."""
    listed = []
    for number in range(24):
        image = pixels(number, (90 + 9 * number, 200 - 3 * number))
        Image.fromarray(cv2.blur(image, (9, 9))).save(tmp_path / f'{number}.jpg')
        listed.append({'img_path': f'{number}.jpg', 'gt_label': [number % 3]})
    content = {'metainfo': {'classes': ['a', 'b', 'c']}, 'data_list': listed}
    (tmp_path / 'train.json').write_text(json.dumps(content))
    steps = ['LoadImageFromFile', 'RandomResizedCrop', 'mmcv.RandomFlip', 'RandomFlip', 'ColorJitter', 'PackInputs']
    arguments = {
        'RandomResizedCrop': {'scale': 32},
        'mmcv.RandomFlip': {'prob': 0.5, 'direction': 'vertical'},
        'RandomFlip': {'prob': 0.5},
        'ColorJitter': {'brightness': 0.5},
    }
    pipeline = [{'type': step, **arguments.get(step, {})} for step in steps]
    return MultiLabelDataset(str(tmp_path / 'train.json'), pipeline=pipeline)


@pytest.mark.parametrize('workers', [0, 1, 2])
def test_batches_are_made_of_the_samples(photographs, workers):
    """Whether an image is made alone, or in its place in a batch, here or in a worker."""
    draws = [SampleIndex(number % 24, (7, 1, number)) for number in range(60)]
    batches = loader(photographs, 7, workers, sampler=draws)
    for start, batch in zip(range(0, 60, 7), batches, strict=True):
        samples = [photographs[draw] for draw in draws[start : start + 7]]
        assert torch.equal(batch['inputs'], torch.stack([sample['inputs'] for sample in samples]))
        assert torch.equal(batch['targets'], torch.stack([sample['targets'] for sample in samples]))
        assert batch['index'].tolist() == [sample['index'] for sample in samples]


def test_the_same_in_the_preprocessor_and_the_network(photographs):
    """Images that are channels-last in memory are the same numbers as others."""
    batch = photographs.__getitems__(range(4))
    planar = {**batch, 'inputs': batch['inputs'].contiguous()}
    preprocessor = ClsDataPreprocessor(mean=[120, 110, 100], std=[60, 60, 60], to_rgb=True, pad_size_divisor=5)
    found, expected = preprocessor(batch)['inputs'], preprocessor(planar)['inputs']
    assert torch.equal(found, expected)
    network = torch.nn.Conv2d(3, 4, 3)
    torch.testing.assert_close(network(found), network(expected))
