"""`ShardDataset` through torch's loader."""

from __future__ import annotations

import functools
import http.server
import json
import pickle
import shutil
import sys
import threading
import warnings
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mlcls.datasets import ClassBalancedDataset, collate_batch
from mlcls.datasets.shards import ShardDataset, ShardSize
from mlcls.errors import ConfigError, DataError
from mlcls.registry import DATASETS

from .conftest import IMAGES, PIPELINE, pack

Batches = list[dict[str, torch.Tensor]]


def make(root: Path | str, rank: int = 0, world: int = 1, **configuration: Any) -> ShardDataset:
    """As the builder of a loader makes it, on the given rank."""
    dataset = ShardDataset(root, PIPELINE, shuffle_buffer=configuration.pop('shuffle_buffer', 10))
    dataset.rank, dataset.world_size = rank, world
    dataset.configure(**{'shuffle': False, 'seed': 3, 'round_up': False, 'batch_size': 4, **configuration})
    return dataset


def load(dataset: ShardDataset, workers: int = 0, **options: Any) -> Batches:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        warnings.filterwarnings('ignore', 'This DataLoader will create')  # more workers than cores
        loader = DataLoader(dataset, dataset.batch_size, num_workers=workers, collate_fn=collate_batch, **options)
        batches = list(loader)
    assert len(batches) == len(loader)
    return batches


def order(batches: Batches) -> list[int]:
    return [index for batch in batches for index in batch['index'].tolist()]


def test_samples_are_the_images_with_their_labels(shards: Path) -> None:
    dataset = make(shards)
    batches = load(dataset)
    assert order(batches) == list(range(IMAGES))
    for batch in batches:
        for picture, targets, index in zip(batch['inputs'], batch['targets'], batch['index'].tolist()):
            assert (picture.float() - 5 * index).abs().max() <= 2
            assert targets.tolist() == [1 if index & 1 else -1, index >> 1 & 1, index >> 2 & 1]
    assert dataset.num_images == len(dataset) == len(dataset.labels) == IMAGES
    assert dataset.classes == ('one', 'two', 'four') and dataset.metainfo['classes'] == dataset.classes
    assert dataset.summary() == '45 images in 8 shards, 3 classes, 1.44 labels per image'
    assert any('without a present label' in note for note in dataset.notes)


def test_raw_shards(tmp_path: Path) -> None:
    dataset = make(pack(tmp_path, images=5, raw=True))
    batch = collate_batch(list(dataset))
    assert batch['inputs'][:, 0, 0, 0].tolist() == [0, 5, 10, 15, 20]


@pytest.mark.parametrize('workers', [0, 1, 2, 3])
@pytest.mark.parametrize('world', [1, 2, 11])
def test_evaluation_reads_every_image_once(shards: Path, world: int, workers: int) -> None:
    """Also with more readers (33) than shards (8)."""
    datasets = [make(shards, rank, world) for rank in range(world)]
    found = [order(load(dataset, workers if world < 3 else 0)) for dataset in datasets]
    assert [len(part) for part in found] == [len(dataset) for dataset in datasets]
    together = list(chain(*found))
    assert (sorted(together) if workers > 1 else together) == list(range(IMAGES))
    if workers and world == 11:  # the same stretches, without 33 processes
        pieces = [piece for dataset in datasets for w in range(workers) for piece in dataset.pieces(w, workers)]
        assert sum(piece.stop - piece.start for piece in pieces) == IMAGES
        read = [6 * piece.shard + i for piece in pieces for i in range(piece.start, piece.stop)]
        assert sorted(read) == list(range(IMAGES))


@pytest.mark.parametrize('workers', [0, 1, 2, 3])
def test_training_gives_ranks_equally_many_in_an_order_of_each_epoch(shards: Path, workers: int) -> None:
    def epoch(number: int, **changes: Any) -> list[list[int]]:
        orders = []
        for rank in range(2):
            dataset = make(shards, rank, 2, **{'shuffle': True, 'round_up': True, **changes})
            dataset.set_epoch(number)
            orders.append(order(load(dataset, workers)))
        return orders

    first, again, second = epoch(0), epoch(0), epoch(1)
    assert first == again
    assert first != second
    for ranks in (first, second):
        assert [len(part) for part in ranks] == [23, 23]
        assert set(ranks[0]) | set(ranks[1]) == set(range(IMAGES))
        assert ranks[0] != sorted(ranks[0])
    assert set(first[0]) != set(second[0])  # ranks get other images in the next epoch
    if workers == 0:
        assert first != epoch(0, seed=4)
        assert epoch(0, shuffle=False) == [list(range(23)), [*range(23, 45), 0]]


def test_the_buffer_mixes_images_of_several_shards(shards: Path) -> None:
    mixed, plain = (order(load(make(shards, shuffle=True, shuffle_buffer=size))) for size in (30, 0))
    switches = [sum(a // 6 != b // 6 for a, b in pairwise(found)) for found in (mixed, plain)]
    assert switches[1] == 7  # eight shards, one behind the other
    assert switches[0] > 20
    assert sorted(mixed) == sorted(plain) == list(range(IMAGES))


@pytest.mark.parametrize('workers', [0, 2])
def test_pictures_do_not_depend_on_ranks_and_workers(shards: Path, workers: int) -> None:
    pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'ColorJitter', 'brightness': 0.5},
        {'type': 'PackInputs'},
    ]

    def pictures(rank: int, world: int, workers: int, epoch: int) -> dict[int, torch.Tensor]:
        dataset = make(shards, rank, world, shuffle=True)
        dataset.pipeline = ShardDataset(shards, pipeline).pipeline
        dataset.set_epoch(epoch)
        batches = load(dataset, workers)
        return {int(i): picture for batch in batches for i, picture in zip(batch['index'], batch['inputs'])}

    alone = pictures(0, 1, 0, 0)
    shared = {**pictures(0, 2, workers, 0), **pictures(1, 2, workers, 0)}
    assert all(torch.equal(alone[i], shared[i]) for i in range(IMAGES))
    later = pictures(0, 1, 0, 1)
    assert not all(torch.equal(alone[i], later[i]) for i in range(IMAGES))


@pytest.mark.parametrize('context, workers', [('fork', 2), ('spawn', 1)])
def test_workers_that_live_on_see_the_epoch(shards: Path, context: str, workers: int) -> None:
    dataset = make(shards, shuffle=True, round_up=True)
    loader = DataLoader(
        dataset,
        4,
        num_workers=workers,
        collate_fn=collate_batch,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    found = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        found.append(order(list(loader)))
    assert found[0] == found[2] != found[1]
    fresh = make(shards, shuffle=True, round_up=True)
    fresh.set_epoch(1)
    assert found[1] == order(load(fresh, workers))


def test_drop_last_drops_one_batch_of_a_rank(shards: Path) -> None:
    for workers in (0, 2, 3):
        batches = load(make(shards, shuffle=True, batch_size=7), workers, drop_last=True)
        assert [len(batch['index']) for batch in batches] == [7] * 6


def test_classes_in_another_order(shards: Path, tmp_path: Path) -> None:
    names = tmp_path / 'classes.txt'
    names.write_text('four\none\ntwo\n')
    for arguments in ({'classes': ['four', 'one', 'two']}, {'classes': str(names)}):
        dataset = ShardDataset(shards, PIPELINE, **arguments)
        assert dataset.classes == ('four', 'one', 'two')
        assert collate_batch(list(dataset))['targets'][6].tolist() == [1, -1, 1]
    dataset = ShardDataset(shards, PIPELINE, {'classes': ('two', 'one', 'four'), 'year': 2007}, classes=['no'])
    assert dataset.metainfo == {'classes': ('two', 'one', 'four'), 'year': 2007}
    with pytest.raises(DataError, match='three'):
        ShardDataset(shards, PIPELINE, classes=['one', 'two', 'three'])


def test_it_is_built_by_its_name(shards: Path) -> None:
    dataset = DATASETS.build({'type': 'ShardDataset', 'root': str(shards / 'index.json'), 'pipeline': PIPELINE})
    assert isinstance(dataset, ShardDataset) and dataset.num_images == IMAGES
    assert order([collate_batch(list(pickle.loads(pickle.dumps(dataset))))]) == list(range(IMAGES))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(shards: Path) -> Iterator[str]:
    """URL of the shards on a local server."""
    handler = functools.partial(Quiet, directory=str(shards))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


@pytest.mark.skipif(shutil.which('curl') is None, reason='webdataset fetches with curl')
def test_shards_come_from_a_server(served: str) -> None:
    for root in (served, f'{served}/index.json'):
        dataset = make(root, 1, 2)
        assert order([collate_batch(list(dataset))]) == list(range(22, IMAGES))


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    shutil.copytree(shards, tmp_path / 'copy')
    return tmp_path / 'copy'


def edit_index(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / 'index.json').read_text())
    content.update(changes)
    (folder / 'index.json').write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_folders_that_cannot_be_used(copy: Path, tmp_path: Path) -> None:
    entries = json.loads((copy / 'index.json').read_text())['shards']

    def refused(words: str) -> None:
        with pytest.raises(DataError, match=words):
            ShardDataset(copy, PIPELINE)

    with pytest.raises(DataError, match=r'none/index.json: no such file; root must be a folder of shards'):
        ShardDataset(tmp_path / 'none')
    (copy / 'shard-000003.tar').rename(copy / 'elsewhere')
    refused(r'shard-000003.tar: no such shard, but index.json lists it')
    (copy / 'shard-000003.tar').write_bytes((copy / 'elsewhere').read_bytes()[:-512])
    refused(r'shard-000003.tar: has \d+ bytes instead of \d+: it is truncated or belongs to other shards')
    (copy / 'elsewhere').rename(copy / 'shard-000003.tar')
    edit_index(copy, shards=entries[:-1])
    refused('the shards hold other images than annotations.npz')
    edit_index(copy, shards=[{**entries[0], 'name': '../../etc/passwd'}, *entries[1:]])
    refused("'../../etc/passwd' is no name of a shard")
    edit_index(copy, shards=[{**entries[0], 'name': 'pipe:rm'}, *entries[1:]])
    refused("'pipe:rm' is no name of a shard")
    edit_index(copy, shards=entries, version=2)
    refused('has version 2, this mlcls reads version 1; update mlcls')
    edit_index(copy, version=1, classes=None)
    refused("index.json: lacks the key 'classes'")
    edit_index(copy, format='other')
    refused('is not an index of shards')
    (copy / 'index.json').write_text('{')
    refused('index.json: is not valid JSON')
    (copy / 'index.json').unlink()
    (copy / 'packing.jsonl').write_text('')
    refused(r'no such file \(a packing was begun and not finished: run it again\)')


def test_annotations_that_do_not_belong(copy: Path) -> None:
    (copy / 'annotations.npz').write_bytes((copy / 'annotations.npz').read_bytes()[:-1] + b'?')
    with pytest.raises(DataError, match='annotations.npz: is damaged, or does not belong to index.json'):
        ShardDataset(copy)
    (copy / 'annotations.npz').unlink()
    with pytest.raises(DataError, match='annotations.npz: no such file'):
        ShardDataset(copy)


def test_shards_that_turn_out_to_be_wrong_while_they_are_read(copy: Path, tmp_path: Path) -> None:
    dataset = make(copy)
    path = copy / 'shard-000002.tar'
    whole = path.read_bytes()

    def fails(data: bytes, words: str) -> None:
        path.write_bytes(data)
        with pytest.raises(DataError, match=words):
            load(dataset)

    fails(whole[:3000], r'shard-000002.tar: the shard (cannot be read|ends before image)')
    fails(b'', r'shard-000002.tar: the shard cannot be read \(empty file\)')
    fails(b'x' * 20_000, r'shard-000002.tar: the shard cannot be read')
    fails((copy / 'shard-000003.tar').read_bytes(), r"has '000000018' where image 12 should be; it belongs to another")
    fails((copy / 'shard-000001.tar').read_bytes(), r'the shard ends before image 12; it is truncated')
    path.unlink()
    with pytest.raises(DataError, match=r'shard-000002.tar: the shard cannot be read'):
        load(dataset, 1)


def test_a_bad_image_in_a_shard_is_named(copy: Path) -> None:
    dataset = make(copy)
    path = copy / 'shard-000001.tar'
    data = bytearray(path.read_bytes())
    start = data.index(b'\xff\xd8\xff')
    data[start : start + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf'{copy}, image 6: 6.png: not an image'):
        list(dataset)


@pytest.mark.parametrize(
    'arguments, words',
    [
        ({'root': ''}, "root must name a folder of shards, got ''"),
        ({'root': 3}, 'root must name a folder of shards, got 3'),
        ({'shuffle_buffer': -1}, 'shuffle_buffer must be a number of images, got -1'),
        ({'shuffle_buffer': True}, 'shuffle_buffer must be a number of images, got True'),
        ({'pipeline': [{'type': 'Resise'}]}, "did you mean 'Resize'"),
    ],
)
def test_impossible_arguments(shards: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ShardDataset(**{'root': shards, **arguments})


def test_impossible_configurations(shards: Path) -> None:
    with pytest.raises(ConfigError, match='seed must be at least 0, got -1'):
        make(shards, seed=-1)
    with pytest.raises(ConfigError, match='batch_size must be at least 1, got 0'):
        make(shards, batch_size=0)


def test_it_cannot_be_wrapped(shards: Path) -> None:
    with pytest.raises(ConfigError, match='not image by image: it cannot be wrapped .* such as ClassBalancedDataset'):
        ClassBalancedDataset(ShardDataset(shards, PIPELINE), 0.5)[0]


def test_a_missing_library_is_named(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'webdataset', None)
    with pytest.raises(
        ConfigError, match=r"the library webdataset, which is not installed: pip install 'mlcls\[shards\]'"
    ):
        ShardDataset(shards)


def test_one_shard_for_many_readers(tmp_path: Path) -> None:
    root = pack(tmp_path, images=7, size=ShardSize(100))
    found = [order(load(make(root, rank, 3, batch_size=1), 2)) for rank in range(3)]
    assert found == [[0, 1], [2, 3], [4, 5, 6]]
    trained = [order(load(make(root, rank, 3, batch_size=1, round_up=True))) for rank in range(3)]
    assert trained == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]


def test_fewer_images_than_ranks(tmp_path: Path) -> None:
    root = pack(tmp_path, images=2)
    assert sorted(chain(*(order(load(make(root, rank, 5))) for rank in range(5)))) == [0, 1]
    assert [order(load(make(root, rank, 5, round_up=True))) for rank in range(5)] == [[0], [1], [0], [1], [0]]


def test_other_programs_can_read_the_shards(shards: Path) -> None:
    """By webdataset's own reader, without our index."""
    import webdataset

    samples = list(webdataset.WebDataset(str(shards / 'shard-{000000..000007}.tar'), shardshuffle=False))
    assert [int(sample['__key__']) for sample in samples] == list(range(IMAGES))
    about = json.loads(samples[6]['json'])
    assert about == {'img_path': '6.png', 'gt_label': [1, 2], 'gt_unknown': [0]}
    assert samples[6]['jpg'].startswith(b'\xff\xd8')
    assert np.array_equal([len(s['jpg']) > 100 for s in samples], [True] * IMAGES)
