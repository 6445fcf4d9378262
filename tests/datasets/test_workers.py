"""Setting up worker processes."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mlcls.datasets import workers
from mlcls.registry import FUNCTIONS

#: Page faults of making and dropping an array of 16 MB ten times, when the memory is kept and when it is not.
FAULTS = """
import resource, sys
import numpy as np
from mlcls.datasets.workers import init_worker
if sys.argv[1] == 'set up':
    init_worker(0)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(16 << 20, np.uint8)
before = faults()
for _ in range(10):
    np.ones(16 << 20, np.uint8)
print(faults() - before)
"""


class Threads(Dataset):
    """How many threads a worker uses; or whether its setting up changed the state of global generators."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> tuple[int, int, bool]:
        import cv2

        threads = cv2.getNumThreads(), torch.get_num_threads()
        before = np.random.random(), random.random(), torch.rand(1).item()
        for seed in (np.random.seed, random.seed, torch.manual_seed):
            seed(0)
        expected = np.random.random(), random.random(), torch.rand(1).item()
        for seed in (np.random.seed, random.seed, torch.manual_seed):
            seed(0)
        workers.init_worker(1)
        return *threads, before != expected == (np.random.random(), random.random(), torch.rand(1).item())


def test_one_thread_and_no_seed():
    loader = DataLoader(
        Threads(), 1, num_workers=1, worker_init_fn=FUNCTIONS.get('init_worker'), multiprocessing_context='fork'
    )
    assert [[value.item() for value in values] for values in loader] == [[1, 1, True]]


def test_memory_of_large_arrays_is_kept():
    if not workers.keep_memory():
        return  # another C library
    counts = {}
    for how in ('as it is', 'set up'):
        done = subprocess.run([sys.executable, '-c', FAULTS, how], capture_output=True, text=True, check=True)
        counts[how] = int(done.stdout)
    assert counts['set up'] < 100 < counts['as it is']


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(workers.platform, 'libc_ver', lambda: ('', ''))
    assert workers.keep_memory() is False
    workers.init_worker(3)


def test_a_worker_notes_what_it_reads(monkeypatch):
    workers.note_reading(5)  # in a process that is no worker: nothing
    monkeypatch.setattr(workers, '_line', None)
    record = workers.make_record(3)
    assert record.is_shared() and record.shape == (3, workers.LINE) and record.element_size() * workers.LINE == 64
    process = multiprocessing.get_context('fork').Process(target=note_three, args=(record,))
    process.start()
    process.join()
    assert record[:, [workers.READING, workers.BEGUN]].tolist() == [[-1, 0], [8, 3], [-1, 0]]
    assert workers._line is None


def note_three(record):
    workers.keep_record(record[1])
    for number in (7, 9, 8):
        workers.note_reading()
        workers.note_reading(number)


def test_only_a_child_ends_with_its_parent():
    assert workers.end_with(os.getpid()) is False
    assert workers.end_with(-1) is False
