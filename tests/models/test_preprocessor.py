"""The preprocessor: normalisation, and augmentations in training alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlcls.errors import ConfigError
from mlcls.models import ClsDataPreprocessor
from mlcls.models.augments import BatchColorJitter, BatchRandomFlip, Mixup
from mlcls.structures import Batch

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
EVERYTHING = dict(
    batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)], probs=[0.4, 0.6]),
    device_augments=[
        dict(type='BatchRandomFlip', prob=0.5, direction='horizontal'),
        dict(type='BatchRandAugment', num_ops=2, magnitude=9),
        dict(type='BatchColorJitter', brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
        dict(type='BatchCutout', shape=0.5),
        dict(type='BatchRandomErasing', mode='rand'),
    ],
)


def batch(n: int = 4, height: int = 16, width: int = 20, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        inputs=torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator),
        targets=torch.randint(-1, 2, (n, 5), dtype=torch.int8, generator=generator),
        index=torch.arange(n),
    )


def test_every_level_within_two_units_of_the_last_place() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    data = Batch(inputs=levels, targets=torch.zeros(1, 1, dtype=torch.int8), index=torch.zeros(1))
    made = ClsDataPreprocessor(MEAN, STD, to_rgb=True)(data)['inputs'].double()
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    # The sum cancels, so the unit is that of its larger term, which is at most 255 / 57.12, below 8.
    torch.testing.assert_close(made, (levels.double() - mean) / std, rtol=0, atol=2 * 2.0**-22)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(1, 4))
def test_restoring_gives_the_picture(n: int, height: int, width: int, to_rgb: bool, mean: bool, divisor: int) -> None:
    data = batch(n, height, width)
    settings = dict(mean=MEAN, std=STD) if mean else {}
    preprocessor = ClsDataPreprocessor(**settings, to_rgb=to_rgb, pad_size_divisor=divisor, pad_value=9)
    restored = preprocessor.restore(preprocessor(data)['inputs'])
    assert restored.dtype == torch.uint8
    assert torch.equal(restored[:, :, :height, :width], data['inputs'])
    assert (restored[:, :, height:] == 9).all() and (restored[:, :, :, width:] == 9).all()


@pytest.mark.parametrize('kind', [torch.uint8, torch.float32])
@pytest.mark.parametrize('settings', [{}, EVERYTHING])
def test_the_batch_itself_stays_as_it_is(kind: torch.dtype, settings: dict) -> None:
    data = batch()
    data['inputs'] = data['inputs'].to(kind)
    before = {key: value.clone() for key, value in data.items()}
    torch.manual_seed(0)
    for _ in range(4):
        ClsDataPreprocessor(MEAN, STD, **settings, to_rgb=True)(data, training=True)
    assert all(torch.equal(data[key], before[key]) and data[key].dtype == before[key].dtype for key in before)


def test_augmentation_is_for_training_alone() -> None:
    plain, full = ClsDataPreprocessor(MEAN, STD), ClsDataPreprocessor(MEAN, STD, **EVERYTHING)
    state = torch.get_rng_state()
    for training in (False, True):
        out = plain(batch(), training=training)
        assert torch.equal(out['inputs'], full(batch())['inputs']) and out['targets'].dtype == torch.int8
    assert torch.equal(torch.get_rng_state(), state)  # evaluation draws nothing
    assert not torch.equal(full(batch(), training=True)['inputs'], out['inputs'])


def test_a_seed_fixes_everything_drawn() -> None:
    preprocessor = ClsDataPreprocessor(MEAN, STD, **EVERYTHING)
    runs = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        runs.append([preprocessor(batch(seed=step), training=True) for step in range(3)])
    for first, again, other in zip(*runs):
        assert torch.equal(first['inputs'], again['inputs']) and torch.equal(first['targets'], again['targets'])
        assert not torch.equal(first['inputs'], other['inputs'])


def test_targets_are_int8_unless_images_were_mixed() -> None:
    data = batch()
    flipped = ClsDataPreprocessor(device_augments=dict(type='BatchRandomFlip', prob=1.0))(data, training=True)
    assert flipped['targets'].dtype == torch.int8
    never = ClsDataPreprocessor(batch_augments=dict(augments=dict(type='Mixup', alpha=1.0), probs=0.0))
    assert never(data, training=True)['targets'].dtype == torch.int8
    mixed = ClsDataPreprocessor(batch_augments=dict(type='Mixup', alpha=1.0))(data, training=True)['targets']
    assert mixed.dtype == torch.float32 and ((mixed == -1) | ((mixed >= 0) & (mixed <= 1))).all()


def test_device_augmentations_see_rgb_and_come_before_mixing_padding_and_normalisation() -> None:
    data = batch(1)
    data['inputs'] = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 5, 5)
    preprocessor = ClsDataPreprocessor(
        [10, 20, 30],
        [2, 2, 2],
        pad_size_divisor=8,
        pad_value=40,
        device_augments=BatchColorJitter(saturation=(0, 0)),
        batch_augments=Mixup(1.0),
    )
    out = preprocessor(data, training=True)['inputs']
    for channel, mean in enumerate((10, 20, 30)):  # red is as bright as 0.299 white, in whatever order channels go
        torch.testing.assert_close(out[0, channel, :5, :5], torch.full((5, 5), (255 * 0.299 - mean) / 2))
        assert (out[0, channel, 5:] == (40 - mean) / 2).all()


@pytest.mark.parametrize('to_rgb', [False, True])
@pytest.mark.parametrize('settings', [{}, dict(pad_size_divisor=32), EVERYTHING])
def test_channels_last_stays(to_rgb: bool, settings: dict) -> None:
    preprocessor = ClsDataPreprocessor(MEAN, STD, to_rgb=to_rgb, **settings)
    last = batch()
    last['inputs'] = last['inputs'].to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    made = preprocessor(last, training=True)
    torch.manual_seed(0)
    plain = preprocessor(batch(), training=True)
    assert made['inputs'].is_contiguous(memory_format=torch.channels_last)
    assert plain['inputs'].is_contiguous()
    if 'device_augments' in settings:  # noise is drawn in the order of memory
        assert torch.equal(made['targets'], plain['targets'])
    else:
        assert torch.equal(made['inputs'], plain['inputs'])


def test_autocast_and_gradients_change_nothing() -> None:
    preprocessor = ClsDataPreprocessor(MEAN, STD, **EVERYTHING)
    torch.manual_seed(0)
    plain = preprocessor(batch(), training=True)['inputs']
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):
        cast = preprocessor(batch(), training=True)['inputs']
    assert torch.equal(plain, cast) and not plain.requires_grad


@pytest.mark.parametrize(
    'given_augments, number',
    [
        (None, 0),
        ([], 0),
        (dict(type='Mixup', alpha=1.0), 1),
        ([dict(type='Mixup', alpha=1.0), dict(type='CutMix', alpha=1.0)], 2),
        (dict(augments=dict(type='Mixup', alpha=1.0)), 1),
        (dict(type='RandomBatchAugment', augments=[Mixup(1.0)], probs=[0.5]), 1),
    ],
)
def test_forms_of_batch_augments(given_augments: object, number: int) -> None:
    augment = ClsDataPreprocessor(batch_augments=given_augments).batch_augment
    assert (0 if augment is None else len(getattr(augment, 'augments', [augment]))) == number


@pytest.mark.parametrize(
    'settings, words',
    [
        (dict(batch_augments=dict(type='BatchRandomFlip')), 'expected the config of a BatchAugment'),
        (dict(device_augments=dict(type='Mixup', alpha=1.0)), 'expected the config of a DeviceAugment'),
        (dict(device_augments=['BatchRandomFlip']), "got 'BatchRandomFlip'"),
        (dict(device_augments=dict(prob=0.5)), 'builds no DeviceAugment'),
        (dict(device_augments=dict(type='BatchRandomFlip', probb=0.5)), "builds no DeviceAugment: .*'probb'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ClsDataPreprocessor(**settings)


def test_a_run_with_everything_trains_and_repeats_itself(tiny_config: Path, tmp_path: Path) -> None:
    from mlcls.apis import TrainFlags, train

    text = tiny_config.read_text().replace('to_rgb=True)', f'to_rgb=True, **{EVERYTHING!r})')
    text = text.replace(
        'auto_scale_lr', "custom_hooks = [dict(type='LossDiagnosisHook', interval=1)]\nauto_scale_lr", 1
    )
    tiny_config.write_text(text)
    weights = []
    for name in ('a', 'b'):
        run = train(tiny_config, TrainFlags(work_dir=str(tmp_path / name)), {'train_cfg.max_epochs': 1})
        weights.append(torch.load(run / 'epoch_1.pth', weights_only=True)['state_dict'])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.gpu
def test_a_gpu_draws_what_a_cpu_draws() -> None:
    quiet = {**EVERYTHING, 'device_augments': EVERYTHING['device_augments'][:4]}  # noise differs
    cpu, gpu = ClsDataPreprocessor(MEAN, STD, **quiet), ClsDataPreprocessor(MEAN, STD, **quiet).cuda()
    for seed in range(10):
        torch.manual_seed(seed)
        expected = cpu(batch(), training=True)
        torch.manual_seed(seed)
        made = gpu(batch(), training=True)
        torch.testing.assert_close(made['targets'].cpu(), expected['targets'])
        assert ((made['inputs'].cpu() - expected['inputs']).abs() > 0.02).float().mean() < 0.01


def test_flips_go_by_the_share_in_a_batch() -> None:
    data = batch(400, 2, 3)
    torch.manual_seed(0)
    out = ClsDataPreprocessor(to_rgb=True, device_augments=[BatchRandomFlip(0.5)])(data, training=True)['inputs']
    same = (out == data['inputs']).flatten(1).all(dim=1)
    assert 150 < same.sum() < 250
    assert torch.equal(out[~same], data['inputs'][~same].flip(3).float())
