"""Reading weights files, ``.pth`` and ``.safetensors``; nothing in them is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mlcls.errors import CheckpointError, did_you_mean
from mlcls.fileio import read_checkpoint

#: Where weights lie in files of other frameworks; the first one there is taken. Averaged copies come last.
STATE_DICT_KEYS = (
    'state_dict',
    'model',
    'model_state_dict',
    'state_dict_ema',
    'model_ema',
    'ema_state_dict',
)
#: Files of weights that need another reader.
_FOREIGN = ('.npz', '.npy', '.h5', '.hdf5', '.onnx', '.msgpack', '.tflite', '.pb', '.gguf')


def read_weights(path: Path, map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """Read a weights file.

    Args:
        path: A ``.safetensors`` file, or any file written by ``torch.save``.
        map_location: As in ``torch.load``.
        mmap: Leave tensors in the file until they are used, so that memory never holds all of them a second time.
            The file must stay as it is meanwhile.

    Returns:
        The dictionary in the file; tensors of a ``.safetensors`` file are under ``state_dict``.

    Raises:
        CheckpointError: The file is missing, damaged or unsafe, or its name ends otherwise than its content.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        return read_checkpoint(path)  # says that there is none
    if suffix in _FOREIGN:
        raise CheckpointError(f'{path}: files ending in {suffix} cannot be read; give a .pth or .safetensors file')
    with path.open('rb') as file:
        start = file.read(9)
    if suffix == '.safetensors':
        if start.startswith((b'PK\x03\x04', b'\x80')):
            raise CheckpointError(
                f'{path}: was written by torch.save and is no safetensors file; rename it to {path.stem}.pth'
            )
        return {'state_dict': _read_safetensors(path, map_location)}
    if start[8:] == b'{' and int.from_bytes(start[:8], 'little') < path.stat().st_size:
        raise CheckpointError(f'{path}: is a safetensors file; rename it to {path.stem}.safetensors')
    return read_checkpoint(path, map_location, mmap=mmap and start.startswith(b'PK\x03\x04'))


def _read_safetensors(path: Path, map_location: Any) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.stat().st_size == 0:
        raise CheckpointError(f'{path}: the file is empty')
    try:
        return load_file(path, device=str(map_location))
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, OverflowError) as error:
        reason = str(error).split('\n')[0] or type(error).__name__
        raise CheckpointError(f'{path}: damaged or cut short, or no safetensors file ({reason})') from error


def find_state_dict(content: Mapping[str, Any], key: str | None = None) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint's dictionary, which may lie under ``state_dict`` or the like.

    Args:
        content: What was read.
        key: Where to look, for example ``'state_dict_ema'``; None tries the usual places.

    Raises:
        CheckpointError: There is nothing under ``key``.
    """
    places = [name for name, value in content.items() if isinstance(value, Mapping)]
    if key is not None and key not in places:
        raise CheckpointError(f"the file has no weights under '{key}'{did_you_mean(key, map(str, places))}")
    for place in STATE_DICT_KEYS if key is None else (key,):
        if place in places:
            content = content[place]
            break
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
