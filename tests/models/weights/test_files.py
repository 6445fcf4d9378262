"""Reading weights: both kinds of files, damaged, mislabelled and malicious ones."""

from __future__ import annotations

import gc
import pickle
import struct
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mlcls.errors import CheckpointError
from mlcls.models import ResNet
from mlcls.models.weights import find_state_dict, load_pretrained, read_weights


def small() -> ResNet:
    return ResNet(18, base_channels=8, stem_channels=8)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize('name', ['w.pth', 'w.pt', 'w.bin', 'w.safetensors', 'W.SAFETENSORS'])
def test_all_kinds_of_files_fill_the_same(tmp_path: Path, name: str) -> None:
    source, target = small(), small()
    write = save_file if name.lower().endswith('.safetensors') else torch.save
    write(source.state_dict(), tmp_path / name)
    report = load_pretrained(target, str(tmp_path / name))
    assert same(source, target) and report.complete and len(report.sha256) == 64


def test_old_format_of_torch(tmp_path: Path) -> None:
    source, target = small(), small()
    torch.save(source.state_dict(), tmp_path / 'w.pth', _use_new_zipfile_serialization=False)
    load_pretrained(target, str(tmp_path / 'w.pth'))
    assert same(source, target)


@pytest.mark.parametrize('name', ['w.pth', 'w.safetensors'])
@pytest.mark.parametrize('share', [0.0, 0.0001, 0.3, 0.9, 0.9999])
def test_files_cut_short(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    (save_file if name.endswith('.safetensors') else torch.save)(small().state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(
        CheckpointError, match=rf'{name}: (damaged or cut short|the file is empty|not a checkpoint file)'
    ):
        load_pretrained(small(), str(path))


@pytest.mark.parametrize(
    'content',
    [
        struct.pack('<Q', 2**60) + b'{}',
        struct.pack('<Q', 8) + b'[1,2,3] ',
        struct.pack('<Q', 70) + b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,399999996]}}   ',
        struct.pack('<Q', 60) + b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}      \0\0\0\0',
        b'\xff' * 40,
    ],
    ids=['huge header', 'no dictionary', 'more data than there is', 'unknown type', 'noise'],
)
def test_broken_safetensors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'w.safetensors').write_bytes(content)
    with pytest.raises(CheckpointError, match=r'w\.safetensors: damaged or cut short, or no safetensors file \('):
        read_weights(tmp_path / 'w.safetensors')


def test_names_that_end_otherwise_than_the_content(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError, match=r'written by torch.save and is no safetensors file; rename it to a\.pth'):
        read_weights(tmp_path / 'a.safetensors')
    save_file(small().state_dict(), tmp_path / 'b.pth')
    with pytest.raises(CheckpointError, match=r'is a safetensors file; rename it to b\.safetensors'):
        read_weights(tmp_path / 'b.pth')
    (tmp_path / 'c.npz').write_bytes(b'PK')
    with pytest.raises(CheckpointError, match=r'files ending in \.npz cannot be read; give a \.pth or \.safetensors'):
        read_weights(tmp_path / 'c.npz')
    for name in ('none.safetensors', 'none.npz', 'none.pth'):
        with pytest.raises(CheckpointError, match='no such checkpoint file'):
            read_weights(tmp_path / name)
    with pytest.raises(CheckpointError, match=r'is a folder; give a checkpoint file, such as .*/b\.pth$'):
        read_weights(tmp_path)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(CheckpointError, match='empty: is a folder; give a checkpoint file$'):
        read_weights(tmp_path / 'empty')


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / 'owned',))

    torch.save({'state_dict': Evil()}, tmp_path / 'evil.pth')
    (tmp_path / 'old.pth').write_bytes(pickle.dumps({'state_dict': Evil()}))
    torch.save({'state_dict': Evil()}, tmp_path / 'legacy.pt', _use_new_zipfile_serialization=False)
    for name in ('evil.pth', 'old.pth', 'legacy.pt'):
        with pytest.raises(CheckpointError, match=f'{name}: (refused|not a checkpoint)'):
            load_pretrained(small(), str(tmp_path / name))
    (tmp_path / 'old.pth').rename(tmp_path / 'old.safetensors')
    with pytest.raises(CheckpointError, match='written by torch.save'):
        load_pretrained(small(), str(tmp_path / 'old.safetensors'))
    assert not (tmp_path / 'owned').exists()


def test_where_weights_lie_in_a_file(tmp_path: Path) -> None:
    first, second = small(), small()
    content = {'state_dict_ema': second.state_dict(), 'state_dict': first.state_dict(), 'epoch': 3}
    torch.save(content, tmp_path / 'w.pth')
    target = small()
    load_pretrained(target, str(tmp_path / 'w.pth'))
    assert same(target, first)
    load_pretrained(target, str(tmp_path / 'w.pth'), key='state_dict_ema')
    assert same(target, second)
    with pytest.raises(CheckpointError, match=r"w\.pth: the file has no weights under 'ema'; "):
        load_pretrained(target, str(tmp_path / 'w.pth'), key='ema')
    assert find_state_dict({'epoch': 3, 'a': torch.zeros(1)}).keys() == {'a'}
    torch.save({'epoch': 3}, tmp_path / 'none.pth')
    with pytest.raises(CheckpointError, match=r'none\.pth: there are no tensors in it'):
        load_pretrained(target, str(tmp_path / 'none.pth'))


def test_tensors_stay_in_the_file_and_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = small(), small()
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    pointers, held = {value.data_ptr() for value in target.state_dict().values()}, []

    def read(*args: object, **settings: object) -> object:
        assert settings.get('mmap') is True
        content = torch_load(*args, **settings)
        held.extend(weakref.ref(value) for value in content.values())
        return content

    torch_load = torch.load
    monkeypatch.setattr(torch, 'load', read)
    load_pretrained(target, str(tmp_path / 'w.pth'))
    gc.collect()
    assert held and not any(each() is not None for each in held)
    assert {value.data_ptr() for value in target.state_dict().values()} == pointers  # filled in place
    (tmp_path / 'w.pth').write_bytes(b'')  # and nothing in the module lies in the file
    assert same(source, target)
