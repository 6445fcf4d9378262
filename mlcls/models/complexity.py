"""What a network costs: parameters, multiply-adds and activations of each stage, and how long it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mlcls.models.stages import Stage, find_stages, holders

#: Operations whose outputs count as activations: convolutions and matrix products.
_PRODUCTS = ('convolution', '_convolution', 'addmm', 'mm', 'bmm', 'baddbmm')


@dataclass
class Figures:
    """Of one stage, for one image.

    Args:
        name: The stage.
        parameters: Weights, those that stages share once.
        multiply_adds: Of convolutions and matrix products (attention's among them), half the FLOPs.
        activations: Elements of the outputs of these.
        seconds: Median time of a forward pass of a batch, or None.
    """

    name: str
    parameters: int = 0
    multiply_adds: int = 0
    activations: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Speed:
    """How long a batch takes.

    Args:
        batch_size: Images in it.
        forward: Median seconds of a forward pass in evaluation mode, without gradients.
        training: Median seconds of a forward and backward pass in training mode; no optimiser, no loss: the gradient is
            that of the sum of all logits.
        stages: Median seconds of each stage of the forward pass.
    """

    batch_size: int
    forward: float
    training: float
    stages: dict[str, float]


def stages_of(model: Any, sizes: dict[str, tuple[int, int]] | None = None) -> list[Stage]:
    """Stages of the backbone, the neck and the head of a classifier, in the order in which they run."""
    stages = find_stages(model.backbone, sizes)
    for stage in stages:
        stage.name = f'backbone.{stage.name}' if stage.name else 'backbone'
        stage.modules = {f'backbone.{name}'.rstrip('.'): module for name, module in stage.modules.items()}
    for part in ('neck', 'head'):
        module = getattr(model, part)
        if module is not None:
            own = {f'{part}.{name}'.rstrip('.'): each for name, each in holders(module).items()}
            stages.append(Stage(part, part, own))
    return stages


def count(model: Any, shape: tuple[int, int], channels: int = 3) -> list[Figures]:
    """Parameters, multiply-adds and activations of each stage, for one image.

    The network is run once, in evaluation mode, on one image of zeros, on the device of its weights.
    Operations belong to the stage whose weights were used last: an addition or a pooling to the stage before it.

    Args:
        model: An ``ImageClassifier``.
        shape: Height and width of the image.
        channels: Of the image.
    """
    image = _images(model, 1, shape, channels)
    with _mode(model, training=False), torch.no_grad(), _plain_attention():
        sizes = _map_sizes(model.backbone, image)
        stages = stages_of(model, sizes)
        figures = {stage.name: Figures(stage.name) for stage in stages}
        flops, outputs = FlopCounterMode(display=False), _CountOutputs()
        before = [0, 0]

        def leave(name: str) -> None:
            now = [flops.get_total_flops(), outputs.total]
            figures[name].multiply_adds += (now[0] - before[0]) // 2
            figures[name].activations += now[1] - before[1]
            before[:] = now

        with flops, outputs:
            _run_stages(model, image, stages, leave)
    _count_parameters(model, stages, figures)
    return list(figures.values())


def _count_parameters(model: Any, stages: list[Stage], figures: dict[str, Figures]) -> None:
    seen: set[int] = set()
    for stage in stages:
        for module in stage.modules.values():
            for parameter in module.parameters(recurse=False):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    figures[stage.name].parameters += parameter.numel()


class _CountOutputs(TorchDispatchMode):
    """Counts the elements of the outputs of convolutions and matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet._qualified_op_name.removeprefix('aten::') in _PRODUCTS:
            self.total += out.numel()
        return out


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as the matrix products that it is: its fused forms are counted by nobody."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _map_sizes(backbone: nn.Module, image: torch.Tensor) -> dict[str, tuple[int, int]]:
    sizes: dict[str, tuple[int, int]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            sizes[name] = (output.shape[-2], output.shape[-1])

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        backbone(image)
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _run_stages(model: Any, images: torch.Tensor, stages: list[Stage], leave: Any) -> None:
    """Run a network; ``leave(name)`` is called whenever what runs changes from the stage of that name to another."""
    current = stages[0].name

    def enter(name: str) -> None:
        nonlocal current
        if name != current:
            leave(current)
            current = name

    handles = [
        module.register_forward_pre_hook(lambda module, inputs, name=stage.name: enter(name))
        for stage in stages
        for module in stage.modules.values()
    ]
    try:
        features = model.backbone(images)
        for part in ('neck', 'head'):
            if getattr(model, part) is not None:
                enter(part)
                features = getattr(model, part)(features)
        leave(current)
    finally:
        for handle in handles:
            handle.remove()


def measure_speed(
    model: Any, shape: tuple[int, int], batch_size: int = 8, repeats: int = 5, channels: int = 3
) -> Speed:
    """Time a network where its weights are; medians over ``repeats``, after two passes that do not count.

    Args:
        model: An ``ImageClassifier`` with a head.
        shape: Height and width of the images.
        batch_size: Images at a time.
        repeats: Passes of each kind, at least 1.
        channels: Of the images.
    """
    images = _images(model, batch_size, shape, channels)
    with _mode(model, training=False), torch.no_grad():
        stages = stages_of(model, _map_sizes(model.backbone, images[:1]))
        forward = _median_seconds(lambda: model(images), images.device, repeats)
        rounds = [_stage_seconds(model, images, stages) for _ in range(repeats)]
    with _mode(model, training=True):
        training = _median_seconds(lambda: model(images).sum().backward(), images.device, repeats)
        model.zero_grad(set_to_none=True)
    medians = {stage.name: statistics.median(each[stage.name] for each in rounds) for stage in stages}
    return Speed(batch_size, forward, training, medians)


def _stage_seconds(model: Any, images: torch.Tensor, stages: list[Stage]) -> dict[str, float]:
    seconds = dict.fromkeys((stage.name for stage in stages), 0.0)
    before = _now(images.device)

    def leave(name: str) -> None:
        nonlocal before
        now = _now(images.device)
        seconds[name] += now - before
        before = now

    _run_stages(model, images, stages, leave)
    return seconds


def _median_seconds(run: Any, device: torch.device, repeats: int) -> float:
    taken = []
    for _ in range(repeats + 2):
        before = _now(device)
        run()
        taken.append(_now(device) - before)
    return statistics.median(taken[2:])


def _now(device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _images(model: Any, number: int, shape: tuple[int, int], channels: int) -> torch.Tensor:
    weight = next(model.backbone.parameters())
    return torch.zeros(number, channels, *shape, device=weight.device, dtype=weight.dtype)


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Evaluation or training mode, and afterwards each module's own again; buffers stay as they are."""
    modes = {module: module.training for module in model.modules()}
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()} if training else {}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad() if kept else nullcontext():
            for name, buffer in model.named_buffers():
                if name in kept:
                    buffer.copy_(kept[name])
