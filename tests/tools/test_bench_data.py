"""The benchmarks of balancing and splitting, on a few labels."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Run a benchmark on 120 images of 6 classes; gives their labels and what it keeps."""
    labels = (np.random.default_rng(0).random((120, 6)) < [0.7, 0.4, 0.2, 0.2, 0.1, 0.05]).astype(np.uint8)
    np.savez(tmp_path / 'labels.npz', full=np.packbits(labels, axis=1))

    def _bench(name: str, *arguments: str) -> tuple[np.ndarray, dict]:
        spec = importlib.util.spec_from_file_location(name, ROOT / f'tools/benchmarks/{name}.py')
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        given = [name, str(tmp_path / 'labels.npz'), '--classes', '6', '--out', str(tmp_path / 'out.json'), *arguments]
        monkeypatch.setattr(sys, 'argv', given)
        tool.main()
        return labels, json.loads((tmp_path / 'out.json').read_text())

    return _bench


def test_balance(bench, capsys):
    labels, result = bench('bench_balance')
    counts = labels.sum(0)
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    rows = {row['name']: row for row in result['rows']}
    once = rows['each image once']
    assert once['max_over_min'] == round(counts.max() / counts.min(), 2) and once['epoch_length'] == 1
    assert once['share_of_head'] == round(counts.max() / 120, 4)
    assert rows['mmengine 0.02']['epoch_length'] == 1
    sampler = rows['sampler 0.2 to 5']
    assert sampler['least_imbalance'] <= sampler['imbalance'] < once['imbalance']


def test_splitting(bench):
    _, result = bench('bench_splitting', '--seeds', '2')
    rows = {(row['data'], row['split'], row['method']): row for row in result['rows']}
    assert len(rows) == len(result['rows']) == 12
    for (_, _, method), row in rows.items():
        if method == 'split_images':
            assert row['missing'] == row['size_off_by'] == 0
        if method == 'random':
            assert row['size_off_by'] == 0 and row['mean_deviation'] > 0


def test_the_kept_results_are_of_the_data_that_they_name(test_data):
    """The first row does not depend on the method, so that it can be counted again."""
    path = test_data / 'datasets/coco14_train_labels.npz'
    if not path.exists():
        pytest.skip(f'no {path.name} in the test data')
    counts = np.unpackbits(np.load(path)['full'], axis=1)[:, :80].sum(0)
    result = json.loads((ROOT / 'docs/results/data/balance.json').read_text())
    assert result['images_of_rarest'] == counts.min() and result['images_of_head'] == counts.max()
    assert result['rows'][0]['max_over_min'] == round(counts.max() / counts.min(), 2)
