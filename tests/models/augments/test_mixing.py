"""Mixup, CutMix and the draw between them: labels by their definition, unknown labels, identities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcls.errors import ConfigError
from mlcls.models.augments import CutMix, Mixup, RandomBatchAugment, join_labels
from mlcls.models.losses import CrossEntropyLoss

from .conftest import Pictures

Labels = st.sampled_from([-1.0, 0.0, 0.25, 1.0])


def targets(n: int = 4, classes: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(-1, 2, (n, classes), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))


@given(Labels, Labels, st.floats(0, 1))
def test_mixed_label_by_its_definition(first: float, second: float, share: float) -> None:
    made = join_labels(torch.tensor([[first]]), torch.tensor([[second]]), share).item()
    shares = {first: 0.0, second: 0.0}
    shares[first] += share
    shares[second] += 1 - share
    if shares.get(-1.0, 0) > 0:
        assert made == -1
    else:
        assert made == pytest.approx(first * share + second * (1 - share) if share not in (0, 1) else made, abs=1e-6)
        assert 0 <= made <= 1


def test_mixed_labels_by_hand() -> None:
    values = torch.tensor([1, 0, -1], dtype=torch.int8)
    pairs = torch.tensor(list(itertools.product(values, values)), dtype=torch.int8)
    first, second = pairs[:, :1], pairs[:, 1:]
    mixed = join_labels(first, second, 0.75)
    assert mixed.dtype == torch.float32
    assert mixed[:, 0].tolist() == [1, 0.75, -1, 0.25, 0, -1, -1, -1, -1]
    assert join_labels(first, second, 1.0)[:, 0].tolist() == first[:, 0].tolist()  # an image without a share
    assert join_labels(first, second, 0.0)[:, 0].tolist() == second[:, 0].tolist()
    union = join_labels(first, second, 0.75, 'union')
    assert union[:, 0].tolist() == [1, 1, 1, 1, 0, -1, 1, -1, -1]  # 1 or unknown is 1, 0 or unknown is unknown
    assert join_labels(first, second, 1.0, 'union')[:, 0].tolist() == first[:, 0].tolist()
    soft = join_labels(torch.tensor([[0.25, 0.25]]), torch.tensor([[0.5, -1]]), 0.5, 'union')
    assert soft.tolist() == [[0.5, -1]]


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 1), st.sampled_from(['mix', 'union']), st.integers(0, 99))
def test_losses_take_what_comes_out(n: int, classes: int, share: float, labels: str, seed: int) -> None:
    first, second = targets(n, classes, seed), targets(n, classes, seed + 1)
    made = join_labels(first, second, share, labels)
    assert ((made == -1) | ((made >= 0) & (made <= 1))).all()
    assert torch.isfinite(CrossEntropyLoss(use_sigmoid=True)(torch.zeros(n, classes), made))


@given(st.integers(0, 200), st.sampled_from([Mixup(0.8), CutMix(1.0), CutMix(cutmix_minmax=(0.2, 0.8))]))
def test_an_image_mixed_with_itself_is_itself(seed: int, augment: Mixup | CutMix) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, 9, 7, generator=generator) * 255
    images, labels = image.expand(5, -1, -1, -1).clone(), targets(1, 6, seed).expand(5, -1).clone()
    torch.manual_seed(seed)
    mixed, made = augment(images.clone(), labels)
    assert torch.equal(mixed, images) and torch.equal(made, labels.float())
    mixed, made = augment(image.clone(), labels[:1])  # the only image of its batch
    assert torch.equal(mixed, image) and torch.equal(made, labels[:1].float())


def flat(n: int = 6, height: int = 40, width: int = 30) -> torch.Tensor:
    """Images of one level each: what is in a mix can be read off it."""
    return (torch.arange(n).float() * 10).view(n, 1, 1, 1).expand(n, 3, height, width).clone()


@pytest.mark.parametrize('augment', [Mixup(0.7), CutMix(1.0), CutMix(cutmix_minmax=(0.3, 0.9))])
def test_labels_go_by_what_is_in_the_images(augment: Mixup | CutMix) -> None:
    labels = torch.eye(6, dtype=torch.int8)
    levels = torch.arange(6).float() * 10
    for seed in range(60):
        torch.manual_seed(seed)
        images, made = augment(flat(), labels)
        # The mean level of an image is the mean of the levels of its two sources, weighted by their shares.
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), made @ levels, rtol=0, atol=1e-3)
        torch.testing.assert_close(made.sum(1), torch.ones(6))
        if isinstance(augment, CutMix):
            assert set(images.unique().tolist()) <= set(levels.tolist())


def test_shares_follow_the_beta_distribution() -> None:
    labels, shares = torch.eye(2, dtype=torch.int8), []
    torch.manual_seed(0)
    while len(shares) < 2000:
        made = Mixup(0.4)(flat(2, 1, 1), labels)[1]
        if not torch.equal(made, labels.float()):  # not its own partner
            shares.append(made[0, 0].item())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.4 + 1)), abs=0.015)


def test_cutmix_boxes() -> None:
    torch.manual_seed(0)
    free, bounded = CutMix(1.0), CutMix(cutmix_minmax=(0.25, 0.5))
    for share in (0.0, 0.19, 0.75, 1.0):
        for _ in range(200):
            rows, columns = free.box(40, 30, share)
            assert 0 <= rows.start <= rows.stop <= 40 and 0 <= columns.start <= columns.stop <= 30
            assert rows.stop - rows.start <= 40 * (1 - share) ** 0.5
            rows, columns = bounded.box(40, 30, share)
            assert 10 <= rows.stop - rows.start <= 20 and 8 <= columns.stop - columns.start <= 15
            assert rows.start >= 0 and rows.stop <= 40 and columns.start >= 0 and columns.stop <= 30
    sizes = [box.stop - box.start for box in (free.box(40, 40, 0.75)[0] for _ in range(300))]
    assert min(sizes) < 20 == max(sizes)  # clipped at a border, or the whole


def test_the_draw_between_augmentations() -> None:
    labels = torch.eye(4, dtype=torch.int8)
    augment = RandomBatchAugment([dict(type='Mixup', alpha=1.0), dict(type='CutMix', alpha=1.0)], [0.2, 0.5])
    torch.manual_seed(0)
    counts = {'none': 0, 'Mixup': 0, 'CutMix': 0}
    for _ in range(1000):
        images, made = augment(flat(4, 8, 8), labels)
        if made is labels:
            assert made.dtype == torch.int8 and torch.equal(images, flat(4, 8, 8))
            counts['none'] += 1
        else:
            counts['CutMix' if set(images.unique().tolist()) <= {0, 10, 20, 30} else 'Mixup'] += 1
    # A permutation that moves nothing (1 in 24) looks like CutMix.
    assert abs(counts['none'] - 300) < 75 and abs(counts['Mixup'] - 200) < 65 and abs(counts['CutMix'] - 500) < 80
    assert RandomBatchAugment(Mixup(1.0)).probs == [1.0]
    assert RandomBatchAugment([Mixup(1.0), CutMix(1.0)]).probs == [0.5, 0.5]
    never = RandomBatchAugment(dict(type='Mixup', alpha=1.0), 0.0)
    assert all(never(flat(), labels)[1] is labels for _ in range(50))


def test_memory_format_stays(pictures: Pictures) -> None:
    for augment in (Mixup(1.0), CutMix(1.0)):
        images = pictures().to(memory_format=torch.channels_last)
        torch.manual_seed(3)
        mixed, made = augment(images.clone(memory_format=torch.preserve_format), targets())
        assert mixed.stride() == images.stride()
        torch.manual_seed(3)
        plain, same = augment(pictures(), targets())
        assert torch.equal(mixed, plain) and torch.equal(made, same)


@pytest.mark.parametrize(
    'build, words',
    [
        (lambda: Mixup(0), 'Mixup: alpha must be a number above 0, got 0'),
        (lambda: CutMix('x'), 'CutMix: alpha must be'),
        (lambda: CutMix(), 'CutMix: give alpha'),
        (lambda: CutMix(cutmix_minmax=(0.5, 0.2)), 'cutmix_minmax must be'),
        (lambda: Mixup(1, labels='unoin'), "Mixup: unknown labels 'unoin'; did you mean 'union'"),
        (lambda: RandomBatchAugment([]), 'augments is empty'),
        (lambda: RandomBatchAugment([Mixup(1)], [0.5, 0.5]), '2 probs for 1 augments'),
        (lambda: RandomBatchAugment([Mixup(1), CutMix(1)], [0.5, 0.6]), 'probs must sum to at most 1, got 1.1'),
        (lambda: RandomBatchAugment(Mixup(1), -0.1), 'each of probs must be'),
        (lambda: RandomBatchAugment(dict(type='BatchCutout', shape=4)), 'expected the config of a BatchAugment'),
        (lambda: RandomBatchAugment('Mixup'), "a dict with a type, got 'Mixup'"),
        (lambda: RandomBatchAugment(dict(type='Mixup')), "builds no BatchAugment: .*'alpha'"),
        (lambda: RandomBatchAugment(dict(type='Mixupp', alpha=1)), 'Mixupp'),
    ],
)
def test_settings_that_cannot_work_are_refused(build, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()
