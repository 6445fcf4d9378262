"""A training step of ResNet-50 beside a bare loop over torchvision's, and what heads add to it.

    python tools/benchmarks/bench_models.py --rounds 7

Ours is the whole step of a run: preprocessor with uint8 images, backbone, neck, head, loss, backward, clipping off,
AdamW. The bare loop has float images ready, torchvision's resnet50 and BCE. Both use channels-last weights, the same
optimiser and the same precision. Every round runs each method once, in an order of its own; a ratio is the median of
the rounds' ratios. ``*_overhead`` is what a head adds to the step with a linear head of 80 classes, as a share of it.
Where the CPU has no bfloat16 arithmetic, emulation is slow, and bfloat16 is measured with --emulated-batch images. With
a GPU, images a second of timm's, torchvision's and our ResNet-50 in bfloat16, eager and compiled, and how near they
come to the limit that memory sets. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from seeds import hardware
from torch import nn
from torch.nn import functional as F

from mlcls.engine.amp import AmpOptimWrapper, cpu_has_bfloat16
from mlcls.models import ImageClassifier

Step = Callable[[], object]
#: What is compared: ResNet-50's own measure in each precision, and the heads, with their number of classes.
CLASSES, MANY = 80, 9600
HEADS: dict[str, dict[str, Any]] = {
    'linear': dict(type='MultiLabelLinearClsHead', num_classes=CLASSES, in_channels=2048),
    'csra': dict(type='CSRAClsHead', num_classes=CLASSES, in_channels=2048, num_heads=1, lam=0.1),
    'gcn': dict(type='GCNHead', num_classes=CLASSES, in_channels=2048),
    'ml_decoder_9600': dict(type='MLDecoderHead', num_classes=MANY, in_channels=2048),
}
ON_MAPS = ('csra', 'ml_decoder_9600')
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW in one kernel."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def our_model(head: str) -> ImageClassifier:
    """ResNet-50 with a head, as a config builds it."""
    model = ImageClassifier(
        backbone=dict(type='ResNet', depth=50),
        neck=None if head in ON_MAPS else dict(type='GlobalAveragePooling'),
        head=dict(HEADS[head]),
        data_preprocessor=dict(mean=MEAN, std=STD, to_rgb=True),
    )
    return model.train()


def our_step(head: str, images: torch.Tensor, dtype: str | None) -> Step:
    """A step of a run.

    Args:
        head: Name in ``HEADS``.
        images: uint8, (N, 3, H, W).
        dtype: ``'bfloat16'``, or None for float32.
    """
    from mmengine.optim import OptimWrapper

    model = our_model(head).to(images.device, memory_format=torch.channels_last)
    optimizer = optimizer_of(model)
    wrapper = OptimWrapper(optimizer) if dtype is None else AmpOptimWrapper(optimizer=optimizer, dtype=dtype)
    targets = made_targets(len(images), HEADS[head]['num_classes']).to(images.device)
    batch = {'inputs': images, 'targets': targets, 'index': torch.arange(len(images))}
    return lambda: model.train_step(batch, wrapper)


def made_targets(images: int, classes: int) -> torch.Tensor:
    """int8 labels, (N, C), about three an image."""
    made = torch.Generator().manual_seed(0)
    return (torch.rand(images, classes, generator=made) < 3 / classes).to(torch.int8)


def bare_step(network: nn.Module, images: torch.Tensor, dtype: torch.dtype | None) -> Step:
    """A hand-written loop's step over a network with ``CLASSES`` outputs.

    Args:
        network: From float images (N, 3, H, W) to logits.
        images: Normalised, float32.
        dtype: To compute in under autocast, or None.
    """
    network = network.to(images.device, memory_format=torch.channels_last).train()
    optimizer = optimizer_of(network)
    images = images.to(memory_format=torch.channels_last)
    targets = made_targets(len(images), CLASSES).to(images.device, torch.float32)

    def step() -> None:
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            logits = network(images)
            loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction='sum') / len(images)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def timed(step: Step, device: torch.device) -> float:
    """Seconds of one step."""
    if device.type == 'cuda':
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(steps: dict[str, Step], rounds: int, device: torch.device, warm_ups: int = 1) -> dict[str, list[float]]:
    """Seconds of each method in each round, after rounds that are not counted."""
    order = list(steps)
    seconds: dict[str, list[float]] = {name: [] for name in order}
    for number in range(1 - warm_ups, rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            took = timed(steps[name], device)
            if number > 0:
                seconds[name].append(took)
        print(f'round {number}: ' + ', '.join(f'{n} {s[-1]:.3f} s' for n, s in seconds.items() if s), flush=True)
    return seconds


def ratio(seconds: dict[str, list[float]], a: str, b: str) -> float:
    """Median of the rounds' ratios."""
    return round(statistics.median(x / y for x, y in zip(seconds[a], seconds[b])), 4)


def pictures(count: int, side: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images as a loader gives them (uint8) and as a network takes them (float32)."""
    made = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (count, 3, side, side), generator=made, dtype=torch.uint8).to(device)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return raw, (raw.float() - mean) / std


def on_cpu(batch: int, emulated_batch: int, side: int, rounds: int, warm_ups: int = 1) -> dict[str, Any]:
    """The CPU's part of the JSON line."""
    from torchvision.models import resnet50

    device = torch.device('cpu')
    raw, ready = pictures(batch, side, device)
    steps = {name: our_step(name, raw, None) for name in HEADS}
    steps['bare'] = bare_step(resnet50(num_classes=CLASSES), ready, None)
    seconds = measure(steps, rounds, device, warm_ups)
    few = batch if cpu_has_bfloat16() else emulated_batch
    raw, ready = pictures(few, side, device)
    half_steps = {
        'bf16': our_step('linear', raw, 'bfloat16'),
        'bare bf16': bare_step(resnet50(num_classes=CLASSES), ready, torch.bfloat16),
    }
    half = measure(half_steps, rounds if cpu_has_bfloat16() else min(rounds, 5), device, warm_ups)
    return {
        'resnet50_fp32_vs_bare': ratio(seconds, 'linear', 'bare'),
        'resnet50_bf16_vs_bare': ratio(half, 'bf16', 'bare bf16'),
        **{f'{name}_overhead': round(ratio(seconds, name, 'linear') - 1, 4) for name in HEADS if name != 'linear'},
        'batch': batch,
        'bf16_batch': few,
        'bf16_is_emulated': not cpu_has_bfloat16(),
        'median_seconds': {k: round(statistics.median(v), 4) for k, v in {**seconds, **half}.items()},
    }


def bandwidth(device: torch.device) -> float:
    """Bytes a second of a large copy, read and write together."""
    source = torch.empty(2**29, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / statistics.median(timed(lambda: target.copy_(source), device) for _ in range(20))


def least_traffic(model: nn.Module, image: torch.Tensor) -> int:
    """Bytes an image that a training step must move through memory, if each layer reads its input and writes its output
    once forward, and reads input and gradient and writes a gradient backward; bfloat16."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        total += 2 * (2 * inputs[0].numel() + output.numel() + output.numel() + inputs[0].numel())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    with torch.no_grad():
        model(image)
    for hook in hooks:
        hook.remove()
    return total // len(image)


def on_gpu(batch: int, side: int, rounds: int) -> dict[str, Any]:
    """The GPU's part of the JSON line."""
    import timm
    from torchvision.models import resnet50

    device = torch.device('cuda')
    raw, ready = pictures(batch, side, device)
    networks = {
        'torchvision': lambda: resnet50(num_classes=CLASSES),
        'timm': lambda: timm.create_model('resnet50', num_classes=CLASSES),
    }
    found: dict[str, Any] = {'gpu_device': torch.cuda.get_device_name(), 'gpu_batch': batch}
    for kind in ('eager', 'compiled'):

        def prepare(network: nn.Module, kind: str = kind) -> nn.Module:
            return network if kind == 'eager' else torch.compile(network)  # type: ignore[return-value]

        steps = {name: bare_step(prepare(make().to(device)), ready, torch.bfloat16) for name, make in networks.items()}
        steps['mlcls'] = our_step('linear', raw, 'bfloat16')
        if kind == 'compiled':
            model = our_model('linear').to(device, memory_format=torch.channels_last)
            model.backbone.compile()
            wrapper = AmpOptimWrapper(optimizer=optimizer_of(model), dtype='bfloat16')
            targets = made_targets(batch, CLASSES).to(device)
            whole = {'inputs': raw, 'targets': targets, 'index': torch.arange(batch)}
            steps['mlcls'] = lambda model=model, whole=whole, wrapper=wrapper: model.train_step(whole, wrapper)
        for step in steps.values():
            for _ in range(5):
                step()
        seconds = measure(steps, rounds, device)
        for name, took in seconds.items():
            found[f'gpu_{name}_{kind}_images_s'] = round(batch / statistics.median(took), 1)
        for name in networks:
            found[f'gpu_{kind}_vs_{name}'] = ratio(seconds, 'mlcls', name)
    model = our_model('linear').to(device, memory_format=torch.channels_last).eval()
    limit = bandwidth(device) / least_traffic(model, ready[:8])
    found['gpu_bandwidth_limit_images_s'] = round(limit, 1)
    found['gpu_share_of_limit'] = round(found['gpu_mlcls_compiled_images_s'] / limit, 3)
    return found


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--emulated-batch', type=int, default=2, help='where bfloat16 is emulated')
    parser.add_argument('--gpu-batch', type=int, default=256)
    parser.add_argument('--side', type=int, default=224)
    parser.add_argument('--quick', action='store_true', help='one round of a few small images, to see that it runs')
    parser.add_argument('--out', type=Path, help='file for the JSON line too')
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.batch, args.emulated_batch, args.gpu_batch, args.side = 1, 2, 2, 8, 32
    warm_ups = 0 if args.quick else 1
    on_one = on_cpu(args.batch, args.emulated_batch, args.side, args.rounds, warm_ups)
    found: dict[str, Any] = {'benchmark': 'models', **on_one}
    if torch.cuda.is_available():
        found |= on_gpu(args.gpu_batch, args.side, args.rounds)
    found |= {
        'rounds': args.rounds,
        'side': args.side,
        'threads': torch.get_num_threads(),
        'hardware': hardware(),
        'torch': torch.__version__,
    }
    line = json.dumps(found)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(found, indent=1) + '\n')
    print(line)


if __name__ == '__main__':
    main()
