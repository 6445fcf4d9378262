"""Training images a second of ResNet-50 on a GPU: ready batches, JPEG files and a pack, beside a bare loop.

224 pixels, bfloat16, channels-last, compiled. The bare loop has one batch on the device; the runs copy theirs there.
``gpu_images_per_s`` is the run with ready batches; ``gpu_*_share`` are over the bare loop of the same round.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from engine_rivals import Clock, our_runner, ready_loader, residual_classifier
from loader_pictures import CLASSES, write_pictures

#: Settings of the run.
OPTIMISER: dict[str, Any] = dict(type='AdamW', lr=1e-4, fused=True)
MEASURED = 40


def bare_rate(batch: int, side: int, steps: int) -> float:
    """Images a second of a loop of a few lines over one batch on the device."""
    model = residual_classifier(50, 64, CLASSES).cuda().to(memory_format=torch.channels_last).train()
    model.backbone.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    made = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, side, side), generator=made, dtype=torch.uint8).cuda()
    data = {
        'inputs': images.to(memory_format=torch.channels_last),
        'targets': (torch.rand(batch, CLASSES, generator=made) < 0.15).to(torch.int8).cuda(),
        'index': torch.arange(batch),
    }
    for step in range(steps + 10):
        if step == 10:
            torch.cuda.synchronize()
            began = time.perf_counter()
        with torch.autocast('cuda', torch.bfloat16):
            loss = model(**model.data_preprocessor(data, True), mode='loss')['loss']
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    return steps * batch / (time.perf_counter() - began)


def file_loader(ann_file: Path, side: int, batch: int, steps: int) -> dict[str, Any]:
    """Config of a loader of JPEG files, or of a pack, drawn again and again until they make ``steps`` batches."""
    pipeline = [dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=side), dict(type='PackInputs')]
    return dict(
        batch_size=batch,
        num_workers=len(os.sched_getaffinity(0)),
        persistent_workers=True,
        pin_memory=True,
        drop_last=True,
        sampler=dict(type='MultiLabelBalancedSampler', num_images=steps * batch),
        dataset=dict(type='MultiLabelDataset', ann_file=str(ann_file), pipeline=pipeline),
    )


def run_rate(folder: Path, loader: Any, batch: int, steps: int) -> float:
    """Images a second of a run of mlcls, over its last ``steps`` steps."""
    clock = Clock()
    classes = CLASSES if isinstance(loader, dict) else 8
    model = residual_classifier(50, 64, classes)
    model.backbone.compile()
    wrapper = dict(type='AmpOptimWrapper', dtype='bfloat16', optimizer=OPTIMISER)
    settings: dict[str, Any] = dict(model=model, optim_wrapper=wrapper, cfg=dict(channels_last=True))
    settings |= dict(env_cfg=dict(cudnn_benchmark=True))
    runner = our_runner(folder, loader, [clock], **settings)
    runner.train()
    torch.cuda.synchronize()
    # The host runs ahead of the device by a few steps at most, at the beginning as at the end.
    taken = time.perf_counter() if not clock.times else clock.times[-1]
    return steps * batch / (taken - clock.times[-steps - 1])


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    """The GPU's part of the JSON line.

    Args:
        folder: For pictures, the pack and runs.
        quick: Few and small, to try whether it runs.
    """
    from mlcls.apis import pack_data

    batch, side, steps, rounds, images = (8, 64, 6, 1, 32) if quick else (256, 224, MEASURED, 3, 2048)
    listed = write_pictures(folder / 'pictures', 500, 375, images)
    pack = folder / 'pictures.pack'
    pack_data(listed, pack)
    sources: dict[str, Any] = {
        'synthetic': lambda: ready_loader(folder, steps + 30, size=batch, side=side),
        'jpeg': lambda: file_loader(listed, side, batch, steps + 30),
        'pack': lambda: file_loader(pack, side, batch, steps + 30),
    }
    rates: dict[str, list[float]] = {name: [] for name in ('bare', *sources)}
    for number in range(rounds):
        rates['bare'].append(bare_rate(batch, side, steps))
        for name, source in sources.items():
            rates[name].append(run_rate(folder / f'{name}{number}', source(), batch, steps))
    shares = {name: statistics.median(a / b for a, b in zip(rates[name], rates['bare'])) for name in sources}
    return {
        **{f'gpu_{name}_share': round(share, 4) for name, share in shares.items()},
        'gpu_images_per_s': round(statistics.median(rates['synthetic']), 1),
        'gpu_bare_images_per_s': round(statistics.median(rates['bare']), 1),
        'gpu_device': torch.cuda.get_device_name(),
        'gpu_cpu_cores': len(os.sched_getaffinity(0)),
        'gpu_batch': batch,
    }
