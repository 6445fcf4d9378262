"""``init_cfg``: initialisers by name, pretrained files last."""

from __future__ import annotations

from pathlib import Path

import torch

from mlcls.models import ResNet
from mlcls.models.initialize import Pretrained, initialize


def small() -> ResNet:
    return ResNet(18, base_channels=8, stem_channels=8)


def test_initialisers_by_name_and_pretrained_last(tmp_path: Path) -> None:
    source = small()
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    target = small()
    initialize(
        target,
        [
            dict(type='Pretrained', checkpoint=str(tmp_path / 'w.pth')),
            dict(type='Constant', val=0.5, layer='BatchNorm2d'),
        ],
    )
    assert torch.equal(target.bn1.weight, source.bn1.weight)
    initialize(target, dict(type='Constant', val=0.5, layer='BatchNorm2d'))
    assert (target.bn1.weight == 0.5).all()
    initialize(target, None)


def test_several_files_fill_one_module(tmp_path: Path) -> None:
    source, target = small(), small()
    parts = source.state_dict()
    for number, start in enumerate(('layer1', 'layer2')):
        torch.save({name: value for name, value in parts.items() if name.startswith(start)}, tmp_path / f'{number}.pth')
    initialize(target, [dict(type=Pretrained, checkpoint=str(tmp_path / f'{number}.pth')) for number in (0, 1)])
    assert torch.equal(target.layer1[0].conv1.weight, source.layer1[0].conv1.weight)
    assert torch.equal(target.layer2[0].conv1.weight, source.layer2[0].conv1.weight)
    assert not torch.equal(target.layer3[0].conv1.weight, source.layer3[0].conv1.weight)
    assert [entry['tensors'] for entry in target.loaded_weights] == [20, 25]


def test_prefix_and_place_as_said(tmp_path: Path) -> None:
    source, target = small(), small()
    weights = {f'teacher.{name}': value for name, value in source.state_dict().items()}
    torch.save({'state_dict': {'a.b': torch.zeros(1)}, 'other': weights}, tmp_path / 'w.pth')
    cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'w.pth'), prefix='teacher', key='other', map_location='cpu')
    initialize(target, cfg)
    assert torch.equal(target.conv1.weight, source.conv1.weight)
