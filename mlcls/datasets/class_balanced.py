"""Repeat-factor sampling for multi-label data (Gupta et al., LVIS, arXiv 1908.03195, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mlcls.errors import ConfigError, did_you_mean
from mlcls.registry import DATASETS
from mlcls.structures import LabelMatrix, SampleIndex

from .balance import auto_threshold, repeat_factors

_ROUNDINGS = ('stochastic', 'up')


def systematic_draw(shares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``count`` in all, image i with expectation ``count * shares[i] / sum(shares)``; int64, one count an image.

    Systematic sampling: points at equal distances with a common random offset fall on intervals as long as the shares,
    laid end to end in random order. Each image is drawn its expectation rounded down or up, and the total is fixed.
    """
    order = rng.permutation(len(shares))
    ends = np.cumsum(shares[order])
    bounds = np.concatenate([[0.0], ends * (count / ends[-1]) if count else ends * 0])
    bounds[-1] = count  # whatever rounding made of it
    drawn = np.empty(len(shares), np.int64)
    drawn[order] = np.diff(np.ceil(bounds - rng.random())).astype(np.int64)
    return drawn


@DATASETS.register_module()
class ClassBalancedDataset(Dataset):
    """Repeats images of rare classes.

    Args:
        dataset: The dataset (or its config) to draw from.
        oversample_thr: Classes in less than this share of the images are repeated; in (0, 1]. See `repeat_factors`.
            ``'auto'`` takes it from the labels, see `auto_threshold`; it reckons with stochastic rounding.
        rounding: ``'stochastic'``: the fractional part of each image's factor is drawn anew every epoch, so factors
            hold on average; epochs have equal length. ``'up'``: factors are rounded up, as mmengine does, which repeats
            far more than the threshold says.
        seed: Of the draw, which depends on it, the run's seed and the epoch alone: it is the same on every rank.
        lazy_init: Only False; kept for configs of mmpretrain.
    """

    def __init__(
        self,
        dataset: Any,
        oversample_thr: float | str,
        rounding: str = 'stochastic',
        seed: int = 0,
        lazy_init: bool = False,
    ) -> None:
        auto = oversample_thr == 'auto'
        if not auto and (not isinstance(oversample_thr, (int, float)) or not 0 < oversample_thr <= 1):
            raise ConfigError(
                f'ClassBalancedDataset: oversample_thr must be a share in (0, 1], got {oversample_thr!r}; '
                "'auto' takes it from the labels"
            )
        if rounding not in _ROUNDINGS:
            near = did_you_mean(str(rounding), _ROUNDINGS)
            raise ConfigError(f"ClassBalancedDataset: unknown rounding '{rounding}'{near}")
        if seed < 0:
            raise ConfigError(f'ClassBalancedDataset: seed must be at least 0, got {seed}')
        if lazy_init:
            raise ConfigError('ClassBalancedDataset: lazy_init=True is not supported')
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.rounding, self.seed, self._auto = rounding, seed, auto
        #: The threshold; with ``'auto'`` the one found.
        self.oversample_thr = auto_threshold(self.labels) if auto else float(oversample_thr)
        #: Repeat factor of each image of the inner dataset, float64.
        self.repeat_factors = repeat_factors(self.labels, self.oversample_thr)
        # Workers hold their own copy of this object; the index tells them the epoch, and they keep its table.
        self._drawn, self._table = (0, 0), self._draw(0, 0)

    def _draw(self, run_seed: int, epoch: int) -> np.ndarray:
        if self.rounding == 'up':
            counts = np.ceil(self.repeat_factors).astype(np.int64)
        else:
            counts = np.floor(self.repeat_factors).astype(np.int64)
            fractions = self.repeat_factors - counts
            rng = np.random.Generator(np.random.PCG64([self.seed, run_seed, epoch]))
            counts += systematic_draw(fractions, round(float(fractions.sum())), rng)
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def draws(self) -> np.ndarray:
        """Mean number of times that an epoch draws each image of the inner dataset, float64 (N,)."""
        return np.ceil(self.repeat_factors) if self.rounding == 'up' else self.repeat_factors

    def epoch_indices(self, epoch: int) -> np.ndarray:
        """Indices into the inner dataset that make up an epoch, int64, sorted; always ``len(self)`` of them.

        These are the draws of a run with seed 0; those of another run depend on its seed too.
        """
        return self._table_of(0, epoch)

    def _table_of(self, run_seed: int, epoch: int) -> np.ndarray:
        if (run_seed, epoch) != self._drawn and self.rounding == 'stochastic':
            self._drawn, self._table = (run_seed, epoch), self._draw(run_seed, epoch)
        return self._table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self._inner(index)]

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """A whole batch, made by the inner dataset if it can."""
        inner = [self._inner(index) for index in indices]
        if hasattr(self.dataset, '__getitems__'):
            return self.dataset.__getitems__(inner)
        return [self.dataset[index] for index in inner]

    def _inner(self, index: int) -> SampleIndex:
        position = range(len(self))[index]
        key = getattr(index, 'key', ()) or (0, 0, position)
        table = self._table_of(key[0], key[1]) if len(key) > 1 else self.epoch_indices(0)
        # The key goes on, not the image's number, so that the repeats of an image are augmented differently.
        return SampleIndex(int(table[position]), key)

    def get_cat_ids(self, index: int) -> list[int]:
        """Ids of the classes present in an image of epoch 0."""
        return self.dataset.get_cat_ids(int(self.epoch_indices(0)[index]))

    def get_data_info(self, index: int) -> dict[str, Any]:
        """What the inner dataset knows about an image of epoch 0."""
        return self.dataset.get_data_info(int(self.epoch_indices(0)[index]))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.dataset.classes

    @property
    def metainfo(self) -> dict[str, Any]:
        """The inner dataset's meta information."""
        return self.dataset.metainfo

    @property
    def labels(self) -> LabelMatrix:
        """Labels of the inner dataset, each image once."""
        return self.dataset.labels

    @property
    def image_names(self) -> Sequence[str]:
        """Names of the inner dataset's images, each once."""
        return self.dataset.image_names

    @property
    def fingerprint(self) -> str:
        """The inner dataset's: how often images are drawn does not count."""
        return self.dataset.fingerprint

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences to be shown: the inner dataset's, and whether the threshold does anything."""
        notes = tuple(self.dataset.notes)
        if self.repeat_factors.max() <= 1:
            counts = self.labels.counts()
            rarest = int(np.argmin(np.where(counts > 0, counts, len(self.labels) + 1)))
            notes += (
                f'ClassBalancedDataset: oversample_thr={self.oversample_thr:g} repeats nothing; the share of the '
                f"rarest class, '{self.classes[rarest]}', is {counts[rarest] / len(self.labels):.3g}",
            )
        return notes

    def summary(self) -> str:
        """One line: the inner dataset's, and how many draws make an epoch."""
        ratio = len(self) / len(self.labels)
        found = f" by oversample_thr='auto', found to be {self.oversample_thr:.3g}," if self._auto else ''
        return f'{self.dataset.summary()}; class-balanced{found} to {len(self)} draws an epoch (x{ratio:.2f})'

    def full_init(self) -> None:
        """Nothing: everything is read at construction."""
