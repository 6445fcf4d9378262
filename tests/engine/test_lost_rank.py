"""One of several processes dies: the others end at once, with one message that says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore

from mlcls.engine import distributed
from mlcls.engine.distributed import init_distributed, is_lost_peer, losing_peers
from mlcls.engine.heartbeat import Heartbeat
from mlcls.engine.meeting import meet
from mlcls.errors import ConfigError, TrainingError

from .ranks import options_of, start, wait

GONE = 'error: another process of this run is gone'


@pytest.mark.parametrize(
    ('rank', 'place'),
    [
        (1, dict(iteration=8)),  # the other is in the backward pass, or waits for a decision
        (0, dict(in_val_of=1)),  # the other waits for the validation's rows
    ],
    ids=['in a step', 'in the validation'],
)
def test_a_killed_rank(tiny_config: Path, tmp_path: Path, rank: int, place: dict[str, int]) -> None:
    hooks = [dict(type='EndAt', rank=rank, **place)]
    options = options_of(custom_hooks=hooks, train_dataloader__batch_size=4)
    processes = start(2, tiny_config, '--work-dir', tmp_path / 'run', *options)
    assert processes[rank].wait(240) == -9
    died = time.monotonic()
    code, said = wait(processes)[1 - rank]
    assert time.monotonic() - died < 60, 'within a minute'
    assert code == 2
    assert said.count(GONE) == 1 and 'Traceback' not in said and '--resume' in said
    assert (tmp_path / 'run/epoch_1.pth').exists(), 'what was saved is there'


@pytest.mark.parametrize(
    'said',
    [
        '[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:28451',
        '[gloo/transport/tcp/pair.cc:534] Read error [10.0.0.3]:29123: Connection reset by peer',
        'writev [10.0.0.3]:4242: Broken pipe',
        'Rank 1 successfully reached monitoredBarrier, but received errors while waiting for send/recv from rank 0. '
        'Timed out waiting 1800000ms for recv operation to complete',
        'NCCL error in: ProcessGroupNCCL.cpp, ncclRemoteError: A call failed possibly due to a network error or a '
        'remote process exiting prematurely.',
    ],
)
def test_what_torch_says_of_it(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setattr(distributed.distributed, 'is_initialized', lambda: True)
    with (
        pytest.raises(TrainingError, match='another process of this run is gone.*torch says: .') as found,
        losing_peers(),
    ):
        raise RuntimeError(said)
    assert said[:60] in str(found.value) and isinstance(found.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    'error',
    [
        RuntimeError('mat1 and mat2 shapes cannot be multiplied (8x64 and 32x3)'),
        TrainingError('the loss became NaN; connection closed'),
        ValueError('Connection closed by peer'),
    ],
)
def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(distributed.distributed, 'is_initialized', lambda: True)
    with pytest.raises(type(error)) as found, losing_peers():
        raise error
    assert found.value is error


def test_alone_nobody_is_lost() -> None:
    assert not is_lost_peer(RuntimeError('Connection closed by peer'))


@pytest.mark.parametrize('timeout', [0, -5, True, 'long'])
def test_timeouts_that_are_none(timeout: Any) -> None:
    with pytest.raises(ConfigError, match='env_cfg.dist_cfg.timeout must be a number of seconds above 0, got'):
        init_distributed('pytorch', timeout=timeout)


@pytest.mark.parametrize('heartbeat', [0, 9, True])
def test_heartbeats_that_are_none(heartbeat: Any) -> None:
    with pytest.raises(ConfigError, match='env_cfg.dist_cfg.heartbeat must be at least 10 seconds, or None; got'):
        init_distributed('pytorch', heartbeat=heartbeat)


def watched(store: Any, lost: list[list[int]], patience: float = 0.4) -> list[Heartbeat]:
    beats = [Heartbeat(store, rank, 3, patience, lost.append, interval=0.02) for rank in range(3)]
    for beat in beats:
        beat.start()
    return beats


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_rank_without_a_sign_of_life_is_lost() -> None:
    lost: list[list[int]] = []
    store = HashStore()
    beats = watched(store, lost)
    beats[1]._over.set()  # its thread says good-bye: take that back, as if it had been cut off
    beats[1].stop()
    store.set('beat/1', '17')
    until(lambda: len(lost) == 2)
    assert lost == [[1], [1]]
    for beat in beats:
        beat.stop()


def test_who_says_good_bye_is_not_missed() -> None:
    lost: list[list[int]] = []
    beats = watched(HashStore(), lost)
    until(lambda: all(len(beat._last) == 2 for beat in beats))
    beats[1].stop()
    until(lambda: beats[0]._last[1] == beats[2]._last[1] == b'bye')
    until(lambda: beats[0]._silence[1] > 1)  # longer than patience
    assert lost == [] and beats[0]._silence[2] < 1
    for beat in beats:
        beat.stop()
        assert not any(thread.is_alive() for thread in beat._threads)


def test_a_store_that_is_closed_ends_the_watch() -> None:
    class Closed:
        def set(self, *words: Any) -> None:
            raise RuntimeError('Connection closed')

    lost: list[list[int]] = []
    beat = Heartbeat(Closed(), 0, 2, 0.2, lost.append, interval=0.02)
    beat.start()
    until(lambda: not any(thread.is_alive() for thread in beat._threads))
    assert lost == []


@pytest.mark.parametrize('order', [(0, 2, 1), (1, 2, 0)], ids=['rank 0 first', 'rank 0 last'])
def test_nobody_meets_those_of_an_earlier_start(order: tuple[int, ...]) -> None:
    store = HashStore()
    for number in range(3):
        found: dict[int, Any] = {}

        def come(rank: int, found: dict[int, Any] = found) -> None:
            found[rank] = meet(store, rank, 3, 60)

        threads = [threading.Thread(target=come, args=(rank,)) for rank in order]
        for thread in threads:
            thread.start()
            time.sleep(0.05)  # so that it finds what is there from before
        for thread in threads:
            thread.join()
        assert not found[1].check(['address']), 'nothing of an earlier start'
        found[0].set('address', f'of start {number}')
        assert all(found[rank].get('address') == f'of start {number}'.encode() for rank in range(3))


@pytest.mark.parametrize(('rank', 'words'), [(0, 'rank 1, 2 did not come'), (1, 'rank 0 did not come')])
def test_who_does_not_come(rank: int, words: str) -> None:
    with pytest.raises(TrainingError, match=f'{words}.*all have to be started.*MASTER_ADDR'):
        meet(HashStore(), rank, 3, 0.05)


@pytest.mark.slow
def test_a_stopped_rank(tiny_config: Path, tmp_path: Path) -> None:
    """Its connections stay open, and nothing else tells of it."""
    hooks = [dict(type='EndAt', rank=1, iteration=8, number='SIGSTOP')]
    options = options_of(custom_hooks=hooks, train_dataloader__batch_size=4, env_cfg__dist_cfg=dict(heartbeat=10))
    processes = start(2, tiny_config, '--work-dir', tmp_path / 'run', *options)
    try:
        assert processes[0].wait(120) == 2
        said = processes[0].text
        assert 'rank 1 has given no sign of life for 10 seconds' in said and 'Traceback' not in said
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize('name', ['best_multi-label_mAP.pth', 'epoch_4.pth'])
def test_a_checkpoint_that_rank_0_cannot_write_keeps_no_rank_waiting(
    tiny_config: Path, tmp_path: Path, name: str
) -> None:
    """Only rank 0 writes; that it gave up is for all of them to know, since saving needs all."""
    options = options_of(custom_hooks=[dict(type='DiskIsFull', name=name)], train_dataloader__batch_size=4)
    processes = start(2, tiny_config, '--work-dir', tmp_path / 'run', *options)
    results = wait(processes)
    assert [code for code, _ in results] == [0, 0], results[0][1]
    assert 'CHECKPOINT NOT WRITTEN' in results[0][1] and 'No space left' in results[0][1]
    assert (tmp_path / 'run' / name).is_file() and (tmp_path / 'run/epoch_4.pth').is_file()
