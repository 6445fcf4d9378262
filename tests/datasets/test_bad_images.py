"""Images that cannot be used while a run goes on: raised, skipped or replaced, and always listed."""

from __future__ import annotations

import json
import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from mlcls.datasets import BadImages, ClassBalancedDataset, EpochSampler, MultiLabelDataset, collate_batch
from mlcls.errors import ConfigError, DataError

BAD = (3, 7)
PIPELINE = [{'type': 'LoadImageFromFile'}, {'type': 'RandomResizedCrop', 'scale': 16}, {'type': 'PackInputs'}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures, whose grey value is their number; two of them are broken in different ways."""
    entries = []
    for number in range(12):
        Image.fromarray(np.full((20, 24, 3), 10 * number, np.uint8)).save(tmp_path / f'{number}.png')
        entries.append({'img_path': f'{number}.png', 'gt_label': [number % 2]})
    (tmp_path / '3.png').write_bytes(b'')
    (tmp_path / '7.png').write_bytes(b'no picture at all')
    content = {'metainfo': {'classes': ['even', 'odd']}, 'data_list': entries}
    (tmp_path / 'all.json').write_text(json.dumps(content))
    return tmp_path


def make(folder: Path, on_error: str, **arguments: object) -> MultiLabelDataset:
    dataset = MultiLabelDataset(folder / 'all.json', pipeline=PIPELINE, on_error=on_error, **arguments)
    dataset.bad_images = BadImages(folder / 'out' / 'bad_images.jsonl')
    return dataset


def listed(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / 'out' / 'bad_images.jsonl').read_text().splitlines()]


def load_all(dataset: object, workers: int = 0, epoch: int = 0, batch_size: int = 4) -> list:
    sampler = EpochSampler(dataset, shuffle=False, seed=5)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=collate_batch))


def test_raise_names_the_file(folder):
    with pytest.raises(DataError, match=r'3\.png: the file is empty \(0 bytes\)'):
        load_all(make(folder, 'raise'))
    assert not (folder / 'out').exists()


@pytest.mark.parametrize('workers', [0, 2])
def test_skip_shortens_batches(folder, workers):
    batches = load_all(make(folder, 'skip'), workers)
    assert [len(batch['index']) for batch in batches] == [3, 3, 4]
    index = torch.cat([batch['index'] for batch in batches])
    assert sorted(index.tolist()) == sorted(set(range(12)) - set(BAD))
    for batch in batches:  # rows still belong together
        assert (batch['inputs'][:, 0, 0, 0] == 10 * batch['index']).all()
        assert (batch['targets'][:, 1] == batch['index'] % 2).all()
    entries = sorted(listed(folder), key=lambda entry: entry['position'])
    assert [Path(entry['img_path']).name for entry in entries] == ['3.png', '7.png']
    assert [entry['action'] for entry in entries] == ['skipped'] * 2
    assert re.search(r'3\.png: the file is empty', entries[0]['reason'])
    assert [entry['position'] for entry in entries] == list(BAD) and entries[0]['epoch'] == 0


def test_skip_of_a_whole_batch_gives_none(folder):
    batches = load_all(make(folder, 'skip', indices=[3, 7, 0]), batch_size=2)
    assert batches[0] is None and len(batches[1]['index']) == 1


@pytest.mark.parametrize('workers', [0, 2])
def test_replace_keeps_batches_whole_and_says_by_what(folder, workers):
    batches = load_all(make(folder, 'replace'), workers)
    assert [len(batch['index']) for batch in batches] == [4, 4, 4]
    index = torch.cat([batch['index'] for batch in batches])
    values = torch.cat([batch['inputs'][:, 0, 0, 0] for batch in batches])
    assert (values == 10 * index).all()  # label and index are those of the picture that is really there
    entries = sorted(listed(folder), key=lambda entry: entry['position'])
    assert [entry['replaced_by'] for entry in entries] == [str(folder / f'{int(index[n])}.png') for n in BAD]
    assert not set(index.tolist()) & set(BAD)


def test_replacement_is_a_function_of_the_draw(folder):
    dataset = make(folder, 'replace')
    first, again = (load_all(dataset, workers)[0] for workers in (0, 1))
    assert torch.equal(first['inputs'], again['inputs'])
    chosen = {int(load_all(dataset, epoch=epoch)[0]['index'][3]) for epoch in range(8)}
    assert len(chosen) > 1  # another epoch, another image


def test_replace_gives_up(folder):
    dataset = make(folder, 'replace', indices=list(BAD))
    with pytest.raises(DataError, match=r'3\.png: the file is empty.*; 20 images drawn in its place cannot be used'):
        dataset[0]


def test_class_balanced_passes_it_on(folder):
    dataset = ClassBalancedDataset(make(folder, 'skip'), oversample_thr=0.4)
    index = torch.cat([batch['index'] for batch in load_all(dataset)])
    assert sorted(index.tolist()) == sorted(set(range(12)) - set(BAD))


def test_files_may_be_missed_later(folder):
    (folder / '5.png').unlink()
    with pytest.raises(DataError, match='1 of 12 images do not exist'):
        make(folder, 'skip')
    load_all(make(folder, 'skip', missing='later'))
    assert any('5.png: no such file' in entry['reason'] for entry in listed(folder))


def test_without_a_file_it_warns(folder):
    dataset = MultiLabelDataset(folder / 'all.json', pipeline=PIPELINE, on_error='skip')
    with pytest.warns(UserWarning, match=r'3\.png: the file is empty \(0 bytes\) \(skipped\)'):
        assert dataset[3] is None


def test_unknown_choice(folder):
    with pytest.raises(ConfigError, match=r"on_error must be one of 'raise', 'skip', 'replace', got 'ignore'"):
        make(folder, 'ignore')


def _append(path: Path, number: int) -> None:
    bad = BadImages(path)
    for line in range(200):
        bad.record({'img_path': f'{number}-{line}', 'reason': 'r' * 300, 'action': 'skipped'})


def test_lines_of_several_processes_do_not_mix(tmp_path):
    path = tmp_path / 'bad.jsonl'
    path.write_text('{"img_path": "earlier run"}\n')
    watcher = BadImages(path)
    processes = [multiprocessing.get_context('fork').Process(target=_append, args=(path, n)) for n in range(4)]
    for process in processes:
        process.start()
    seen = []
    while any(process.is_alive() for process in processes):
        seen += watcher.added()
    for process in processes:
        process.join()
    seen += watcher.added()
    assert sorted(entry['img_path'] for entry in seen) == sorted(f'{n}-{line}' for n in range(4) for line in range(200))
    assert watcher.added() == []


def test_names_that_are_no_utf8_are_listed_too(tmp_path):
    bad = BadImages(tmp_path / 'bad.jsonl')
    bad.record({'img_path': 'f\udcfcr\u00fc', 'reason': '', 'action': 'skipped'})
    assert [entry['img_path'] for entry in BadImages.added(bad)] == ['f\udcfcr\u00fc']
