"""What the network of a config costs, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlcls.apis.settings import check_writable
from mlcls.errors import ConfigError, DataError
from mlcls.fileio import write_json
from mlcls.structures import LabelMatrix, LabelStatistics

if TYPE_CHECKING:
    from mmengine.config import Config

    from mlcls.models.complexity import Figures, Speed

#: Settings of the transforms that fix the size of the images; True where the setting is (width, height).
_SIZES = {
    'CenterCrop': ('crop_size', True),
    'EfficientNetCenterCrop': ('crop_size', True),
    'Resize': ('scale', True),
    'RandomResizedCrop': ('scale', False),
    'EfficientNetRandomCrop': ('scale', False),
    'RandomCrop': ('crop_size', True),
}
_LOADERS = ('test_dataloader', 'val_dataloader', 'train_dataloader')


@dataclass(frozen=True)
class ComplexityFlags:
    """What to measure.

    Args:
        shape: Height and width of the images; one number for both. None takes those of the config's pipeline.
        batch_size: Images at a time for the speed.
        speed: Measure time too.
        repeats: Passes whose median time is taken.
        out: JSON file to write, or None.

    Raises:
        ConfigError: A number below 1, or more than two.
    """

    shape: Sequence[int] | None = None
    batch_size: int = 8
    speed: bool = True
    repeats: int = 5
    out: str | Path | None = None

    def __post_init__(self) -> None:
        if self.shape is not None and (len(self.shape) not in (1, 2) or min(self.shape) < 1):
            raise ConfigError(f'--shape takes height and width, at least 1, got {" ".join(map(str, self.shape))}')
        for name, value in (('batch-size', self.batch_size), ('repeats', self.repeats)):
            if value < 1:
                raise ConfigError(f'--{name} must be at least 1, got {value}')


@dataclass(frozen=True)
class Complexity:
    """What was measured.

    Args:
        shape: Height and width of the images.
        stages: Figures of each stage.
        total: Their sums; its seconds are those of the whole forward pass.
        weight_bytes: Memory of weights and buffers.
        speed: Times, or None.
        device: Where they were taken, in words.
    """

    shape: tuple[int, int]
    stages: list[Figures]
    total: Figures
    weight_bytes: int
    speed: Speed | None
    device: str


def measure_complexity(
    config: str | Path, flags: ComplexityFlags = ComplexityFlags(), options: Mapping[str, Any] | None = None
) -> Complexity:
    """Measure the network of a config and print a table. Neither data nor weights files are needed.

    Args:
        config: Path of the config file.
        flags: What to measure.
        options: Overrides of single settings, dotted keys to values.

    Raises:
        UserError: The config cannot be used, or the size of the images is not known.
    """
    from mlcls.apis.training import prepare_config

    if flags.out is not None:
        check_writable(Path(flags.out))
    cfg = prepare_config(config, options)
    shape = find_shape(cfg) if flags.shape is None else (flags.shape[0], flags.shape[-1])
    found = measure(build_model(cfg), shape, flags)
    print(describe(found, f'{config}'))
    if flags.out is not None:
        write_json(flags.out, {'config': str(config), **as_plain(found)})
        print(f'\nfigures: {flags.out}')
    return found


def find_shape(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that the network gets, from the last step of a pipeline that fixes them.

    Raises:
        ConfigError: No pipeline does.
    """
    for name in _LOADERS:
        dataset = (cfg.get(name) or {}).get('dataset') or {}
        while dataset.get('dataset'):
            dataset = dataset['dataset']
        for step in reversed(dataset.get('pipeline') or []):
            key, width_first = _SIZES.get(str(step.get('type')).rpartition('.')[2], ('', False))
            size = step.get(key)
            if size is None or (step.get('keep_ratio') and key == 'scale'):
                continue
            if isinstance(size, int):
                return size, size
            return (size[1], size[0]) if width_first else (size[0], size[1])
    raise ConfigError('the pipelines of the config do not fix the size of the images; say it with --shape H W')


def build_model(cfg: Config) -> Any:
    """The network of a config, on the GPU if there is one, with random weights.

    Heads and losses that take something from the training labels (graphs, orders, sets) get made-up ones: each class
    alone, and each with the next; no more label sets than a head takes, each as often as it asks for.

    Raises:
        ConfigError: It has no backbone, or it is no classifier with a head.
    """
    from mmengine.device import get_device

    from mlcls.models.fitting import fit_heads, fit_losses
    from mlcls.registry import MODELS

    model = MODELS.build(cfg.model)
    if getattr(model, 'head', None) is None or not hasattr(model, 'backbone'):
        raise ConfigError(f'{type(model).__name__}: a classifier with a backbone and a head is needed; set model.head')
    if getattr(model.head, 'num_classes', 0):
        statistics = LabelStatistics(_made_up_labels(model.head))
        fit_losses(model, statistics)
        with suppress(DataError):  # of heads that compare the labels with their settings, and take nothing from them
            fit_heads(model, statistics)
    if cfg.get('channels_last'):
        model = model.to(memory_format=torch.channels_last)
    return model.to(get_device())


def _made_up_labels(head: Any) -> LabelMatrix:
    classes = head.num_classes
    present = [[c] for c in range(classes)] + [[c, (c + 1) % classes] for c in range(classes) if classes > 1]
    if classes == 1:
        present.append([])
    kept = present[: getattr(head, 'max_sets', None)]
    return LabelMatrix.from_lists([labels for labels in kept for _ in range(getattr(head, 'min_count', 1))], classes)


def measure(model: Any, shape: tuple[int, int], flags: ComplexityFlags = ComplexityFlags()) -> Complexity:
    """Measure a network.

    Args:
        model: An ``ImageClassifier`` with a head.
        shape: Height and width of the images.
        flags: Batch size, repeats, and whether to take times.

    Raises:
        ConfigError: The network cannot take images of this size.
    """
    from mlcls.models.complexity import Figures, count, measure_speed

    first = next((part for part in model.backbone.modules() if isinstance(part, torch.nn.Conv2d)), None)
    channels = getattr(model.backbone, 'in_channels', 3 if first is None else first.in_channels)
    try:
        stages = count(model, shape, channels)
    except ConfigError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f'the network cannot take images of {shape[0]} x {shape[1]} pixels ({reason})') from error
    total = Figures('total', *(sum(getattr(s, name) for s in stages) for name in _COUNTED))
    speed = None
    if flags.speed:
        speed = measure_speed(model, shape, flags.batch_size, flags.repeats, channels)
        total.seconds = speed.forward
        for stage in stages:
            stage.seconds = speed.stages[stage.name]
    held = {id(each): each.numel() * each.element_size() for each in (*model.parameters(), *model.buffers())}
    return Complexity(shape, stages, total, sum(held.values()), speed, _device_words(model))


_COUNTED = ('parameters', 'multiply_adds', 'activations')


def _device_words(model: Any) -> str:
    device = next(model.parameters()).device
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f'CPU, {threads} thread{"" if threads == 1 else "s"}'


def as_plain(found: Complexity) -> dict[str, Any]:
    """As JSON can hold it."""
    speed = None if found.speed is None else asdict(found.speed)
    if found.speed is not None and speed is not None:
        size = found.speed.batch_size
        speed |= {
            'images_per_second': size / found.speed.forward,
            'training_images_per_second': size / found.speed.training,
        }
    return {
        'shape': list(found.shape),
        'stages': [asdict(stage) for stage in found.stages],
        'total': asdict(found.total),
        'weight_bytes': found.weight_bytes,
        'speed': speed,
        'device': found.device,
        'torch': torch.__version__,
    }


def describe(found: Complexity, title: str) -> str:
    """A table, a row a stage."""
    batch = found.speed.batch_size if found.speed is not None else 1
    head = ['stage', 'parameters', 'multiply-adds', 'activations', *(['images/s'] if found.speed else [])]
    rows = [_row(figures, batch, found.speed is not None) for figures in (*found.stages, found.total)]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    line = '-' * (sum(widths) + 2 * len(widths) - 2)

    def shown(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        return '  '.join(cells).rstrip()

    words = [
        'one image; multiply-adds of convolutions and matrix products (FLOPs are twice as many), activations: elements '
        'of their outputs',
        f'weights and buffers: {found.weight_bytes / 2**20:.1f} MiB',
    ]
    if found.speed is not None:
        words.append(
            f'batches of {batch} on {found.device}, medians: forward {batch / found.speed.forward:.1f} images/s, '
            f'forward and backward {batch / found.speed.training:.1f} images/s (no loss, no optimiser)'
        )
    heading = f'{title}: {found.shape[0]} x {found.shape[1]} pixels'
    return '\n'.join([heading, '', shown(head), line, *map(shown, rows[:-1]), line, shown(rows[-1]), '', *words])


def _row(figures: Figures, batch: int, timed: bool) -> list[str]:
    row = [figures.name, *(_short(getattr(figures, name)) for name in _COUNTED)]
    if timed:
        row.append(f'{batch / figures.seconds:,.1f}' if figures.seconds else '-')
    return row


def _short(number: int) -> str:
    """A count with three digits after the point: ``25.557 M``."""
    for size, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= size:
            return f'{number / size:.3f} {letter}'
    return str(number)
