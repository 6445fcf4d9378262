"""What to do about findings, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .labels import MIN_POSITIVES
from .report import Finding, listed
from .splits import Split

_LEAKS = frozenset(('file-in-two-splits', 'identical-across-splits', 'near-identical-across-splits'))
_UNCOVERED = frozenset(('class-not-in-split', 'class-not-in-train', 'frequencies-differ'))
_BROKEN = frozenset(('image-missing', 'image-unreadable', 'image-empty', 'image-not-an-image', 'image-damaged'))
#: From this ratio of the most to the least frequent class on, drawing rare classes more often is advised.
_IMBALANCE = 10


def advice(findings: Sequence[Finding], splits: Sequence[Split]) -> list[str]:
    """Sentences on what to do, the most pressing first.

    Args:
        findings: All findings.
        splits: The splits that could be read.
    """
    codes = {finding.code for finding in findings}
    sentences = []
    sizes = {split.name: len(split) for split in splits}
    if any(each.code == 'image-missing' and each.count == sizes.get(each.split) for each in findings):
        sentences.append('No image of a split was found, so first set the folder of the images right.')
    elif codes & _BROKEN:
        sentences.append(
            "Mend, replace or leave out the files that cannot be used. Until then missing='skip' and on_error='skip' "
            'of the dataset train without them.'
        )
    if unusable := _unusable(splits):
        sentences.append(
            f'Do not choose a model by {listed(unusable)}: most of its classes have fewer than {MIN_POSITIVES} images '
            'there. Compare mAP over the well covered classes, or give that split more images.'
        )
    leaks, uneven = bool(codes & _LEAKS), bool(codes & _UNCOVERED)
    if leaks or uneven:
        gains = ['keeps look-alikes in one split'] * leaks + ['shares the classes out evenly'] * uneven
        flag = ' --keep-duplicates-together' if leaks else ''
        sentences.append(f'Split anew with tools/split_data.py{flag}: it {" and ".join(gains)}.')
    if 'identical-conflict' in codes:
        sentences.append('Look at the identical images with conflicting labels: one of each pair is labelled wrongly.')
    if (rare := _oversampling(splits)) is not None:
        sentences.append(rare)
    return sentences


def _unusable(splits: Sequence[Split]) -> list[str]:
    """Splits to measure on in which more than half of the classes have too few images."""
    if not any(split.is_training for split in splits):
        return []
    return [
        split.name
        for split in splits
        if not split.is_training and np.mean(split.annotations.labels.counts() < MIN_POSITIVES) > 0.5
    ]


def _oversampling(splits: Sequence[Split]) -> str | None:
    """The threshold of ``ClassBalancedDataset`` for imbalanced training data that are not balanced yet."""
    training = [split for split in splits if split.is_training]
    if len(training) != 1 or training[0].balanced:
        return None
    labels = training[0].annotations.labels
    seen = labels.counts()[labels.counts() > 0]
    if not len(seen) or seen.max() < _IMBALANCE * seen.min():
        return None
    from mlcls.datasets.balance import auto_threshold

    return (
        f'The most frequent class of {training[0].name} has {seen.max() / seen.min():.0f} times as many images as the '
        "rarest. dict(type='ClassBalancedDataset', oversample_thr='auto', dataset=...) draws rare ones more often "
        f'(by a threshold of {auto_threshold(labels):.2g}).'
    )
