"""Copies: against brute force, and against copies as they come about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from mlcls.datasets.checking import duplicates
from mlcls.datasets.checking.duplicates import (
    MIN_CORRELATION,
    ImageHashes,
    equal_groups,
    image_hashes,
    near_duplicate_groups,
    near_duplicate_pairs,
    popcount,
)

from ..conftest import encode
from .conftest import photo

HASHES = st.integers(0, 2**64 - 1)


@st.composite
def some_hashes(draw: st.DrawFn) -> np.ndarray:
    """Random hashes, some of them copies of others with a few bits turned over."""
    hashes = draw(st.lists(HASHES, max_size=25))
    for source in draw(st.lists(st.sampled_from(hashes), max_size=25)) if hashes else []:
        bits = draw(st.lists(st.integers(0, 63), max_size=18, unique=True))
        hashes.append(source ^ sum(1 << bit for bit in bits))
    return np.array(hashes, np.uint64)


def brute_force(hashes: np.ndarray, max_distance: int) -> list[tuple[int, int]]:
    numbers = [int(number) for number in hashes]
    return [
        (i, j)
        for i in range(len(numbers))
        for j in range(i + 1, len(numbers))
        if bin(numbers[i] ^ numbers[j]).count('1') <= max_distance
    ]


@given(some_hashes(), st.integers(0, 16))
def test_pairs_are_those_of_brute_force(hashes: np.ndarray, max_distance: int) -> None:
    found = near_duplicate_pairs(hashes, max_distance)
    assert [tuple(pair) for pair in found.tolist()] == brute_force(hashes, max_distance)


@pytest.mark.parametrize('agreeing', [1, 2, 3, 4])
@given(hashes=some_hashes(), max_distance=st.integers(1, 12))
@settings(max_examples=20)
def test_every_plan_finds_the_same(agreeing: int, hashes: np.ndarray, max_distance: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, '_plan', lambda count, distance: (distance + agreeing, agreeing))
        patch.setattr(duplicates, '_BLOCK', 7)  # many small steps
        found = near_duplicate_pairs(hashes, max_distance)
    assert [tuple(pair) for pair in found.tolist()] == brute_force(hashes, max_distance)


@given(some_hashes(), st.integers(0, 12))
def test_groups_are_connected_components(hashes: np.ndarray, max_distance: int) -> None:
    parents = list(range(len(hashes)))

    def root(i: int) -> int:
        return i if parents[i] == i else root(parents[i])

    for i, j in brute_force(hashes, max_distance):
        parents[root(i)] = root(j)
    names: dict[int, int] = {}
    expected = [names.setdefault(root(i), len(names)) for i in range(len(hashes))]
    found = near_duplicate_groups(hashes, max_distance)
    assert found.dtype == np.int64 and found.tolist() == expected


def test_many_equal_hashes_are_one_group_without_all_their_pairs() -> None:
    hashes = np.array([5] * 3000 + [7] * 3000 + [2**63], np.uint64)
    groups = near_duplicate_groups(hashes, 2)
    assert groups.tolist() == [0] * 6000 + [1]
    assert len(near_duplicate_pairs(hashes, 2)) < 20_000
    assert near_duplicate_groups(hashes, 0).tolist() == [0] * 3000 + [1] * 3000 + [2]


@pytest.mark.parametrize('bad', [-1, 17])
def test_impossible_distances_are_refused(bad: int) -> None:
    with pytest.raises(ValueError, match='max_distance must lie in 0 to 16'):
        near_duplicate_pairs(np.zeros(2, np.uint64), bad)


@given(st.lists(HASHES, max_size=20))
def test_popcount_with_and_without_numpy_2(numbers: list[int]) -> None:
    expected = [bin(number).count('1') for number in numbers]
    assert popcount(np.array(numbers, np.uint64)).tolist() == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, 'bitwise_count', raising=False)
        assert popcount(np.array(numbers, np.uint64)).tolist() == expected


def test_thumbnails_must_correlate() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, 256)
    noises = [0, 10, 20, 30, 40, 60, 80, 100]
    others = [np.clip(first * 0.5 + 30 + rng.normal(0, noise / 2, 256), 0, 255) for noise in noises]
    thumbnails = np.stack([first, *others]).astype(np.uint8)
    expected = [(0, i) for i in range(1, 9) if np.corrcoef(thumbnails[0], thumbnails[i])[0, 1] >= MIN_CORRELATION]
    assert 0 < len(expected) < 8
    found = near_duplicate_pairs(np.zeros(9, np.uint64), 0, thumbnails)
    assert [tuple(pair) for pair in found.tolist() if pair[0] == 0] == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_equal_groups(digests: list[tuple[int, int]]) -> None:
    names: dict[tuple[int, int], int] = {}
    expected = [names.setdefault(digest, len(names)) for digest in digests]
    assert equal_groups(np.array(digests, np.uint64)).tolist() == expected


def altered(image: Image.Image) -> dict[str, bytes]:
    """Copies as they come about."""
    wide, high = image.size
    small = image.resize((wide // 2, high // 2))
    box = (wide // 50, high // 50, wide - wide // 50, high - high // 50)
    return {
        'recompressed': encode(image, 'JPEG', quality=30),
        'smaller': encode(small, 'PNG'),
        'larger': encode(image.resize((wide * 2, high * 2)), 'PNG'),
        'stretched': encode(image.resize((wide, high * 4 // 5)), 'PNG'),
        'darker': encode(ImageEnhance.Brightness(image).enhance(0.7), 'PNG'),
        'brighter': encode(ImageEnhance.Brightness(image).enhance(1.15), 'PNG'),
        'paler': encode(ImageEnhance.Contrast(image).enhance(0.7), 'PNG'),
        'grey': encode(image.convert('L'), 'PNG'),
        'cropped': encode(image.crop(box), 'PNG'),
    }


def test_altered_copies_are_found_and_others_are_not(tmp_path: Path) -> None:
    paths, expected = [], []
    for seed in range(5):
        image = Image.fromarray(photo(seed, (120, 160)))
        for name, content in {'original': encode(image, 'PNG'), **altered(image)}.items():
            path = tmp_path / f'{seed}_{name}'
            path.write_bytes(content)
            paths.append(str(path))
            expected.append(seed)
    hashes = image_hashes(paths, workers=0)
    assert hashes.comparable.all()
    assert hashes.groups().tolist() == expected


def test_flat_and_broken_images_are_alone(tmp_path: Path) -> None:
    contents = [np.full((50, 50, 3), 200, np.uint8), np.full((50, 50, 3), 201, np.uint8), photo(0), photo(0)]
    paths = []
    for number, content in enumerate(contents):
        (tmp_path / f'{number}.png').write_bytes(encode(content, 'PNG'))
        paths.append(str(tmp_path / f'{number}.png'))
    hashes = image_hashes([*paths, str(tmp_path / 'none.png')], workers=0)
    assert hashes.comparable.tolist() == [False, False, True, True, False]
    assert hashes.groups().tolist() == [0, 1, 2, 2, 3]


def test_no_images_at_all() -> None:
    assert image_hashes([], workers=0).groups().tolist() == []
    assert near_duplicate_pairs(np.empty(0, np.uint64)).shape == (0, 2)
    none = np.zeros(3, bool)
    assert ImageHashes(np.zeros(3, np.uint64), np.zeros((3, 256), np.uint8), none).groups().tolist() == [0, 1, 2]


def test_real_bursts_are_told_from_other_photographs(test_data: Path) -> None:
    """By the numbers that the camera gave: all pairs found are a few shots apart, and some are."""
    paths = sorted((test_data / 'datasets/aquarium').glob('*/images/*.jpg'))
    if not paths:
        pytest.skip('no aquarium')
    hashes = image_hashes([str(path) for path in paths], workers=2)
    shot = [int(path.name.split('_')[1]) for path in paths]
    pairs = near_duplicate_pairs(hashes.hashes, thumbnails=hashes.thumbnails)
    assert len(pairs) >= 5
    assert all(abs(shot[a] - shot[b]) <= 10 for a, b in pairs.tolist())
