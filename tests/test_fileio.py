"""Files are whole or absent, and reading one never runs what it holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mlcls.errors import CheckpointError
from mlcls.fileio import read_checkpoint, write_atomic, write_json


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'folder/file.bin'
    write_atomic(path, lambda file: file.write(b'old'))

    def fail(file: IO[bytes]) -> None:
        file.write(b'half of the new')
        raise OSError('No space left on device')

    with pytest.raises(OSError, match='No space left'):
        write_atomic(path, fail)
    assert path.read_bytes() == b'old'
    assert os.listdir(path.parent) == ['file.bin']  # no temporary file stays


def test_permissions_are_those_of_any_file(tmp_path: Path) -> None:
    (tmp_path / 'plain').write_text('')
    write_json(tmp_path / 'atomic.json', {'a': 1})
    assert (tmp_path / 'atomic.json').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_tensors_and_plain_data_come_back(tmp_path: Path) -> None:
    content = {'state_dict': {'w': torch.arange(3.0)}, 'meta': {'epoch': 1, 'classes': ['a']}}
    torch.save(content, tmp_path / 'a.pth')
    back = read_checkpoint(tmp_path / 'a.pth')
    assert torch.equal(back['state_dict']['w'], torch.arange(3.0)) and back['meta'] == content['meta']


def test_files_of_mmengines_runner_are_read(tmp_path: Path) -> None:
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    hub = {'log_scalars': {'loss': buffer}, 'runtime_info': {'lr': np.float64(0.1), 'n': np.int64(3)}}
    torch.save({'state_dict': {'w': torch.ones(1)}, 'message_hub': hub}, tmp_path / 'mm.pth')
    assert read_checkpoint(tmp_path / 'mm.pth')['message_hub']['log_scalars']['loss'].current() == 2.0


@pytest.mark.parametrize(
    'damage, words',
    [
        (lambda data: b'', 'the file is empty'),
        (lambda data: data[: len(data) // 2], 'damaged or cut short|not a checkpoint'),
        (lambda data: data[:10], 'damaged or cut short|not a checkpoint'),
        (lambda data: b'<html>404 not found</html>', 'damaged|not a checkpoint'),
    ],
)
def test_damaged_files_are_said_to_be(tmp_path: Path, damage, words: str) -> None:
    torch.save({'w': torch.randn(1000)}, tmp_path / 'a.pth')
    (tmp_path / 'a.pth').write_bytes(damage((tmp_path / 'a.pth').read_bytes()))
    with pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(tmp_path / 'a.pth')
    assert 'a.pth' in str(caught.value) and '\n' not in str(caught.value)


def test_getattr_in_a_file_reaches_nothing_else(tmp_path: Path) -> None:
    class Sneaky:
        def __reduce__(self):
            return (getattr, (HistoryBuffer, '__init__'))

    torch.save({'x': Sneaky()}, tmp_path / 'sneaky.pth')
    with pytest.raises(CheckpointError, match='refused'):
        read_checkpoint(tmp_path / 'sneaky.pth')


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (os.system, ('touch owned',))


def test_code_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {'w': torch.ones(1)}, 'x': Evil()}, 'evil.pth')
    with pytest.raises(CheckpointError, match='refused, the file holds objects that could run code') as caught:
        read_checkpoint('evil.pth')
    assert not Path('owned').exists() and 'system' in str(caught.value) and 'weights_only' not in str(caught.value)


def test_not_a_dictionary(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(tmp_path / 'list.pth')


def test_weights_hash_tells_names_types_shapes_and_bytes() -> None:
    from mlcls.fileio import weights_hash

    base = {'a': torch.arange(6.0), 'b': torch.ones(2, 3, dtype=torch.bfloat16), 'n': torch.tensor(3)}
    found = weights_hash(base)
    assert len(found) == 16 and int(found, 16) >= 0
    same = [
        dict(reversed(base.items())),
        {**base, 'epoch': 3, 'name': 'x'},  # no tensors
        {**base, 'a': torch.arange(12.0)[::2] / 2},  # strided
        {**base, 'a': torch.nn.Parameter(base['a'])},
    ]
    assert {weights_hash(each) for each in same} == {found}
    changed = base['b'].clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(2.0, dtype=torch.bfloat16))
    others = [
        {},
        {**base, 'a': base['a'].double()},
        {**base, 'a': base['a'].view(2, 3)},
        {**base, 'a': -base['a'].neg() + 0.0},
        {**base, 'b': changed},
        {**base, 'b': base['b'].half()},
        {**base, 'n': torch.tensor(4)},
        {'c' if name == 'a' else name: value for name, value in base.items()},
        {**base, 'z': torch.zeros(0)},
        {**base, 'z': torch.zeros(0, 2)},
    ]
    hashes = [weights_hash(each) for each in others]
    assert hashes[3] == found  # 0.0 either way
    assert len({*hashes, found}) == len(others)


def test_weights_hash_never_changes() -> None:
    from mlcls.fileio import weights_hash

    assert weights_hash({'b': torch.tensor([True, False]), 'a': torch.tensor([[1.5, -2.0]])}) == '25f4d9bb9a363ae4'


def test_read_json_names_the_file(tmp_path: Path) -> None:
    from mlcls.errors import DataError
    from mlcls.fileio import read_json

    write_json(tmp_path / 'a.json', {'a': [1, None]})
    assert read_json(tmp_path / 'a.json') == {'a': [1, None]}
    for content in (b'{"a": 1', b'', b'\xff\xfe'):
        (tmp_path / 'b.json').write_bytes(content)
        with pytest.raises(DataError, match=r'b\.json: is not valid JSON'):
            read_json(tmp_path / 'b.json')
    with pytest.raises(DataError, match=r'c\.json: cannot be read \(No such file'):
        read_json(tmp_path / 'c.json')


@pytest.mark.parametrize(
    'content, words',
    [
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 3\n', 'pointer of Git LFS.*git lfs pull'),
        (b'filename,cat,dog\n1.jpg,1,0\n', 'is a text file, not a checkpoint'),
        (b'<!DOCTYPE html><html>404</html>', 'is a web page, not a checkpoint'),
        (b'{"a": 1}', 'is a JSON file, not a checkpoint'),
    ],
)
def test_text_is_no_checkpoint_and_no_danger(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / 'w.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / 'w.pth')
