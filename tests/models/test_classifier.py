"""The whole network: parts fit, modes, precision, preprocessing."""

from __future__ import annotations

import copy

import pytest
import torch

from mlcls.errors import ConfigError
from mlcls.models import ClsDataPreprocessor, GlobalAveragePooling, ImageClassifier, MultiLabelClsHead
from mlcls.registry import MODELS
from mlcls.structures import Batch

CFG = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True),
    backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='MultiLabelLinearClsHead', num_classes=4, in_channels=64),
)


def build(**changes: object) -> ImageClassifier:
    cfg = copy.deepcopy(CFG)
    for path, value in changes.items():
        part, _, key = path.partition('__')
        if key:
            cfg[part][key] = value
        else:
            cfg[part] = value
    return MODELS.build(cfg)


def batch(n: int = 3) -> Batch:
    torch.manual_seed(0)
    return Batch(
        inputs=torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8),
        targets=torch.randint(-1, 2, (n, 4), dtype=torch.int8),
        index=torch.arange(n),
    )


def test_modes() -> None:
    model = build().eval()
    data = model.data_preprocessor(batch())
    logits = model(**data)
    assert logits.shape == (3, 4) and logits.dtype == torch.float32
    assert model(**data, mode='loss')['loss'].dim() == 0
    out = model(**data, mode='predict')
    torch.testing.assert_close(out['scores'], logits.sigmoid())
    assert out['index'].tolist() == [0, 1, 2] and torch.equal(out['targets'], data['targets'])
    assert model.val_step(batch())['scores'].shape == (3, 4)
    with pytest.raises(ConfigError, match="unknown mode 'train'"):
        model(**data, mode='train')


def test_loss_is_summed_over_classes_and_averaged_over_images() -> None:
    model = build().eval()
    data = model.data_preprocessor(batch())
    logits, targets = model(**data), data['targets'].float()
    each = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets.clamp(min=0), reduction='none')
    expected = (each * (targets >= 0)).sum() / 3
    torch.testing.assert_close(model(**data, mode='loss')['loss'], expected)


def test_logits_are_float32_under_autocast() -> None:
    model = build().eval()
    data = model.data_preprocessor(batch(64))
    with torch.autocast('cpu', torch.bfloat16):
        logits = model(**data)
    assert logits.dtype == torch.float32
    assert len(set(logits.flatten().tolist())) > 250  # 256 values; 8-bit logits would tie


def test_train_step_lowers_the_loss() -> None:
    from mmengine.optim import OptimWrapper

    model = build().train()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    losses = [model.train_step(batch(8), wrapper)['loss'].item() for _ in range(12)]
    assert losses[-1] < losses[0] / 2


def test_preprocessor_normalises_as_the_formula_says() -> None:
    data = batch()
    out = ClsDataPreprocessor(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True)(data)
    expected = (data['inputs'].double() - torch.tensor([120.0, 110.0, 100.0]).view(3, 1, 1)) / torch.tensor(
        [60.0, 50.0, 40.0]
    ).view(3, 1, 1)
    torch.testing.assert_close(out['inputs'].double(), expected, rtol=0, atol=1e-6)
    assert data['inputs'].dtype == torch.uint8  # the batch itself is untouched


def test_preprocessor_order_and_padding() -> None:
    data = batch()
    data['inputs'] = data['inputs'][:, :, :30, :29]
    out = ClsDataPreprocessor(pad_size_divisor=8, pad_value=7)(data)['inputs']
    assert out.shape == (3, 3, 32, 32) and (out[:, :, 30:] == 7).all()
    assert torch.equal(out[:, 0, :30, :29], data['inputs'][:, 2].float())  # without to_rgb the network gets BGR


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(mean=[1.0, 2.0, 3.0]), 'mean and std belong together'),
        (dict(mean=[1.0], std=[0.0]), 'std must be above 0'),
        (dict(batch_augments=dict(type='Mixup')), 'Mixup'),
    ],
)
def test_preprocessor_refuses(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ClsDataPreprocessor(**settings)


@pytest.mark.parametrize(
    'changes, words',
    [
        (
            dict(head__in_channels=2048),
            'the backbone gives 64 channels, the head takes 2048; set model.head.in_channels=64',
        ),
        (dict(neck=None), 'GlobalAveragePooling'),
        (dict(head__num_classes=5), 'the head gives 5 logits, the data have 4 classes; set model.head.num_classes=4'),
        (dict(head=None), "mode 'loss' needs a head"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict, words: str) -> None:
    model = build(**changes)
    with pytest.raises(ConfigError, match=words):
        model(**model.data_preprocessor(batch()), mode='loss')


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(thr=1.5), r'thr must be in \[0, 1\], got 1.5'),
        (dict(thr=-0.1), 'thr must be'),
        (dict(topk=0), 'topk must be'),
    ],
)
def test_head_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MultiLabelClsHead(**settings)


def test_head_decision_defaults() -> None:
    assert MultiLabelClsHead().thr == 0.5
    assert MultiLabelClsHead(topk=3).thr is None
    assert MultiLabelClsHead(thr=0.0).thr == 0.0
    with pytest.raises(ConfigError, match='at least 1'):
        build(head__num_classes=0)


def test_pooling_is_the_mean() -> None:
    x = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(GlobalAveragePooling()((x,))[0], x.mean((2, 3)))
    with pytest.raises(ConfigError, match='dim must be'):
        GlobalAveragePooling(dim=4)


def test_pretrained_is_short_for_init_cfg(tmp_path) -> None:
    source = build()
    torch.save(source.backbone.state_dict(), tmp_path / 'b.pth')
    model = build(pretrained=str(tmp_path / 'b.pth'))
    assert not torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    model.init_weights()
    assert torch.equal(model.backbone.conv1.weight, source.backbone.conv1.weight)
    assert model.head.fc.weight.std().item() == pytest.approx(0.01, rel=0.2)


@pytest.mark.gpu
def test_autocast_float16_on_a_gpu() -> None:
    model = build().cuda().eval()
    data = model.data_preprocessor(batch())
    assert data['inputs'].is_cuda
    with torch.autocast('cuda', torch.float16):
        half = model(**data)
    torch.testing.assert_close(half, model(**data), rtol=0.05, atol=0.01)
