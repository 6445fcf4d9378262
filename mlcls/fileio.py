"""Writing files so that a kill leaves the old one whole, and reading checkpoints without running what they contain."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import re
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from mlcls.errors import CheckpointError, DataError

#: What torch raises for files that are cut short, or are no checkpoints.
_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile)


def write_atomic(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename, fsync of the folder.

    Args:
        path: Where the file shall be; its folder is made if missing.
        write: Called with the open temporary file.

    Raises:
        OSError: The disk is full or the folder cannot be written; an older file at ``path`` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _write_temporary(path, write)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_checked(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file as `write_atomic` does, read it back, and keep its checksum beside it (`checksum_path`).

    The checksum of an older file of this name goes before the new file comes, and the new one is there after it: at
    no moment does a checksum belong to another file.

    Args:
        path: Where the file shall be.
        write: Called with the open temporary file; what it writes is to be a zip archive, as of ``torch.save``.

    Raises:
        OSError: It cannot be written, or what is read back is not what was written; an older file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _write_temporary(path, write)
    try:
        _check_archive(temporary)
        digest = file_digest(temporary)
        checksum_path(path).unlink(missing_ok=True)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    write_atomic(checksum_path(path), lambda file: file.write(f'{digest}  {path.name}\n'.encode()))


def _write_temporary(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    """Write a file beside ``path`` and bring it to the disk; it has the rights of a new file."""
    handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, 'posix_fadvise'):  # what is read back is to come from the disk
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.chmod(temporary, 0o666 & ~_UMASK)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        reason = _system_error(error)
        if reason is not None:
            raise OSError(reason.errno, reason.strerror) from error
        raise
    return temporary


def _system_error(error: BaseException) -> OSError | None:
    """What the system said, where torch says on a full disk that its archive is not at the right position."""
    found: BaseException | None = error if isinstance(error, RuntimeError) else None
    while found is not None and not isinstance(found, OSError):
        found = found.__context__
    return found


def _check_archive(path: Path) -> None:
    """Compare every record of an archive with its CRC, which was computed from memory when it was written."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile as error:
        raise OSError(errno.EIO, f'what was read back is not what was written ({error})') from error
    if damaged is not None:
        raise OSError(errno.EIO, f'what was read back is not what was written ({damaged})')


def checksum_path(path: str | os.PathLike[str]) -> Path:
    """The file beside a checkpoint with its SHA-256, in the form that ``sha256sum --check`` reads."""
    return Path(f'{os.fspath(path)}.sha256')


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    found = hashlib.sha256()
    with Path(path).open('rb') as file:
        while chunk := file.read(1 << 22):
            found.update(chunk)
    return found.hexdigest()


def check_checksum(path: str | os.PathLike[str]) -> None:
    """Compare a file with the checksum beside it or, without one, the records of an archive with their CRCs, at which
    torch does not look when it reads them.

    Raises:
        CheckpointError: They differ, or the file cannot be read.
    """
    try:
        stored = checksum_path(path).read_text().split()[:1]
    except (OSError, ValueError):
        stored = []
    if not stored:
        _check_records(Path(path))
        return
    try:
        found = file_digest(path)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read ({error.strerror})') from error
    if stored[0] != found:
        raise CheckpointError(f'{path}: is damaged: its SHA-256 is not the one in {checksum_path(path).name}')


def _check_records(path: Path) -> None:
    try:
        if zipfile.is_zipfile(path):
            _check_archive(path)
    except (*_DAMAGED, struct.error) as error:
        raise CheckpointError(f'{path}: is damaged: {getattr(error, "strerror", None) or error}') from error


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain data as JSON, atomically."""
    write_atomic(path, lambda file: file.write((json.dumps(content, indent=1) + '\n').encode()))


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read plain data from a JSON file.

    Raises:
        DataError: There is no such file, or it is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f'{path}: cannot be read ({error.strerror})') from None
    except ValueError as error:  # JSON, or UTF-8
        raise DataError(f'{path}: is not valid JSON ({error})') from None


def weights_hash(state_dict: Mapping[str, Any]) -> str:
    """Hash the tensors of a state dict: their names, types, shapes and bytes, whatever their order and device.

    Args:
        state_dict: Names to tensors; what is no tensor does not count.

    Returns:
        16 hexadecimal digits (64 bits of BLAKE2b).
    """
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(name for name, value in state_dict.items() if isinstance(value, torch.Tensor)):
        value = state_dict[name].detach().cpu().resolve_conj().resolve_neg().contiguous()
        head = f'{len(name)} {name} {str(value.dtype).removeprefix("torch.")} {tuple(value.shape)}\n'
        found.update(head.encode('utf-8', 'surrogatepass'))
        found.update(value.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


#: Read once: that is possible only by setting it, and two threads might do so at a time.
_UMASK = _read_umask()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _harmless_globals() -> list[Any]:
    """Classes that checkpoints of mmengine's runner contain and that only hold numbers."""
    import numpy as np
    from mmengine.logging import HistoryBuffer

    dtypes = [type(np.dtype(kind)) for kind in ('f8', 'f4', 'f2', 'i8', 'i4', 'i2', 'i1', 'u1', '?')]
    # Pickled arrays and numbers name these two by the module they lie in.
    reconstruct = np.ones(1).__reduce__()[0]
    scalar = np.float64(1).__reduce__()[0]
    # Files written under numpy 1 name these two by their old module.
    old_names = [(reconstruct, 'numpy.core.multiarray._reconstruct'), (scalar, 'numpy.core.multiarray.scalar')]
    getters = [(_history_statistic, 'builtins.getattr'), (_history_statistic, '__builtin__.getattr')]
    return [HistoryBuffer, np.ndarray, np.dtype, reconstruct, scalar, *old_names, *getters, *dtypes]


def _history_statistic(owner: Any, name: str) -> Any:
    """Stands in for ``getattr``, by which a pickled HistoryBuffer names its own statistics; gives nothing else away."""
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'Unsupported attribute {name} of {owner}')


def _refuse_text(path: Path) -> None:
    """Say what a file is that is text; what read it as weights would only find it damaged.

    Raises:
        CheckpointError: It is text.
    """
    with path.open('rb') as file:
        start = file.read(256)
    if start[:1] in (b'{', b'['):
        raise CheckpointError(f'{path}: is a JSON file, not a checkpoint')
    if start.startswith(b'version https://git-lfs'):
        raise CheckpointError(f'{path}: is a pointer of Git LFS, not the file itself; fetch that with `git lfs pull`')
    if all(32 <= byte < 127 or byte in b'\t\r\n' for byte in start):
        kind = 'a web page' if start.lstrip().lower().startswith((b'<!doctype', b'<html')) else 'a text file'
        raise CheckpointError(f'{path}: is {kind}, not a checkpoint')


def _no_file(path: Path) -> str:
    if not path.is_dir():
        return 'no such checkpoint file'
    inside = sorted(each.name for each in path.glob('*.pth'))  # best_... before epoch_...
    return 'is a folder; give a checkpoint file' + (f', such as {path / inside[0]}' if inside else '')


def read_checkpoint(path: str | os.PathLike[str], map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint or weights file. Nothing in the file is executed (``weights_only=True``).

    Args:
        path: A ``.pth`` file of mlcls, mmpretrain, torchvision or timm.
        map_location: As in ``torch.load``.
        mmap: Leave tensors in the file until they are used; only for files in torch's zip format.

    Returns:
        The dictionary in the file.

    Raises:
        CheckpointError: The file is missing, damaged, no dictionary, or holds objects that could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: {_no_file(path)}')
    if path.stat().st_size == 0:
        raise CheckpointError(f'{path}: the file is empty')
    _refuse_text(path)
    try:
        with torch.serialization.safe_globals(_harmless_globals()), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # torch's remarks on old file formats
            content = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = _first_sentence(error)
        if 'nsupported' in str(error) or 'blocklisted' in str(error):
            raise CheckpointError(
                f'{path}: refused, the file holds objects that could run code when loaded '
                f'({reason}); ask its author for a file of tensors only'
            ) from error
        raise CheckpointError(f'{path}: not a checkpoint file, or a damaged one ({reason})') from error
    except _DAMAGED as error:
        raise CheckpointError(f'{path}: damaged or cut short ({_first_sentence(error)})') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: holds a {type(content).__name__}, not a dictionary of weights')
    return content


def _first_sentence(error: BaseException) -> str:
    """What of a long loader message a person needs."""
    text = str(error)
    for mark in ('WeightsUnpickler error: ', 'PytorchStreamReader '):
        text = text.split(mark, 1)[-1]
    refused = re.search(r'GLOBAL (\S+)|class (\S+)', text)
    if 'nsupported' in text and refused:
        return next(name for name in refused.groups() if name)
    return text.strip().split('\n')[0].split('. ')[0].rstrip('.') or type(error).__name__
