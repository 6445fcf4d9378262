"""The command line of packing."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools/pack_data.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('tool_pack_data', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process; gives its exit code."""
    from mlcls.apis.cli import run_command

    monkeypatch.setattr(sys, 'argv', ['pack_data.py', *map(str, arguments)])
    try:
        run_command(tool.main)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_it_packs_says_so_and_verifies(
    tool: ModuleType,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'a.pack'
    assert call(tool, monkeypatch, tiny_data / 'train.json', path, '--short-side', 16, '--verify') == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'.*a.pack: 48 images, 0.0 MiB', lines[0])
    assert lines[1] == f'{path}: verified, 48 images as they were written'
    assert call(tool, monkeypatch, tiny_data / 'train.json', path, '--short-side', 16) == 0
    assert '(already there)' in capsys.readouterr().out
    data = bytearray(path.read_bytes())
    data[200] ^= 4
    path.write_bytes(data)
    assert call(tool, monkeypatch, path, '--verify') == 2
    assert (
        'error: ' in (errors := capsys.readouterr().err)
        and "1 of 48 images are damaged: image 0 'train/0.png'" in errors
    )


def test_shards(
    tool: ModuleType,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ['--shards', '--shard-size', '10', '--raw', '--workers', 1, '--verify']
    assert call(tool, monkeypatch, tiny_data / 'train.json', tmp_path / 'shards', *flags) == 0
    assert len(list((tmp_path / 'shards').glob('*.tar'))) == 5
    assert 'verified, 48 images' in capsys.readouterr().out
    assert call(tool, monkeypatch, tiny_data / 'val.json', tmp_path / 'more', '--shards', '--shard-size', '1MB') == 0
    assert len(list((tmp_path / 'more').glob('*.tar'))) == 1


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['a.json'], 'name a source and a target, got a.json'),
        (['a', 'b', 'c'], 'name a source and a target, got a b c'),
        (['a', 'b', '--shards', '--shard-size', '3KB'], "a number of images or a size such as 500MB or 1GB, got '3KB'"),
        (['a', 'b', '--shards', '--shard-size', '0'], "a number of images or a size such as 500MB or 1GB, got '0'"),
        (['none.json', 'b'], 'none.json: no such file'),
        (['none.pack', '--verify'], 'none.pack: no such file'),
        (['a', 'b', '--quality', '0'], 'quality must be 1 to 100, got 0'),
        (['a', 'b', '--part', 'trian'], "part must be one of train, val, test, got 'trian'"),
    ],
)
def test_mistakes(
    tool: ModuleType,
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(tool, monkeypatch, *arguments) == 2
    assert words in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(tiny_data: Path, tmp_path: Path) -> None:
    """A pipe in the place of an image lets it wait until it is interrupted."""
    (tiny_data / 'train/5.png').unlink()
    os.mkfifo(tiny_data / 'train/5.png')
    command = [sys.executable, str(TOOL), str(tiny_data / 'train.json'), str(tmp_path / 'a.pack')]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = None
    while end is None and process.poll() is None:
        with contextlib.suppress(OSError):  # until the other side has opened the pipe
            end = os.open(tiny_data / 'train/5.png', os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    if end is not None:
        os.close(end)
    assert process.returncode == 130
    assert errors == 'interrupted; to go on later, give the same command again\n'
    assert (tmp_path / 'a.pack.part').exists()
