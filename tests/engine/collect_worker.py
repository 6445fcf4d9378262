"""Score the test data of a checkpoint in one process or several; run by torchrun, rank 0 writes what came out."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from mlcls.apis.settings import complete_loaders, real_launcher
from mlcls.config import load_resolved, normalise
from mlcls.engine import Runner
from mlcls.engine.checkpoint import stored_config
from mlcls.fileio import read_checkpoint


def open_runner(path: Path, launcher: str = 'none', **test_cfg: Any) -> Runner:
    """A run that can test a checkpoint of the tiny config, image by image, with these settings of the loop."""
    cfg = normalise(load_resolved(stored_config(read_checkpoint(path), path)))
    cfg.test_cfg = test_cfg
    # Image by image: convolutions may round a picture otherwise in a batch of another size.
    cfg.test_dataloader.batch_size = 1
    cfg.test_dataloader.persistent_workers = False
    cfg.work_dir, cfg.launcher, cfg.load_from, cfg.resume = str(path.parent), real_launcher(launcher), str(path), False
    training = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
    for name in (*training, 'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[name] = None
    complete_loaders(cfg)
    return Runner.from_cfg(cfg)


def evaluate(path: Path, settings: list[dict[str, Any]], launcher: str = 'none') -> list[dict[str, Any]]:
    """Rows and fitted thresholds for each of these settings of the loop."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = []
    for test_cfg in settings:
        runner = open_runner(path, launcher, **test_cfg)
        with runner.closing():
            loop = runner.open_test()
            rows = runner.collect()
            points = loop.evaluator.result(rows).points
        found.append({'scores': rows.scores, 'targets': rows.targets, 'points': points and points.to_dict()})
    torch.set_num_threads(threads)
    return found


if __name__ == '__main__':
    results = evaluate(Path(sys.argv[1]), json.loads(sys.argv[3]), 'pytorch')
    if os.environ['RANK'] == '0':
        torch.save(results, sys.argv[2])
