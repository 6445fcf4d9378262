"""Which prefix makes the names of a file those of a module."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

#: A prefix taken off and another put on, both, must fit this share of the module's names to be considered: small parts
#: of networks (one block, another's block) are alike by chance.
_BOTH = 0.1


def find_prefixes(file: Shapes, own: Shapes) -> tuple[str, str]:
    """The prefix to take from a file's names and the one to put before them, so that most of them fit a module.

    Every prefix that ends at a dot is tried: taken off the file's names, or put before them, or one taken off and
    another put on. The pair with the most equal names of equal shape is chosen; then that with the most equal names;
    then the shortest, then the first in the alphabet. A pair that makes fewer than half as many names equal as another
    one is none: in a network of twice the width, one stage has the shapes of the next. The work grows with the number
    of names times their depth.

    Args:
        file: Names of the file and their shapes.
        own: Names of the module and their shapes.

    Returns:
        What to strip and what to add; both are empty where nothing fits.
    """
    one_sided = Counter[tuple[str, str]]()
    named = Counter[tuple[str, str]]()
    for first, second, strip in ((file, own, True), (own, file, False)):
        for name, shape in first.items():
            for prefix in _prefixes(name):
                other = second.get(name[len(prefix) :])
                if other is not None and (strip or prefix):
                    pair = (prefix, '') if strip else ('', prefix)
                    named[pair] += 1
                    one_sided[pair] += other == shape
    found = {pair: (one_sided[pair], count) for pair, count in named.items()}
    best = max((fit for fit, _ in found.values()), default=0)
    least = max(1, best, math.ceil(len(own) * _BOTH))
    both_sided = dict(_both_sided(file, own, least))
    most = max((count for _, count in (*found.values(), *both_sided.values())), default=0)
    found |= {pair: fit for pair, fit in both_sided.items() if fit[0] >= least}
    found = {pair: fit for pair, fit in found.items() if 2 * fit[1] >= most}
    if not found:
        return '', ''
    return min(found, key=lambda pair: (*(-count for count in found[pair]), len(pair[0]) + len(pair[1]), pair))


def _prefixes(name: str) -> Iterator[str]:
    """The prefixes of a name that end at a dot, the empty one first."""
    yield ''
    end = name.find('.') + 1
    while end:
        yield name[:end]
        end = name.find('.', end) + 1


def _both_sided(file: Shapes, own: Shapes, least: int) -> Iterator[tuple[tuple[str, str], tuple[int, int]]]:
    """Pairs of prefixes, neither of them empty, that make at least so many names equal; and how many of equal shape,
    and in all."""
    strips, adds = (_rests(names, least) for names in (file, own))
    for strip, rests in strips.items():
        for add, others in adds.items():
            if strip.rsplit('.', 2)[-2] == add.rsplit('.', 2)[-2]:
                continue  # a shorter pair fits all that this one fits
            both = rests.keys() & others.keys()
            same = sum(rests[rest] == others[rest] for rest in both)
            if len(both) >= least:
                yield (strip, add), (same, len(both))


def _rests(names: Shapes, least: int) -> dict[str, dict[str, Shape]]:
    """What follows each prefix of at least ``least`` names, with the shapes."""
    sizes = Counter(prefix for name in names for prefix in _prefixes(name))
    found: dict[str, dict[str, Shape]] = {prefix: {} for prefix, size in sizes.items() if prefix and size >= least}
    for name, shape in names.items():
        for prefix in _prefixes(name):
            if prefix in found:
                found[prefix][name[len(prefix) :]] = shape
    return found
