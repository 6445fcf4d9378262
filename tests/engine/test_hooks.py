"""Hooks by themselves: choosing the best, cleaning up, and what a terminal shows."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlcls.engine.hooks import CheckpointHook, FiniteLossHook
from mlcls.engine.hooks.checkpoint import is_better_lower
from mlcls.errors import ConfigError

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.mark.parametrize(
    'name, lower',
    [
        ('multi-label/mAP', False),
        ('multi-label/CF1', False),
        ('loss', True),
        ('multi-label/ranking_loss', True),
        ('multi-label/one_error', True),
        ('multi-label/hamming', True),
        ('multi-label/coverage', True),
        ('multi-label/ECE', True),
        ('multi-label/ECE_pooled', True),
        ('multi-label/Brier_tail', True),
        ('multi-label/hamming_loss_top3', True),
        ('multi-label/precision@1', False),
        ('multi-label/jaccard', False),
        ('multi-label/AUROC_macro', False),
    ],
)
def test_direction_of_metrics(name: str, lower: bool) -> None:
    assert is_better_lower(name) == lower


@pytest.mark.parametrize(
    'rule, name, scores, best',
    [
        (None, 'mAP', [1, 3, 2], 3),
        (None, 'val_loss', [3, 1, 2], 1),
        ('less', 'mAP', [3, 1, 2], 1),
        ('greater', 'val_loss', [1, 3, 2], 3),
    ],
)
def test_best_of_a_row(rule: str | None, name: str, scores: list[float], best: float) -> None:
    hook = CheckpointHook(save_best=name, rule=rule)
    for score in scores:
        if hook._improves(name, score):
            hook.best[name] = {'score': score}
    assert hook.best[name]['score'] == best


@pytest.mark.parametrize('settings', [dict(interval=0), dict(max_keep_ckpts=0), dict(rule='higher')])
def test_checkpoint_settings_that_cannot_work_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError, match='CheckpointHook'):
        CheckpointHook(**settings)


@pytest.mark.parametrize('settings', [dict(interval=0), dict(interval=True), dict(skip=-1), dict(skip=1.5)])
def test_finite_loss_settings(settings: dict) -> None:
    with pytest.raises(ConfigError, match='FiniteLossHook: .* must be a whole number of at least'):
        FiniteLossHook(**settings)


def on_a_terminal(command: list[str | Path]) -> str:
    """Output of a command that believes it talks to a terminal."""
    master, slave = pty.openpty()
    environment = {**os.environ, 'TERM': 'xterm', 'COLUMNS': '120'}
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        chunks = []
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            chunks.append(chunk)
    os.close(master)
    assert process.returncode == 0, b''.join(chunks).decode()
    return b''.join(chunks).decode()


def test_progress_bar_on_a_terminal_and_plain_lines_elsewhere(tiny_config: Path) -> None:
    command = [sys.executable, TOOLS / 'train.py', tiny_config]
    shown = on_a_terminal(command)
    assert re.search(r'train [^\r\n]*/24[^\r\n]*epoch \d/4 loss \d', shown)
    assert 'Epoch(train)' not in shown and 'Epoch(val)   [4]' in shown
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert 'Epoch(train)' in plain and '\x1b' not in plain
    logs = list((tiny_config.parent / 'run').glob('*/*.log'))
    assert len(logs) == 2
    for log in logs:  # the same lines in both
        assert log.read_text().count('Epoch(train)') == 8 and '\x1b' not in log.read_text()
