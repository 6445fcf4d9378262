"""Time and memory of annotations at size: first reading, reading from the cache, and worker processes that share them.

    python tools/benchmarks/bench_annotations.py --images 9000000 --classes 9600 --labels 8 --workers 4 --format text

A file is made (long-tailed classes, a Poisson number of labels an image), read, and read again from the cache, each in
a process of its own. Then a loader whose samples are made of annotations alone draws a part of the images; memory of
the main process and of its workers is what /proc/PID/smaps_rollup says before and after: RSS counts every page a
process has mapped, PSS shares a page out among those that map it, USS is what no other process maps, and anonymous is
what the system cannot drop and read again from a file (forked workers share most of it). 'copied' is the same loader
with arrays in memory instead of in the cache's file. The last line is JSON. Linux only.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mlcls.datasets.formats import cache as annotation_cache
from mlcls.datasets.formats import read_annotations
from mlcls.structures import Annotations

#: How the arrays come to the workers: from the cache's file or copied, and how workers are started.
WAYS = (('mapped', 'fork'), ('mapped', 'spawn'), ('copied', 'spawn'))
#: How the processes that are measured are started: with nothing of this one's memory.
START = 'spawn'
BATCH = 256
MIB = 1 << 20
_KINDS = {'Rss': 'rss', 'Pss': 'pss', 'Private_Clean': 'uss', 'Private_Dirty': 'uss', 'Anonymous': 'anonymous'}


class LabelCounts(Dataset[int]):
    """Of each image the number of labels that are present; its target row and its path are made for it.

    Args:
        annotations: Of the images.
    """

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: int) -> int:
        row, path = self.annotations.labels.row(index), self.annotations.img_paths[index]
        return int(row.sum()) if path else 0


class Draws(list[int]):
    """Indices that a loader's sampler draws; they can be exchanged between epochs."""


def make_lines(images: int, classes: int, labels: float, seed: int = 0) -> Iterator[tuple[str, list[int]]]:
    """Path and class ids of each image: ``labels`` on average, the class of rank r about as often as 1 / sqrt(r)."""
    rng = np.random.default_rng(seed)
    for first in range(0, images, 65536):
        count = min(65536, images - first)
        ends = np.cumsum(rng.poisson(labels, count)).tolist()
        drawn = (classes * rng.random(ends[-1]) ** 2).astype(int).tolist()
        start = 0
        for number, end in enumerate(ends, start=first):
            yield f'train/{number % 10007:05d}/{number:08d}.jpg', sorted(set(drawn[start:end]))
            start = end


def make_file(path: Path, options: argparse.Namespace) -> None:
    """Write the annotation file."""
    lines = make_lines(options.images, options.classes, options.labels)
    with open(path, 'w') as file:
        if options.format == 'text':
            file.writelines(f'{img_path} {",".join(map(str, ids))}\n' for img_path, ids in lines)
            return
        file.write(json.dumps({'metainfo': {'classes': class_names(options.classes)}})[:-1] + ', "data_list": [\n')
        for number, (img_path, ids) in enumerate(lines):
            file.write((',\n' if number else '') + json.dumps({'img_path': img_path, 'gt_label': ids}))
        file.write('\n]}\n')


def class_names(count: int) -> list[str]:
    """Names of classes."""
    return [f'class {number}' for number in range(count)]


def read(path: Path, options: argparse.Namespace) -> Annotations:
    """Read the file as datasets do, with a cache beside it."""
    annotation_cache.WORTHWHILE_IMAGES = 0  # also where few images are only to try this script
    os.environ['MLCLS_CACHE'] = str(path.parent)
    return read_annotations(path, options.format, class_names(options.classes))


def in_a_process(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run it in a process of its own, so that its memory is its own, and give what it returns."""
    context = multiprocessing.get_context(START)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work, *arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _send(sender: Any, work: Callable[..., dict[str, Any]], *arguments: Any) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings('ignore', '.*worker processes in total')
    sender.send(work(*arguments))


def time_reading(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds by the clock and of this process's CPU, and MiB by which memory was higher at its peak and is after."""
    before = memory(os.getpid())
    started, started_cpu = time.perf_counter(), time.process_time()
    annotations = read(path, options)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    after, peak = memory(os.getpid()), _status('VmHWM')
    labels = annotations.labels
    arrays = [*annotations.img_paths.arrays, labels.indptr, labels.indices]
    sizes = [array.nbytes for array in arrays] + [labels.values.nbytes if labels.values.strides[0] else 1]
    return {
        'seconds': round(seconds, 2),
        'cpu_seconds': round(cpu_seconds, 2),
        'peak_mib': round(peak - before['rss'], 1),
        'anonymous_mib': round(after['anonymous'] - before['anonymous'], 1),
        'images': len(annotations),
        'labels': len(labels.indices),
        'label_bytes': round(sum(sizes[2:]) / len(labels.indices), 2),
        'path_bytes_an_image': round(sum(sizes[:2]) / len(annotations), 2),
        'arrays_mib': round(sum(sizes) / MIB, 1),
    }


def memory(pid: int) -> dict[str, float]:
    """RSS, PSS, USS and anonymous memory of a process in MiB."""
    found = dict.fromkeys(_KINDS.values(), 0.0)
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]:
        name, size = line.split()[:2]
        kind = _KINDS.get(name.rstrip(':'))
        if kind:
            found[kind] += int(size) / 1024
    return {kind: round(size, 1) for kind, size in found.items()}


def _status(key: str) -> float:
    """A size in MiB from /proc/self/status."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f'{key}:'))


def measure_workers(path: Path, options: argparse.Namespace, arrays: str, start: str) -> dict[str, Any]:
    """Memory of the main process and its workers at the beginning and after a part of an epoch."""
    annotations = read(path, options)
    if arrays == 'copied':
        annotations = annotations.select(np.arange(len(annotations)))
    draws = np.random.default_rng(1).permutation(len(annotations))[: options.draws].copy()
    sampler = Draws(draws[: BATCH * options.workers].tolist())
    started = time.perf_counter()
    loader = DataLoader(
        LabelCounts(annotations),
        BATCH,
        sampler=sampler,
        num_workers=options.workers,
        multiprocessing_context=start,
        persistent_workers=True,
    )
    for _ in loader:
        pass
    start_seconds, started = time.perf_counter() - started, time.perf_counter()
    workers = [process.pid for process in multiprocessing.active_children()]
    before = [memory(pid) for pid in (os.getpid(), *workers)]
    sampler[:] = draws.tolist()
    counted = sum(int(counts.sum()) for counts in loader)
    seconds = time.perf_counter() - started
    expected = int(annotations.labels.select(draws).counts().sum())
    if counted != expected or len(workers) != options.workers:
        raise RuntimeError(f'{len(workers)} workers counted {counted} labels, not {expected}')
    after = [memory(pid) for pid in (os.getpid(), *workers)]
    result: dict[str, Any] = {'start_seconds': round(start_seconds, 2), 'epoch_seconds': round(seconds, 2)}
    for name, sizes in (('before', before), ('after', after)):
        result[name] = {
            'main': sizes[0],
            'worker': {kind: round(sum(worker[kind] for worker in sizes[1:]) / len(workers), 1) for kind in sizes[0]},
            'pss_of_all': round(sum(each['pss'] for each in sizes), 1),
        }
    return result


def print_table(figures: dict[str, Any]) -> None:
    """The figures, for people."""
    first, cached = figures['first'], figures['cached']
    print(f'{first["images"]} images, {first["labels"]} labels, file {figures["file_mib"]:.0f} MiB')
    print(f'{"":16} {"seconds":>8} {"of CPU":>8} {"peak MiB":>9} {"anonymous MiB after":>20}')
    for name, row in (('first reading', first), ('from the cache', cached)):
        seconds = f'{row["seconds"]:8.2f} {row["cpu_seconds"]:8.2f}'
        print(f'{name:16} {seconds} {row["peak_mib"]:9.0f} {row["anonymous_mib"]:20.0f}')
    print(
        f'cache {figures["cache_mib"]:.0f} MiB, {cached["label_bytes"]} bytes a label, '
        f'{cached["path_bytes_an_image"]} bytes a path\n'
    )
    print(f'{"MiB":31} {"RSS":>7} {"PSS":>7} {"USS":>7} {"anon":>7} {"PSS of all":>11}')
    for way, found in figures['workers'].items():
        for when in ('before', 'after'):
            for who in ('main', 'worker'):
                sizes = ' '.join(f'{size:7.0f}' for size in found[when][who].values())
                total = f'{found[when]["pss_of_all"]:11.0f}' if who == 'main' else ''
                print(f'{way:14} {when:7} {who:8} {sizes} {total}')


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    from seeds import hardware  # beside this script

    path = folder / f'annotations.{"txt" if options.format == "text" else "json"}'
    make_file(path, options)
    time.sleep(0.2)  # a file that has only just changed is not kept in the cache
    figures: dict[str, Any] = {
        'benchmark': 'annotations',
        'images': options.images,
        'classes': options.classes,
        'format': options.format,
        'num_workers': options.workers,
        'draws': min(options.draws, options.images),
        'hardware': hardware(),
        'torch': torch.__version__,
        'python': platform.python_version(),
        'file_mib': round(path.stat().st_size / MIB, 1),
    }
    for name in ('first', 'cached'):
        figures[name] = in_a_process(time_reading, path, options)
    kept = (folder / 'annotations').iterdir()  # the folder of the cache in $MLCLS_CACHE
    figures['cache_mib'] = round(sum(file.stat().st_size for file in kept) / MIB, 1)
    figures['workers'] = {
        f'{arrays}, {start}': in_a_process(measure_workers, path, options, arrays, start) for arrays, start in WAYS
    }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=9_000_000)
    parser.add_argument('--classes', type=int, default=9600)
    parser.add_argument('--labels', type=float, default=8, help='of an image, on average')
    parser.add_argument('--workers', type=int, default=4)
    parser.add_argument('--format', choices=('text', 'native'), default='text')
    parser.add_argument('--draws', type=int, default=1_000_000, help='images that the loader draws')
    parser.add_argument(
        '--folder', type=Path, help="for the files made, several GB; the system's temporary one if not given"
    )
    parser.add_argument('--out', type=Path, help='also write the last line to this file')
    options = parser.parse_args()
    if min(options.images, options.classes, options.workers, options.draws) < 1 or options.labels <= 0:
        parser.error('--images, --classes, --labels, --workers and --draws must be above 0')
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        figures = run(Path(folder), options)
    print_table(figures)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(figures, indent=1) + '\n')
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
