"""Addresses of weights files, and what is said where there is no network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlcls.errors import CheckpointError
from mlcls.models.weights import resolve_checkpoint


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError('network is unreachable')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    return tmp_path / 'checkpoints'


@pytest.mark.parametrize(
    'asked, url, name',
    [
        ('torchvision://resnet50.IMAGENET1K_V1', r'https://\S+/resnet50-0676ba61\.pth', 'resnet50-0676ba61.pth'),
        ('torchvision://resnet50.IMAGENET1K_V2', r'https://\S+/resnet50-11ad3fa6\.pth', 'resnet50-11ad3fa6.pth'),
        ('torchvision://resnet50', r'https://\S+/resnet50-11ad3fa6\.pth', 'resnet50-11ad3fa6.pth'),
        ('https://a.b/c/net.safetensors?download=1', r'https://a\.b/c/net\.safetensors\?download=1', 'net.safetensors'),
    ],
)
def test_offline_says_what_to_fetch_and_where_to_put_it(offline: Path, asked: str, url: str, name: str) -> None:
    with pytest.raises(
        CheckpointError,
        match=rf'could not download {url} \(network is unreachable\); fetch it .* and put it at {offline}/{name}, or',
    ):
        resolve_checkpoint(asked)
    offline.mkdir(exist_ok=True)
    (offline / name).touch()
    assert resolve_checkpoint(asked) == offline / name


def test_names_that_do_not_exist(offline: Path) -> None:
    with pytest.raises(CheckpointError, match="no model 'resnet51'; did you mean 'resnet50'"):
        resolve_checkpoint('torchvision://resnet51')
    with pytest.raises(CheckpointError, match="no weights 'IMAGENET1K_V3'; did you mean 'IMAGENET1K_V"):
        resolve_checkpoint('torchvision://resnet50.IMAGENET1K_V3')
    with pytest.raises(CheckpointError, match="no weights 'mro'"):  # what every enumeration has is no weights
        resolve_checkpoint('torchvision://resnet50.mro')
    with pytest.raises(CheckpointError, match="addresses of the kind 'torchvison://' .*; did you mean 'torchvision'"):
        resolve_checkpoint('torchvison://resnet50')
    with pytest.raises(CheckpointError, match="kind 'open-mmlab://' are not known; choose from .* local file"):
        resolve_checkpoint('open-mmlab://resnet50')
    with pytest.raises(CheckpointError, match='the address names no file'):
        resolve_checkpoint('https://a.b/')


def test_local_paths() -> None:
    assert resolve_checkpoint('~/w.pth') == Path.home() / 'w.pth'
    assert resolve_checkpoint('a/b.pth') == Path('a/b.pth')
