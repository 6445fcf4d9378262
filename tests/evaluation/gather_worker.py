"""One process of test_gather.py: ``python gather_worker.py RANK WORLD FOLDER``. Writes what it found to FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from mlcls.errors import UserError
from mlcls.evaluation import EvaluationResult, Evaluator, gather, to_json

IMAGES, CLASSES = 41, 5
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
    index: torch.Tensor, scores: torch.Tensor, targets: torch.Tensor, classes: bool = True
) -> EvaluationResult:
    """Evaluate the images in ``index`` on this process, in batches of 4."""
    evaluator = Evaluator(METRICS)
    if classes:
        evaluator.dataset_meta = {'classes': [f'class {c}' for c in range(CLASSES)]}
    evaluator.prepare(len(index))
    for part in index.split(4) if len(index) else ():
        evaluator.process(scores[part], targets[part], part)
    return evaluator.evaluate(IMAGES)


def shares(rank: int, world: int) -> dict[str, torch.Tensor]:
    """Ways to deal the images out."""
    everything = torch.arange(IMAGES)
    filled_up = torch.cat([everything, everything[: -IMAGES % world]])
    bounds = [0, *(IMAGES // 4 + 5 * r for r in range(world - 1)), IMAGES]
    return {
        'in turn, filled up': filled_up[rank::world],
        'uneven blocks': everything[bounds[rank] : bounds[rank + 1]],
        'all on the last': everything if rank == world - 1 else everything[:0],
        'all on the first': everything if rank == 0 else everything[:0],
        'all on every one, reversed': everything.flip(0),
        'shuffled, many twice': torch.cat([everything[rank::world], everything[10:30]])[
            torch.randperm(len(everything[rank::world]) + 20, generator=torch.Generator().manual_seed(rank))
        ],
    }


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
    for chunk in (2**20, 100):  # all at once, and five rows at a time
        gather._CHUNK = chunk
        for name, index in shares(rank, world).items():
            result = evaluate(index, scores, targets)
            found[f'{name}, chunks of {chunk}'] = {
                'result': to_json(result),
                'scores': result.scores,
                'targets': result.targets,
            }
    told = failures(rank, scores, targets, torch.arange(IMAGES)[rank::world])
    torch.save(found, folder / f'{rank}.pt')
    (folder / f'{rank}.json').write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
