"""What becomes of a file's classifier: taken over, left out for other classes, or not comparable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import nn

#: Last layers of networks in torchvision, timm and mmpretrain, after their wrappers.
_LAST = re.compile(
    r'(?:module\.|model\.)*((?:fc|last_linear|classifier(?:\.\d+)?|head|head\.fc|head\.layers\.head|heads\.head))\.weight$'
)
_HEAD = 'head.'


class HeadMatch(NamedTuple):
    """How the head of a module goes with a file.

    Args:
        note: Sentence for the report; may be empty.
        pairs: Further names of the module and the names of the file that fill them.
        replaced: Names of the module that stay as initialised.
        left: Names of the file's head that are left out for it.
    """

    note: str = ''
    pairs: Mapping[str, str] = MappingProxyType({})
    replaced: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()


def match_head(
    module: nn.Module,
    own: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    pairs: Mapping[str, str],
) -> HeadMatch:
    """Look for a classifier in a file that goes with the head of a module.

    A head for other classes stays as initialised as a whole. Only a part of it would be of other classes in shape, but
    none of it was trained for these.

    Args:
        module: A classifier with a part ``head``; others have none, and nothing is done.
        own: Its tensors.
        weights: The file's.
        pairs: Names of the module and the file's names that go with them, so far.
    """
    names = frozenset(name for name in own if name.startswith(_HEAD))
    if not names or not isinstance(getattr(module, 'head', None), nn.Module):
        return HeadMatch()
    classes = getattr(module.head, 'num_classes', None)
    paired = {name for name in names if name in pairs}
    if paired:
        for name in sorted(paired):
            given = _other_classes(weights[pairs[name]].shape, own[name].shape, classes)
            if given is not None:
                left = frozenset(pairs[name] for name in paired)
                return HeadMatch(_replaced(given, classes), replaced=names, left=left)
        return HeadMatch()
    last = next((mark for mark in map(_LAST.match, weights) if mark and weights[mark[0]].ndim in (2, 4)), None)
    if last is None or 'head.fc.weight' not in own:
        return HeadMatch()
    return _take_last(own, weights, last, names)


def _take_last(
    own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], last: re.Match[str], names: frozenset[str]
) -> HeadMatch:
    """Let the file's last layer be ``head.fc``."""
    given, wanted = weights[last[0]], own['head.fc.weight']
    root = last[0].removesuffix('weight')
    pairs = {f'head.fc.{kind}': root + kind for kind in ('weight', 'bias') if root + kind in weights}
    if given.ndim == 4 and given.shape[2:] != (1, 1):
        return HeadMatch()
    if given.shape[1] != wanted.shape[1]:
        return HeadMatch(
            f"head not loaded: {last[1]} of the file takes {given.shape[1]} features, the model's {wanted.shape[1]}"
        )
    if given.shape[0] != wanted.shape[0]:
        return HeadMatch(_replaced(given.shape[0], wanted.shape[0]), replaced=names, left=frozenset(pairs.values()))
    return HeadMatch(f'head: {last[1]} of the file fills head.fc', pairs)


def _replaced(given: int, classes: int | None) -> str:
    return f'head replaced: file has {given} classes, model {classes}'


def _other_classes(given: torch.Size, wanted: torch.Size, classes: int | None) -> int | None:
    """Classes of the file, if two shapes differ in the number of classes alone."""
    if len(given) != len(wanted):
        return None
    differing = [(a, b) for a, b in zip(given, wanted) if a != b]
    return differing[0][0] if len(differing) == 1 and differing[0][1] == classes else None
