"""How large a batch fits, and how large is large enough."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from mlcls.apis import finding_batch_size
from mlcls.apis.finding_batch_size import (
    BatchSizeFlags,
    BatchSizes,
    Measured,
    _group_memory,
    _meminfo,
    advice,
    available_memory,
    find_batch_size,
    is_out_of_memory,
    peak_memory,
    repeat_batch,
    resident_memory,
    search,
    smallest_within,
)
from mlcls.errors import ConfigError, TrainingError
from mlcls.models import ImageClassifier


def machine(limit: int, half: float = 16.0) -> Any:
    """A pretended device: ``limit`` images fit, and half of its full speed is reached with a batch of ``half``."""
    tried: list[int] = []

    def measure(size: int) -> Measured | None:
        tried.append(size)
        return None if size > limit else Measured(size, 1000 * size / (size + half), size)

    measure.tried = tried  # type: ignore[attr-defined]
    return measure


@pytest.mark.parametrize('limit', [1, 2, 3, 5, 7, 8, 31, 32, 33, 100, 383, 384, 511, 1000])
def test_the_largest_that_fits(limit: int) -> None:
    measure = machine(limit)
    found = search(measure, 1, 4096, 0.02)
    grain = 8 if limit >= 40 else max(1, limit // 4)
    assert found.largest <= limit < found.largest + 2 * grain and found.too_large > limit
    assert found.largest % 8 == 0 or limit < 64
    assert len(measure.tried) == len(set(measure.tried)) < 24
    assert [each.size for each in found.measured] == sorted(each.size for each in found.measured)
    assert found.why_stopped == f'{found.too_large} does not fit'


def test_all_fit() -> None:
    found = search(machine(10**6), 2, 100, 0.02)
    assert [each.size for each in found.measured] == [2, 4, 8, 16, 32, 64, 100]
    assert found.too_large is None and found.largest == 100 and '100 is the largest that is tried' in found.why_stopped


def test_none_fits() -> None:
    with pytest.raises(TrainingError, match='batch of 2 does not fit into memory; take smaller images.*with_cp=True'):
        search(machine(1), 2, 100, 0.02)


def test_a_cpu_stops_where_larger_is_no_faster() -> None:
    found = search(machine(10**6, half=1.0), 1, 512, 0.05, patient=False)
    assert found.largest < 512 and found.why_stopped == 'larger ones were no faster'
    slow = search(machine(10**6, half=1000.0), 1, 512, 0.05, patient=False)
    assert slow.largest == 512


def test_smallest_within_a_share_of_the_best() -> None:
    sizes = [Measured(size, rate, None) for size, rate in ((1, 50.0), (2, 97.9), (4, 98.0), (8, 100.0), (16, 99.0))]
    assert smallest_within(sizes, 0.02) == 4
    assert smallest_within(sizes, 0.05) == 2
    assert smallest_within(sizes, 0.0) == 8


def test_a_batch_is_repeated() -> None:
    inputs = torch.arange(3 * 2 * 4 * 4, dtype=torch.uint8).view(3, 2, 4, 4).to(memory_format=torch.channels_last)
    batch: Any = {'inputs': inputs, 'targets': torch.eye(3), 'index': torch.tensor([7, 8, 9]), 'note': 'kept'}
    made = repeat_batch(batch, 7)
    assert made['index'].tolist() == [7, 8, 9, 7, 8, 9, 7] and made['note'] == 'kept'
    assert torch.equal(made['inputs'][3], inputs[0]) and made['inputs'].is_contiguous(memory_format=torch.channels_last)
    assert repeat_batch(batch, 2)['targets'].tolist() == [[1, 0, 0], [0, 1, 0]]


def test_errors_that_mean_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError('CUDA out of memory.')) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert is_out_of_memory(RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED'))
    assert not is_out_of_memory(RuntimeError('shapes cannot be multiplied'))
    with pytest.raises(RuntimeError) as caught:  # what the CPU's allocator says today
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_memory_of_the_system(tmp_path: Path) -> None:
    (tmp_path / 'meminfo').write_text('MemTotal:  99 kB\nMemFree: 5 kB\nMemAvailable:   2048 kB\n')
    assert _meminfo(str(tmp_path / 'meminfo')) == 2 * 2**20
    assert _meminfo(str(tmp_path / 'none')) is None
    for limit, expected in (('max', None), ('1000', 300), ('600', 0)):
        (tmp_path / 'memory.max').write_text(f'{limit}\n')
        (tmp_path / 'memory.current').write_text('700\n')
        assert _group_memory(str(tmp_path)) == expected
    assert _group_memory(str(tmp_path / 'none')) is None


def test_memory_of_this_process() -> None:
    now, peak = resident_memory(), peak_memory()
    assert now is not None and peak is not None and 2**25 < now <= peak * 1.01 and peak < 2**40
    held = torch.ones(64 * 2**20, dtype=torch.uint8)
    assert resident_memory() - now > 32 * 2**20  # pages that are in use
    del held
    assert available_memory(torch.device('cpu')) > 0


def test_what_to_set() -> None:
    found = BatchSizes([Measured(64, 100.0, None)], None, 64, '')
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(lr=0.01))))
    assert advice(found, cfg, 16)[0] == 'set: train_dataloader.batch_size=64 optim_wrapper.optimizer.lr=0.04'
    cfg.optim_wrapper.accumulative_counts = 4
    assert advice(found, cfg, 16)[0].endswith('optimizer.lr=0.16')
    assert advice(found, cfg, None)[0] == 'set: train_dataloader.batch_size=64'
    assert 'auto_scale_lr=dict(base_batch_size=N)' in advice(found, cfg, None)[1]


@pytest.mark.parametrize(
    'arguments, words',
    [
        (dict(max_size=0), '--max must be at least 1, got 0'),
        (dict(target_memory=0.0), '--target-memory must be above 0 and at most 1, got 0'),
        (dict(target_memory=1.5), 'at most 1, got 1.5'),
    ],
)
def test_flags(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BatchSizeFlags(**arguments)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A model for which batches above 11 images are out of memory."""
    tried: list[int] = []
    step = ImageClassifier.train_step

    def train_step(self: Any, batch: Any, optim_wrapper: Any) -> Any:
        tried.append(len(batch['index']))
        if len(batch['index']) > 11:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 9 GiB')
        return step(self, batch, optim_wrapper)

    monkeypatch.setattr(ImageClassifier, 'train_step', train_step)
    # Memory and speed of the machine must play no part here.
    monkeypatch.setattr(finding_batch_size, 'available_memory', lambda device: None)
    monkeypatch.setattr(finding_batch_size, '_levelled', lambda measured, within: False)
    return tried


def test_out_of_memory(limited: list[int], tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = find_batch_size(tiny_config)
    assert found.largest in (10, 11) and found.too_large == 12
    assert limited.count(16) == 1 and limited.count(8) == 5
    said = capsys.readouterr().out
    assert 'largest that was tried and fits: 10 (12 does not fit)' in said and 'memory is not measured' in said
    lr = 0.05 * found.recommended / 8
    assert f'set: train_dataloader.batch_size={found.recommended} optim_wrapper.optimizer.lr={lr:.4g}' in said
    assert not (tiny_config.parent / 'run').exists()


def test_other_errors_are_not_taken_for_it(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_step(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError('something else')

    monkeypatch.setattr(ImageClassifier, 'train_step', train_step)
    with pytest.raises(RuntimeError, match='something else'):
        find_batch_size(tiny_config, BatchSizeFlags(4))


def test_never_more_than_there_are_images(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding_batch_size, '_levelled', lambda measured, within: False)
    found = find_batch_size(tiny_config, BatchSizeFlags(1000), {'optim_wrapper.accumulative_counts': 2})
    assert found.largest == 48 and found.measured[0].size == 2
    assert all(each.rate > 0 and each.memory is not None for each in found.measured)


def test_a_cpu_is_not_driven_out_of_memory(
    tiny_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system would end the process: what would be too much is foreseen."""
    tried: list[int] = []
    step = ImageClassifier.train_step

    def train_step(self: Any, batch: Any, optim_wrapper: Any) -> Any:
        tried.append(len(batch['index']))
        return step(self, batch, optim_wrapper)

    monkeypatch.setattr(ImageClassifier, 'train_step', train_step)
    monkeypatch.setattr(finding_batch_size, '_levelled', lambda measured, within: False)
    monkeypatch.setattr(finding_batch_size, 'available_memory', lambda device: 2**30)
    monkeypatch.setattr(finding_batch_size, 'resident_memory', lambda: 2**30)
    monkeypatch.setattr(finding_batch_size, 'peak_memory', lambda: 2**30 + tried[-1] * 2**30 // 16)
    found = find_batch_size(tiny_config, BatchSizeFlags(target_memory=0.5))
    assert max(tried) == 8 == found.largest and found.too_large is not None
    said = capsys.readouterr().out
    assert 'memory: 50% of 1.0 GiB may be used' in said and re.search(r'^ +8 .* 512 MiB$', said, re.MULTILINE)


@pytest.mark.gpu
def test_on_a_gpu(tiny_config: Path) -> None:
    found = find_batch_size(tiny_config, BatchSizeFlags(48, 0.5))
    assert found.largest == 48 and all(each.memory for each in found.measured)
