"""Packing is killed, again and again; the same call goes on, and the result is that of a call that was left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlcls.datasets.packs import PackSettings, verify_pack, write_pack
from mlcls.datasets.shards import ShardSize, verify_shards, write_shards

from ..conftest import encode
from .conftest import SHORT_SIDE, make_job, noise


def in_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Run in a forked process, killing it after so many seconds; gives its exit code, negative if it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(image: int) -> Callable[[int, int], None]:
    """Progress that ends its own process, as SIGKILL does: nothing is flushed or cleaned up."""

    def progress(done: int, total: int) -> None:
        if done == image:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize('raw', [False, True])
@pytest.mark.parametrize('workers', [0, 2])
def test_a_pack_survives_kills_at_many_images(photos: Path, tmp_path: Path, raw: bool, workers: int) -> None:
    (photos.parent / 'more/é3.jpg').write_bytes(b'')
    settings = PackSettings(SHORT_SIDE, raw)
    write_pack(tmp_path / 'whole.pack', make_job(photos, settings=settings, on_error='skip'))
    path, sizes = tmp_path / 'a.pack', []
    for image in (1, 9, 10, 17, 29):
        job = make_job(photos, settings=settings, on_error='skip', workers=workers, progress=kill_at(image))
        assert in_child(lambda job=job: write_pack(path, job)) == -signal.SIGKILL
        assert not path.exists()
        sizes.append((tmp_path / 'a.pack.part').stat().st_size)
    assert sizes == sorted(sizes)
    packed = write_pack(path, make_job(photos, settings=settings, on_error='skip'))
    assert packed.made < 30
    assert path.read_bytes() == (tmp_path / 'whole.pack').read_bytes()
    assert not (tmp_path / 'a.pack.part').exists()


def is_running(process: str) -> bool:
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='needs /proc')
def test_workers_end_with_a_process_that_was_killed(photos: Path, tmp_path: Path) -> None:
    """Pictures larger than a pipe holds: the workers are sending some when nobody is left to take them."""
    for name in ('large.jpg', *(f'more/é{number}.jpg' for number in range(20))):
        (photos.parent / name).write_bytes(encode(noise(300, 300, 0), 'JPEG'))

    def progress(done: int, total: int) -> None:
        if done == 3:
            time.sleep(0.5)  # until they are stuck
            pids = ' '.join(str(worker.pid) for worker in multiprocessing.active_children())
            (tmp_path / 'workers').write_text(pids)
            os.kill(os.getpid(), signal.SIGKILL)

    job = make_job(photos, settings=PackSettings(0, raw=True), workers=2, progress=progress)
    assert in_child(lambda: write_pack(tmp_path / 'a.pack', job)) == -signal.SIGKILL
    workers = (tmp_path / 'workers').read_text().split()
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(is_running, workers))


@pytest.mark.parametrize('seed', range(3))
def test_a_pack_survives_kills_at_any_moment(photos: Path, tmp_path: Path, seed: int) -> None:
    write_pack(tmp_path / 'whole.pack', make_job(photos))
    rng = np.random.default_rng(seed)
    path = tmp_path / 'a.pack'
    for _ in range(6):
        in_child(lambda: write_pack(path, make_job(photos)), kill_after=rng.uniform(0, 0.05))
        if path.exists():
            break
    write_pack(path, make_job(photos))
    assert verify_pack(path) == 30
    assert path.read_bytes() == (tmp_path / 'whole.pack').read_bytes()


@pytest.mark.parametrize('size', [ShardSize(4), ShardSize(0, 12_000), ShardSize(1)], ids=str)
def test_shards_survive_kills_at_many_images(photos: Path, tmp_path: Path, size: ShardSize) -> None:
    for name in ('small.jpg', 'more/é3.jpg', 'more/é19.jpg'):  # the first, one in between and the last
        (photos.parent / name).write_bytes(b'')
    write_shards(tmp_path / 'whole', make_job(photos, on_error='skip'), size)
    folder = tmp_path / 'shards'
    for image in (1, 5, 13, 14, 25, 29):
        job = make_job(photos, on_error='skip', progress=kill_at(image))
        code = in_child(lambda job=job: write_shards(folder, job, size))
        assert code == -signal.SIGKILL or image == 1
        assert not (folder / 'index.json').exists()
    packed = write_shards(folder, make_job(photos, on_error='skip', workers=1), size)
    assert packed.images == verify_shards(folder) == 27
    assert packed.made < 30
    assert contents(folder) == contents(tmp_path / 'whole')


@pytest.mark.parametrize('seed', range(2))
def test_shards_survive_kills_at_any_moment(photos: Path, tmp_path: Path, seed: int) -> None:
    write_shards(tmp_path / 'whole', make_job(photos), ShardSize(4))
    rng = np.random.default_rng(seed)
    folder = tmp_path / 'shards'
    for _ in range(5):
        in_child(lambda: write_shards(folder, make_job(photos), ShardSize(4)), kill_after=rng.uniform(0, 0.08))
    write_shards(folder, make_job(photos), ShardSize(4))
    assert contents(folder) == contents(tmp_path / 'whole')


def test_a_journal_that_was_cut_short(photos: Path, tmp_path: Path) -> None:
    """The machine went down: lines are missing, or half there, or were never written."""
    write_shards(tmp_path / 'whole', make_job(photos), ShardSize(4))
    expected = contents(tmp_path / 'whole')
    job = make_job(photos, progress=kill_at(14))
    in_child(lambda: write_shards(tmp_path / 'begun', job, ShardSize(4)))
    begun = contents(tmp_path / 'begun')
    journal = begun.pop('packing.jsonl')
    assert 'shard-000002.tar' in begun
    begun['.annotations.npz.abc.tmp'] = b'of a kill while it was written'
    for kept in (journal[:-9], journal[: len(journal) // 2], journal[:5], b'', journal + b'\0' * 20 + b'\n'):
        folder = tmp_path / f'again{len(kept)}'
        folder.mkdir()
        for name, data in {**begun, 'packing.jsonl': kept}.items():
            (folder / name).write_bytes(data)
        write_shards(folder, make_job(photos), ShardSize(4))
        assert contents(folder) == expected


def test_a_shard_that_was_damaged_before_going_on_is_made_again(photos: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / 'whole', make_job(photos), ShardSize(4))
    folder = tmp_path / 'shards'
    in_child(lambda: write_shards(folder, make_job(photos, progress=kill_at(20)), ShardSize(4)))
    path = folder / 'shard-000001.tar'
    path.write_bytes(path.read_bytes()[:-3])
    write_shards(folder, make_job(photos), ShardSize(4))
    assert contents(folder) == contents(tmp_path / 'whole')
