"""Scores of one or several checkpoints on the test or validation data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmengine.config import Config

from mlcls.apis.settings import complete_loaders, real_launcher
from mlcls.config import Sources, apply_options, check_config, load_resolved, normalise
from mlcls.engine.checkpoint import find_best, stored_config, stored_points
from mlcls.errors import ConfigError, DataError
from mlcls.evaluation import OperatingPoints, Rows
from mlcls.evaluation.functional.blocks import image_blocks
from mlcls.fileio import read_checkpoint, weights_hash
from mlcls.models.weights import find_state_dict

if TYPE_CHECKING:
    from mlcls.engine.loops import EvaluationLoop
    from mlcls.engine.runner import Runner

Part = Literal['test', 'val']
#: Settings that scoring does not need: no training data have to exist.
_TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')
_VALIDATION = ('val_dataloader', 'val_cfg', 'val_evaluator')
_TEST = ('test_dataloader', 'test_cfg', 'test_evaluator')


@dataclass(frozen=True)
class Request:
    """What is to be scored.

    Args:
        checkpoints: Checkpoint files, or work folders: their best checkpoints.
        config: Config file; None takes the resolved config in each checkpoint, as data: no Python file is executed.
        options: Overrides of single settings, dotted keys to values.
        part: ``'test'`` or ``'val'``: which data of the config.
        tta: Test-time augmentation: that of ``test_cfg.tta`` or, without one, the mirrored picture.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
    """

    checkpoints: Sequence[str | Path]
    config: str | Path | None = None
    options: Mapping[str, Any] | None = None
    part: Part = 'test'
    tta: bool = False
    launcher: str = 'none'


@dataclass(frozen=True, eq=False)
class Member:
    """One checkpoint, ready to score.

    Args:
        path: The file.
        points: The operating points kept with it, or None.
        weights_hash: 16 hex digits over its weights.
        runner: The run that holds model and data.
        loop: Its pass over the data.
    """

    path: Path
    points: OperatingPoints | None
    weights_hash: str
    runner: Runner
    loop: EvaluationLoop

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the columns."""
        return tuple(self.loop.dataloader.dataset.metainfo['classes'])

    @property
    def image_names(self) -> Sequence[str]:
        """Names of the images, in the order of the rows."""
        return self.loop.dataloader.dataset.image_names


@contextmanager
def opened(request: Request) -> Iterator[list[Member]]:
    """`open_members`, and their logs closed at the end, however it comes."""
    members = open_members(request)
    try:
        yield members
    finally:
        for member in members:
            member.runner.close()


def open_members(request: Request) -> list[Member]:
    """Build model and data of every checkpoint, and check that they belong together. Nothing is scored yet.

    Raises:
        UserError: A checkpoint, the config or the data cannot be used, or checkpoints have other classes or data.
    """
    members = [_open(_file_of(path), request) for path in request.checkpoints]
    first = members[0]
    for member in members[1:]:
        if member.classes != first.classes:
            raise ConfigError(f'{member.path} and {first.path} have other classes, or in another order')
        if member.loop.data_hash != first.loop.data_hash:
            raise DataError(f'the configs in {member.path} and {first.path} name other data; give one config for all')
        if list(member.image_names) != list(first.image_names):
            raise DataError(
                f'the configs in {member.path} and {first.path} name the images in another order; '
                'give one config for all'
            )
    return members


def score(members: Sequence[Member], points: Sequence[OperatingPoints | None]) -> Rows:
    """Score the data with every checkpoint; the mean of their scores, each calibrated first where it can be.

    Args:
        members: From `open_members`.
        points: One for each, whose calibration is applied; None applies none.

    Raises:
        UserError: An image cannot be used, or scores are not finite.
    """
    rows = _calibrated(members[0].runner.collect(), points[0])
    for number, (member, own) in enumerate(zip(members[1:], points[1:]), start=2):
        more = _calibrated(member.runner.collect(), own)
        if more.left_out != rows.left_out:
            raise DataError(f'{member.path}: other images could not be used than with {members[0].path}')
        # A running mean, in blocks: two matrices are held at a time, whatever the number of checkpoints.
        for block in image_blocks(rows.scores):
            rows.scores[block].lerp_(more.scores[block].to(rows.scores.dtype), 1 / number)
    return rows


def _calibrated(rows: Rows, points: OperatingPoints | None) -> Rows:
    return rows if points is None else rows._replace(scores=points.calibrate(rows.scores))


def _file_of(path: str | Path) -> Path:
    path = Path(path)
    return find_best(path) if path.is_dir() else path


def _open(path: Path, request: Request) -> Member:
    checkpoint = read_checkpoint(path)
    cfg = _config_for(path, checkpoint, request)
    _keep_part(cfg, request)
    cfg.work_dir, cfg.launcher = str(path.parent), real_launcher(request.launcher)
    cfg.load_from, cfg.resume = str(path), False
    complete_loaders(cfg)
    points = stored_points(checkpoint, path)
    digest = weights_hash(find_state_dict(checkpoint))
    del checkpoint

    from mlcls.engine import Runner

    runner = Runner.from_cfg(cfg)
    return Member(path, points, digest, runner, runner.open_test())


def _config_for(path: Path, checkpoint: dict[str, Any], request: Request) -> Config:
    if request.config is not None:
        from mlcls.apis.training import prepare_config

        return prepare_config(request.config, request.options)
    cfg = load_resolved(stored_config(checkpoint, path))
    apply_options(cfg, request.options or {})
    check_config(cfg, Sources([], request.options))
    return normalise(cfg)


def _keep_part(cfg: Config, request: Request) -> None:
    """Leave in a config the part that is scored, as its test part."""
    if cfg.get(f'{request.part}_dataloader') is None:
        group = ', '.join(_TEST if request.part == 'test' else _VALIDATION)
        raise ConfigError(f'the config has no {group}; nothing to score')
    if request.part == 'val':
        # The test settings (precision, augmentation) are those that the scores are used with later.
        cfg.test_dataloader = cfg.val_dataloader
        cfg.test_evaluator = cfg.val_evaluator
        cfg.test_cfg = cfg.get('test_cfg') or {}
    if request.tta and not (cfg.test_cfg or {}).get('tta'):
        cfg.test_cfg = {**(cfg.test_cfg or {}), 'tta': True}
    for name in (*_TRAINING, *_VALIDATION):
        cfg[name] = None
