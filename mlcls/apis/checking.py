"""Checking data before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcls.datasets.checking import CheckReport, SplitSet, check_splits, splits_of_datasets, splits_of_source, to_json
from mlcls.errors import ConfigError, DataError, did_you_mean
from mlcls.fileio import write_atomic, write_json

LOADERS = ('train', 'val', 'test')


@dataclass(frozen=True)
class CheckFlags:
    """What a check command may be told.

    Args:
        format: Format of the annotations; ``'auto'`` recognises it.
        split: Check this split alone.
        classes: Class names or a text file of them, for annotations that name none.
        options: Further arguments of the format's reader.
        image_folder: Folder of the images; that of the annotations if empty.
        images: False opens no image.
        workers: Processes that open images; 0 works in this one, None takes as many as there are processors.
    """

    format: str = 'auto'
    split: str | None = None
    classes: Sequence[str] | str | None = None
    options: Mapping[str, Any] | None = None
    image_folder: str = ''
    images: bool = True
    workers: int | None = None


def check_data(
    source: str | Path,
    flags: CheckFlags = CheckFlags(),
    options: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] | None = None,
) -> CheckReport:
    """Check the data of a config, or annotations of any format.

    Args:
        source: A config (``.py``), an annotation file, or a folder.
        flags: What the command line says.
        options: Overrides of settings of the config, dotted keys to values.
        progress: Called with the number of images opened since the last call.

    Returns:
        The report. Defects of the data are findings in it.

    Raises:
        UserError: There is nothing at ``source``, the config cannot be loaded, or a flag does not fit.
    """
    if flags.workers is not None and flags.workers < 0:
        raise ConfigError(f'--workers must be at least 0, got {flags.workers}')
    found = _config_splits(source, flags, options) if Path(source).suffix == '.py' else _splits(source, flags, options)
    return check_splits(found, str(source), flags.images, flags.workers, progress)


def _config_splits(source: str | Path, flags: CheckFlags, options: Mapping[str, Any] | None) -> SplitSet:
    from mlcls.apis.training import prepare_config

    if flags.format != 'auto' or flags.classes or flags.image_folder or flags.options:
        raise ConfigError('--format, --classes, --images and --options are for annotations; a config says these itself')
    cfg = prepare_config(source, options)
    loaders = {name: cfg.get(f'{name}_dataloader') for name in LOADERS}
    datasets = {name: loader['dataset'] for name, loader in loaders.items() if loader and loader.get('dataset')}
    if not datasets:
        raise ConfigError(f'{source}: has no train_dataloader, val_dataloader or test_dataloader; nothing to check')
    if flags.split is not None:
        if flags.split not in datasets:
            raise ConfigError(f"{source}: has no split '{flags.split}'{did_you_mean(flags.split, datasets)}")
        datasets = {flags.split: datasets[flags.split]}
    return splits_of_datasets(datasets)


def _splits(source: str | Path, flags: CheckFlags, options: Mapping[str, Any] | None) -> SplitSet:
    if options:
        raise ConfigError('--cfg-options needs a config')
    if not Path(source).exists():
        raise DataError(f'{source}: no such config, annotation file or folder')
    return splits_of_source(source, flags.format, flags.split, flags.classes, flags.image_folder, flags.options)


def write_report(report: CheckReport, html: str | None = None, json: str | None = None) -> list[str]:
    """Write the report to files.

    Args:
        report: What was found.
        html: Path of the page; None writes none.
        json: Path of the JSON file; None writes none.

    Returns:
        The paths written.
    """
    if html is not None:
        from mlcls.datasets.checking.page import render_page

        page = render_page(report).encode()
        write_atomic(html, lambda file: file.write(page))
    if json is not None:
        write_json(json, to_json(report))
    return [path for path in (html, json) if path is not None]


def exit_code(report: CheckReport, fail_on: str = 'warning') -> int:
    """The exit code of a check: 2 if there are errors in the data, 1 if there are warnings, else 0.

    Args:
        report: What was found.
        fail_on: The mildest severity that counts; ``'never'`` gives 0.
    """
    if fail_on == 'never' or (fail_on == 'error' and report.worst != 'error'):
        return 0
    return {'error': 2, 'warning': 1}.get(report.worst, 0)
