"""tools/check_data.py: exit codes, files and messages."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'check_data.py'


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('tool_check_data', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Command:
    """Runs the tool in this process."""

    def __init__(self, tool: ModuleType, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.tool, self.patch, self.capsys = tool, patch, capsys
        self.out = self.err = ''

    def __call__(self, *arguments: str | Path) -> int:
        self.patch.setattr(sys, 'argv', ['check_data.py', *map(str, arguments), '--workers', '0'])
        from mlcls.apis.cli import run_command

        with pytest.raises(SystemExit) as stopped:
            run_command(self.tool.main)
        self.out, self.err = self.capsys.readouterr()
        assert 'Traceback' not in self.out + self.err
        return int(stopped.value.code or 0)


@pytest.fixture
def command(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tool, monkeypatch, capsys)


def warn(data: Path) -> None:
    """Few validation images: classes too rare to measure."""
    content = json.loads((data / 'val.json').read_text())
    content['data_list'] = content['data_list'][:6]
    (data / 'val.json').write_text(json.dumps(content))


def test_exit_codes(command: Command, tiny_data: Path) -> None:
    flags = {'val': warn, 'broken': lambda data: (data / 'train/3.png').write_bytes(b'')}
    assert command(tiny_data, '--split', 'train') == 0 and 'nothing unusual' not in command.err
    flags['val'](tiny_data)
    assert command(tiny_data) == 1 and 'too few to measure' in command.out
    assert command(tiny_data, '--fail-on', 'error') == 0 and 'too few to measure' in command.out
    flags['broken'](tiny_data)
    assert command(tiny_data) == 2 and '1 file of 0 bytes' in command.out
    assert command(tiny_data, '--fail-on', 'error') == 2
    assert command(tiny_data, '--fail-on', 'never') == 0
    assert command(tiny_data, '--no-images') == 1  # nothing was opened


def test_a_config_with_broken_data_gives_findings(command: Command, tiny_config: Path, tiny_data: Path) -> None:
    (tiny_data / 'train/0.png').unlink()
    (tiny_data / 'val.json').write_text('{}')
    assert command(tiny_config) == 2
    assert re.search(r'error +train: 1 image of 48 does not exist', command.out)
    in_one_line = re.sub(r'\s+', ' ', command.out)
    assert re.search(r"error \S*val.json: metainfo has no key 'classes'", in_one_line)
    assert in_one_line.count('metainfo has no key') == 1  # though val and test both read this file


def test_wrappers_and_repeated_splits_of_a_config(command: Command, tiny_config: Path) -> None:
    text = tiny_config.read_text().replace(
        "dataset=dict(type='MultiLabelDataset', data_root=data_root, ann_file='train.json', pipeline=pipeline)",
        "dataset=dict(type='ClassBalancedDataset', oversample_thr=.9, dataset=dict(type='MultiLabelDataset', "
        "data_root=data_root, ann_file='train.json', pipeline=pipeline))",
    )
    assert 'ClassBalanced' in text
    tiny_config.write_text(text)
    command(tiny_config)
    assert re.search(r'train +48 images, 3 of 3 classes', command.out)
    assert 'test: the same images as val' in command.out
    command(tiny_config, '--cfg-options', 'train_dataloader.dataset.dataset.indices=20')
    assert re.search(r'train +20 images', command.out)
    command(tiny_config, '--split', 'val')
    assert 'train' not in command.out.split('\n', 1)[1].split('what to do')[0]


def test_files_are_written(command: Command, tiny_data: Path, tmp_path: Path) -> None:
    html, plain = tmp_path / 'out/page.html', tmp_path / 'out/report.json'
    command(tiny_data, '--html', html, '--json', plain)
    assert f'written: {html}' in command.out and f'written: {plain}' in command.out
    assert html.read_text().startswith('<!doctype html>')
    content = json.loads(plain.read_text())
    assert content['version'] == 1 and content['source'] == str(tiny_data)
    assert set(content['statistics']['splits']) == {'train', 'val'}


@pytest.mark.parametrize(
    'arguments, words',
    [
        (['nothing/there'], 'nothing/there: no such config, annotation file or folder'),
        (['nothing.py'], 'nothing.py: there is no such config file'),
        (['{data}', '--cfg-options', 'a=1'], '--cfg-options needs a config'),
        (['{data}', '--format', 'csw'], "unknown annotation format 'csw'; did you mean 'csv'?"),
        (['{data}', '--split', 'vale'], "no file of a split 'vale'; there are train, val"),
        (['{config}', '--format', 'csv'], '--format, --classes, --images and --options are for annotations'),
        (['{config}', '--split', 'vale'], "has no split 'vale'; did you mean 'val'?"),
    ],
)
def test_what_the_command_cannot_do(
    command: Command, tiny_config: Path, tiny_data: Path, arguments: list[str], words: str
) -> None:
    filled = [each.format(data=tiny_data, config=tiny_config) for each in arguments]
    assert command(*filled) == 2
    assert words in command.err + command.out.replace('\n          ', ' ')


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_and_wiped_away(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    with tool.counter() as progress:
        progress(1000)
        progress(234)
    assert terminal.getvalue() == '\r1,000 images opened\r1,234 images opened\r\033[K'
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    with tool.counter() as progress:
        assert progress is None


def test_negative_workers(tool: ModuleType, tiny_data: Path) -> None:
    from mlcls.apis.checking import CheckFlags, check_data
    from mlcls.errors import ConfigError

    with pytest.raises(ConfigError, match='--workers must be at least 0, got -1'):
        check_data(tiny_data, CheckFlags(workers=-1))


def test_a_config_without_data(command: Command, tiny_config: Path) -> None:
    text = re.sub(
        r'^(?:train|val|test)_(?:dataloader|cfg|evaluator) = (?s:.*?)(?=^\w)', '', tiny_config.read_text(), flags=re.M
    )
    tiny_config.write_text(text)
    assert command(tiny_config) == 2
    assert 'error: ' in command.err


def test_on_the_command_line_with_a_closed_pipe(tiny_data: Path) -> None:
    done = subprocess.run(
        f'{sys.executable} {TOOL} {tiny_data} --workers 1 | head -1',
        shell=True,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout == f'data check: {tiny_data}\n'
    assert done.stderr == ''  # no terminal, no progress, no complaint
