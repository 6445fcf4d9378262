"""Weights files: what matches is filled, what does not is said."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
import torchvision

from mlcls.errors import CheckpointError
from mlcls.models import ResNet
from mlcls.models.initialize import initialize, load_pretrained, load_weights, resolve_checkpoint


def small() -> ResNet:
    return ResNet(18, base_channels=8, stem_channels=8)


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.', 'module.backbone.', 'model.', 'encoder.'])
@pytest.mark.parametrize('key', [None, 'state_dict', 'model'])
def test_usual_prefixes_and_keys_are_found(tmp_path: Path, prefix: str, key: str | None) -> None:
    source = small()
    weights = {prefix + name: value for name, value in source.state_dict().items()}
    weights |= {'head.fc.weight': torch.zeros(3, 3)}
    torch.save(weights if key is None else {key: weights, 'epoch': 3}, tmp_path / 'w.pth')
    target = small()
    report = load_pretrained(target, str(tmp_path / 'w.pth'))
    assert len(report.matched) == len(source.state_dict()) and not report.missing and not report.mismatched
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))


def test_torchvision_file_loads_by_name(tmp_path: Path) -> None:
    reference = torchvision.models.resnet18(weights=None)
    torch.save(reference.state_dict(), tmp_path / 'resnet18.pth')
    report = load_pretrained(ResNet(18), str(tmp_path / 'resnet18.pth'))
    assert not report.missing and report.unused == ('fc.weight', 'fc.bias')


def test_report_names_what_does_not_fit() -> None:
    weights = small().state_dict()
    weights['conv1.weight'] = torch.zeros(8, 1, 7, 7)
    weights['extra'] = weights.pop('bn1.weight')
    report = load_weights(small(), weights, 'file.pth')
    text = str(report)
    assert report.missing == ('bn1.weight',) and report.unused == ('extra',)
    assert 'conv1.weight (file (8, 1, 7, 7), model (8, 3, 7, 7))' in text and 'file.pth: filled' in text


def test_asked_prefix() -> None:
    weights = {f'student.backbone.{name}': value for name, value in small().state_dict().items()}
    assert not load_weights(small(), weights, 'f', prefix='student.backbone').missing
    with pytest.raises(CheckpointError, match="no name starts with 'studnt.'; did you mean 'student'"):
        load_weights(small(), weights, 'f', prefix='studnt')


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match='nothing in it fits ResNet.*another network'):
        load_weights(small(), {'blocks.0.attn.qkv.weight': torch.zeros(2)}, 'vit.pth')


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / 'owned',))

    torch.save({'state_dict': Evil()}, tmp_path / 'evil.pth')
    (tmp_path / 'old.pth').write_bytes(pickle.dumps({'state_dict': Evil()}))
    for name in ('evil.pth', 'old.pth'):
        with pytest.raises(CheckpointError, match=f'{name}: (refused|not a checkpoint)'):
            load_pretrained(small(), str(tmp_path / name))
    assert not (tmp_path / 'owned').exists()


def test_missing_file_and_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match='no such checkpoint file'):
        load_pretrained(small(), str(tmp_path / 'none.pth'))
    with pytest.raises(CheckpointError, match="no model 'resnet51'; did you mean 'resnet50'"):
        resolve_checkpoint('torchvision://resnet51')
    with pytest.raises(CheckpointError, match="no weights 'V9'"):
        resolve_checkpoint('torchvision://resnet50.V9')


def test_offline_download_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError('network is unreachable')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    with pytest.raises(
        CheckpointError, match=rf'could not download .*put it at {tmp_path}/checkpoints/resnet50-.*\.pth'
    ):
        resolve_checkpoint('torchvision://resnet50.IMAGENET1K_V1')
    (tmp_path / 'checkpoints/resnet50-0676ba61.pth').touch()
    assert resolve_checkpoint('torchvision://resnet50.IMAGENET1K_V1').name == 'resnet50-0676ba61.pth'


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
