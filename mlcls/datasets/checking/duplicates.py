"""Finding images that are the same, or nearly: by digests, and by perceptual hashes within a Hamming distance.

Why the bounds are what they are. A hash has 32 of its 64 bits set, so distances are even, and those of two pictures
taken at random are 32 on average. Among 1,162 photographs (675,000 pairs) of three real data sets, 19 pairs lie within
10; 18 of them show one scene, a moment apart. From 14 on, many pairs have nothing in common. But pictures of little
detail collide: among 9,000 pictures composed of digits (40 million pairs), 2,613 unrelated pairs lie within 10. So
thumbnails of 16 x 16 grey values must correlate too, by 0.93: that left 12 of the 19, all one scene, and none of the
2,613.

Of 200 photographs, this finds all copies that are halved, quartered, 40 % darker, 20 % brighter, of less contrast or
without colour; 199 recompressed at JPEG quality 10 or cropped by 2 % a side; 191 that are 40 % brighter and clip; but
only 26 cropped by 5 %, and none that are mirrored or turned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .images import inspect_images

#: Hashes that differ in at most so many of 64 bits are candidates.
MAX_DISTANCE = 10
#: Candidates whose thumbnails correlate at least so much are near-identical.
MIN_CORRELATION = 0.93
_BITS = 64
#: Pairs looked at at a time.
_BLOCK = 1 << 20
#: Of more images with one and the same hash, each is compared with the first alone.
_MAX_CLIQUE = 64


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """What images are compared by.

    Args:
        hashes: uint64 (N,), see `perceptual_hash`.
        thumbnails: uint8 (N, 256), grey.
        comparable: bool (N,): False for images that cannot be decoded or are nearly one colour.
    """

    hashes: np.ndarray
    thumbnails: np.ndarray
    comparable: np.ndarray

    def groups(self, max_distance: int = MAX_DISTANCE) -> np.ndarray:
        """Group number of each image, int64 (N,): near-identical images share one, directly or by way of others.

        Numbers run from 0 in order of first appearance; images that cannot be compared are alone.
        """
        chosen = np.flatnonzero(self.comparable)
        pairs = near_duplicate_pairs(self.hashes[chosen], max_distance, self.thumbnails[chosen])
        return _components(chosen[pairs], len(self.hashes))


def image_hashes(
    paths: Sequence[str], workers: int | None = None, progress: Callable[[int], object] | None = None
) -> ImageHashes:
    """Hash images; each is decoded once.

    Args:
        paths: The files. Those that cannot be used are not ``comparable``.
        workers: Processes; 0 works in this one, None takes as many as there are processors.
        progress: Called with the number of images done since the last call.
    """
    table = inspect_images(paths, workers, progress)
    return ImageHashes(table['hash'], table['thumb'], table.comparable)


def near_duplicate_groups(hashes: np.ndarray, max_distance: int = MAX_DISTANCE) -> np.ndarray:
    """Groups of hashes that are near each other, directly or by way of others.

    Args:
        hashes: uint64 (N,).
        max_distance: Largest Hamming distance of two that are near, 0 to 16.

    Returns:
        Group number of each, int64 (N,), from 0 in order of first appearance.
    """
    return _components(near_duplicate_pairs(hashes, max_distance), len(hashes))


def near_duplicate_pairs(
    hashes: np.ndarray, max_distance: int = MAX_DISTANCE, thumbnails: np.ndarray | None = None
) -> np.ndarray:
    """Pairs of images whose hashes differ in few bits.

    Two numbers of 64 bits that differ in at most d agree in at least m - d of m blocks of bits, whatever the blocks
    (pigeonhole principle); so only numbers that agree in some m - d blocks are compared.

    Args:
        hashes: uint64 (N,).
        max_distance: Largest Hamming distance, 0 to 16.
        thumbnails: (N, K) grey values; pairs whose values correlate less than `MIN_CORRELATION` are left out.

    Returns:
        int64 (P, 2), smaller number first, sorted. If more than 64 images have the same hash, of these only pairs with
        the first, and the first's with others, are given: enough to group them.
    """
    if not 0 <= max_distance <= 16:
        raise ValueError(f'max_distance must lie in 0 to 16, got {max_distance}')
    hashes = np.asarray(hashes, np.uint64)
    values, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    near = _near_values(values, max_distance)
    order = np.argsort(inverse, kind='stable')
    bounds = np.searchsorted(inverse[order], np.arange(len(values) + 1))
    sizes = np.diff(bounds)
    alone = (sizes[near] == 1).all(axis=1)
    found = [first[near[alone]]]
    for a, b in near[~alone].tolist():
        found.append(_cross(order[bounds[a] : bounds[a + 1]], order[bounds[b] : bounds[b + 1]]))
    for value in np.flatnonzero(sizes > 1).tolist():
        found.append(_within(order[bounds[value] : bounds[value + 1]]))
    pairs = np.sort(np.concatenate(found).astype(np.int64), axis=1)
    if thumbnails is not None:
        pairs = pairs[_agree(pairs, thumbnails)]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _cross(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    if len(left) * len(right) <= _MAX_CLIQUE**2:
        return np.stack(np.meshgrid(left, right), axis=-1).reshape(-1, 2)
    return np.concatenate([_star(left[0], right), _star(right[0], left[1:])])


def _within(images: np.ndarray) -> np.ndarray:
    if len(images) <= _MAX_CLIQUE:
        return images[np.stack(np.triu_indices(len(images), 1), axis=1)]
    return _star(images[0], images[1:])


def _star(centre: int, others: np.ndarray) -> np.ndarray:
    return np.stack([np.full(len(others), centre), others], axis=1)


def _agree(pairs: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Which pairs of thumbnails correlate at least `MIN_CORRELATION` (Pearson), bool."""
    agree = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), 1 << 14):
        block = slice(start, start + (1 << 14))
        left, right = (_standardised(thumbnails[pairs[block, side]]) for side in (0, 1))
        agree[block] = (left * right).sum(axis=1) >= MIN_CORRELATION
    return agree


def _standardised(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)


def _near_values(values: np.ndarray, max_distance: int) -> np.ndarray:
    """Pairs of positions of distinct values within the distance, int64 (P, 2), each once."""
    found = [np.empty((0, 2), np.int64)]
    if max_distance and len(values) > 1:
        blocks, agreeing = _plan(len(values), max_distance)
        masks = [sum(1 << bit for bit in range(number, _BITS, blocks)) for number in range(blocks)]
        for chosen in combinations(masks, agreeing):
            found += _within_buckets(values, np.uint64(sum(chosen)), max_distance)
    pairs = np.concatenate(found)
    keys = np.unique(pairs[:, 0] * len(values) + pairs[:, 1])
    return np.stack(np.divmod(keys, max(len(values), 1)), axis=1)


def _plan(count: int, max_distance: int) -> tuple[int, int]:
    """How many blocks to cut 64 bits into, and in how many of them to agree, for the least work."""

    def cost(agreeing: int) -> float:
        blocks = max_distance + agreeing
        pairs = count**2 / 2 / 2 ** (_BITS * agreeing / blocks)
        return math.comb(blocks, agreeing) * (count * 100 + pairs * 30)  # nanoseconds, roughly

    agreeing = min(range(1, 5), key=cost)
    return max_distance + agreeing, agreeing


def _within_buckets(values: np.ndarray, mask: np.uint64, max_distance: int) -> Iterator[np.ndarray]:
    """Near pairs among values that agree in the bits of the mask."""
    keys = values & mask
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    ends = np.repeat(np.append(starts[1:], len(keys)), np.diff(np.append(starts, len(keys))))
    partners = ends - np.arange(len(keys)) - 1  # those behind each in its bucket
    begins = np.concatenate([[0], np.cumsum(partners)])
    start = 0
    while start < len(keys):
        stop = max(start + 1, int(np.searchsorted(begins, begins[start] + _BLOCK, side='right')) - 1)
        left = np.repeat(np.arange(start, stop), partners[start:stop])
        right = left + 1 + np.arange(len(left)) - np.repeat(begins[start:stop] - begins[start], partners[start:stop])
        left, right = order[left], order[right]
        near = popcount(values[left] ^ values[right]) <= max_distance
        if near.any():
            pair = np.stack([left[near], right[near]], axis=1)
            yield np.sort(pair, axis=1)
        start = stop


def popcount(numbers: np.ndarray) -> np.ndarray:
    """Number of bits set in each, uint64; NumPy has this only from version 2 on."""
    if hasattr(np, 'bitwise_count'):
        return np.bitwise_count(numbers)
    numbers = numbers - ((numbers >> np.uint64(1)) & np.uint64(0x5555555555555555))
    numbers = (numbers & np.uint64(0x3333333333333333)) + ((numbers >> np.uint64(2)) & np.uint64(0x3333333333333333))
    numbers = (numbers + (numbers >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (numbers * np.uint64(0x0101010101010101)) >> np.uint64(56)


def _components(pairs: np.ndarray, count: int) -> np.ndarray:
    """Connected components, numbered in order of first appearance."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[inverse]


def equal_groups(digests: np.ndarray) -> np.ndarray:
    """Group number of each 128-bit digest, int64 (N,), from 0 in order of first appearance.

    Args:
        digests: uint64 (N, 2).
    """
    keys = np.ascontiguousarray(digests).view([('', np.uint64), ('', np.uint64)]).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    return ranks[inverse]
