"""One process of test_gather.py: ``python gather_worker.py RANK WORLD FOLDER``. Writes what it found to FOLDER."""

from __future__ import annotations

import errno
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from mlcls.errors import UserError
from mlcls.evaluation import EvaluationResult, Evaluator, gather, to_json

IMAGES, CLASSES = 41, 5
LEFT_OUT = (0, 6, 7, 40)
#: How the evaluator is told to keep the rows.
KINDS: dict[str, dict[str, Any]] = {
    'in memory': {},
    'in a file': {'memory_limit': 0},
    'float16': {'score_dtype': 'float16'},
    'float16 in a file': {'score_dtype': 'float16', 'memory_limit': 0},
    'images left out': {'left_out': True, 'memory_limit': 1e-7},
}
METRICS = [
    {'type': 'AveragePrecision'},
    {'type': 'ThresholdMetric', 'thr': [0.1, 0.3, 0.5, 0.7, 0.9]},
    {'type': 'ThresholdMetric', 'topk': 2},
    {'type': 'MultiLabelMetric', 'average': 'micro'},
]


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """The same data on every process; ties and unknown labels included."""
    made = torch.Generator().manual_seed(7)
    scores = torch.rand(IMAGES, CLASSES, generator=made).mul(50).round().div(50)
    return scores, torch.randint(-1, 2, (IMAGES, CLASSES), generator=made, dtype=torch.int8)


def evaluate(
    index: torch.Tensor,
    scores: torch.Tensor,
    targets: torch.Tensor,
    classes: bool = True,
    left_out: bool = False,
    **settings: Any,
) -> EvaluationResult:
    """Evaluate the images in ``index`` on this process, in batches of 4."""
    evaluator = Evaluator(METRICS, **settings)
    if classes:
        evaluator.dataset_meta = {'classes': [f'class {c}' for c in range(CLASSES)]}
    evaluator.prepare(len(index))
    for part in index.split(4) if len(index) else ():
        evaluator.process(scores[part], targets[part], part)
    return evaluator.evaluate(IMAGES, left_out)


def shares(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Ways to deal the images out."""
    everything = torch.arange(IMAGES)
    filled_up = torch.cat([everything, everything[: -IMAGES % world]])
    bounds = [0, *(IMAGES // 4 + 5 * r for r in range(world - 1)), IMAGES]
    return {
        'in turn, filled up': filled_up[rank::world],
        'in turn': everything[rank::world],
        'uneven blocks': everything[bounds[rank] : bounds[rank + 1]],
        'all on the last': everything if rank == world - 1 else everything[:0],
        'all on the first': everything if rank == 0 else everything[:0],
        'all on every one, reversed': everything.flip(0),
        'shuffled, many twice': torch.cat([everything[rank::world], everything[10:30]])[
            torch.randperm(len(everything[rank::world]) + 20, generator=torch.Generator().manual_seed(rank))
        ],
    }


@contextmanager
def full_disk(full: bool) -> Iterator[None]:
    """On this process no file can be written where ``full``; the rows of all processes need one."""
    real = os.posix_fallocate

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.posix_fallocate = refuse if full else real
    try:
        yield
    finally:
        os.posix_fallocate = real


def time_gather(rank: int, world: int) -> float:
    """Least seconds of gathering 40,000 x 80, dealt out in turn, and putting it in order."""
    images, classes = 40_000, 80
    mine = torch.arange(images)[rank::world]
    scores, targets = torch.rand(len(mine), classes), torch.zeros(len(mine), classes, dtype=torch.int8)
    taken = []
    for _ in range(7):
        dist.barrier()
        started = time.perf_counter()
        gather.gather_rows(scores, targets, mine, images)
        taken.append(time.perf_counter() - started)
    return min(taken)


def failures(rank: int, scores: torch.Tensor, targets: torch.Tensor, mine: torch.Tensor) -> dict[str, str]:
    """What goes wrong on one process must be said by all of them."""
    broken = scores.clone()
    if rank == 0:
        broken[mine[:2]] = float('nan')
    soft = targets.clone()
    if rank == 1:
        soft[mine[0], 0] = 5
    cases = {
        'missing': (mine[:-1] if rank == 1 else mine, scores, targets),
        'not finite': (mine, broken, targets),
        'label': (mine, scores, soft),
        'classes': (mine, scores[:, : CLASSES - rank], targets[:, : CLASSES - rank]),
        'none': (mine[:0], scores, targets),
    }
    told = {}
    try:
        with full_disk(rank == 1):
            evaluate(mine, scores, targets, memory_limit=5 * CLASSES * len(mine) / 2**30)
        told['disk'] = 'no error'
    except UserError as error:
        told['disk'] = f'{type(error).__name__}: {error}'
    for name, case in cases.items():
        try:
            evaluate(*case, classes=name != 'classes')
            told[name] = 'no error'
        except UserError as error:
            told[name] = f'{type(error).__name__}: {error}'
    return told


def main(rank: int, world: int, folder: Path) -> None:
    dist.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=world)
    scores, targets = rows()
    found = {}
    kept = torch.tensor([n for n in range(IMAGES) if n not in LEFT_OUT])
    for chunk, (kind, settings) in itertools.product((2**20, 100), KINDS.items()):  # all at once; a few rows at a time
        gather._CHUNK = chunk
        for name, index in shares(rank, world).items():
            if settings.get('left_out'):
                index = index[torch.isin(index, kept)]
            result = evaluate(index, scores, targets, **settings)
            found[f'{name}, {kind}, chunks of {chunk}'] = {
                'kind': kind,
                'result': to_json(result),
                'left_out': result.left_out,
                'scores': result.scores,
                'targets': result.targets,
            }
    gather._CHUNK = 64 * 2**20
    told = failures(rank, scores, targets, torch.arange(IMAGES)[rank::world])
    torch.save(found, folder / f'{rank}.pt')
    told['seconds'] = str(time_gather(rank, world))
    (folder / f'{rank}.json').write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
