"""The stages of a network, found from its modules: what figures are given by, and in which order they run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

#: Fewer stages of a backbone than this are divided further, more are joined.
FEWEST, MOST = 4, 8
#: Share of the weights above which a part is divided: while there are few of them, and then.
_MOST_OF_FEW, _NEARLY_ALL = 0.5, 0.9


@dataclass(eq=False)
class Stage:
    """Modules that count as one.

    Args:
        name: What it is called, for example ``'backbone.layer1'``.
        part: ``'backbone'``, ``'neck'`` or ``'head'``.
        modules: Its modules that hold weights or buffers of their own, by their names in the model.
    """

    name: str
    part: str
    modules: dict[str, nn.Module] = field(default_factory=dict)


def holders(module: nn.Module) -> dict[str, nn.Module]:
    """The modules in a module, itself too, that hold weights or buffers of their own, by name, in order."""
    return {
        name: child
        for name, child in module.named_modules()
        if next(child.parameters(recurse=False), None) is not None
        or next(child.buffers(recurse=False), None) is not None
    }


def find_stages(backbone: nn.Module, sizes: Mapping[str, tuple[int, int]] | None = None) -> list[Stage]:
    """Divide a backbone into stages, by the tree of its modules.

    Its top-level parts are the stages. A part that is nearly the whole (``features``, ``encoder.layers``) is divided
    further; a normalisation alone goes with what is before it. Of too many parts (``features.0`` to ``features.18``),
    neighbours of the same resolution are joined or, where that does not change, runs of the same length.

    Args:
        backbone: The network.
        sizes: (height, width) of the output of its convolutions, by their names in it.
    """
    found = holders(backbone)
    units = _divide(backbone, list(found))
    grouped = [(unit, [name for name in found if _owner(name, units) == unit]) for unit in units]
    joined = _with_lone_layers(backbone, [(unit, names) for unit, names in grouped if names])
    if len(joined) > MOST:
        joined = _by_resolution(joined, sizes or {})
    if len(joined) > MOST:
        joined = _by_count(joined)
    return [
        Stage(_label([unit for unit, _ in group]), 'backbone', {name: found[name] for _, own in group for name in own})
        for group in joined
    ]


_Unit = tuple[str, list[str]]


def _divide(backbone: nn.Module, names: list[str]) -> list[str]:
    """Paths in the tree, in order, such that every name lies in one of them."""
    units = _children('', names)
    divided = {''}
    while True:
        weights = {
            unit: _size(backbone, unit)
            for unit in units
            if unit not in divided and _children(unit, names) not in ([], [unit])
        }
        largest = max(weights, key=weights.__getitem__, default=None)
        share = 0 if largest is None else weights[largest] / max(_size(backbone, ''), 1)
        # The last stage of a convolutional network has most of the weights, and is one all the same.
        if largest is None or share <= (_MOST_OF_FEW if len(units) < FEWEST else _NEARLY_ALL):
            break
        divided.add(largest)
        place = units.index(largest)
        units[place : place + 1] = _children(largest, names)
    return units


def _children(path: str, names: list[str]) -> list[str]:
    """Paths one step below a path, and the path itself where it holds something of its own."""
    depth = len(path.split('.')) if path else 0
    inside = [name for name in names if not path or name == path or name.startswith(path + '.')]
    return list(dict.fromkeys('.'.join(name.split('.')[: depth + 1]) for name in inside))


def _owner(name: str, units: list[str]) -> str:
    """The longest of the units that a name lies in."""
    return max((unit for unit in units if not unit or name == unit or name.startswith(unit + '.')), key=len)


def _size(backbone: nn.Module, path: str) -> int:
    return sum(parameter.numel() for parameter in backbone.get_submodule(path).parameters())


def _with_lone_layers(backbone: nn.Module, units: list[_Unit]) -> list[list[_Unit]]:
    """Groups of units: single layers that follow one another are one group (``conv1, bn1``), the first of them too."""
    groups: list[list[_Unit]] = []
    open_group = False
    for unit, names in units:
        lone = names == [unit]
        is_norm = lone and not any(weight.dim() > 1 for weight in backbone.get_submodule(unit).parameters())
        if groups and (is_norm or (lone and open_group)):
            groups[-1].append((unit, names))
        else:
            groups.append([(unit, names)])
        open_group = lone and (open_group or len(groups) == 1)
    return groups


def _by_resolution(groups: list[list[_Unit]], sizes: Mapping[str, tuple[int, int]]) -> list[list[_Unit]]:
    """Join neighbours whose last convolution gives maps of the same size; as they are if that leaves two or fewer."""
    joined: list[list[_Unit]] = []
    before: tuple[int, int] | None = None
    for group in groups:
        own = [sizes[name] for _, names in group for name in names if name in sizes]
        size = own[-1] if own else before
        if joined and size == before:
            joined[-1] += group
        else:
            joined.append(list(group))
        before = size
    return joined if len(joined) > 2 else groups


def _by_count(groups: list[list[_Unit]]) -> list[list[_Unit]]:
    """Join runs of numbered neighbours (``blocks.0`` to ``blocks.11``) to four; what else there is stays."""
    runs: list[list[list[_Unit]]] = []
    for group in groups:
        parent = _parent(group)
        if runs and parent is not None and parent == _parent(runs[-1][-1]):
            runs[-1].append(group)
        else:
            runs.append([group])
    joined = []
    for run in runs:
        parts = min(4, len(run))
        bounds = [round(part * len(run) / parts) for part in range(parts + 1)]
        joined += [[unit for group in run[a:b] for unit in group] for a, b in pairwise(bounds)]
    return joined


def _parent(group: list[_Unit]) -> str | None:
    parent, _, last = group[0][0].rpartition('.')
    number = re.search(r'\d+$', last)
    return None if number is None else f'{parent}.{last[: number.start()]}'


def _label(units: list[str]) -> str:
    if len(units) <= 2 or (len(units) <= 3 and max(map(len, units)) <= 8):
        shown = ', '.join(unit.rpartition('.')[2] for unit in units[1:])
        return units[0] + (f', {shown}' if shown else '') if units[0] else shown
    first, last = units[0], units[-1]
    same = first.rpartition('.')[0] == last.rpartition('.')[0]
    return f'{first} to {last.rpartition(".")[2] if same else last}'
