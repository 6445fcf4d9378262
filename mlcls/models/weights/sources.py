"""Where a weights file comes from: a path, a URL or a name in torchvision."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import torch

from mlcls.errors import CheckpointError, did_you_mean

_SCHEMES = ('http', 'https', 'torchvision')


def resolve_checkpoint(checkpoint: str) -> Path:
    """Find the file that ``checkpoint`` names; what comes from a network is kept in torch's cache.

    Args:
        checkpoint: A path, a URL, ``torchvision://resnet50`` (default weights) or
            ``torchvision://resnet50.IMAGENET1K_V1``.

    Raises:
        CheckpointError: Unknown kind of address or torchvision name, or the download failed; the message says where to
            put the file.
    """
    scheme, mark, _ = checkpoint.partition('://')
    if not mark:
        return Path(checkpoint).expanduser()
    if scheme == 'torchvision':
        return _fetch(_torchvision_url(checkpoint), checkpoint)
    if scheme in _SCHEMES:
        return _fetch(checkpoint, checkpoint)
    raise CheckpointError(
        f"{checkpoint}: addresses of the kind '{scheme}://' are not known{did_you_mean(scheme, _SCHEMES)}; "
        'or give the path of a local file'
    )


def _torchvision_url(checkpoint: str) -> str:
    from torchvision import models

    name, _, variant = checkpoint.removeprefix('torchvision://').partition('.')
    if name not in models.list_models():
        near = did_you_mean(name, models.list_models())
        raise CheckpointError(f"{checkpoint}: torchvision has no model '{name}'{near}")
    choices = models.get_model_weights(name)
    variant = variant or 'DEFAULT'
    if variant not in choices.__members__:
        raise CheckpointError(f"{checkpoint}: no weights '{variant}'{did_you_mean(variant, choices.__members__)}")
    return choices[variant].url


def _fetch(url: str, asked: str) -> Path:
    name = urlsplit(url).path.rsplit('/', 1)[-1]
    if not name:
        raise CheckpointError(f'{asked}: the address names no file')
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = re.search(r'-([0-9a-f]{8,})\.(?:pth|safetensors)$', name)  # torchvision and OpenMMLab name files so
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digest and digest.group(1), progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f'{asked}: could not download {url} ({error}); fetch it on a machine with network access and put it at '
            f'{path}, or give the path of a local file'
        ) from error
    return path
