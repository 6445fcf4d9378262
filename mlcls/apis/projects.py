"""From labels in any format to a config that can be trained: read, check, split where needed, write."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any

from mlcls.apis.checking import write_report
from mlcls.apis.prepare import relocate
from mlcls.apis.splitting import Grouping, SplitFlags, split_data
from mlcls.datasets.checking import CheckReport, Finding, Split, check_splits, splits_of_source
from mlcls.datasets.formats import read_native, write_native
from mlcls.errors import ConfigError, DataError
from mlcls.fileio import read_checkpoint
from mlcls.structures import Annotations, LabelMatrix, StringList

ROLES = ('train', 'val', 'test')
#: How the names of parts begin, by what they are for.
_BEGINNINGS = {'train': ('train', 'trn'), 'val': ('val', 'dev'), 'test': ('test',)}
#: What is wrong with the split alone.
_LEAKS = ('file-in-two-splits', 'identical-across-splits')
#: Pixels below which MobileNetV2, which divides by 32, sees nothing; images below which parts are empty.
_LEAST_SIZE, _LEAST_IMAGES = 32, 20
#: Errors that are shown.
_SHOWN = 5
#: Steps that fine-tuning is given at least, within 8 to 40 epochs.
_STEPS = 2000
_BATCH = 32


@dataclass(frozen=True)
class ProjectFlags:
    """What `start_project` may be told.

    Args:
        format: Format of the annotations; ``'auto'`` recognises it.
        classes: Class names or a text file of them, for annotations that name none.
        options: Further arguments of the format's reader.
        images: Folder of the images; that of the annotations if empty.
        image_size: Side of the training images in pixels.
        weights: Weights of MobileNetV2: a file, or an address such as ``torchvision://mobilenet_v2``.
        seed: Of the split.
        split_anew: Put the parts that the data bring together and split them anew, as when images leak between them.
        force: Replace files that are there.
        data_folder: Where the annotation files go, in a folder of the project's name.
        config_folder: Where the config goes; its ``_base_`` folder holds the parts it builds on.
        work_folder: Where the report goes, in a folder of the project's name.
    """

    format: str = 'auto'
    classes: Sequence[str] | str | None = None
    options: Mapping[str, Any] | None = None
    images: str = ''
    image_size: int = 224
    weights: str = 'torchvision://mobilenet_v2'
    seed: int = 0
    split_anew: bool = False
    force: bool = False
    data_folder: str = 'data'
    config_folder: str = 'configs'
    work_folder: str = 'work_dirs'


@dataclass(frozen=True)
class Project:
    """What `start_project` made.

    Args:
        config: The config to train.
        parts: Images of each part.
        page: The page with what was found in the data.
        report: The same as an object.
        notes: Sentences about how parts came about.
    """

    config: Path
    parts: Mapping[str, int]
    page: Path
    report: CheckReport
    notes: tuple[str, ...]


def start_project(source: str | Path, name: str, flags: ProjectFlags = ProjectFlags()) -> Project:
    """Make annotation files, a report about the data, and a config that fine-tunes a small network on them.

    Parts that the data bring (train, val, test) are kept; missing ones are split off, stratified by label, with
    near-identical images on one side.

    Args:
        source: Annotations of any known format.
        name: Of the project; letters, digits, ``_`` and ``-``.
        flags: How.

    Raises:
        UserError: The data have errors (the page is written all the same), or files are there already.
    """
    if not re.fullmatch(r'[\w-]+', name):
        raise DataError(f"the project's name becomes a file name: letters, digits, _ and - only, got '{name}'")
    if not Path(source).exists():
        raise DataError(f'{source}: no such annotation file or folder')
    _check_flags(flags)
    data, config = Path(flags.data_folder) / name, Path(flags.config_folder) / f'{name}.py'
    for path in (config, *(data / f'{role}.json' for role in ROLES)):
        if path.exists() and not flags.force:
            raise DataError(f'{path}: exists; choose another name, or force=True (--force) to replace it')
    found = splits_of_source(source, flags.format, None, flags.classes, flags.images, flags.options)
    if found.splits and sum(map(len, found.splits)) < _LEAST_IMAGES:
        raise DataError(f'{source}: has fewer than {_LEAST_IMAGES} images, too few to train and to measure on')
    report = check_splits(found, str(source))
    page = Path(flags.work_folder) / name / 'data.html'
    write_report(report, html=str(page))
    leaks = _LEAKS if flags.split_anew else ()
    errors = [finding for finding in report.findings if finding.severity == 'error' and finding.code not in leaks]
    if errors:
        raise DataError(f'the data have errors, see {page}:\n{_described(errors)}')
    parts, notes = _make_parts(_roles(found.splits, source, flags.split_anew), data, flags)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(_config_text(name, str(source), data, parts, flags))
    return Project(config, {role: len(part) for role, part in parts.items()}, page, report, tuple(notes))


def _check_flags(flags: ProjectFlags) -> None:
    if flags.image_size < _LEAST_SIZE:
        raise ConfigError(f'--image-size must be at least {_LEAST_SIZE}, got {flags.image_size}')
    if '://' not in flags.weights:
        read_checkpoint(flags.weights)  # whatever is wrong with it, better now than when training starts


def _described(errors: Sequence[Finding]) -> str:
    """The errors, a line each with what is concerned."""
    lines = []
    for error in errors[:_SHOWN]:
        items = f' ({", ".join(error.items[:3])}{", ..." if error.count > 3 else ""})' if error.items else ''
        advice = '; --split-anew mixes the parts and splits them again' if error.code in _LEAKS else ''
        lines.append(f'  {error.split + ": " if error.split else ""}{error.message}{items}{advice}')
    if len(errors) > _SHOWN:
        lines.append(f'  and {len(errors) - _SHOWN} more')
    return '\n'.join(lines)


def _roles(splits: tuple[Split, ...], source: str | Path, anew: bool) -> dict[str, Split]:
    """The parts by what they are for; all that is to be split anew, or has no parts, is for training."""
    if any(split.packed for split in splits):
        raise DataError(f'{source}: is a pack; start from the annotations that it was made of')
    if len(splits) == 1:
        return {'train': splits[0]}
    if anew:
        return {'train': _joined(splits)}
    roles: dict[str, Split] = {}
    for split in splits:
        role = next((role for role, begin in _BEGINNINGS.items() if split.name.lower().startswith(begin)), None)
        if role is None or role in roles:
            names = ', '.join(f"'{each.name}'" for each in splits)
            raise DataError(
                f'{source}: which of the parts {names} are for training, validation and test cannot be told by their '
                'names; use tools/prepare_data.py for each and start from the folder of train.json, val.json, test.json'
            )
        roles[role] = split
    if 'train' not in roles:
        raise DataError(f'{source}: has no part for training, only {", ".join(split.name for split in splits)}')
    return roles


def _joined(splits: Sequence[Split]) -> Split:
    """All images as one part, their paths from the root of the file system."""
    paths = StringList(
        path if '://' in path else os.path.relpath(path, '/') for split in splits for path in split.paths
    )
    labels = LabelMatrix.concatenate([split.annotations.labels for split in splits])
    return replace(splits[0], annotations=replace(splits[0].annotations, img_paths=paths, labels=labels), img_root='/')


def _make_parts(
    roles: Mapping[str, Split], data: Path, flags: ProjectFlags
) -> tuple[dict[str, Annotations], list[str]]:
    """Write an annotation file a part, splitting off what is missing; the parts, and what to say about them."""
    notes: list[str] = []
    for role, split in roles.items():
        write_native(_moved(split, data), data / f'{role}.json')
    names = set(roles)
    if 'val' not in roles:
        shares = {'train': 0.85, 'val': 0.15} if 'test' in roles else {'train': 0.8, 'val': 0.1, 'test': 0.1}
        whole = data / 'all.json'
        (data / 'train.json').replace(whole)
        made = split_data(
            whole, data, SplitFlags(shares, grouping=Grouping(duplicates=True), seed=flags.seed, force=True)
        )
        names |= set(made.names)
        notes.append(f'split by label into {", ".join(made.names)}; near-identical images stay on one side')
        notes += made.quality.shortcomings(made.names, made.classes)[:3]
    if 'test' not in names:
        notes.append('there is no test part: val, by which the best epoch is chosen, stands in, which flatters')
    return {role: read_native(data / f'{role}.json') for role in ROLES if role in names}, notes


def _moved(split: Split, data: Path) -> Annotations:
    paths = relocate(split.annotations.img_paths, Path(split.img_root or '.'), data)
    return replace(split.annotations, img_paths=StringList(paths))


def _config_text(name: str, source: str, data: Path, parts: Mapping[str, Annotations], flags: ProjectFlags) -> str:
    """The config, from the template beside this file."""
    images, classes = len(parts['train']), len(parts['train'].classes)
    batch = max(2, min(_BATCH, images // 4))
    epochs = min(max(math.ceil(_STEPS * batch / images), 8), 40)
    template = Template(Path(__file__).with_name('project_config.txt').read_text())
    return template.substitute(
        name=name,
        source=source,
        config=Path(flags.config_folder) / f'{name}.py',
        data_root=repr(data.as_posix()),
        images=images,
        classes=classes,
        size=flags.image_size,
        batch=batch,
        epochs=epochs,
        after_warmup=epochs - 1,
        test='test' if 'test' in parts else 'val',
        weights=repr(flags.weights),
    )
