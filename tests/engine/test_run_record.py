"""The record of a run: what it says, how it survives a kill, and that nothing about it ends a run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlcls.apis.training import TrainFlags, apply_flags, prepare_config
from mlcls.engine import git_state as git_module
from mlcls.engine import run_record
from mlcls.engine.git_state import PATCH_LIMIT, git_state
from mlcls.engine.run_record import (
    RunRecord,
    collect_facts,
    data_hash,
    exit_reason,
    last_record,
    last_words,
    own_process,
    recorded,
)
from mlcls.errors import DataError, RunStopped


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / 'run.json').read_text())


def test_from_start_to_end(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / 'a', {'seed': 3, 'patches': {'diff.patch': b'\xff text'}})
    record.start()
    first = read(tmp_path / 'a')
    assert first['state'] == 'running' and first['seed'] == 3 and first['exit_reason'] is None
    assert first['process']['id'] == os.getpid() and 'patches' not in first
    assert (tmp_path / 'a/diff.patch').read_bytes() == b'\xff text'
    record.progress(2, 512)
    assert (read(tmp_path / 'a')['epoch'], read(tmp_path / 'a')['iteration']) == (2, 512)
    record.add({'data': {'val': 1}})
    record.finish('signal SIGTERM', 123.456)
    last = read(tmp_path / 'a')
    assert last['state'] == 'ended' and last['exit_reason'] == 'signal SIGTERM' and last['images_per_second'] == 123.46
    assert last['data'] == {'val': 1} and last['iteration'] == 512 and last['started'] <= last['ended']
    assert sorted(path.name for path in (tmp_path / 'a').iterdir()) == ['diff.patch', 'run.json']


@pytest.mark.parametrize('facts', [{}, {'bad': object()}])
def test_what_cannot_be_written_is_warned_of_once(tmp_path: Path, facts: dict[str, Any]) -> None:
    folder = tmp_path / 'file'
    if not facts:
        folder.write_text('in the way')
    messages: list[str] = []
    record = RunRecord(folder, facts, messages.append)
    record.start()
    record.progress(1, 2)
    record.finish('finished')
    (message,) = messages
    assert message.startswith(f'{folder}/run.json: cannot be written (') and 'the run goes on' in message


def test_a_write_that_fails_leaves_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    record = RunRecord(tmp_path, {}, messages.append)
    record.start()
    before = (tmp_path / 'run.json').read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, 'fsync', lambda descriptor: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        record.progress(1, 100)
    assert (tmp_path / 'run.json').read_bytes() == before and 'No space left on device' in messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ['run.json']
    record.progress(2, 200)
    assert read(tmp_path)['iteration'] == 200


def test_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, 'is_main_process', lambda: False)
    record = RunRecord(tmp_path / 'a', {})
    record.start()
    record.finish('finished')
    assert not (tmp_path / 'a').exists() and collect_facts(SimpleNamespace()) == {}  # type: ignore[arg-type]


def test_the_last_record(tmp_path: Path) -> None:
    assert last_record(tmp_path / 'missing') is None
    for name, started in (('b', '2026-01-02T00:00:00+00:00'), ('a', '2026-01-03T00:00:00+00:00')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'run.json').write_text(json.dumps({'started': started, 'name': name}))
    for name, text in (('c', '{"started": "2027'), ('d', '[]'), ('e', '{"started": 5}'), ('f', '')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'run.json').write_text(text)
    found = last_record(tmp_path)
    assert found is not None and found['name'] == 'a'


SCRIPT = """
import sys, time
from pathlib import Path
from mlcls.engine.run_record import RunRecord
record = RunRecord(Path(sys.argv[1]) / '20260101_000000', {})
record.start()
record.progress(2, 512)
print('ready', flush=True)
time.sleep(600)
"""


@pytest.fixture(scope='module')
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    folder = tmp_path_factory.mktemp('work')
    process = subprocess.Popen([sys.executable, '-c', SCRIPT, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == 'ready\n'
    yield folder, process
    process.kill()
    process.wait()


def test_a_run_that_goes_on_and_one_that_was_killed(other_run: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, process = other_run
    words = last_words(last_record(folder)) or ''
    assert words.startswith(
        f'another run (process {process.pid}) is still going in this folder, in epoch 3, iteration 512'
    )
    assert 'choose another --work-dir' in words
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, though its number is not free yet
    gone = (
        'the last run in this folder ended without a word (killed, or a power cut?) in epoch 3, iteration 512 or later'
    )
    assert last_words(last_record(folder)) == gone
    process.wait()
    assert last_words(last_record(folder)) == gone


def test_whose_number_it_is(tmp_path: Path) -> None:
    assert last_words(None) is None
    own = own_process()
    running = {'state': 'running', 'epoch': 0, 'iteration': 0, 'process': own}
    assert last_words(running) is None
    assert last_words({**running, 'state': 'ended', 'process': {**own, 'id': 1}}) is None
    # this number belongs to a later process
    reused = last_words({**running, 'process': {**own, 'started': own['started'] - 1}}) or ''
    assert reused.startswith('the last run in this folder ended without a word') and 'epoch 1, iteration 0' in reused
    elsewhere = last_words({**running, 'process': {**own, 'system': 'other'}}) or ''
    assert 'if it is still running on another machine, stop one of the two' in elsewhere
    for damaged in (None, 5, {}, {'id': 'x', 'started': None, 'system': own['system']}):
        assert 'ended without a word' in (last_words({**running, 'process': damaged}) or '')


@pytest.mark.parametrize(
    'error, received, words',
    [
        (KeyboardInterrupt(), None, 'interrupted'),
        (RunStopped('...', 75), 'SIGTERM', 'signal SIGTERM'),
        (RunStopped('...', 130), 'SIGINT', 'interrupted'),
        (RunStopped('by a wish', 75), None, 'stopped: by a wish'),
        (DataError('a.json: no'), None, 'error: a.json: no'),
        (KeyError('x'), None, "error: KeyError: 'x'"),
        (SystemExit(3), None, 'exit with code 3'),
        (None, None, 'finished'),
    ],
)
def test_reasons(error: BaseException | None, received: str | None, words: str) -> None:
    assert exit_reason(SimpleNamespace(signals=SimpleNamespace(received=received)), error) == words


def test_reason_of_an_early_stop() -> None:
    loop = SimpleNamespace(stop_training=True)
    runner = SimpleNamespace(_train_loop=loop, epoch=5, max_epochs=20)
    assert exit_reason(runner, None) == 'stopped early: after epoch 5 of 20'
    loop.stop_reason = 'mAP has not risen for 3 epochs'
    assert exit_reason(runner, None) == 'stopped early: mAP has not risen for 3 epochs'


def git(folder: Path, *arguments: str) -> str:
    names = ['-c', 'user.name=a', '-c', 'user.email=a@b.c', '-c', 'commit.gpgsign=false']
    done = subprocess.run(['git', '-C', str(folder), *names, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / 'repo with space'
    (folder / 'inner').mkdir(parents=True)
    git(folder, 'init', '-q')
    (folder / 'inner/a.py').write_text('one\n')
    (folder / 'b.txt').write_text('b\n')
    git(folder, 'add', '.')
    git(folder, 'commit', '-q', '-m', 'first')
    return folder


def test_git_clean_and_dirty(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('GIT_DIR', str(tmp_path / 'nowhere'))  # of a hook that started us
    state, patch = git_state(repository / 'inner', needs='a.py')
    monkeypatch.delenv('GIT_DIR')
    head = git(repository, 'rev-parse', 'HEAD')
    assert state == {'root': str(repository), 'commit': head, 'dirty': False, 'untracked': 0} and patch == b''
    (repository / 'inner/a.py').write_text('two\n')
    (repository / 'b.txt').write_bytes(bytes(range(256)))
    git(repository, 'add', 'b.txt')  # staged or not
    (repository / 'new.txt').write_text('new')
    state, patch = git_state(repository)
    assert state == {'root': str(repository), 'commit': head, 'dirty': True, 'untracked': 1, 'patch_cut': False}
    wanted = {name: (repository / name).read_bytes() for name in ('inner/a.py', 'b.txt')}
    git(repository, 'reset', '-q', '--hard')
    (tmp_path / 'kept.patch').write_bytes(patch)
    git(repository, 'apply', str(tmp_path / 'kept.patch'))
    assert {name: (repository / name).read_bytes() for name in wanted} == wanted


def test_a_large_patch_is_cut_between_files(repository: Path, tmp_path: Path) -> None:
    (repository / 'b.txt').write_text('small change\n')
    (repository / 'inner/a.py').write_text('x' * 79 + '\n' + 'y\n' * PATCH_LIMIT)
    state, patch = git_state(repository)
    assert state['patch_cut'] is True and state['dirty'] is True and len(patch) <= PATCH_LIMIT
    git(repository, 'reset', '-q', '--hard')
    (tmp_path / 'kept.patch').write_bytes(patch)
    git(repository, 'apply', str(tmp_path / 'kept.patch'))
    assert (repository / 'b.txt').read_text() == 'small change\n'


def test_a_large_patch_of_one_file(repository: Path) -> None:
    (repository / 'b.txt').write_text('y\n' * PATCH_LIMIT)
    state, patch = git_state(repository)
    assert state['patch_cut'] is True and len(patch) == PATCH_LIMIT and patch.startswith(b'diff --git')


def test_git_never_fails(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'plain').mkdir()
    monkeypatch.setenv('GIT_CEILING_DIRECTORIES', str(tmp_path))  # not heard; the folder is in no repository anyway
    assert 'not a git repository' in git_state(tmp_path / 'plain')[0]['note']
    assert git_state(tmp_path / 'missing')[0]['note']
    (repository / 'other.py').write_text('')
    assert git_state(repository, needs='other.py') == ({'note': 'not under version control'}, b'')
    git(tmp_path / 'plain', 'init', '-q')
    state, patch = git_state(tmp_path / 'plain')
    assert state['root'] == str(tmp_path / 'plain') and state['note'] and 'commit' not in state and patch == b''
    monkeypatch.setenv('PATH', str(tmp_path))
    assert git_state(repository)[0]['note'].startswith('[Errno 2] No such file')


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a folder away')
def test_a_repository_of_somebody_else(repository: Path) -> None:
    for path in (repository, repository / '.git'):
        os.chown(path, 12345, 12345)
    state, patch = git_state(repository)
    assert 'dubious ownership' in state['note'] and patch == b''


def test_git_that_hangs(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'git').write_text('#!/bin/sh\nexec sleep 600\n')
    (tmp_path / 'git').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setattr(git_module, 'GIT_SECONDS', 0.2)
    assert 'timed out' in git_state(repository)[0]['note']


def test_hash_of_data(tiny_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlcls.datasets import ClassBalancedDataset, MultiLabelDataset

    def build(content: dict[str, Any]) -> MultiLabelDataset:
        (tiny_data / 'x.json').write_text(json.dumps(content))
        return MultiLabelDataset(data_root=str(tiny_data), ann_file='x.json', pipeline=[])

    content = json.loads((tiny_data / 'train.json').read_text())
    dataset = build(content)
    found = data_hash(dataset)
    assert found['hash'] == dataset.fingerprint and found['images'] == 48 and 'in any order' in found['made_of']
    assert data_hash(ClassBalancedDataset(dataset, 0.1))['hash'] == found['hash']
    assert data_hash(SimpleNamespace()) == {
        'images': None, 'hash': None, 'made_of': 'nothing: this data set has no annotations to hash'
    }  # fmt: skip

    monkeypatch.setattr(run_record, '_MANY_IMAGES', 10)
    many = data_hash(dataset)
    assert 'as they are stored' in many['made_of'] and many['images'] == 48 and len(many['hash']) == 16
    assert data_hash(build(content))['hash'] == many['hash']
    hashes = {many['hash']}
    for change in (
        lambda c: c['metainfo']['classes'].reverse(),
        lambda c: c['data_list'][0].update(gt_label=[] if c['data_list'][0]['gt_label'] else [0]),
        lambda c: c['data_list'].pop(),
        lambda c: c['data_list'][0].update(img_path='val/0.png'),
    ):
        changed = json.loads(json.dumps(content))
        change(changed)
        hashes.add(data_hash(build(changed))['hash'])
    assert len(hashes) == 5


def build_runner(config: Path, **options: Any) -> Any:
    from mlcls.engine import Runner

    cfg = prepare_config(config, {'train_cfg.max_epochs': 1, 'param_scheduler.T_max': 1, **options})
    apply_flags(cfg, TrainFlags())
    return Runner.from_cfg(cfg)


def test_the_record_of_a_training(tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'tiny.py', '--seed', '5'])
    runner = build_runner(tiny_config, **{'randomness.seed': 5, 'default_hooks.checkpoint.save_best': None})
    folder = Path(runner.work_dir) / runner.timestamp
    with runner.closing(), recorded(runner) as record:
        assert read(folder)['state'] == 'running' and read(folder)['data'].keys() == {'train'}
        runner.train()
        record.progress(1, 6)
    found = read(folder)
    assert found['state'] == 'ended' and found['exit_reason'] == 'finished'
    assert (found['epoch'], found['iteration'], found['seed'], found['world_size']) == (1, 6, 5, 1)
    assert found['command'] == ['tools/train.py', 'tiny.py', '--seed', '5'] and found['images_per_second'] > 0
    resolved = Path(found['config']['resolved'])
    assert found['config']['sha256'] == hashlib.sha256(resolved.read_bytes()).hexdigest()
    assert found['config']['source'] == str(tiny_config) and 'train_dataloader' in resolved.read_text()
    assert found['data']['train']['hash'] == runner.train_dataloader.dataset.fingerprint
    assert found['data']['val']['hash'] == runner.val_dataloader.dataset.fingerprint
    assert (
        found['environment']['packages']['torch'].partition('+')[0] == __import__('torch').__version__.partition('+')[0]
    )
    assert platform.node() not in (folder / 'run.json').read_text()

    again = build_runner(tiny_config, **{'default_hooks.checkpoint.save_best': None})
    with pytest.raises(DataError, match='gone'), again.closing(), recorded(again):
        raise DataError('a.png: gone')
    last = last_record(again.work_dir)
    assert last is not None and last['exit_reason'] == 'error: a.png: gone' and last['state'] == 'ended'


def test_facts_that_cannot_be_collected_are_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(runner: Any) -> dict[str, Any]:
        raise ZeroDivisionError('odd')

    monkeypatch.setattr(run_record, 'collect_facts', fail)
    messages: list[str] = []
    runner: Any = SimpleNamespace(work_dir=str(tmp_path), timestamp='t')
    (tmp_path / 'old').mkdir()
    stale = {'started': '2026-01-01', 'state': 'running', 'epoch': 2, 'iteration': 9, 'process': {}}
    (tmp_path / 'old/run.json').write_text(json.dumps(stale))
    with recorded(runner, messages.append):
        pass
    assert 'ended without a word' in messages[0] and 'epoch 3, iteration 9' in messages[0]
    assert messages[1] == 'the record of the run is not complete (ZeroDivisionError: odd); the run goes on'
    assert read(tmp_path / 't')['exit_reason'] == 'finished' and len(messages) == 2
