"""What cannot work is refused, in words: which loss, which argument, what was given, what would be right."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from mlcls.errors import ConfigError, DataError
from mlcls.registry import MODELS

from .cases import CLASSES, build, call, every_loss, example

SUM = dict(type='WeightedSum', losses=[dict(type='FocalLoss')])
BCE = dict(type='CrossEntropyLoss', use_sigmoid=True)
NAN, INF = float('nan'), float('inf')


@every_loss()
@pytest.mark.parametrize('shape', [(7, CLASSES - 1), (6, CLASSES), (CLASSES,), (7, CLASSES, 1)])
def test_targets_of_another_shape(cfg: dict[str, Any], shape: tuple[int, ...]) -> None:
    logits, _ = example('hard')
    with pytest.raises(ConfigError, match=rf'Loss: targets.*\(7, {CLASSES}\).*got {re.escape(str(shape))}'):
        call(build(cfg), logits, torch.zeros(shape))


@every_loss()
@pytest.mark.parametrize('shape', [(7,), (7, CLASSES, 1)])
def test_logits_of_another_shape(cfg: dict[str, Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=rf'Loss: logits.*\(images, classes\).*{re.escape(str(shape))}'):
        call(build(cfg), torch.zeros(shape), torch.zeros(shape))


@every_loss()
@pytest.mark.parametrize('bad', [2.0, -2.0, -0.5, 1.5, NAN, INF, -INF])
def test_targets_out_of_range(cfg: dict[str, Any], bad: float) -> None:
    logits, targets = example('unknown')
    targets[3, 1] = bad
    with pytest.raises(DataError, match=rf'Loss: targets must be 1 \(present\).*\[0, 1\], got {re.escape(f"{bad:g}")}'):
        call(build(cfg), logits, targets)


@every_loss('FocalLoss', 'CrossEntropyLoss', 'ZLPRLoss')
@pytest.mark.parametrize('bad, dtype', [(2, torch.int8), (-2, torch.int64), (255, torch.uint8), (2, torch.uint8)])
def test_whole_targets_out_of_range(cfg: dict[str, Any], bad: int, dtype: torch.dtype) -> None:
    logits, _ = example('hard')
    targets = torch.zeros(logits.shape, dtype=dtype)
    targets[0, 0] = bad
    with pytest.raises(DataError, match=f'targets must be.*got {bad}'):
        call(build(cfg), logits, targets)


def loss_clip(cfg: dict[str, Any]) -> float:
    """Margin of negatives of the asymmetric losses."""
    return cfg.get('clip', 0.05 if cfg['type'] == 'AsymmetricLoss' else 0.0)


@every_loss()
@pytest.mark.parametrize('bad', [NAN, INF, -INF])
def test_logits_that_are_no_numbers_are_not_hidden(cfg: dict[str, Any], bad: float) -> None:
    """The training loop sees by the loss that something is wrong."""
    logits, targets = example('hard')
    logits[2, 1] = logits[5, 4] = bad
    targets[2, 1], targets[5, 4] = (0, 0) if bad > 0 else (1, 1)  # where it costs
    if bad == INF and (cfg['type'] == 'HillLoss' or (cfg['type'].endswith('AsymmetricLoss') and loss_clip(cfg) > 0)):
        pytest.skip('its negatives have a finite loss at infinity')
    assert not torch.isfinite(call(build(cfg), logits, targets))


@every_loss()
def test_weight_of_another_shape(cfg: dict[str, Any]) -> None:
    logits, targets = example('hard')
    for shape in [(6,), (7, CLASSES - 1), (7, 1), (1, 7, CLASSES), ()]:
        with pytest.raises(ConfigError, match=rf'Loss: weight must be.*\(7,\).*got {re.escape(str(shape))}'):
            call(build(cfg), logits, targets, weight=torch.ones(shape))


@every_loss('MultiLabelSoftMarginLoss', 'ZLPRLoss')
def test_weight_of_labels_in_a_loss_of_images(cfg: dict[str, Any]) -> None:
    logits, targets = example('hard')
    with pytest.raises(ConfigError, match=rf'whole images; weight must be \(N,\), got \(7, {CLASSES}\)'):
        call(build(cfg), logits, targets, weight=torch.ones(7, CLASSES))


@every_loss('TwoWayLoss')
def test_a_loss_of_the_batch(cfg: dict[str, Any]) -> None:
    logits, targets = example('hard')
    with pytest.raises(ConfigError, match=r"TwoWayLoss.*reduction must be 'mean', got 'sum'"):
        build({**cfg, 'reduction': 'sum'})
    for options, given in (({'reduction_override': 'sum'}, "'sum'"), ({'reduction_override': 'none'}, "'none'")):
        with pytest.raises(ConfigError, match=f"TwoWayLoss.*only reduction='mean'.*{given}"):
            call(build(cfg), logits, targets, **options)
    with pytest.raises(ConfigError, match=r'TwoWayLoss.*not a weight'):
        call(build(cfg), logits, targets, weight=torch.ones(7))


@every_loss(without=('WeightedSum',))
@pytest.mark.parametrize('name, value', [('reduction', 'avg'), ('unknown', 'drop'), ('reduction', None)])
def test_unknown_choices(cfg: dict[str, Any], name: str, value: Any) -> None:
    words = 'impossible unknown' if name == 'unknown' else f'unknown {name}'
    with pytest.raises(ConfigError, match=f"{cfg['type']}: {words} '{value}'; (choose from|did you mean)"):
        build({**cfg, name: value})


@every_loss('CrossEntropyLoss', 'ZLPRLoss')
def test_unknown_reduction_of_a_call(cfg: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{cfg['type']}: unknown reduction(_override)? 'avg'"):
        call(build(cfg), *example('hard'), reduction_override='avg')


def test_unobserved_labels_are_only_for_incomplete_data() -> None:
    with pytest.raises(ConfigError, match=r"FocalLoss: impossible unknown 'unobserved'; choose from ignore, negative"):
        MODELS.build(dict(type='FocalLoss', unknown='unobserved'))


@pytest.mark.parametrize('name', ['class_weight', 'pos_weight'])
@pytest.mark.parametrize('value', [[1.0, 2.0], [1.0], [], [1.0] * 6])
def test_number_of_class_values(name: str, value: list[float]) -> None:
    with pytest.raises(ConfigError, match=f'CrossEntropyLoss: {name} has {len(value)} values.* {CLASSES} classes'):
        build({**BCE, name: value})


@pytest.mark.parametrize('cfg, name', [(dict(type='MultiLabelSoftMarginLoss'), 'weight')])
def test_number_of_class_values_elsewhere(cfg: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=rf'{cfg["type"]}: {name} has 2 values'):
        build({**cfg, name: [1.0, 2.0]})
    with pytest.raises(ConfigError, match='PartialAsymmetricLoss: prior has 2 values'):
        build(dict(type='PartialAsymmetricLoss', prior=[0.1, 0.2]))


#: Type, argument, value, and what the message must say was expected.
OUT_OF_RANGE = [
    ('FocalLoss', 'gamma', -1, 'at least 0'),
    ('FocalLoss', 'gamma', NAN, 'at least 0'),
    ('FocalLoss', 'gamma', '2', 'at least 0'),
    ('FocalLoss', 'alpha', 1.5, r'in \[0, 1\]'),
    ('AsymmetricLoss', 'gamma_pos', -1, 'at least 0'),
    ('AsymmetricLoss', 'gamma_neg', -0.1, 'at least 0'),
    ('AsymmetricLoss', 'clip', 1.5, r'in \[0, 1\)'),
    ('AsymmetricLoss', 'clip', 1.0, r'in \[0, 1\)'),
    ('AsymmetricLoss', 'clip', '0.05', r'in \[0, 1\)'),
    ('PartialAsymmetricLoss', 'clip', -0.1, r'in \[0, 1\)'),
    ('PartialAsymmetricLoss', 'gamma_unann', -1, 'at least 0'),
    ('PartialAsymmetricLoss', 'likelihood_topk', -1, 'at least 0'),
    ('PartialAsymmetricLoss', 'prior_threshold', 2, r'in \[0, 1\]'),
    ('HillLoss', 'lamb', 0.5, 'at least 1'),
    ('HillLoss', 'gamma', -1, 'at least 0'),
    ('HillLoss', 'margin', 'wide', 'number'),
    ('FocalMarginLoss', 'gamma', -1, 'at least 0'),
    ('FocalMarginLoss', 'margin', NAN, 'number'),
    ('SPLCLoss', 'tau', 1.2, r'in [\[(]0, 1'),
    ('SPLCLoss', 'change_epoch', -1, 'at least 0'),
    ('LargeLoss', 'delta_rel', 1.2, r'in \[0, 1\]'),
    ('EntropyMaximizationLoss', 'alpha', 0, '(above 0|at least)'),
    ('WeakAssumeNegativeLoss', 'gamma', 0, '(above 0|at least)'),
    ('RoleLoss', 'expected_positives', -1, 'at least 0'),
    ('RoleLoss', 'expected_positives', 'many', "a number or 'auto'"),
    ('RoleLoss', 'epr_weight', -1, 'at least 0'),
    ('WeightedBCELoss', 'w_pos', 0, '(above 0|at least)'),
    ('WeightedBCELoss', 'w_neg', -1, '(above 0|at least)'),
    ('TwoWayLoss', 't_pos', 0, '(above 0|at least)'),
    ('TwoWayLoss', 't_neg', -1, '(above 0|at least)'),
    ('ClassBalancedLoss', 'beta', 1.0, r'in \[0, '),
    ('ClassBalancedLoss', 'gamma', -1, 'at least 0'),
    ('DistributionBalancedLoss', 'alpha', -1, 'at least 0'),
    ('DistributionBalancedLoss', 'neg_scale', 0, '(above 0|at least)'),
    ('DistributionBalancedLoss', 'gamma', -1, 'at least 0'),
    ('LabelSmoothLoss', 'label_smooth_val', 0.5, r'in \[0, '),
    ('CrossEntropyLoss', 'class_weight', [1, -1, 1, 1, 1], 'at least 0'),
    ('CrossEntropyLoss', 'class_weight', [[1.0]], 'one number or one a class'),
    ('CrossEntropyLoss', 'class_weight', ['a'], 'numbers'),
    ('CrossEntropyLoss', 'pos_weight', 0, 'above 0'),
    ('CrossEntropyLoss', 'pos_weight', NAN, 'above 0'),
    ('CrossEntropyLoss', 'pos_weight', INF, 'above 0'),
]


@pytest.mark.parametrize('kind, name, value, expected', OUT_OF_RANGE)
def test_numbers_out_of_range(kind: str, name: str, value: Any, expected: str) -> None:
    cfg = {**(BCE if kind == 'CrossEntropyLoss' else {'type': kind}), name: value}
    with pytest.raises(ConfigError, match=f'{kind}: {name} must be .*{expected}.*got {re.escape(repr(value))}'):
        MODELS.build(cfg)


@pytest.mark.parametrize('kind', ['FocalLoss', 'HillLoss', 'AsymmetricLoss', 'DistributionBalancedLoss'])
def test_infinite_exponents(kind: str) -> None:
    name = 'gamma_neg' if kind == 'AsymmetricLoss' else 'gamma'
    with pytest.raises(ConfigError, match=f'{kind}: {name}.*got inf'):
        MODELS.build({'type': kind, name: INF})


@pytest.mark.parametrize(
    'cfg, words',
    [
        (dict(type='CrossEntropyLoss'), 'CrossEntropyLoss.*use_sigmoid=True'),
        (dict(type='CrossEntropyLoss', use_sigmoid=True, use_soft=True), 'exclude each other'),
        (dict(type='CrossEntropyLoss', use_soft=True, use_softmax=True), 'exclude each other'),
        (dict(type='CrossEntropyLoss', use_soft=True, pos_weight=2.0), 'pos_weight needs use_sigmoid=True'),
        ({**BCE, 'class_weight': 'balance'}, "unknown class_weight 'balance'; did you mean 'balanced'"),
        ({**BCE, 'pos_weight': 'balanced'}, "unknown pos_weight 'balanced'; choose from auto"),
        (dict(type='MultiLabelSoftMarginLoss', weight='x'), "unknown weight 'x'; choose from balanced"),
        (dict(type='PartialAsymmetricLoss', prior='x'), "PartialAsymmetricLoss: unknown prior 'x'; choose from auto"),
        (dict(type='PartialAsymmetricLoss', mode='select'), "unknown mode 'select'; did you mean 'selective'"),
        (dict(type='LargeLoss', mode='rejects'), "LargeLoss: unknown mode 'rejects'; did you mean 'reject'"),
        (dict(type='LabelSmoothLoss', mode='Original'), "LabelSmoothLoss: unknown mode.*did you mean 'original'"),
        (dict(type='LabelSmoothLoss', num_classes=7), 'LabelSmoothLoss: num_classes is 7, but there are 5 classes'),
        (dict(type='LabelSmoothLoss', use_sigmoid=False), 'LabelSmoothLoss: use_sigmoid=False.*single-label'),
        (dict(type='AsymmetricLoss', use_sigmoid=False), 'AsymmetricLoss: use_sigmoid=False.*single-label'),
        (dict(type='WeightedSum', losses=[]), 'WeightedSum: losses is empty'),
        ({**SUM, 'weights': [1.0, 2.0]}, 'WeightedSum: weights has 2 values, but there are 1 losses'),
        ({**SUM, 'weights': ['a']}, "WeightedSum: weights must be a number, got 'a'"),
        ({**SUM, 'weights': [NAN]}, 'WeightedSum: weights must be'),
    ],
    ids=str,
)
def test_settings_that_cannot_work(cfg: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(cfg)
