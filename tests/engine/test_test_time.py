"""Test-time augmentation in an evaluation: settings, and the same scores as made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.transforms import functional as tv

from mlcls.apis import train
from mlcls.errors import ConfigError

from .collect_worker import open_runner


def test_scores_are_the_mean_over_views_made_by_torchvision(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    runner = open_runner(run / 'epoch_1.pth', tta={'scales': [0.75], 'five_crops': 0.8})
    with runner.closing():
        loop = runner.open_test()
        rows = runner.collect()
        batches = [(int(batch['index']), batch['inputs'].clone()) for batch in loop.dataloader]
    assert loop.tta_words == (
        'mean score of 14 views: the picture, scaled by 0.75, five crops of 0.8 of height and width, each also mirrored'
    )

    def score(picture: torch.Tensor) -> torch.Tensor:
        batch = {'inputs': picture, 'targets': torch.zeros(1, 3), 'index': torch.zeros(1, dtype=torch.int64)}
        return runner.model.val_step(batch)['scores']

    with torch.no_grad():
        for number, picture in batches:
            smaller = tv.resize(picture.float(), [24, 24], antialias=True).round().to(torch.uint8)
            views = [picture, smaller, *tv.five_crop(picture, [26, 26])]
            scores = torch.cat([score(each) for view in views for each in (view, tv.hflip(view))])
            torch.testing.assert_close(rows.scores[number], scores.mean(dim=0), atol=1e-6, rtol=0)
            assert (scores[0] - scores.mean(dim=0)).abs().max() > 1e-6
    assert torch.equal(rows.targets, torch.stack([loop.dataloader.dataset[i]['targets'] for i in range(20)]))


def test_true_is_the_mirror_image_and_precision_is_told(tiny_config: Path) -> None:
    run = train(tiny_config, options={'train_cfg.max_epochs': 1})
    plain, mirrored = (open_runner(run / 'epoch_1.pth', tta=tta, dtype='bfloat16') for tta in (None, True))
    loops = [runner.open_test() for runner in (plain, mirrored)]
    assert [loop.tta_words for loop in loops] == ['none', 'mean score of 2 views: the picture, each also mirrored']
    assert loops[0].dtype_words == 'bfloat16 (autocast)'
    rows = [runner.collect() for runner in (plain, mirrored)]
    assert not torch.equal(rows[0].scores, rows[1].scores) and torch.equal(rows[0].targets, rows[1].targets)
    for runner in (plain, mirrored):
        runner.close()
        runner.close()  # closing twice is no error


def test_a_validation_may_use_it_too(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace('val_cfg = dict()', 'val_cfg = dict(tta=dict(flip=True))')
    tiny_config.write_text(text)
    train(tiny_config, options={'train_cfg.max_epochs': 1})


@pytest.mark.parametrize(
    'setting, words',
    [
        ('dict(scale=[0.8])', "tta has no setting 'scale'; did you mean 'scales'"),
        ('dict(scales=[0])', 'tta: scales must be factors above 0, not 0'),
        ("'flip'", "tta must be True, or a dict such as .* not 'flip'"),
    ],
)
def test_bad_settings_are_refused_before_the_training(tiny_config: Path, setting: str, words: str) -> None:
    tiny_config.write_text(tiny_config.read_text().replace('test_cfg = dict()', f'test_cfg = dict(tta={setting})'))
    with pytest.raises(ConfigError, match=words):
        train(tiny_config)
    assert not list((tiny_config.parent / 'run').glob('*.pth'))


def test_the_whole_training_refuses_a_view_that_the_network_cannot_take(tiny_config: Path) -> None:
    text = tiny_config.read_text().replace('val_cfg = dict()', 'val_cfg = dict(tta=dict(scales=[0.5]))')
    neck = "neck=dict(type='GlobalAveragePooling'),\n"
    assert neck in text
    text = (
        text.replace(neck, '')
        .replace('MultiLabelLinearClsHead', 'FlatHead')
        .replace('num_classes=3, in_channels=64,', '')
    )
    tiny_config.write_text(text)
    from mlcls.models import MultiLabelClsHead
    from mlcls.registry import MODELS

    @MODELS.register_module(name='FlatHead', force=True)
    class FlatHead(MultiLabelClsHead):
        def __init__(self, **settings: object) -> None:
            super().__init__(**settings)  # type: ignore[arg-type]
            self.fc = torch.nn.Linear(64, 3)

        def forward(self, features: tuple[torch.Tensor, ...]) -> torch.Tensor:
            return self.fc(features[-1].flatten(1)[:, : 64 * features[-1].shape[-1] * features[-1].shape[-2]])

    with pytest.raises(ConfigError, match="tta: the network cannot score the view 'scaled by 2' of 64 x 64 pixels"):
        train(tiny_config, options={'train_cfg.max_epochs': 1, 'val_cfg.tta.scales': [2]})
