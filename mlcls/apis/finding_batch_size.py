"""The batch size of a training: how large fits, and how large is worth it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mlcls.errors import ConfigError, TrainingError

if TYPE_CHECKING:
    from mmengine.config import Config

    from mlcls.engine import Runner
    from mlcls.structures import Batch

#: Sizes are tried up to this one unless told otherwise.
MAX_SIZE = {'cuda': 4096, 'cpu': 512}
#: A size is good enough if its throughput lacks at most this share of the best.
WITHIN = {'cuda': 0.02, 'cpu': 0.05}
#: Steps before and in the measurement of a size.
_WARM_UP, _TIMED = 2, 3
_MEMORY_WORDS = ('out of memory', "can't allocate memory", 'ALLOC_FAILED', 'not enough memory')


@dataclass(frozen=True)
class BatchSizeFlags:
    """How to search.

    Args:
        max_size: Largest size that is tried; None: 4096 on a GPU, 512 on a CPU, never more than there are images.
        target_memory: Share of the available memory that may be used, in (0, 1].

    Raises:
        ConfigError: A value outside these.
    """

    max_size: int | None = None
    target_memory: float = 0.9

    def __post_init__(self) -> None:
        if self.max_size is not None and self.max_size < 1:
            raise ConfigError(f'--max must be at least 1, got {self.max_size}')
        if not 0 < self.target_memory <= 1:
            raise ConfigError(f'--target-memory must be above 0 and at most 1, got {self.target_memory:g}')


@dataclass(frozen=True)
class Measured:
    """One size.

    Args:
        size: Images a batch.
        rate: Images a second.
        memory: Bytes that training takes at this size; None where that cannot be told.
    """

    size: int
    rate: float
    memory: int | None


@dataclass(frozen=True)
class BatchSizes:
    """What was found.

    Args:
        measured: The sizes that fit, rising.
        too_large: Smallest size that did not fit; None if all did.
        recommended: Smallest size whose throughput is within a few percent of the best.
        why_stopped: Why no larger size was tried.
    """

    measured: list[Measured]
    too_large: int | None
    recommended: int
    why_stopped: str

    @property
    def largest(self) -> int:
        """Largest size that fits."""
        return max(each.size for each in self.measured)


def find_batch_size(
    config: str | Path, flags: BatchSizeFlags = BatchSizeFlags(), options: Mapping[str, Any] | None = None
) -> BatchSizes:
    """Try batch sizes for a config, and print what they cost and give. Nothing is written.

    One real batch is repeated, so the speed of the loader plays no part.

    Args:
        config: Path of the config file.
        flags: How to search.
        options: Overrides of single settings, dotted keys to values.

    Raises:
        UserError: Config or data cannot be used, or not even the smallest batch fits.
    """
    from mlcls.apis.trial_run import endless_batches, trial_config, trial_run
    from mlcls.engine.dataloader import order_of
    from mlcls.engine.train_loop import has_batch_norm

    cfg = trial_config(config, options)
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    with trial_run(cfg) as runner:
        trial = Trial(runner, next(endless_batches(runner)), flags.target_memory)
        images = len(order_of(runner.train_dataloader))
        cap = min(flags.max_size or MAX_SIZE[trial.kind], images)
        first = min(cap, 2 if has_batch_norm(runner.model) else 1)
        found = search(trial.measure, first, cap, WITHIN[trial.kind], patient=trial.kind != 'cpu')
        print(describe(found, trial, flags.target_memory))
        print('\n'.join(advice(found, cfg, base)))
    return found


class Trial:
    """Training steps with batches of any size.

    Args:
        runner: From `mlcls.apis.trial_run.trial_run`.
        batch: A real batch, repeated as needed.
        target_memory: Share of the available memory that may be used.
        clock: Seconds, for tests.
    """

    def __init__(
        self, runner: Runner, batch: Batch, target_memory: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.runner, self.batch, self.clock = runner, batch, clock
        self.device = next(runner.model.parameters()).device
        self.kind = 'cuda' if self.device.type == 'cuda' else 'cpu'
        self.counts = max(1, runner.optim_wrapper._accumulative_counts)
        self.available = available_memory(self.device)
        self.limit = None if self.available is None else int(target_memory * self.available)
        self.start = resident_memory()
        self.last: Measured | None = None

    def measure(self, size: int) -> Measured | None:
        """Train a few steps; None if the size does not fit."""
        if self._would_not_fit(size):
            return None
        failed = False
        self._clean()
        times: list[float] = []
        # Without accumulation that reaches over from one size to the next.
        self.runner.optim_wrapper.initialize_count_status(self.runner.model, 0, 10**9)
        batch: dict[str, Any] = {}
        try:
            batch = repeat_batch(self.batch, size, self.device)
            for _ in range(_WARM_UP + _TIMED):
                before = self.clock()
                for _ in range(self.counts):
                    self.runner.model.train_step(dict(batch), optim_wrapper=self.runner.optim_wrapper)
                if self.kind == 'cuda':
                    torch.cuda.synchronize(self.device)
                times.append(self.clock() - before)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failed = True  # cleaned up below: here the error still holds the tensors of all frames
        used = self._used()
        del batch
        if failed:
            self.runner.optim_wrapper.zero_grad(set_to_none=True)
            self._clean()
            return None
        if used is not None and self.limit is not None and used > self.limit:
            return None
        self.last = Measured(size, self.counts * size / max(min(times[_WARM_UP:]), 1e-9), used)
        return self.last

    def _would_not_fit(self, size: int) -> bool:
        # A GPU refuses what is too much; a CPU's system would end the process.
        if self.kind == 'cuda' or self.last is None or self.last.memory is None or self.limit is None:
            return False
        return self.last.memory * size / self.last.size > self.limit

    def _used(self) -> int | None:
        if self.kind == 'cuda':
            return torch.cuda.max_memory_reserved(self.device)
        peak = peak_memory()
        return None if peak is None or self.start is None else max(0, peak - self.start)

    def _clean(self) -> None:
        gc.collect()
        if self.kind == 'cuda':
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def search(
    measure: Callable[[int], Measured | None], first: int, cap: int, within: float, patient: bool = True
) -> BatchSizes:
    """Double the size until one does not fit, then halve the interval between.

    Args:
        measure: Measures a size; None if it does not fit.
        first: Smallest size.
        cap: Largest size.
        within: Share of the best throughput that the recommended size may lack.
        patient: False also stops when two doublings have brought no more throughput than that.

    Raises:
        TrainingError: The smallest size does not fit.
    """
    found: dict[int, Measured] = {}
    too_large: int | None = None
    stopped, size = f'{cap} is the largest that is tried', first
    while True:
        measured = measure(size)
        if measured is None:
            too_large, stopped = size, f'{size} does not fit'
            break
        found[size] = measured
        if size >= cap:
            break
        if not patient and _levelled(list(found.values()), within):
            stopped = 'larger ones were no faster'
            break
        size = min(2 * size, cap)
    if not found:
        raise TrainingError(
            f'a training step with a batch of {first} does not fit into memory; take smaller images, a smaller model, '
            "mixed precision (optim_wrapper.type='AmpOptimWrapper') or model.backbone.with_cp=True"
        )
    if too_large is not None:
        too_large = _bisect(measure, found, too_large)
        stopped = f'{too_large} does not fit'
    measured_sizes = [found[each] for each in sorted(found)]
    return BatchSizes(measured_sizes, too_large, smallest_within(measured_sizes, within), stopped)


def _bisect(measure: Callable[[int], Measured | None], found: dict[int, Measured], too_large: int) -> int:
    """Fill ``found`` towards the largest size that fits; returns the smallest that does not."""
    low = max(found)
    grain = max(1, min(8, low // 4))  # multiples of 8 suit the hardware, and a finer answer is worth nothing
    while too_large - low > grain:
        middle = low + max(grain, (too_large - low) // 2 // grain * grain)
        measured = measure(middle)
        if measured is None:
            too_large = middle
        else:
            found[middle], low = measured, middle
    return too_large


def _levelled(measured: Sequence[Measured], within: float) -> bool:
    if len(measured) < 4:
        return False
    before = max(each.rate for each in measured[:-2])
    return max(each.rate for each in measured[-2:]) <= before * (1 + within)


def smallest_within(measured: Sequence[Measured], share: float) -> int:
    """The smallest size whose throughput lacks at most ``share`` of the best."""
    best = max(each.rate for each in measured)
    return min(each.size for each in measured if each.rate >= (1 - share) * best)


def repeat_batch(batch: Batch, size: int, device: torch.device = torch.device('cpu')) -> dict[str, Any]:
    """A batch of another size, made of the images of one, over and over.

    Args:
        batch: Tensors of N rows; what is none stays as it is.
        size: Rows that are wanted.
        device: Where they are to be, as those of a loader that copies ahead.
    """
    count = len(batch['index'])
    rows = torch.arange(size) % count
    made: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, torch.Tensor) and value.dim() and len(value) == count:
            flat = value.dim() == 4 and value.is_contiguous(memory_format=torch.channels_last)
            value = value[rows.to(value.device)]
            value = value.contiguous(memory_format=torch.channels_last) if flat else value
            value = value if name == 'index' else value.to(device)
        made[name] = value
    return made


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on a GPU or a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _MEMORY_WORDS)


def available_memory(device: torch.device) -> int | None:
    """Bytes that this process can use on a device; None where the system does not say.

    On a CPU it is what Linux calls available, or what the control group leaves, whichever is less.
    """
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    found = [value for value in (_meminfo(), _group_memory()) if value is not None]
    return min(found) if found else None


def _meminfo(path: str = '/proc/meminfo') -> int | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith('MemAvailable:')), None)


def _group_memory(folder: str = '/sys/fs/cgroup') -> int | None:
    try:
        limit, used = ((Path(folder) / name).read_text().strip() for name in ('memory.max', 'memory.current'))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # none, or 'max'
        return None


def resident_memory() -> int | None:
    """Bytes of this process in memory now; None where the system does not say."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    import resource

    return pages * resource.getpagesize()


def peak_memory() -> int | None:
    """The most bytes that this process has had in memory; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)


def describe(found: BatchSizes, trial: Trial, target_memory: float) -> str:
    """A table, a row a size, and what it says."""
    where = torch.cuda.get_device_name(trial.device) if trial.kind == 'cuda' else 'CPU'
    lines = [f'{where}: training steps with one batch repeated, without the loader', '', '  size   images/s     memory']
    for each in found.measured:
        memory = '-' if each.memory is None else f'{each.memory / 2**20:,.0f} MiB'
        lines.append(f'{each.size:>6}  {each.rate:>9,.1f}  {memory:>9}')
    lines.append('')
    if trial.available is None or found.measured[-1].memory is None:
        lines.append('memory is not measured: this system does not tell it')
    else:
        lines.append(f'memory: {target_memory:.0%} of {trial.available / 2**30:.1f} GiB may be used')
    lines.append(f'largest that was tried and fits: {found.largest} ({found.why_stopped})')
    share = WITHIN[trial.kind]
    lines.append(f'smallest within {share:.0%} of the best throughput: {found.recommended}')
    return '\n'.join(lines)


def advice(found: BatchSizes, cfg: Config, base: int | None) -> list[str]:
    """The settings for the recommended size, with the learning rate that linear scaling gives.

    Args:
        found: Of `search`.
        cfg: The config.
        base: ``auto_scale_lr.base_batch_size``, or None.
    """
    set_line = f'set: train_dataloader.batch_size={found.recommended}'
    wrapper = cfg.get('optim_wrapper') or {}
    lr, counts = (wrapper.get('optimizer') or {}).get('lr'), wrapper.get('accumulative_counts', 1)
    if base is None or lr is None:
        return [
            set_line,
            'the learning rate belongs to a batch size: set auto_scale_lr=dict(base_batch_size=N), N that for which '
            'optim_wrapper.optimizer.lr was chosen, and train with --auto-scale-lr',
        ]
    images = found.recommended * counts
    scaled = lr * images / base
    return [
        f'{set_line} optim_wrapper.optimizer.lr={scaled:.4g}',
        f'(lr {lr:g} was chosen for {base} images a step, {images} are made of a process; several processes: times '
        'their number; --auto-scale-lr does the same)',
    ]
