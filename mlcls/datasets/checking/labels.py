"""Findings about labels: classes that cannot be learnt or measured, and labels that look wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from mlcls.structures import ABSENT, UNKNOWN

from .names import similar_names
from .report import MAX_ITEMS, Finding, counted, listed
from .splits import Split
from .statistics import (
    cooccurrence,
    frequency_p_values,
    holm,
    label_counts,
    recall_uncertainty,
    strong_rules,
)

#: With fewer positives in a split, its measures of a class say little: a recall is known to +- 26 points at best.
MIN_POSITIVES = 10
#: Differences of frequency between splits are told from this factor on, and if chance is less likely than this.
MIN_RATIO, SIGNIFICANCE = 1.5, 0.001
#: Shares of images without labels, or of labels that are unknown, from which on they are a warning.
MANY = 0.5
#: Formats in which a person or a script writes class ids; in others, names.
_WITH_IDS = ('native', 'text', 'yolo')
#: Rules are sought among so many of the most frequent classes.
MAX_RULES = 2000
#: Images that two classes must have in common to be called the same.
MIN_EQUAL = 10


def label_findings(splits: Sequence[Split]) -> list[Finding]:
    """All findings about labels of splits that have the same classes."""
    if not splits:
        return []
    return [
        *coverage(splits),
        *unlabelled(splits),
        *unknown_labels(splits),
        *never_absent(splits),
        *shifted_ids(splits),
        *frequencies(splits),
        *rules(splits),
        *(
            Finding('warning' if same else 'note', 'class-names-similar', message, '', pair, 2)
            for same, message, pair in similar_names(splits[0].annotations.classes)
        ),
    ]


def differing_classes(splits: Sequence[Split]) -> list[Finding]:
    """An error for each split whose class names (or their order) are not those of the first."""
    findings = []
    for split in splits[1:]:
        first, own = splits[0].annotations.classes, split.annotations.classes
        if own == first:
            continue
        only = [*(name for name in own if name not in first), *(name for name in first if name not in own)]
        if only:
            what = f'only one of them has {listed(only)}'
        else:
            number = next(i for i, (a, b) in enumerate(zip(own, first)) if a != b)
            what = f"the same names in another order: class {number} is '{own[number]}' here, '{first[number]}' there"
        message = f'its classes differ from those of {splits[0].name}: {what}'
        findings.append(
            Finding('error', 'classes-differ', message, split.name, tuple(only[:MAX_ITEMS]), len(only) or 1)
        )
    return findings


def coverage(splits: Sequence[Split]) -> Iterator[Finding]:
    """Classes without any image, without one to learn from, or with too few to measure on."""
    classes = splits[0].annotations.classes
    counts = {split.name: split.annotations.labels.counts() for split in splits}
    total = np.sum(list(counts.values()), axis=0)
    text = '{} shown by no image, so nothing can be learnt about {them}'
    yield from _about('warning', 'class-absent', '', classes, total == 0, text)
    constant = (total == sum(map(len, splits))) & (total >= MIN_POSITIVES)
    yield from _about('warning', 'class-constant', '', classes, constant, '{} shown by every image: nothing to learn')
    training = [split for split in splits if split.is_training]
    to_learn = np.sum([counts[split.name] for split in training], axis=0) if training else total
    names = ' and '.join(split.name for split in training)
    text = '{} shown by no image here, but in other splits'
    yield from _about('warning', 'class-not-in-train', names, classes, (to_learn == 0) & (total > 0), text)
    few = (to_learn > 0) & (to_learn < MIN_POSITIVES)
    text = f'{{}} shown by fewer than {MIN_POSITIVES} images to learn from'
    yield from _about('note', 'class-rare-in-train', names, classes, few, text, to_learn)
    if training:
        for split in splits:
            if not split.is_training:
                yield from _measurable(split, counts[split.name], to_learn > 0, constant)


def _measurable(split: Split, counts: np.ndarray, learnt: np.ndarray, constant: np.ndarray) -> Iterator[Finding]:
    """Which classes a split to measure on has too few images of, or no image without."""
    classes = split.annotations.classes
    text = '{} shown by no image here, so {they} cannot be measured'
    yield from _about('warning', 'class-not-in-split', split.name, classes, (counts == 0) & learnt, text)
    rare = (counts > 0) & (counts < MIN_POSITIVES)
    yield from _about('warning', 'class-rare-in-split', split.name, classes, rare, _rare_text(counts[rare]), counts)
    everywhere = (counts == len(split)) & (counts >= MIN_POSITIVES) & ~constant
    text = '{} shown by every image here, so only recall can be measured'
    yield from _about('warning', 'class-always-present', split.name, classes, everywhere, text)


def _rare_text(counts: np.ndarray) -> str:
    if not len(counts):
        return '{}'
    fewest = int(counts.min())
    width = round(100 * recall_uncertainty(fewest))
    return (
        f'{{}} shown by fewer than {MIN_POSITIVES} images, too few to measure {{them}} '
        f'(with {counted(fewest, "image")}, a recall of 50% is known to within {width} points)'
    )


def _about(
    severity: str,
    code: str,
    split: str,
    classes: Sequence[str],
    chosen: np.ndarray,
    text: str,
    counts: np.ndarray | None = None,
) -> Iterator[Finding]:
    """A finding about some classes, rarest first; ``{}`` becomes their number, ``{them}`` and ``{they}`` fit it."""
    numbers = np.flatnonzero(chosen)
    if not len(numbers):
        return
    if counts is not None:
        numbers = numbers[np.argsort(counts[numbers], kind='stable')]
    names = [classes[i] if counts is None else f'{classes[i]} ({counts[i]})' for i in numbers[:MAX_ITEMS]]
    many = len(numbers) > 1
    what = f'{counted(len(numbers), "class", "classes")} {"are" if many else "is"}'
    words = {'them': 'them' if many else 'it', 'they': 'they' if many else 'it'}
    yield Finding(severity, code, text.format(what, **words), split, tuple(names), len(numbers))


def unlabelled(splits: Sequence[Split]) -> Iterator[Finding]:
    """Images without a present label."""
    for split in splits:
        images = np.flatnonzero(label_counts(split.annotations.labels) == 0)
        if len(images):
            share = len(images) / len(split)
            message = f'{counted(len(images), "image")} ({share:.1%}) without any label; taken to show no class'
            severity = 'warning' if share >= MANY else 'note'
            paths = tuple(split.paths[i] for i in images[:MAX_ITEMS])
            yield Finding(severity, 'images-without-labels', message, split.name, paths, len(images))


def unknown_labels(splits: Sequence[Split]) -> Iterator[Finding]:
    """How many labels are unknown, and classes for which most are."""
    for split in splits:
        labels = split.annotations.labels
        shares = labels.counts(UNKNOWN) / max(len(labels), 1)
        if not shares.any():
            continue
        order = [i for i in np.argsort(-shares, kind='stable') if shares[i] >= MANY]
        severity = 'warning' if order and not split.is_training else 'note'
        worst = f'; of {counted(len(order), "class", "classes")}, half or more' if order else ''
        items = tuple(f'{split.annotations.classes[i]} ({shares[i]:.0%} unknown)' for i in order[:MAX_ITEMS])
        message = f'{shares.mean():.1%} of the labels are unknown{worst}'
        yield Finding(severity, 'labels-unknown', message, split.name, items, len(order) or 1)


def never_absent(splits: Sequence[Split]) -> Iterator[Finding]:
    """Classes that every image of a split shows or may show: a model that always says yes is never wrong."""
    for split in splits:
        labels = split.annotations.labels
        unknown, never = labels.counts(UNKNOWN), labels.counts(ABSENT) == 0
        every = bool(never.all())
        # Losses for incomplete labels can learn from present labels alone; nothing can be measured by them.
        severity = 'error' if every and not split.is_training else 'warning'
        chosen = never if every else never & (unknown > 0) & (labels.counts() > 0)
        text = '{} labelled absent in no image, so a model that always says yes is never wrong'
        if unknown.any():
            text += "; if empty cells mean absent, read them so: empty='absent' (--options empty=absent)"
        yield from _about(severity, 'class-never-absent', split.name, split.annotations.classes, chosen, text)


def shifted_ids(splits: Sequence[Split]) -> Iterator[Finding]:
    """Class ids that look as if they were counted from 1, in all splits or in one against the others."""
    if splits[0].annotations.format not in _WITH_IDS:
        return
    classes = splits[0].annotations.classes
    counts = np.array([split.annotations.labels.counts() for split in splits])
    total = counts.sum(axis=0)
    # A class is missing by chance often enough; but the first, alone, and all others well covered?
    if len(classes) > 2 and total[0] == 0 and total[1:].min() >= 3:
        message = (
            f"class 0 ('{classes[0]}') never occurs and all others do: are ids counted from 1? Look at a few images "
            f"of '{classes[1]}'"
        )
        yield Finding('warning', 'ids-off-by-one', message, '', (classes[0],), 1)
    if len(classes) < 4:
        return
    for number, split in enumerate(splits):
        rest = total - counts[number]
        straight = _misfit(counts[number], rest)
        for shift, words in ((1, 'one higher'), (-1, 'one lower')):
            moved = _misfit(np.roll(counts[number], -shift), rest)
            if straight > 10 * len(classes) and moved < straight / 5:
                message = f'its class ids look {words} than in the other splits: moved by one, frequencies fit'
                yield Finding('warning', 'ids-off-by-one', message, split.name, (), 1)
        if len(splits) == 2:  # which of two is off cannot be told
            return


def _misfit(counts: np.ndarray, others: np.ndarray) -> float:
    """Pearson's chi-square of two rows of counts having the same shares."""
    both = counts + others
    if not counts.sum() or not others.sum():
        return 0.0
    expected = both * (counts.sum() / both.sum())
    seen = both > 0
    return float((((counts - expected)[seen]) ** 2 / expected[seen]).sum())


def frequencies(splits: Sequence[Split]) -> Iterator[Finding]:
    """Classes whose share differs between splits by more than chance."""
    pairs = [(a, b) for a, b in combinations(splits, 2) if len(a) and len(b) and a.is_training != b.is_training]
    if not pairs:
        return
    counts = [(a.annotations.labels.counts(), b.annotations.labels.counts()) for a, b in pairs]
    p_values = [frequency_p_values(own, len(a), other, len(b)) for (a, b), (own, other) in zip(pairs, counts)]
    corrected = holm(np.concatenate(p_values)).reshape(len(pairs), -1)
    for (a, b), (own, other), p in zip(pairs, counts, corrected):
        shares, others = own / len(a), other / len(b)
        low, high = np.minimum(shares, others), np.maximum(shares, others)
        chosen = np.flatnonzero((p < SIGNIFICANCE) & (high >= MIN_RATIO * low))
        chosen = chosen[np.argsort(p[chosen], kind='stable')]
        if not len(chosen):
            continue
        names = a.annotations.classes
        items = tuple(
            f'{names[i]} ({shares[i]:.1%} in {a.name}, {others[i]:.1%} in {b.name})' for i in chosen[:MAX_ITEMS]
        )
        what = counted(len(chosen), 'class', 'classes')
        message = f'the share of {what} differs between {a.name} and {b.name} by more than chance explains'
        yield Finding('warning', 'frequencies-differ', message, f'{a.name}, {b.name}', items, len(chosen))


def rules(splits: Sequence[Split]) -> Iterator[Finding]:
    """Classes that never come without another, and classes that are one in all but name."""
    ids, counts = cooccurrence([split.annotations.labels for split in splits], MAX_RULES)
    names = [splits[0].annotations.classes[number] for number in ids]
    found = strong_rules(counts, sum(map(len, splits)))
    same = [rule for rule in found if rule.support == rule.count == counts[rule.b, rule.b] and rule.a < rule.b]
    same = [rule for rule in same if rule.count >= MIN_EQUAL]
    if same:
        items = tuple(f"'{names[rule.a]}' and '{names[rule.b]}' ({rule.count} images)" for rule in same[:MAX_ITEMS])
        message = f'{counted(len(same), "pair")} of classes always labelled together: a model cannot tell them apart'
        yield Finding('warning', 'classes-identical', message, '', items, len(same))
    told = {frozenset((rule.a, rule.b)) for rule in same}
    found = [rule for rule in found if frozenset((rule.a, rule.b)) not in told]
    if found:
        items = tuple(
            f"'{names[rule.a]}' with '{names[rule.b]}' ({rule.support} of {rule.count}; {rule.base:.0%} of all images)"
            for rule in found[:MAX_ITEMS]
        )
        what = 'pair of classes of which the first (almost) never comes without the second'
        many = 'pairs of classes of which the first (almost) never comes without the second'
        yield Finding('note', 'class-implies-class', counted(len(found), what, many), '', items, len(found))
