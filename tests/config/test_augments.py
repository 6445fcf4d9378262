"""Augmentations in a preprocessor's config are checked like any other part."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcls.config import Sources, check_config, load_config
from mlcls.errors import ConfigError
from mlcls.models import augments  # noqa: F401  # fills the registry, which conftest.py keeps from importing it

CONFIG = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18),
    data_preprocessor=dict(
        batch_augments={batch},
        device_augments={device}))
"""
BATCH = "dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)], probs=[0.4, 0.6])"
DEVICE = "[dict(type='BatchRandomFlip', prob=0.5), dict(type='BatchRandAugment', num_ops=2)]"


def problems(tmp_path: Path, batch: str = BATCH, device: str = DEVICE) -> list[str]:
    path = tmp_path / 'a.py'
    path.write_text(CONFIG.format(batch=batch, device=device))
    try:
        check_config(load_config(path), Sources([path]))
    except ConfigError as error:
        return [line.split(': ', 1)[1] for line in str(error).split('\n')]
    return []


@pytest.mark.parametrize('batch', [BATCH, "dict(type='Mixup', alpha=0.8)", "[dict(type='CutMix', alpha=1.0)]", 'None'])
def test_valid(tmp_path: Path, batch: str) -> None:
    assert problems(tmp_path, batch) == []


@pytest.mark.parametrize(
    'old, new, expected',
    [
        (
            'probs',
            'prob',
            "model.data_preprocessor.batch_augments.prob: RandomBatchAugment has no argument 'prob'; did you mean "
            "'probs'?",
        ),
        (
            "'CutMix'",
            "'Cutmix'",
            "model.data_preprocessor.batch_augments.augments.1.type: unknown model 'Cutmix'; did you mean 'CutMix'?",
        ),
        (
            'alpha=0.8',
            'alfa=0.8',
            "model.data_preprocessor.batch_augments.augments.0.alfa: Mixup has no argument 'alfa'; did you mean "
            "'alpha'?",
        ),
        ("type='Mixup', ", '', 'model.data_preprocessor.batch_augments.augments.0: has no type'),
        (
            'num_ops',
            'num_op',
            "model.data_preprocessor.device_augments.1.num_op: BatchRandAugment has no argument 'num_op'; did you mean "
            "'num_ops'?",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert expected in problems(tmp_path, BATCH.replace(old, new), DEVICE.replace(old, new))
