"""Labels that depend on each other given the features: one of three is present, twice, and features tell little."""

from __future__ import annotations

import torch

from mlcls.models import MultiLabelClsHead, MultiLabelLinearClsHead
from mlcls.structures import LabelMatrix, LabelStatistics


def draw(images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, 6) and labels (N, 6): features are the labels in noise of the same size."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(3, (images, 2), generator=generator)
    labels = torch.nn.functional.one_hot(chosen, 3).flatten(1)
    return labels + torch.randn(images, 6, generator=generator), labels.to(torch.int8)


def statistics() -> LabelStatistics:
    return LabelStatistics(LabelMatrix.from_dense(draw(512, 1)[1].numpy()))


def subset_accuracy(head: MultiLabelClsHead, steps: int = 150, rate: float = 0.05) -> float:
    """Share of 1,000 fresh images whose label set is predicted, after training on 512."""
    features, labels = draw(512, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=rate)
    head.train()
    for _ in range(steps):
        optimizer.zero_grad()
        head.loss([features], labels)['loss'].backward()
        optimizer.step()
    features, labels = draw(1000, 2)
    with torch.no_grad():
        return float(((head.eval().predict([features]) > 0.5) == labels.bool()).all(1).float().mean())


def linear_accuracy() -> float:
    torch.manual_seed(0)
    return subset_accuracy(MultiLabelLinearClsHead(6, 6))
