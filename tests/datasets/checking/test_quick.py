"""The one line at the start of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mlcls.datasets import ClassBalancedDataset, MultiLabelDataset
from mlcls.datasets.checking import quick, quick_check
from mlcls.structures import Annotations

from .conftest import DataSet, labels_with, make_split

GOOD = labels_with([60, 40, 30, 25], 100)


@dataclass
class Dataset:
    annotations: Annotations
    img_root: str = '/nowhere'


def dataset(name: str, dense: np.ndarray) -> Dataset:
    return Dataset(make_split(name, dense).annotations)


def test_nothing_unusual(clean: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(clean.write())
    datasets = {
        'train': ClassBalancedDataset(MultiLabelDataset(ann_file='train.json', data_root=root), 0.5),
        'val': MultiLabelDataset(ann_file='val.json', data_root=root),
        'test': MultiLabelDataset(ann_file='val.json', data_root=root),
    }
    monkeypatch.setattr('mlcls.datasets.checking.images._inspect', None)  # no image may be opened
    assert quick_check(datasets) == 'data check: nothing unusual'


def test_rare_classes_are_named() -> None:
    rare = GOOD.copy()
    rare[np.flatnonzero(rare[:, 3])[4:], 3] = 0
    rare[:, 2] = 0
    line = quick_check({'train': dataset('t', GOOD), 'val': dataset('v', rare)})
    assert line == (
        'data check: 1 class that val does not show (c2); 1 class too rare in val to measure '
        '(c3 (4)); run tools/check_data.py CONFIG for more'
    )


def test_notes_are_left_to_the_whole_check() -> None:
    few = labels_with([60, 40, 30, 5], 100)
    assert quick_check({'train': dataset('t', few), 'val': dataset('v', GOOD)}) == 'data check: nothing unusual'


def test_many_classes_are_cut_short() -> None:
    dense = labels_with([90, *range(1, 7)], 100)
    line = quick_check({'train': dataset('t', np.repeat(dense, 10, axis=0)), 'val': dataset('v', dense)})
    assert '6 classes too rare in val to measure (c1 (1), c2 (2), c3 (3), ...)' in line and '\n' not in line


def test_shared_files_by_real_path(clean: DataSet) -> None:
    path = clean.add('val', [0], b'')
    path.unlink()
    os.symlink(clean.root / 'train/003.png', path)
    clean.add('val', [0], None)
    clean.rows['val'][-1]['img_path'] = 'val/../train/004.png'
    root = str(clean.write())
    datasets = {name: MultiLabelDataset(ann_file=f'{name}.json', data_root=root) for name in ('train', 'val')}
    assert quick_check(datasets) == (
        'data check: 2 images listed in both train and val; run tools/check_data.py CONFIG for more'
    )
    (Path(root) / 'val.json').write_text((Path(root) / 'train.json').read_text())
    datasets['val'] = MultiLabelDataset(ann_file='val.json', data_root=root)
    assert '40 images listed in both train and val' in quick_check(datasets)


def test_files_of_very_many_images_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {'train': dataset('t', GOOD), 'val': dataset('t', GOOD)}
    assert 'listed in both train and val' in quick_check(both)
    monkeypatch.setattr(quick, 'MOST_FILES', 199)
    assert quick_check(both) == 'data check: nothing unusual'


def test_a_link_to_the_whole_folder(clean: DataSet) -> None:
    root = clean.write()
    os.symlink(root, root.parent / 'other')
    datasets = {
        'train': MultiLabelDataset(ann_file='train.json', data_root=str(root)),
        'val': MultiLabelDataset(ann_file='train.json', data_root=str(root.parent / 'other'), indices=12),
    }
    assert '12 images listed in both train and val' in quick_check(datasets)


def test_other_classes_and_other_datasets() -> None:
    other = dataset('v', GOOD[:, :3])
    assert "val: its classes differ from those of train: only one of them has 'c3'" in quick_check(
        {'train': dataset('t', GOOD), 'val': other}
    )
    assert quick_check({'train': [1, 2]}) == quick_check({}) == 'data check: nothing unusual'
