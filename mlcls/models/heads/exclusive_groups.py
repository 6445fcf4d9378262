"""Labels of which at most one of a group can be present."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlcls.errors import ConfigError, DataError, did_you_mean
from mlcls.models.base import InitCfg
from mlcls.models.heads.inputs import check_targets, feature_vector
from mlcls.models.heads.multi_label import LINEAR_INIT, MultiLabelClsHead
from mlcls.models.losses.cross_entropy import binary_cross_entropy
from mlcls.registry import MODELS
from mlcls.structures import ABSENT, PRESENT, UNKNOWN, LabelMatrix, LabelStatistics

#: Stored labels that are looked at together, but for an image with more.
_ENTRIES = 1 << 20
#: The share of a group from which on a member's odds are computed from the others alone. Above a half by more than
#: rounding, so that no two members have it, and far from 1, where the difference from 1 would lose digits.
_DOMINANT = 0.6


@MODELS.register_module()
class ExclusiveGroupsHead(MultiLabelClsHead):
    """A softmax within each declared group of labels, a sigmoid for each label elsewhere.

    One linear layer gives an output to each label and to the "none" of each group that may be empty. The logit of a
    label in a group is its log-odds under the softmax, ``z_c - log sum exp`` of the other outputs of the group, so that
    its sigmoid is its probability there and the probabilities of a group sum to 1 (with that of "none", if it has
    one). Computed in float32 also under autocast.

    Without ``loss`` the head trains by its likelihood: in each group ``-log p`` of the label that is present, or of
    "none"; where that is unknown, ``-log`` of what the known absences leave, and 0 if they exclude nothing. Soft
    targets weigh the terms of their labels, and what they leave of 1 is that of an unknown label or of "none". Other
    labels have binary cross entropy. All are summed, over labels and groups, and averaged over images.

    Args:
        num_classes: C, at least 1.
        in_channels: Length of the feature vectors.
        groups: The groups, each ``dict(labels=[...], none=True)``: labels by index or, with ``classes``, by name;
            ``none=False`` if exactly one of them is present in every image, True (the default) if none may be.
        loss: Config of a loss of the log-odds (N, C); None trains by the likelihood.
        classes: Class names, in the order of the data.
        thr: See :class:`MultiLabelClsHead`.
        topk: See :class:`MultiLabelClsHead`.
        init_cfg: Initialisers.
        score: See :class:`MultiLabelClsHead`.

    Attributes:
        label_names: ``classes``.

    Raises:
        ConfigError: ``num_classes`` or ``in_channels`` below 1; no groups, or a group that is empty, overlaps another,
            or has one label and no "none"; a label that is none of the classes; features of another length.
    """

    members: torch.Tensor
    group_of: torch.Tensor
    places: torch.Tensor
    free: torch.Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        groups: Sequence[Mapping[str, Any]],
        loss: dict[str, Any] | nn.Module | None = None,
        classes: Sequence[str] | None = None,
        thr: float | None = None,
        topk: int | None = None,
        init_cfg: InitCfg = LINEAR_INIT,
        score: str = 'calibrated',
    ) -> None:
        super().__init__(loss, thr, topk, init_cfg, score)
        self.set_size(num_classes, in_channels)
        if classes is not None and len(classes) != num_classes:
            raise ConfigError(f'ExclusiveGroupsHead: classes has {len(classes)} names, num_classes is {num_classes}')
        self.label_names = None if classes is None else tuple(classes)
        self.likelihood = loss is None
        self.groups = _read_groups(groups, num_classes, self.label_names)
        self.none = [bool(group.get('none', True)) for group in groups]
        self.fc = nn.Linear(in_channels, num_classes + sum(self.none))
        self._place_members()

    def _place_members(self) -> None:
        """The outputs of all groups in one list, group by group, and where to find the logit of each label."""
        members: list[int] = []
        group_of: list[int] = []
        places = torch.arange(self.num_classes)
        output = self.num_classes
        for number, (labels, none) in enumerate(zip(self.groups, self.none)):
            places[labels] = self.num_classes + len(members) + torch.arange(len(labels))
            members += [*labels, output] if none else labels
            output += none
            group_of += [number] * (len(members) - len(group_of))
        buffers = dict(members=torch.tensor(members), group_of=torch.tensor(group_of), places=places)
        # From the config, not from the checkpoint.
        for name, value in dict(buffers, free=places < self.num_classes).items():
            self.register_buffer(name, value, persistent=False)

    def fit(self, statistics: LabelStatistics) -> dict[str, torch.Tensor]:
        """Check that the training labels are as the groups say.

        Returns:
            Nothing.

        Raises:
            DataError: Images have two labels of a group, or none of a group without "none".
        """
        several, nothing = _count_images(statistics.labels, self.groups)
        for number, none in enumerate(self.none):
            if several[number]:
                raise DataError(
                    f'ExclusiveGroupsHead: {several[number]} training images have two labels or more of '
                    f'{self._described(number)}; they do not exclude each other'
                )
            if nothing[number] and not none:
                raise DataError(
                    f'ExclusiveGroupsHead: {nothing[number]} training images have no label of '
                    f'{self._described(number)}; set none=True in it'
                )
        return {}

    def _described(self, number: int) -> str:
        names = [f'{i}' if self.label_names is None else self.label_names[i] for i in self.groups[number]]
        shown = ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')
        return f'groups[{number}] ({shown})'

    def forward(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Feature vectors (N, in_channels) of the last stage to log-odds (N, C) float32."""
        with torch.autocast(features[-1].device.type, enabled=False):
            return self._log_odds(self._outputs(features))

    def loss(
        self, features: Sequence[torch.Tensor], targets: torch.Tensor, index: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Loss of a batch: by the likelihood or, if one was given, by the loss of the log-odds.

        Args:
            features: Output of backbone and neck.
            targets: (N, C), 1, 0, -1 (unknown) or soft values.
            index: See :meth:`MultiLabelClsHead.loss`.
        """
        if not self.likelihood:
            return super().loss(features, targets, index)
        check_targets(self.num_classes, targets)
        with torch.autocast(features[-1].device.type, enabled=False):
            outputs = self._outputs(features)
            free = binary_cross_entropy(outputs[:, : self.num_classes], targets, self.free.to(outputs.dtype))
            return {'loss': (free.sum() + self._group_losses(outputs, targets).sum()) / max(len(outputs), 1)}

    def _outputs(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Outputs of the labels and the "none" of groups, (N, C + number of "none")."""
        return self.fc(feature_vector(features, self.in_channels, type(self).__name__).float())

    def _spread(self, values: torch.Tensor) -> torch.Tensor:
        """Values of groups (N, groups) for each of their members, (N, members of all groups)."""
        return values.index_select(1, self.group_of)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum by group of values of members (N, members of all groups), (N, groups)."""
        return values.new_zeros(values.shape[0], len(self.groups)).index_add(1, self.group_of, values)

    def _log_sum_exp(self, z: torch.Tensor) -> torch.Tensor:
        """log sum exp by group of members (N, members of all groups), (N, groups); one of a group may not be -inf."""
        lowest = z.new_full((z.shape[0], len(self.groups)), -torch.inf)
        # It cancels, so that the gradient is right, and exact, without going through it.
        largest = lowest.scatter_reduce(1, self.group_of.expand(z.shape), z.detach(), 'amax')
        return largest + self._sum((z - self._spread(largest)).exp()).log()

    def _log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        z = outputs.index_select(1, self.members)
        # log sum exp of the others is log(sum - own), but where own is nearly all the difference would lose everything.
        total = self._spread(self._log_sum_exp(z))
        share = (z - total).exp()
        dominant = share > _DOMINANT
        share = share.masked_fill(dominant, 0)
        beside_dominant = self._spread(self._log_sum_exp(z.masked_fill(dominant, -torch.inf)))
        odds = z - torch.where(dominant, beside_dominant, total + torch.log1p(-share))
        return torch.cat([outputs[:, : self.num_classes], odds], 1).index_select(1, self.places)

    def _group_losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Minus log likelihood of every image and group, (N, groups)."""
        z = outputs.index_select(1, self.members)
        # No target names "none": it is open as an unknown label is.
        labels = F.pad(targets.to(z.dtype), (0, outputs.shape[1] - self.num_classes), value=UNKNOWN)
        labels = labels.index_select(1, self.members)
        open_ = labels < 0
        labels = labels.masked_fill(open_, 0)
        left = (1 - self._sum(labels)).clamp(min=0)
        # Where known labels exclude everything there is nothing to learn: the whole group, of probability 1.
        open_ = open_ | (self._spread(self._sum(open_.to(z.dtype))) == 0)
        total = self._log_sum_exp(z)
        log_open = self._log_sum_exp(z.masked_fill(~open_, -torch.inf)) - total
        return -self._sum(labels * (z - self._spread(total))) - left * log_open


def _count_images(labels: LabelMatrix, groups: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Images with two labels or more of each group, and images where all of its labels are known to be absent.

    Only pairs of image and group that have stored labels are looked at; the others are as the default says.

    Args:
        labels: (N, C).
        groups: Labels of each group.

    Returns:
        Two arrays int64 (groups,).
    """
    sizes = np.array([len(group) for group in groups])
    group_of = np.full(labels.num_classes, -1)
    group_of[np.concatenate(groups)] = np.repeat(np.arange(len(groups)), sizes)
    several, nothing, seen = np.zeros((3, len(groups)), np.int64)
    first = 0
    while first < len(labels):
        last = np.searchsorted(labels.indptr, labels.indptr[first] + _ENTRIES, 'right') - 1
        last = min(max(int(last), first + 1), len(labels))
        part = slice(labels.indptr[first], labels.indptr[last])
        rows = np.repeat(np.arange(last - first), np.diff(labels.indptr[first : last + 1]))
        group, values = group_of[labels.indices[part]], labels.values[part]
        inside = group >= 0
        cells, cell = np.unique(rows[inside] * len(groups) + group[inside], return_inverse=True)
        group = cells % len(groups)
        rest = sizes[group] - np.bincount(cell, minlength=len(cells))
        present, unknown = (
            np.bincount(cell[values[inside] == value], minlength=len(cells)) + rest * (value == labels.default)
            for value in (PRESENT, UNKNOWN)
        )
        several += np.bincount(group[present > 1], minlength=len(groups))
        nothing += np.bincount(group[present + unknown == 0], minlength=len(groups))
        seen += np.bincount(group, minlength=len(groups))
        first = last
    several += (len(labels) - seen) * (sizes > 1) * (labels.default == PRESENT)
    nothing += (len(labels) - seen) * (labels.default == ABSENT)
    return several, nothing


def _read_groups(groups: Sequence[Mapping[str, Any]], num_classes: int, names: Sequence[str] | None) -> list[list[int]]:
    """Indices of the labels of each group."""
    if not groups:
        raise ConfigError('ExclusiveGroupsHead: groups is empty; without groups use MultiLabelLinearClsHead')
    found: list[list[int]] = []
    taken: dict[int, int] = {}
    for number, group in enumerate(groups):
        where = f'ExclusiveGroupsHead: groups[{number}]'
        if not isinstance(group, Mapping) or 'labels' not in group:
            raise ConfigError(f'{where} must be dict(labels=[...], none=True or False), got {group!r}')
        for key in group.keys() - {'labels', 'none'}:
            raise ConfigError(f"{where} has no setting '{key}'{did_you_mean(key, ('labels', 'none'))}")
        if isinstance(group['labels'], str) or not isinstance(group['labels'], Sequence):
            raise ConfigError(f'{where}: labels must be a list of indices or names, got {group["labels"]!r}')
        labels = [_label_index(label, num_classes, names, where) for label in group['labels']]
        for label in labels:
            if label in taken:
                twice = 'twice' if taken[label] == number else f'in groups[{taken[label]}] as well'
                raise ConfigError(f'{where} has label {group["labels"][labels.index(label)]!r} {twice}')
            taken[label] = number
        if len(labels) < 2 - bool(group.get('none', True)):
            raise ConfigError(
                f'{where} has {len(labels)} labels and none={group.get("none", True)}: there is nothing to choose from'
            )
        found.append(labels)
    return found


def _label_index(label: Any, num_classes: int, names: Sequence[str] | None, where: str) -> int:
    if isinstance(label, str):
        if names is None:
            raise ConfigError(f"{where} names label '{label}': the head needs classes=[...], or give indices")
        if label not in names:
            raise ConfigError(f"{where}: no class '{label}'{did_you_mean(label, names)}")
        return list(names).index(label)
    if isinstance(label, bool) or not isinstance(label, int):
        raise ConfigError(f'{where}: a label must be an index or a name, got {label!r}')
    if not 0 <= label < num_classes:
        raise ConfigError(f'{where}: label {label} is out of range, classes are 0 to {num_classes - 1}')
    return label
