"""Arguments that are True or False: a text, which would count as True, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlcls.apis.training import prepare_config
from mlcls.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
AQUARIUM, DIGITS = ROOT / 'configs/mobilenetv2_aquarium.py', ROOT / 'configs/resnet18w16_ml.py'


# The parts that the other tests of this folder put in place of the real ones are not wanted here.
@pytest.fixture(autouse=True)
def no_real_parts() -> None:
    """Leave the registries as they are."""


@pytest.mark.parametrize('value', ['no', 'False', ''])
@pytest.mark.parametrize(
    'config, key',
    [
        (AQUARIUM, 'model.backbone.frozen'),
        (AQUARIUM, 'model.backbone.norm_eval'),
        (DIGITS, 'model.backbone.with_cp'),
        (DIGITS, 'model.backbone.zero_init_residual'),
        (DIGITS, 'model.head.prior_bias'),
        (DIGITS, 'train_dataloader.sampler.shuffle'),
    ],
)
def test_text_is_refused(config: Path, key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf'{key}\W.*must be True or False, not {value!r}'):
        prepare_config(config, {key: value})


@pytest.mark.parametrize('value', [True, False])
def test_truth_values_are_accepted(value: bool) -> None:
    prepare_config(AQUARIUM, {'model.backbone.frozen': value})


def test_a_key_of_another_constructor_names_it() -> None:
    with pytest.raises(ConfigError, match="needs optim_wrapper.constructor='LayerDecayOptimWrapperConstructor'"):
        prepare_config(DIGITS, {'optim_wrapper.paramwise_cfg.layer_decay_rate': 0.7})


def test_factors_of_a_weight_decay_need_one() -> None:
    optimizer = dict(_delete_=True, type='SGD', lr=0.1)
    with pytest.raises(ConfigError, match=r'norm_decay_mult\W.*needs optim_wrapper.optimizer.weight_decay'):
        prepare_config(DIGITS, {'optim_wrapper.optimizer': optimizer})
    prepare_config(DIGITS, {'optim_wrapper.optimizer': dict(optimizer, weight_decay=0.0)})
