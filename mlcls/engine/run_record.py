"""What a run was and how it ended: ``run.json`` in the folder of its logs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.runner import BaseLoop

from mlcls.engine.dataloader import batch_size_of
from mlcls.engine.git_state import git_state
from mlcls.engine.logs import versions
from mlcls.errors import RunStopped, UserError
from mlcls.fileio import file_digest, write_atomic, write_json

if TYPE_CHECKING:
    from mlcls.engine.runner import Runner

#: Files of a record, in ``work_dir/<timestamp>/``.
RECORD, PATCH, CONFIG_PATCH = 'run.json', 'diff.patch', 'diff_config.patch'
#: The full hash of a data set looks at each name; of more images than this, arrays are hashed as they are.
_MANY_IMAGES = 200_000


class RunRecord:
    """A JSON file that says what a run is, and in the end how it ended. Rank 0 writes it, others do nothing.

    A file that cannot be written is warned of once, and never ends a run. Methods may be called from any thread.

    Args:
        folder: Where the files go, ``work_dir/<timestamp>``.
        facts: Plain data, see `collect_facts`. Bytes under the key ``'patches'`` (file name to content) become files.
        warn: Takes the warning.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any], warn: Callable[[str], None] | None = None) -> None:
        self.folder = Path(folder)
        self.content: dict[str, Any] = {name: value for name, value in facts.items() if name != 'patches'}
        self._patches: dict[str, bytes] = dict(facts.get('patches', {}))
        self._warn = warn or (lambda message: print_log(message, 'current', 30))
        self._has_warned = False
        self._lock = threading.RLock()
        self._writes = is_main_process()

    def start(self) -> None:
        """Write that the run is under way."""
        self._change(state='running', started=_now(), process=own_process(), exit_reason=None, epoch=0, iteration=0)
        for name, patch in self._patches.items():
            self._try(partial(_write_bytes, self.folder / name, patch))

    def add(self, facts: Mapping[str, Any]) -> None:
        """Write what was not known at the start."""
        self._change(**facts)

    def progress(self, epoch: int, iteration: int) -> None:
        """Write how far the run is; as often as checkpoints are written, not each step.

        Args:
            epoch: Epochs finished.
            iteration: Steps finished.
        """
        self._change(epoch=epoch, iteration=iteration, updated=_now())

    def finish(self, reason: str, images_per_second: float | None = None) -> None:
        """Write how the run ended.

        Args:
            reason: ``'finished'``, ``'stopped early: ...'``, ``'error: ...'``, ``'signal SIGTERM'`` or
                ``'interrupted'``; see `exit_reason`.
            images_per_second: Mean over the run and all processes.
        """
        rate = {} if not images_per_second else {'images_per_second': round(images_per_second, 2)}
        self._change(state='ended', exit_reason=reason, ended=_now(), **rate)

    def _change(self, **facts: Any) -> None:
        with self._lock:
            self.content.update(facts)
            self._try(lambda: write_json(self.folder / RECORD, self.content))

    def _try(self, write: Callable[[], None]) -> None:
        if not self._writes:
            return
        try:
            write()
        except (OSError, TypeError, ValueError) as error:
            if not self._has_warned:
                reason = getattr(error, 'strerror', None) or error
                self._warn(f'{self.folder / RECORD}: cannot be written ({reason}); the run goes on without its record')
            self._has_warned = True


@contextmanager
def recorded(runner: Runner, warn: Callable[[str], None] | None = None) -> Iterator[RunRecord]:
    """Keep the record of a training: from its start to however it ends.

    Says first if the last run in the work folder ended without a word, or is still going.

    Args:
        runner: The run; built, not yet trained.
        warn: Takes warnings; the run's logger by default.
    """
    warn = warn or runner.logger.warning
    if is_main_process():
        words = last_words(last_record(runner.work_dir))
        if words:
            warn(words)
    record = RunRecord(Path(runner.work_dir) / runner.timestamp, _guarded(collect_facts, runner, warn), warn)
    record.start()
    reason = 'finished'
    try:
        yield record
        reason = exit_reason(runner, None)
    except BaseException as error:
        reason = exit_reason(runner, error)
        raise
    finally:
        record.add(_guarded(_last_facts, runner, warn))
        record.finish(reason, _images_per_second(runner))


def _guarded(collect: Callable[[Any], dict[str, Any]], runner: Any, warn: Callable[[str], None]) -> dict[str, Any]:
    """Facts, or none: whatever cannot be found out about a run must not end it."""
    try:
        return collect(runner)
    except Exception as error:
        warn(f'the record of the run is not complete ({type(error).__name__}: {error}); the run goes on')
        return {}


def _last_facts(runner: Any) -> dict[str, Any]:
    return {**data_facts(runner), **_place(runner)} if is_main_process() else {}


def exit_reason(runner: Any, error: BaseException | None) -> str:
    """How a run ended, in words.

    Args:
        runner: The run.
        error: What ended it; None if its loop came to an end.
    """
    if isinstance(error, KeyboardInterrupt):
        return 'interrupted'
    if isinstance(error, RunStopped):
        received = getattr(getattr(runner, 'signals', None), 'received', None)
        if received == 'SIGINT':
            return 'interrupted'
        return f'signal {received}' if received else f'stopped: {error}'
    if isinstance(error, SystemExit):
        return f'exit with code {error.code}'
    if error is not None:
        kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
        return f'error: {kind}{error}'
    loop = getattr(runner, '_train_loop', None)
    if getattr(loop, 'stop_training', False):
        given = getattr(loop, 'stop_reason', None)
        return f'stopped early: {given or f"after epoch {runner.epoch} of {runner.max_epochs}"}'
    return 'finished'


def collect_facts(runner: Runner) -> dict[str, Any]:
    """What is known of a run before its first step, as plain data; takes some hundredths of a second.

    The name of the machine is not in it. ``patches`` holds what differs from the commit, as bytes. Empty but on rank 0.
    """
    if not is_main_process():
        return {}
    import torch

    source = runner.cfg.filename
    config = _config_file(runner)
    code, patch = git_state(Path(__file__).resolve().parents[1], needs='__init__.py')
    git = {'code': code}
    patches = {PATCH: patch} if patch else {}
    if source:
        own, own_patch = git_state(Path(source).resolve().parent)
        if own.get('root') != code.get('root'):
            git['config'] = own
            patches |= {CONFIG_PATCH: own_patch} if own_patch else {}
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        'command': list(sys.argv),
        'folder': os.getcwd(),
        'config': {
            'source': None if source is None else str(source),
            'resolved': None if config is None else str(config),
            'sha256': None if config is None else file_digest(config),
        },
        'git': git,
        'environment': {
            'python': platform.python_version(),
            'system': f'{platform.system()} {platform.release()} {platform.machine()}',
            'packages': versions(),
            'cuda': torch.version.cuda,
            'gpus': gpus,
            'threads': torch.get_num_threads(),
            'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
        },
        'seed': runner.seed,
        'world_size': runner.world_size,
        **data_facts(runner),
        'patches': patches,
    }


def data_facts(runner: Any) -> dict[str, Any]:
    """Hashes of the training and validation data, as far as their loaders are built: ``{'data': {'train': ...}}``."""
    found = {}
    for name in ('train', 'val'):
        loader, loop = getattr(runner, f'_{name}_dataloader', None), getattr(runner, f'_{name}_loop', None)
        loader = loop.dataloader if isinstance(loop, BaseLoop) else loader
        dataset = getattr(loader, 'dataset', None)
        if dataset is not None and not isinstance(loader, Mapping):
            found[name] = data_hash(dataset)
    return {'data': found} if found else {}


def data_hash(dataset: Any) -> dict[str, Any]:
    """A hash of the annotations of a data set, and how it was made.

    Returns:
        ``images``, ``hash`` (16 hexadecimal digits, or None) and ``made_of`` in words.
    """
    while not hasattr(dataset, 'annotations') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    images = len(dataset) if hasattr(dataset, '__len__') else None
    annotations = getattr(dataset, 'annotations', None)
    if annotations is None or not hasattr(annotations, 'labels'):
        return {'images': images, 'hash': None, 'made_of': 'nothing: this data set has no annotations to hash'}
    images = len(annotations)
    if images <= _MANY_IMAGES and hasattr(dataset, 'fingerprint'):
        made_of = 'classes, image names and labels, in any order (as in checkpoints and results)'
        return {'images': images, 'hash': dataset.fingerprint, 'made_of': made_of}
    found = hashlib.blake2b('\0'.join(annotations.classes).encode('utf-8', 'surrogatepass'), digest_size=8)
    labels = annotations.labels
    found.update(f'\0{labels.default}\0'.encode())
    for array in (labels.indptr, labels.indices, labels.values, *annotations.img_paths.arrays):
        found.update(memoryview(array.copy(order='C') if not array.flags.c_contiguous else array).cast('B'))
    made_of = 'classes, image names and labels as they are stored, in their order (many images)'
    return {'images': images, 'hash': found.hexdigest(), 'made_of': made_of}


def last_record(work_dir: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The record of the run in a work folder that started last; None where there is none. Damaged ones are skipped."""
    found: list[dict[str, Any]] = []
    for path in Path(work_dir).glob(f'*/{RECORD}'):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and isinstance(content.get('started'), str):
            found.append(content)
    return max(found, key=lambda content: content['started'], default=None)


def last_words(record: Mapping[str, Any] | None) -> str | None:
    """What a new run should say about the last one in its folder; None if that ended in order, or is this process.

    Args:
        record: From `last_record`.
    """
    if record is None or record.get('state') != 'running':
        return None
    process = record.get('process')
    process = process if isinstance(process, Mapping) else {}
    here = own_process()
    if process == here:
        return None
    place = f'in epoch {int(record.get("epoch") or 0) + 1}, iteration {record.get("iteration") or 0} or later'
    gone = f'the last run in this folder ended without a word (killed, or a power cut?) {place}'
    if process.get('system') != here['system']:
        # Another machine or container, or this one before it was rebooted.
        return (
            f'{gone}; if it is still running on another machine, stop one of the two: they would write over each other'
        )
    if process.get('started') is not None and _started(process.get('id')) == process['started']:
        return (
            f'another run (process {process["id"]}) is still going in this folder, {place}: stop one of the two, or '
            'choose another --work-dir; they would write over each other'
        )
    return gone


def own_process() -> dict[str, Any]:
    """Tells this process from any other, also from a later one with its number: ``id``, ``started`` (clock ticks since
    the system started) and ``system``, a hash that is another after a reboot and on another machine."""
    parts = [_read('/proc/sys/kernel/random/boot_id'), _link('/proc/self/ns/pid')]
    system = hashlib.blake2b('\0'.join(parts).encode(), digest_size=8).hexdigest()
    return {'id': os.getpid(), 'started': _started(os.getpid()), 'system': system}


def _started(number: Any) -> int | None:
    """When a process began; None if there is none of this number, or the system does not say."""
    if isinstance(number, bool) or not isinstance(number, int):
        return None
    # The name of the program, in brackets, may hold anything.
    fields = _read(f'/proc/{number}/stat').rpartition(')')[2].split()
    if len(fields) < 20 or fields[0] in 'ZX':  # dead, and not yet collected
        return None
    return int(fields[19])


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors='replace').strip()
    except OSError:
        return ''


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ''


def _config_file(runner: Any) -> Path | None:
    """The file with the resolved config; the one beside this run's logs, if it is there: a later run keeps it."""
    name = Path(runner.cfg.filename).stem if runner.cfg.filename else 'config'
    work_dir = Path(runner.work_dir)
    choices = (work_dir / runner.timestamp / 'vis_data' / 'config.py', work_dir / f'{name}.py')
    return next((path for path in choices if path.is_file()), None)


def _place(runner: Any) -> dict[str, int]:
    loop = getattr(runner, '_train_loop', None)
    return {'epoch': loop.epoch, 'iteration': loop.iter} if isinstance(loop, BaseLoop) else {}  # type: ignore[attr-defined]


def _images_per_second(runner: Any) -> float | None:
    loop, meter = getattr(runner, '_train_loop', None), getattr(runner, 'meter', None)
    if meter is None or not isinstance(loop, BaseLoop) or not meter.mean_seconds:
        return None
    size = batch_size_of(loop.dataloader)
    return None if size is None else size * runner.world_size / meter.mean_seconds


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomic(path, lambda file: file.write(content))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec='seconds')
