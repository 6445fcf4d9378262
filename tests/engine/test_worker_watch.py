"""Data workers that die or hang."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from mlcls.apis import test, train
from mlcls.apis.packing import PackFlags, pack_data
from mlcls.datasets.packs import PackSettings
from mlcls.datasets.shards import ShardSize
from mlcls.engine import worker_watch
from mlcls.engine.dataloader import build_dataloader
from mlcls.engine.worker_watch import WatchedIterator, WatchedLoader, WatchedShardLoader
from mlcls.errors import DataError
from mlcls.registry import TRANSFORMS

pytestmark = [
    pytest.mark.skipif(sys.platform != 'linux', reason='workers are forked on Linux'),
    pytest.mark.filterwarnings('ignore:This DataLoader will create'),
]


@TRANSFORMS.register_module(force=True)
class Trouble:
    """Does something bad at the image of a number; `what` is the name of a signal or of a method."""

    def __init__(self, what: str, at: int = 9) -> None:
        self.what, self.at = what, at

    def __call__(self, sample: dict[str, Any], rng: Any = None) -> dict[str, Any]:
        if self.what.startswith('SIG') and sample['index'] == self.at:
            os.kill(os.getpid(), getattr(signal, self.what))
        elif self.what and sample['index'] == self.at:
            getattr(self, self.what)()
        return sample

    def sleep(self) -> None:
        time.sleep(1000)

    def leave(self) -> None:
        os._exit(0)

    def leave_with(self) -> None:
        os._exit(3)

    def fail(self) -> None:
        raise ValueError('as always')

    def stop_itself(self) -> None:
        time.sleep(0.7)  # until the batch before, of which this process still hands over the memory, was taken
        os.kill(os.getpid(), signal.SIGSTOP)


def loader_of(root: Path, what: str, **settings: Any) -> DataLoader:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Trouble', what=what), dict(type='PackInputs')]
    dataset = dict(type='MultiLabelDataset', data_root=str(root), ann_file='val.json', pipeline=pipeline)
    settings = {'batch_size': 4, 'num_workers': 2, 'sampler': dict(type='DefaultSampler', shuffle=False), **settings}
    return build_dataloader(dict(dataset=dataset, **settings), seed=0)


def refused(loader: DataLoader, words: str) -> None:
    """The iteration ends with the error, and no worker is left."""
    begun = time.monotonic()
    with pytest.raises(DataError, match=words):
        list(loader)
    assert multiprocessing.active_children() == []
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ('what', 'words'),
    [
        ('SIGKILL', r'killed by signal 9: out of memory\?.*; use fewer workers \(num_workers\), a smaller prefetch'),
        ('SIGSEGV', r'killed by signal 11, SIGSEGV: a library crashed.*; try another backend of the transform'),
        ('SIGBUS', r'killed by signal 7, SIGBUS: shared memory full\?.*; enlarge /dev/shm \(docker run --shm-size\)'),
        ('SIGXCPU', r'killed by signal 24, SIGXCPU\).*; find out who sent it'),
        ('leave', r'exit code 0\).*; what it wrote before this may say why'),
        ('leave_with', r'exit code 3\)'),
    ],
)
def test_a_worker_that_dies(tiny_data: Path, what: str, words: str) -> None:
    words = rf'^data worker 1 of 2 died \({words}'  # images 8 to 11 are worker 1's second batch
    loader = loader_of(tiny_data, what, persistent_workers=what == 'SIGKILL')
    refused(loader, words)
    if what == 'SIGKILL':
        refused(loader, words)  # with new workers
    image = rf'while reading {tiny_data}/val/9.png \(index 9\); .*; if it is the same image each time, remove it from'
    refused(loader_of(tiny_data, what, num_workers=1), image)


@pytest.mark.parametrize('what', ['sleep', 'stop_itself'])
def test_a_worker_that_hangs(tiny_data: Path, what: str) -> None:
    loader = loader_of(tiny_data, what, timeout=1, persistent_workers=True)
    words = rf'^data worker 1 of 2 has been reading {tiny_data}/val/9.png \(index 9\) for \d+ s; look whether its sto'
    refused(loader, words + r".*, raise 'timeout' of this dataloader \(seconds\)")


def test_other_errors_are_as_they_were(tiny_data: Path) -> None:
    loader = loader_of(tiny_data, 'fail')
    with pytest.raises(DataError, match='val/9.png: Trouble failed: ValueError: as always'):
        list(loader)
    loader.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize('lives_on', [False, True])
def test_closing_ends_workers_wherever_iterations_were_left(tiny_data: Path, lives_on: bool) -> None:
    loader = loader_of(tiny_data, '', persistent_workers=lives_on)
    left = [iter(loader), iter(loader)]
    left[0].kept = left  # type: ignore[attr-defined]  # a cycle, as an error's traceback makes it
    first = [next(iteration)['index'].tolist() for iteration in left[1:]]
    assert len(multiprocessing.active_children()) == (2 if lives_on else 4)
    begun = time.monotonic()
    loader.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    del left
    gc.collect()
    assert time.monotonic() - begun < 5, 'it waits in vain'
    assert [batch['index'].tolist() for batch in loader][:1] == first
    loader.close()  # type: ignore[attr-defined]


def test_runs_leave_no_workers_however_they_end(tiny_config: Path) -> None:
    workers = {'train_dataloader.num_workers': 2, 'val_dataloader.num_workers': 1, 'train_cfg.max_epochs': 1}
    run = train(tiny_config, options=workers)
    assert multiprocessing.active_children() == []
    test(run, options={'test_dataloader.num_workers': 1})
    assert multiprocessing.active_children() == []
    broken = [dict(type='LoadImageFromFile'), dict(type='Trouble', what='fail'), dict(type='PackInputs')]
    with pytest.raises(DataError, match='as always') as kept:
        train(tiny_config, options={'train_dataloader.dataset.pipeline': broken, **workers})
    assert kept.tb is not None and multiprocessing.active_children() == []


def test_a_worker_that_dies_while_nobody_waits_does_not_interrupt(tiny_data: Path) -> None:
    """torch would raise its error right there, in the midst of a step."""
    batches = iter(loader_of(tiny_data, '', batch_size=1))
    next(batches)
    worker = batches._workers[1]  # type: ignore[attr-defined]
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    for _ in range(100):
        np.ones(100).sum()
    with pytest.raises(DataError, match='data worker 2 of 2 died'):
        list(batches)
    assert multiprocessing.active_children() == []


class Slow(Dataset):
    """An image that takes several parts of some seconds each."""

    def __init__(self, parts: int, seconds: float) -> None:
        self.parts, self.seconds = parts, seconds

    def __len__(self) -> int:
        return 1

    def img_path(self, number: int) -> str:
        return f'image {number}'

    def __getitem__(self, index: int) -> int:
        from mlcls.datasets.workers import note_reading

        for _ in range(self.parts):
            note_reading(index)
            time.sleep(self.seconds)
        note_reading()
        return index


def test_a_slow_worker_that_makes_progress_is_left_alone() -> None:
    loader = WatchedLoader(Slow(8, 0.4), num_workers=1, timeout=2.5, multiprocessing_context='fork')
    assert [batch.tolist() for batch in loader] == [[0]]


class Mute(Dataset):
    """Of another kind: does not say what it reads."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        time.sleep(self.seconds)
        return index


def test_data_sets_that_do_not_say_what_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_watch, 'TIMEOUT', 0.2)
    assert len(list(WatchedLoader(Mute(1), num_workers=1, multiprocessing_context='fork'))) == 1
    loader = WatchedLoader(Mute(1000), num_workers=1, timeout=1, multiprocessing_context='fork')
    refused(loader, r'^data worker 1 of 1 has given nothing for \d+ s, while making a batch; look')


def never(worker: int) -> None:
    time.sleep(1000)


def test_a_worker_that_does_not_start(tiny_data: Path) -> None:
    loader = loader_of(tiny_data, '', timeout=1, worker_init_fn=never)
    refused(loader, r'^data worker 1 of 2 has given nothing for \d+ s, before its first image; look')
    assert loader.worker_init_fn is never


def test_a_run_that_was_suspended_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock leaps while the worker is on an image."""
    leaps = iter(range(0, 10**9, 10_000))
    monkeypatch.setattr(worker_watch, 'time', SimpleNamespace(monotonic=lambda: next(leaps)))
    loader = WatchedLoader(Slow(1, 3), num_workers=1, timeout=60, multiprocessing_context='fork')
    assert len(list(loader)) == 1


def test_shards_name_image_and_shards(tiny_config: Path, tmp_path: Path) -> None:
    pack_data(tiny_config, tmp_path / 'shards', PackFlags('val', settings=PackSettings(0), shards=ShardSize(7)))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Trouble', what='SIGKILL', at=12), dict(type='PackInputs')]
    dataset = dict(type='ShardDataset', root=str(tmp_path / 'shards'), pipeline=pipeline)
    loader = build_dataloader(dict(dataset=dataset, batch_size=4, num_workers=3), seed=0)
    assert isinstance(loader, WatchedShardLoader)
    refused(loader, rf'died .* while reading {tmp_path}/shards, image 12: .*val/12.png \(index 12\); use fewer')


COMMAND = """
import sys
import tests.engine.test_worker_watch
from mlcls.apis import train
from mlcls.apis.cli import run_command
options = {'train_dataloader.num_workers': 2, 'train_dataloader.timeout': 2, 'train_dataloader.dataset.pipeline': [
    dict(type='LoadImageFromFile'), dict(type='Trouble', what=sys.argv[2]), dict(type='PackInputs')]}
run_command(lambda: train(sys.argv[1], options=options))
"""


@pytest.mark.parametrize(
    ('what', 'words'),
    [('SIGKILL', 'died (killed by signal 9: out of memory?) while reading'), ('sleep', 'has been reading')],
)
def test_the_command_ends_with_one_line(tiny_config: Path, what: str, words: str) -> None:
    done = subprocess.run([sys.executable, '-c', COMMAND, tiny_config, what], capture_output=True, text=True)
    assert done.returncode == 2
    assert 'Traceback' not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith('error: data worker ') and words in line and 'train/9.png (index 9)' in line


ORPHANS = """
import time
from mlcls.engine.worker_watch import WatchedLoader
from tests.engine.test_worker_watch import Mute
batches = iter(WatchedLoader(Mute(1000), num_workers=2, multiprocessing_context='fork'))
time.sleep(0.5)
print(*(worker.pid for worker in batches._workers), flush=True)
next(batches)
"""


def test_workers_end_with_a_killed_main_process() -> None:
    """Also those that hang. What torch itself does about it (looking each 5 s) only works between two batches."""
    with subprocess.Popen([sys.executable, '-c', ORPHANS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2 and all(map(runs, pids))
        process.kill()
        process.wait()
    until = time.monotonic() + 30
    while any(map(runs, pids)):
        assert time.monotonic() < until
        time.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state != 'Z'


def test_torch_has_what_the_watch_is_built_on(tiny_data: Path) -> None:
    """Private parts of torch's loader; another version may have changed them."""
    loader = loader_of(tiny_data, '')
    batches = iter(loader)
    assert isinstance(batches, WatchedIterator)
    for name in ('_workers', '_workers_status', '_task_info', '_rcvd_idx', '_index_queues', '_worker_result_queue'):
        assert hasattr(batches, name)
    assert not batches._worker_pids_set
    assert sum(len(batch['index']) for batch in batches) == 20
