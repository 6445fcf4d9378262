"""Findings about images that occur more than once: within a split, and in two splits."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from mlcls.structures import UNKNOWN

from .duplicates import MAX_DISTANCE, equal_groups, near_duplicate_pairs
from .images import ImageTable
from .report import MAX_ITEMS, Finding, counted
from .splits import Split

#: Share of a split to measure on, from which on images that are trained on too are an error.
MIN_LEAK = 0.01


class FilePlaces:
    """Real paths of files, with one question a folder and one more a symbolic link."""

    def __init__(self) -> None:
        self._folders: dict[str, tuple[str, frozenset[str]]] = {}

    def real(self, path: str) -> str:
        """The path without symbolic links; remote paths stay as they are."""
        if '://' in path:
            return path
        folder, name = os.path.split(os.path.normpath(path))
        if folder not in self._folders:
            self._folders[folder] = (os.path.realpath(folder), _links(folder))
        place, links = self._folders[folder]
        return os.path.realpath(os.path.join(folder, name)) if name in links else os.path.join(place, name)


def _links(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:
        return frozenset()


def real_paths(splits: Iterable[Split]) -> dict[str, list[str]]:
    """Real path of each image, by split. Packed images are not files, so their splits are left out."""
    places = FilePlaces()
    return {split.name: [places.real(path) for path in split.paths] for split in splits if not split.packed}


def without_repeated_splits(
    splits: Sequence[Split], places: Mapping[str, Sequence[str]]
) -> tuple[list[Split], list[Finding]]:
    """Leave out splits that are exactly another one, as where a config tests on its validation data; says so.

    Args:
        splits: The splits.
        places: Their `real_paths`.
    """
    kept: list[Split] = []
    findings: list[Finding] = []
    seen: dict[frozenset[str], Split] = {}
    for split in splits:
        same = seen.setdefault(frozenset(places.get(split.name, [f'packed in {split.name}'])), split)
        # To validate on the training data is no repetition but the worst of leaks: to be found, not left out.
        if same is split or same.is_training != split.is_training:
            kept.append(split)
        else:
            message = f'the same images as {same.name}, so it is looked at once'
            findings.append(Finding('note', 'same-split', message, split.name, count=len(split)))
    return kept, findings


def shared_files(splits: Sequence[Split], places: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Image files that two splits list, by real path (`real_paths` of the splits); nothing is opened."""
    for a, b in _pairs(splits):
        if a.name not in places or b.name not in places:
            continue
        first = {place: number for number, place in enumerate(places[a.name])}
        both = [(number, first[place]) for number, place in enumerate(places[b.name]) if place in first]
        if both:
            files = [(b.paths[i], a.paths[j]) for i, j in both]
            yield _leak('error', 'file-in-two-splits', a, b, files, 'listed in')


def _pairs(splits: Sequence[Split]) -> Iterator[tuple[Split, Split]]:
    """Pairs of splits, the one to train on first."""
    ordered = sorted(splits, key=lambda split: not split.is_training)
    return combinations(ordered, 2)


def _leak(severity: str, code: str, a: Split, b: Split, files: Sequence[tuple[str, str]], words: str) -> Finding:
    """Images of ``b`` that are in ``a``; an error only where so many make measures wrong."""
    leaking = a.is_training and not b.is_training
    images = len({path for path, _ in files})
    if severity == 'error' and images < MIN_LEAK * len(b):
        severity = 'warning'
    message = f'{counted(images, "image")} of {b.name} ({images / len(b):.1%}) {words} {a.name}'
    if leaking:
        message += f': scores on {b.name} come out too high'
    else:
        severity = 'warning' if severity == 'error' else 'note'
    return Finding(severity, code, message, f'{b.name}, {a.name}', (), images, tuple(files[:MAX_ITEMS]))


def copy_findings(splits: Sequence[Split], tables: Sequence[ImageTable]) -> list[Finding]:
    """Identical and near-identical images, within and across splits, and identical ones with other labels.

    Args:
        splits: All with the same classes.
        tables: What is known of their images.
    """
    everything = _Pool(splits, tables)
    return [*_identical(everything), *_conflicts(everything), *_near(everything)]


class _Pool:
    """The images of all splits in one row."""

    def __init__(self, splits: Sequence[Split], tables: Sequence[ImageTable]) -> None:
        self.splits = splits
        self.paths = [path for split in splits for path in split.paths]
        self.split_of = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
        self.starts = np.cumsum([0, *(len(split) for split in splits)])
        records = np.concatenate([table.records for table in tables])
        self.table = ImageTable(records)
        #: Number of the group of identical pixels; images that cannot be used are alone.
        self.group = equal_groups(records['pixel_digest'])
        bad = np.flatnonzero(~self.table.usable)
        self.group[bad] = len(records) + np.arange(len(bad))

    def labels(self, image: int) -> np.ndarray:
        """Labels of an image, int8 (C,)."""
        split = int(self.split_of[image])
        return self.splits[split].annotations.labels.row(image - int(self.starts[split]))

    def path_pairs(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[str, str]]:
        """Paths of pairs of images."""
        return [(self.paths[a], self.paths[b]) for a, b in pairs]


def _groups(pool: _Pool) -> list[list[int]]:
    """Groups of two and more identical images."""
    order = np.argsort(pool.group, kind='stable')
    ends = np.flatnonzero(np.diff(pool.group[order])) + 1
    return [part.tolist() for part in np.split(order, ends) if len(part) > 1]


def _identical(pool: _Pool) -> Iterator[Finding]:
    across: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    within: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for group in _groups(pool):
        firsts: dict[int, int] = {}
        for image in group:
            own = int(pool.split_of[image])
            if own in firsts:
                within[own].append((image, firsts[own]))
            for other, first in firsts.items():
                across[other, own].append((image, first))
            firsts.setdefault(own, image)
    numbers = {split.name: number for number, split in enumerate(pool.splits)}
    for a, b in _pairs(pool.splits):
        i, j = numbers[a.name], numbers[b.name]
        pairs = across[i, j] if i < j else [(y, x) for x, y in across[j, i]]
        if pairs:
            yield _leak('error', 'identical-across-splits', a, b, pool.path_pairs(pairs), 'identical to images of')
    for number, split in enumerate(pool.splits):
        if pairs := within[number]:
            message = f'{counted(len(pairs), "image")} identical to another one of this split'
            files = tuple(pool.path_pairs(pairs[:MAX_ITEMS]))
            yield Finding('note', 'identical-within-split', message, split.name, (), len(pairs), files)


def _conflicts(pool: _Pool) -> Iterator[Finding]:
    """Identical images of which one is said to show a class and the other not to."""
    found: list[tuple[int, int]] = []
    classes: set[int] = set()
    for group in _groups(pool):
        first = pool.labels(group[0])
        for image in group[1:]:
            own = pool.labels(image)
            differ = np.flatnonzero((own != first) & (own != UNKNOWN) & (first != UNKNOWN))
            if len(differ):
                found.append((group[0], image))
                classes.update(differ.tolist())
    if found:
        names = pool.splits[0].annotations.classes
        shown = ', '.join(f"'{names[i]}'" for i in sorted(classes)[:3])
        message = f'{counted(len(found), "pair")} of identical images with conflicting labels (of {shown})'
        yield Finding(
            'warning', 'identical-conflict', message, '', (), len(found), tuple(pool.path_pairs(found[:MAX_ITEMS]))
        )


def _near(pool: _Pool) -> Iterator[Finding]:
    # One image of each identical group and split: copies are told of above, and would only be told again.
    _, firsts = np.unique(np.stack([pool.group, pool.split_of]), axis=1, return_index=True)
    images = np.sort(firsts)
    images = images[pool.table.comparable[images]]
    pairs = images[near_duplicate_pairs(pool.table['hash'][images], MAX_DISTANCE, pool.table['thumb'][images])]
    pairs = pairs[pool.group[pairs[:, 0]] != pool.group[pairs[:, 1]]]
    owners = pool.split_of[pairs]
    numbers = {split.name: number for number, split in enumerate(pool.splits)}
    for a, b in _pairs(pool.splits):
        i, j = numbers[a.name], numbers[b.name]
        straight, turned = (owners == (i, j)).all(axis=1), (owners == (j, i)).all(axis=1)
        both = np.concatenate([pairs[straight][:, ::-1], pairs[turned]])
        # An image that is there itself is told of already.
        both = both[~np.isin(pool.group[both[:, 0]], pool.group[pool.split_of == i])]
        if len(both):
            _, once = np.unique(both[:, 0], return_index=True)
            files = pool.path_pairs(both[np.sort(once)].tolist())
            yield _leak('warning', 'near-identical-across-splits', a, b, files, 'nearly identical to images of')
    for number, split in enumerate(pool.splits):
        inside = pairs[(owners == number).all(axis=1)]
        if len(inside):
            message = f'{counted(len(inside), "pair")} of nearly identical images'
            shown = tuple(pool.path_pairs(inside[:MAX_ITEMS].tolist()))
            yield Finding('note', 'near-identical-within-split', message, split.name, (), len(inside), shown)
