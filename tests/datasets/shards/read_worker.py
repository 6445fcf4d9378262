"""One process of test_distributed.py: ``python read_worker.py RANK WORLD SHARDS OUT``. Writes what it read to OUT."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from torch import distributed as dist
from torch.utils.data import DataLoader

from mlcls.datasets import collate_batch
from mlcls.datasets.shards import ShardDataset

PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]


def main(rank: int, world: int, shards: str, out: Path) -> None:
    """Read evaluation and training epochs with 0 to 3 workers."""
    dist.init_process_group('gloo', init_method=f'file://{out}/store', rank=rank, world_size=world)
    warnings.filterwarnings('ignore', 'This DataLoader will create')
    found = {}
    for workers in range(4):
        for mode in ('evaluation', 'training'):
            dataset = ShardDataset(shards, PIPELINE, shuffle_buffer=10)
            dataset.configure(shuffle=mode == 'training', seed=3, round_up=mode == 'training', batch_size=4)
            loader = DataLoader(
                dataset, 4, num_workers=workers, collate_fn=collate_batch, persistent_workers=workers > 0
            )
            for epoch in (0, 1, 0) if mode == 'training' else (0,):
                dataset.set_epoch(epoch)
                read = []
                for batch in loader:
                    read += batch['index'].tolist()
                    if mode == 'training':  # a step of training: all ranks meet in every batch, or this hangs
                        dist.all_reduce(torch.ones(1))
                found.setdefault(f'{mode} {workers}', []).append(read)
    (out / f'{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
