"""Testing a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mlcls.apis.settings import complete_loaders, real_launcher
from mlcls.config import Sources, apply_options, check_config, load_resolved, normalise
from mlcls.engine.checkpoint import find_best, stored_config
from mlcls.errors import ConfigError
from mlcls.evaluation import EvaluationResult, format_table, to_json
from mlcls.fileio import read_checkpoint, write_json


def test(
    checkpoint: str | Path,
    config: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    launcher: str = 'none',
    out: str | Path | None = None,
) -> EvaluationResult:
    """Test a checkpoint, print the table, and write the results.

    Args:
        checkpoint: A checkpoint file, or a work folder: its best checkpoint.
        config: Config file; None takes the resolved config in the checkpoint, as data: no Python file is executed.
        options: Overrides of single settings, dotted keys to values.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        out: Results file (JSON); ``results.json`` beside the checkpoint if None.

    Returns:
        The whole result.

    Raises:
        UserError: The checkpoint, config or data cannot be used.
    """
    path = Path(checkpoint)
    if path.is_dir():
        path = find_best(path)
    cfg = _config_for(path, config, options)
    if cfg.get('test_dataloader') is None:
        raise ConfigError('the config has no test_dataloader, test_cfg and test_evaluator; nothing to test')
    cfg.work_dir, cfg.launcher = str(path.parent), real_launcher(launcher)
    cfg.load_from, cfg.resume = str(path), False
    # Only testing is wanted: no training or validation data need to exist.
    for name in (
        'train_dataloader',
        'train_cfg',
        'optim_wrapper',
        'param_scheduler',
        'val_dataloader',
        'val_cfg',
        'val_evaluator',
    ):
        cfg[name] = None
    complete_loaders(cfg)

    from mlcls.engine import Runner

    runner = Runner.from_cfg(cfg)
    with runner.closing():
        runner.test()
    result = runner.test_loop.result
    if runner.rank == 0:
        print(f'\n{path}\n\n{format_table(result)}')
        target = Path(out) if out else path.parent / 'results.json'
        write_json(target, {'checkpoint': path.name, **to_json(result)})
        print(f'\nresults: {target}')
    return result


test.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _config_for(path: Path, config: str | Path | None, options: Mapping[str, Any] | None) -> Config:
    if config is not None:
        from mlcls.apis.training import prepare_config

        return prepare_config(config, options)
    cfg = load_resolved(stored_config(read_checkpoint(path), path))
    apply_options(cfg, options or {})
    check_config(cfg, Sources([], options))
    return normalise(cfg)
