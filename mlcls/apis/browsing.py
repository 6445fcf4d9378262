"""Looking at what the model sees: the images and labels of a config as training draws them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcls.apis.pictures import Originals
from mlcls.apis.settings import SAMPLERS, complete_loaders
from mlcls.apis.sheets import WRITERS, Cell, Sheet, reduced
from mlcls.datasets import innermost
from mlcls.errors import ConfigError, did_you_mean
from mlcls.structures import UNKNOWN

if TYPE_CHECKING:
    import torch
    from mmengine.config import Config
    from torch.utils.data import DataLoader

SPLITS = tuple(name.removesuffix('_dataloader') for name in SAMPLERS)


@dataclass(frozen=True)
class BrowseFlags:
    """What to look at, and where to put it.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``.
        number: How many images, at least 1.
        epoch: Epoch whose draws are shown, from 0.
        out: A ``.png`` or ``.html`` file; None is ``work_dirs/<config name>/browse_<split>.png``.
        original: Show each image as it was loaded, too.
        balance: Thresholds of ``ClassBalancedDataset``, numbers in (0, 1] or ``'auto'``, whose effect on the classes is
            printed as a table; None prints none.

    Raises:
        ConfigError: A value outside these.
    """

    split: str = 'train'
    number: int = 32
    epoch: int = 0
    out: str | Path | None = None
    original: bool = False
    balance: Sequence[str | float] | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"--split: there is no '{self.split}'{did_you_mean(self.split, SPLITS)}")
        for name, value, least in (('number', self.number, 1), ('epoch', self.epoch, 0)):
            if value < least:
                raise ConfigError(f'--{name} must be at least {least}, got {value}')
        if self.out is not None and Path(self.out).suffix.lower() not in WRITERS:
            raise ConfigError(f"--out must end in {' or '.join(WRITERS)}, got '{self.out}'")

    @property
    def thresholds(self) -> list[float | str]:
        """``balance`` with its numbers read.

        Raises:
            ConfigError: One is neither ``'auto'`` nor in (0, 1].
        """
        found: list[float | str] = []
        for given in self.balance or ('auto',):
            try:
                value = given if given == 'auto' else float(given)
            except ValueError:
                value = -1.0
            if value != 'auto' and not 0 < float(value) <= 1:
                raise ConfigError(f"--balance takes numbers above 0 and at most 1, or auto, got '{given}'")
            found.append(value)
        return found


def browse(config: str | Path, flags: BrowseFlags = BrowseFlags(), options: Mapping[str, Any] | None = None) -> Path:
    """Write a contact sheet of the images of a config, and print where it is.

    The images are those that the network gets: drawn by the run's sampler and seed, augmented in the pipeline and, of
    the training data, on the device; only the normalisation is undone.

    Args:
        config: Path of the config file.
        flags: What to look at.
        options: Overrides of single settings, dotted keys to values.

    Returns:
        The file.

    Raises:
        UserError: The config or the data cannot be used.
    """
    from mlcls.apis.training import prepare_config
    from mlcls.engine.dataloader import order_of

    thresholds = None if flags.balance is None else flags.thresholds
    cfg = prepare_config(config, options)
    loader = _build_loader(cfg, flags.split, Path(config))
    if thresholds is not None:
        from mlcls.datasets.balance import format_balance

        dataset: Any = loader.dataset
        print(format_balance(dataset.labels, dataset.metainfo['classes'], thresholds), end='\n\n')
    cells = _take_cells(cfg, loader, flags)
    target = Path(flags.out or Path('work_dirs') / Path(config).stem / f'browse_{flags.split}.png')
    height, width = cells[0].picture.shape[:2]
    draws = len(order_of(loader))
    about = f'{len(cells)} of {draws:,} draws of epoch {flags.epoch}, {width} x {height} pixels, seed {_seed(cfg)}'
    WRITERS[target.suffix.lower()](target, Sheet(f'{Path(config).stem}: {flags.split}', about, cells))
    print(f'sheet: {target}')
    return target


def _build_loader(cfg: Config, split: str, config: Path) -> DataLoader[Any]:
    from mlcls.engine.dataloader import build_dataloader

    if cfg.get(f'{split}_dataloader') is None:
        there = [f'{name}_dataloader' for name in SPLITS if cfg.get(f'{name}_dataloader') is not None]
        raise ConfigError(f'{config}: has no {split}_dataloader; it has {" and ".join(there) or "none at all"}')
    complete_loaders(cfg, pin_memory=False, persistent_workers=False)
    settings = {**cfg[f'{split}_dataloader'], 'num_workers': 0}  # pictures do not depend on the number of workers
    for key in ('persistent_workers', 'prefetch_factor', 'multiprocessing_context', 'worker_init_fn', 'timeout'):
        settings.pop(key, None)
    return build_dataloader(settings, seed=_seed(cfg))


def _seed(cfg: Config) -> int:
    return (cfg.get('randomness') or {}).get('seed') or 0


def _build_preprocessor(cfg: Config) -> Any:
    from mlcls.registry import MODELS

    own = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if cfg.model.get('train_cfg'):
        own = {'batch_augments': cfg.model['train_cfg'], **own}
    preprocessor = MODELS.build({'type': 'ClsDataPreprocessor', **own})
    if not hasattr(preprocessor, 'restore'):
        raise ConfigError(
            f'{type(preprocessor).__name__} has no restore(images), by which to get back from the network to pictures'
        )
    return preprocessor


def _take_cells(cfg: Config, loader: DataLoader[Any], flags: BrowseFlags) -> list[Cell]:
    import torch

    from mlcls.engine.dataloader import order_of
    from mlcls.engine.random_state import seed_step

    preprocessor = _build_preprocessor(cfg)
    dataset: Any = loader.dataset
    originals = Originals(dataset, '--original') if flags.original else None
    if hasattr(order_of(loader), 'set_epoch'):
        order_of(loader).set_epoch(flags.epoch)
    cells: list[Cell] = []
    with torch.random.fork_rng(devices=[]):
        for number, batch in enumerate(loader):
            seed_step(_seed(cfg), flags.epoch * len(loader) + number)
            if batch is None:  # none of its images can be used
                continue
            made = preprocessor(batch, training=flags.split == 'train')
            found = _cells_of(preprocessor.restore(made['inputs']), made, dataset, originals)
            cells += islice(found, flags.number - len(cells))
            if len(cells) == flags.number:
                break
    if not cells:
        raise ConfigError(f'{flags.split}_dataloader gives no batches; lower its batch_size or set drop_last=False')
    return cells


def _cells_of(pictures: torch.Tensor, batch: Any, dataset: Any, originals: Originals | None) -> Iterator[Cell]:
    classes, inner = dataset.metainfo['classes'], innermost(dataset)
    for picture, targets, index in zip(pictures, batch['targets'], batch['index'].tolist()):
        yield Cell(
            picture=picture.permute(1, 2, 0).numpy(),
            labels=_labels_of(targets.float().numpy(), classes),
            name=inner.get_data_info(index)['img_path'] if hasattr(inner, 'get_data_info') else f'image {index}',
            original=None if originals is None else _reduced(originals[index]),
        )


def _reduced(picture: np.ndarray | None) -> np.ndarray | None:
    return None if picture is None else reduced(picture)


def _labels_of(targets: np.ndarray, classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Names and values of the labels above 0, the highest first, then of the unknown ones."""
    order = np.argsort(-targets, kind='stable')
    shown = [number for number in order if targets[number] > 0] + list(np.flatnonzero(targets == UNKNOWN))
    return tuple((classes[number], float(targets[number])) for number in shown)
