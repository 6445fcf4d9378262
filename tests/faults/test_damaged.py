"""Files that are damaged, missing or something else: the newest good checkpoint is taken, and it is said why."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcls.errors import CheckpointError
from mlcls.fileio import read_checkpoint
from tests.faults.harness import FULL, Runs, difference, fault, outcome, place

NEWEST = 'iter_8.pth'
KEEP = {'default_hooks__checkpoint__max_keep_ckpts': 3}


@pytest.fixture(scope='module')
def broken_off(runs: Runs, whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder with iter_4, iter_6, the best of iteration 6, and iter_8."""
    work = tmp_path_factory.mktemp('broken_off') / 'run'
    child = runs.run(work, place('half', 'iter_10.pth'), **KEEP)
    assert child.code == -9, child.text
    names = sorted(path.name for path in work.glob('*.pth'))
    if names != ['best_multi-label_mAP.pth', 'iter_4.pth', 'iter_6.pth', NEWEST]:
        pytest.fail(f'the folder is not as these tests need it: {names}')
    return work


def cut(keep: Callable[[int], int]) -> Callable[[Path], object]:
    return lambda work: os.truncate(work / NEWEST, keep((work / NEWEST).stat().st_size))


def flip(at: Callable[[int], int], name: str = NEWEST) -> Callable[[Path], object]:
    def change(work: Path) -> None:
        content = bytearray((work / name).read_bytes())
        content[at(len(content))] ^= 0x10
        (work / name).write_bytes(content)

    return change


def flip_in_tensor(work: Path) -> None:
    """The lowest bit of a weight: nothing but a checksum can tell."""
    content = bytearray((work / NEWEST).read_bytes())
    weight = read_checkpoint(work / NEWEST)['state_dict']['backbone.layer4.1.conv2.weight']
    content[content.index(weight.numpy().tobytes()) + 400] ^= 1
    (work / NEWEST).write_bytes(content)


def without_checksum(damage: Callable[[Path], object]) -> Callable[[Path], object]:
    """As after a kill between rename and checksum."""

    def both(work: Path) -> None:
        damage(work)
        (work / f'{NEWEST}.sha256').unlink()

    return both


def as_folder(work: Path) -> None:
    (work / NEWEST).unlink()
    (work / NEWEST).mkdir()


#: Name, damage, what is said of the newest file, usual suite.
DAMAGES: list[tuple[str, Callable[[Path], object], str, bool]] = [
    ('empty', cut(lambda size: 0), 'SHA-256', False),
    ('empty, no checksum', without_checksum(cut(lambda size: 0)), 'the file is empty', False),
    ('one byte', cut(lambda size: 1), 'SHA-256', False),
    ('cut in the header', without_checksum(cut(lambda size: 100)), 'iter_8.pth', False),
    ('cut in half', cut(lambda size: size // 2), 'SHA-256', False),
    ('cut in half, no checksum', without_checksum(cut(lambda size: size // 2)), 'damaged or cut short', True),
    ('last byte missing', without_checksum(cut(lambda size: size - 1)), 'damaged or cut short', False),
    (
        'directory of the archive missing',
        without_checksum(cut(lambda size: size - 3000)),
        'damaged or cut short',
        False,
    ),
    ('flipped in the first byte', without_checksum(flip(lambda size: 0)), 'iter_8.pth', False),
    ('flipped in the zip header', flip(lambda size: 10), 'SHA-256', False),
    ('a weight flipped', flip_in_tensor, 'SHA-256', True),
    ('a weight flipped, no checksum', without_checksum(flip_in_tensor), 'iter_8.pth', False),
    ('flipped in the checksum', flip(lambda size: 5, f'{NEWEST}.sha256'), 'SHA-256', False),
    ('a folder of its name', as_folder, 'iter_8.pth', True),
    ('text in its place', lambda work: (work / NEWEST).write_text('not found\n'), 'iter_8.pth', False),
    ('text in its place, no checksum', without_checksum(lambda w: (w / NEWEST).write_text('no')), 'a text file', False),
]


@pytest.mark.parametrize(('name', 'damage', 'reason', 'usual'), DAMAGES, ids=[entry[0] for entry in DAMAGES])
def test_the_newest_is_damaged(
    runs: Runs,
    whole: dict[str, Any],
    broken_off: Path,
    work: Path,
    name: str,
    damage: Callable[[Path], object],
    reason: str,
    usual: bool,
) -> None:
    if not (usual or FULL):
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault(f'newest checkpoint: {name}'):
        shutil.copytree(broken_off, work)
        damage(work)
        child = runs.finish(work)
        assert child.says(rf'warning: passed over: .*{NEWEST}.*') and child.says(reason), child.text
        assert child.says(r'resumed from .*(best_multi-label_mAP|iter_6)\.pth: after epoch 1, iteration 6'), child.text
        assert difference(outcome(work), whole) == ''


def remove(name: str) -> Callable[[Path], object]:
    return lambda work: (work / name).unlink()


#: Name, what happens, the file that is resumed from, usual suite: nothing is wrong with the newest checkpoint itself.
HARMLESS: list[tuple[str, Callable[[Path], object], str, bool]] = [
    ('no pointer', remove('last_checkpoint'), NEWEST, False),
    ('empty pointer', lambda work: (work / 'last_checkpoint').write_text(''), NEWEST, False),
    ('pointer to nothing', lambda work: (work / 'last_checkpoint').write_text('iter_99.pth\n'), NEWEST, False),
    ('rubbish in the pointer', lambda work: (work / 'last_checkpoint').write_bytes(b'\xff\xfe\x00' * 40), NEWEST, True),
    ('zeros in the pointer', lambda work: (work / 'last_checkpoint').write_bytes(bytes(12)), NEWEST, False),
    ('a long pointer', lambda work: (work / 'last_checkpoint').write_text('x' * 5000), NEWEST, False),
    ('flipped in the pointer', flip(lambda size: 3, 'last_checkpoint'), NEWEST, False),
    ('no checksum', remove(f'{NEWEST}.sha256'), NEWEST, False),
    ('empty checksum', lambda work: (work / f'{NEWEST}.sha256').write_text(''), NEWEST, False),
    ('the newest is missing', remove(NEWEST), r'(best_multi-label_mAP|iter_6)\.pth', False),
]


@pytest.mark.parametrize(('name', 'damage', 'taken', 'usual'), HARMLESS, ids=[entry[0] for entry in HARMLESS])
def test_what_lies_beside_it_is_damaged(
    runs: Runs,
    whole: dict[str, Any],
    broken_off: Path,
    work: Path,
    name: str,
    damage: Callable[[Path], object],
    taken: str,
    usual: bool,
) -> None:
    if not (usual or FULL):
        pytest.skip('only with MLCLS_FAULTS=full')
    with fault(name):
        shutil.copytree(broken_off, work)
        damage(work)
        child = runs.finish(work)
        assert child.says(rf'resumed from .*{taken}'), child.text
        assert difference(outcome(work), whole) == ''


def test_all_are_damaged(runs: Runs, broken_off: Path, work: Path) -> None:
    with fault('all checkpoints damaged'):
        shutil.copytree(broken_off, work)
        files = sorted(work.glob('*.pth'))
        for number, path in enumerate(files):
            os.truncate(path, 1000 * number)
        child = runs.run(work, resume=True)
        assert child.code == 2 and 'Traceback' not in child.text, child.text
        errors = [line for line in child.text.splitlines() if line.startswith('error: ')]
        assert len(errors) == 1 and 'no checkpoint to resume from is whole' in errors[0]
        assert all(path.name in errors[0] for path in files)
        assert files == sorted(work.glob('*.pth')), 'they are left for a person to look at'


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def save_evil(path: Path, mark: Path, kind: str) -> None:
    content = {'state_dict': {'weight': torch.zeros(1)}, 'optimizer': Evil(mark), 'meta': {}}
    if kind == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == 'zip')


@pytest.mark.parametrize('kind', ['zip', 'legacy', 'pickle'])
def test_an_evil_pickle_is_not_read(tmp_path: Path, kind: str) -> None:
    with fault(f'evil pickle, {kind}'):
        save_evil(tmp_path / 'evil.pth', tmp_path / 'mark', kind)
        with pytest.raises(CheckpointError, match=r'refused|not a checkpoint'):
            read_checkpoint(tmp_path / 'evil.pth')
        assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('way', ['newest', 'resume', 'load_from'])
def test_an_evil_pickle_ends_no_better_in_a_run(
    runs: Runs, whole: dict[str, Any], broken_off: Path, work: Path, tmp_path: Path, way: str
) -> None:
    mark, evil = tmp_path / 'mark', tmp_path / 'evil.pth'
    with fault(f'evil pickle as {way}'):
        save_evil(evil, mark, 'zip')
        if way == 'newest':
            shutil.copytree(broken_off, work)
            shutil.copy(evil, work / NEWEST)
            (work / f'{NEWEST}.sha256').unlink()
            child = runs.finish(work)
            assert child.says(rf'passed over: .*{NEWEST}: refused, the file holds objects that could run code'), (
                child.text
            )
            assert difference(outcome(work), whole) == ''
        else:
            others = {'resume': str(evil)} if way == 'resume' else {'load_from': str(evil)}
            child = runs.run(work, **others)
            assert child.code == 2 and 'Traceback' not in child.text, child.text
            assert child.says(r'error: .*evil\.pth: refused, the file holds objects that could run code'), child.text
        assert not mark.exists()
