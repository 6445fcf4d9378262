"""The same small training three ways: by mlcls, by mmengine's own Runner, and by a loop of a few lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.data import DataLoader

from mlcls.datasets import MultiLabelDataset, collate_batch
from mlcls.datasets.samplers import EpochSampler
from mlcls.models import ImageClassifier
from mlcls.registry import MODELS
from mlcls.structures import Batch

CLASSES, SIDE = 8, 8
MEAN_STD: dict[str, Any] = dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.0], to_rgb=True)
#: Steps between two log lines.
INTERVAL = 50


@MODELS.register_module()
class BenchBackbone(nn.Module):
    """One layer: so little that what surrounds the network is seen."""

    out_channels = (16,)

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * SIDE * SIDE, 16)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps (N, 16, 1, 1) of images (N, 3, SIDE, SIDE)."""
        return (self.layer(images.flatten(1)).relu()[:, :, None, None],)


class ReadyBatches(MultiLabelDataset):
    """A data set whose batches are ready: one and the same, so that loading costs nothing."""

    batch: Batch

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The batch, whatever is asked for."""
        return self.batch


def small_model() -> ImageClassifier:
    """A classifier of three layers; always with the same weights."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mlcls'):
        return ImageClassifier(
            backbone=dict(type='BenchBackbone'),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='MultiLabelLinearClsHead', num_classes=CLASSES, in_channels=16),
            data_preprocessor=dict(MEAN_STD),
        )


def residual_classifier(depth: int, width: int, classes: int = CLASSES) -> ImageClassifier:
    """A classifier on a ResNet; always with the same weights.

    Args:
        depth: 18 or 50.
        width: Channels of the first stage, 64 in the paper.
        classes: Outputs.
    """
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mlcls'):
        return ImageClassifier(
            backbone=dict(type='ResNet', depth=depth, base_channels=width, stem_channels=width),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='MultiLabelLinearClsHead',
                num_classes=classes,
                in_channels=width * (8 if depth < 50 else 32),
            ),
            data_preprocessor=dict(MEAN_STD),
        )


def ready_loader(folder: Path, steps: int, size: int = 4, side: int = SIDE, seed: int = 0) -> DataLoader:
    """A loader of ``steps`` batches of ``size`` images in memory, an epoch.

    Args:
        folder: For the annotation file.
        steps: Batches of an epoch.
        size: Images of a batch.
        side: Of the images, in pixels.
        seed: Of the images; labels are always the same.
    """
    targets = (torch.rand(size, CLASSES, generator=torch.Generator().manual_seed(0)) < 0.3).to(torch.int8)
    targets[0] = 1  # no class without an image
    made = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 3, side, side), generator=made, dtype=torch.uint8)
    path = folder / f'{steps}x{size}.json'
    labels = [row.nonzero().flatten().tolist() for row in targets]
    rows = [{'img_path': f'{n}.jpg', 'gt_label': labels[n % size]} for n in range(steps * size)]
    path.write_text(json.dumps({'metainfo': {'classes': [f'class {c}' for c in range(CLASSES)]}, 'data_list': rows}))
    dataset = ReadyBatches(str(path), missing='later')
    dataset.batch = {'inputs': images, 'targets': targets, 'index': torch.arange(size)}
    sampler = EpochSampler(dataset, shuffle=True, seed=0)
    return DataLoader(dataset, batch_size=size, sampler=sampler, collate_fn=collate_batch, drop_last=True)


class Clock(Hook):
    """Notes the time at which each step is over."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the time."""
        self.times.append(time.perf_counter())


#: The optimiser of all three.
OPTIMISER = dict(type='SGD', lr=0.01, momentum=0.9)


def shared_settings(folder: Path, loader: DataLoader, hooks: Sequence[Any]) -> dict[str, Any]:
    """Arguments both runners get: one epoch with their default hooks, but for checkpoints, which are measured by
    themselves."""
    return dict(
        model=small_model(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=OPTIMISER),
        param_scheduler=dict(type='CosineAnnealingLR', T_max=10**6, by_epoch=False),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=INTERVAL), checkpoint=None),
        custom_hooks=list(hooks),
        randomness=dict(seed=0),
    )


def our_runner(folder: Path, loader: DataLoader, hooks: Sequence[Any] = (), **others: Any) -> Any:
    """A run of mlcls.

    Args:
        folder: Its work folder.
        loader: Training batches.
        hooks: Further hooks.
        **others: Arguments of the Runner that take the place of the shared ones.
    """
    from mlcls.engine import Runner

    own = dict(log_level='WARNING', default_scope='mlcls')
    return Runner(**{**shared_settings(folder, loader, hooks), **own, **others})


def mmengine_runner(folder: Path, loader: DataLoader, hooks: Sequence[Any] = ()) -> Any:
    """The same training by mmengine's own Runner."""
    from mmengine.runner import Runner

    # Scopes are known by the name of the experiment, and two runs may begin in the same second.
    own = dict(log_level='ERROR', default_scope='mmengine', experiment_name=folder.name)
    return Runner(**shared_settings(folder, loader, hooks), **own)


def train_bare(loader: DataLoader, over: Callable[[], None]) -> None:
    """What both runners do in a step, without them: fetch, preprocess, forward, backward, optimiser step.

    Args:
        loader: Training batches.
        over: Called after each step.
    """
    model = small_model().train()
    settings = {name: value for name, value in OPTIMISER.items() if name != 'type'}
    optimizer = torch.optim.SGD(model.parameters(), **settings)  # type: ignore[arg-type]
    for batch in loader:
        prepared = model.data_preprocessor(batch, True)
        loss = model(**prepared, mode='loss')['loss']
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        over()
