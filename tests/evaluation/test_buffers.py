"""Rows in memory and in a temporary file."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.errors import DataError
from mlcls.evaluation import buffers
from mlcls.evaluation.buffers import Limits, RowBuffer, empty_rows

IN_FILE = Limits(torch.float32, 0)


def mapped_files(folder: Path) -> list[str]:
    """Files in a folder that this process has mapped."""
    return [line for line in Path('/proc/self/maps').read_text().splitlines() if str(folder) in line]


linux = pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='reads /proc')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    return tmp_path


@given(
    batches=st.lists(st.integers(0, 7), min_size=1, max_size=12),
    capacity=st.integers(0, 30),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    memory=st.sampled_from([0.0, 200.0, 1e9]),
)
@settings(max_examples=60)
def test_what_goes_in_comes_out(batches: list[int], capacity: int, dtype: torch.dtype, memory: float) -> None:
    buffer = RowBuffer(capacity, Limits(dtype, memory))
    torch.manual_seed(0)
    scores, targets = torch.rand(sum(batches), 3), torch.randint(-1, 2, (sum(batches), 3))
    for part in torch.arange(sum(batches)).split(batches):
        buffer.append(scores[part], targets[part], part)
    found = buffer.rows()
    assert len(buffer) == sum(batches)
    assert torch.equal(found[0], scores.to(dtype)) and found[0].dtype == dtype
    assert torch.equal(found[1], targets.to(torch.int8)) and found[1].dtype == torch.int8
    assert found[2].tolist() == list(range(sum(batches)))


@linux
def test_past_the_limit_rows_lie_in_a_file_without_a_name(folder: Path) -> None:
    limits = Limits(torch.float32, 5 * 100 * 8)
    inside = empty_rows(100, 8, limits)
    assert mapped_files(folder) == []
    outside = empty_rows(101, 8, limits)
    assert len(mapped_files(folder)) == 1 and '(deleted)' in mapped_files(folder)[0]
    assert list(folder.iterdir()) == []
    assert [tensor.shape for tensor in (*inside, *outside)] == [(100, 8), (100, 8), (101, 8), (101, 8)]
    half = empty_rows(101, 8, Limits(torch.float16, limits.memory))
    assert len(mapped_files(folder)) == 1 and half[0].dtype == torch.float16
    rows = outside[0][3:5]
    rows.fill_(0.5)
    del outside
    gc.collect()
    assert rows.tolist() == [[0.5] * 8] * 2, 'a view keeps the file'
    del rows
    gc.collect()
    assert mapped_files(folder) == [], 'and the last one lets it go'


def test_scores_and_targets_do_not_overlap(folder: Path) -> None:
    for dtype in (torch.float16, torch.float32):
        scores, targets = empty_rows(7, 3, Limits(dtype, 0))
        scores.fill_(0.25)
        targets.fill_(-1)
        assert scores.eq(0.25).all() and targets.eq(-1).all()


def test_growing_moves_into_a_file_and_keeps_the_rows(folder: Path) -> None:
    buffer = RowBuffer(0, Limits(torch.float32, 16 * 5 * 4))
    for image in range(40):
        buffer.append(torch.full((1, 4), image / 64), torch.ones(1, 4), torch.tensor([image]))
    scores, targets, index = buffer.rows()
    assert scores[:, 0].mul(64).tolist() == index.tolist() == list(range(40)) and targets.eq(1).all()
    assert list(folder.iterdir()) == []


@linux
def test_nothing_stays_behind_when_the_process_is_killed(tmp_path: Path) -> None:
    program = (
        'import torch, os, signal\n'
        'from mlcls.evaluation.buffers import *\n'
        'rows = empty_rows(1000, 100, Limits(torch.float32, 0))\n'
        'rows[0].fill_(1)\n'
        'os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    environment = {**os.environ, 'TMPDIR': str(tmp_path), 'PYTHONPATH': os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, '-c', program], env=environment, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


# --- messages ---------------------------------------------------------------------------------------------------------


def test_no_room_on_the_disk(folder: Path) -> None:
    """A limit on the size of files stands for a full disk; the space is asked for before anything is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(DataError, match='no room for a temporary file of 4.66 GiB .File too large.') as raised:
            empty_rows(1_000_000, 1000, Limits(torch.float32, 2**30))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    words = str(raised.value)
    assert words.startswith(f'{folder}: ') and 'memory_limit=1 (GiB)' in words
    assert 'TMPDIR' in words and "score_dtype='float16'" in words
    assert list(folder.iterdir()) == []


def test_disk_full_without_fallocate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, 'posix_fallocate')
    scores, _ = empty_rows(1000, 500, IN_FILE)
    assert scores.eq(0).all(), 'the file was written'
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, before[1]))
    try:
        with pytest.raises(DataError, match='no room for a temporary file'):
            empty_rows(1000, 500, IN_FILE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, 'tempdir', '/nowhere/at/all')
    with pytest.raises(DataError, match='/nowhere/at/all: no room for a temporary file .* .No such file or directory.'):
        empty_rows(10, 10, IN_FILE)


def test_disk_full_while_appending(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(buffers.os, 'posix_fallocate', full)
    with pytest.raises(DataError, match='No space left on device'):
        RowBuffer(10, IN_FILE).append(torch.rand(2, 3), torch.ones(2, 3), torch.arange(2))


@pytest.mark.parametrize('dtype', [torch.float32, torch.int64, torch.float16])
def test_soft_labels_are_refused_in_a_file_too(folder: Path, dtype: torch.dtype) -> None:
    wrong = torch.tensor([[1, 257 if dtype == torch.int64 else 0.7]], dtype=dtype)
    with pytest.raises(DataError, match='a label must be 1 .present., 0 .absent. or -1'):
        RowBuffer(10, IN_FILE).append(torch.rand(1, 2), wrong, torch.arange(1))
