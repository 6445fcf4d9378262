"""Normalisation by config."""

from __future__ import annotations

import pytest
from torch import nn

from mlcls.errors import ConfigError
from mlcls.models.layers.norm import build_norm


def test_kinds() -> None:
    assert type(build_norm(8)) is type(build_norm(8, dict(type='BN', requires_grad=True))) is nn.BatchNorm2d
    assert isinstance(build_norm(8, dict(type='SyncBN')), nn.SyncBatchNorm)
    assert build_norm(8, dict(type='GN', num_groups=4)).num_groups == 4
    assert build_norm(8, dict(type='BN', eps=1e-3, momentum=0.03)).eps == 1e-3
    assert not any(p.requires_grad for p in build_norm(8, dict(type='BN', requires_grad=False)).parameters())


@pytest.mark.parametrize(
    'norm_cfg, words',
    [
        (dict(type='SynBN'), "norm_cfg: unknown type 'SynBN'; did you mean 'SyncBN'"),
        (dict(requires_grad=True), 'norm_cfg: unknown type None; choose from BN, GN, SyncBN'),
        (dict(type='GN'), 'GN needs num_groups that divide 8 channels, got None'),
        (dict(type='GN', num_groups=3), 'GN needs num_groups that divide 8 channels, got 3'),
        (dict(type='BN', groups=3), "norm_cfg: BN does not take these arguments: .*'groups'"),
    ],
)
def test_refusals(norm_cfg: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_norm(8, norm_cfg)
