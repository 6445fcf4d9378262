"""The prefix that fits best, against a search through all of them."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.models.weights.prefixes import Shapes, find_prefixes


def prefixes(names: Shapes) -> set[str]:
    return {''} | {name[: at + 1] for name in names for at, letter in enumerate(name) if letter == '.'}


def brute_force(file: Shapes, own: Shapes) -> tuple[str, str]:
    """Every pair of prefixes; both of them only where they fit a tenth of the module, none that makes fewer than half
    as many names equal as another one."""
    found, least, most = [], max(1, math.ceil(len(own) / 10)), 0
    for strip, add in product(prefixes(file), prefixes(own)):
        hits = [(file[name], own.get(add + name[len(strip) :])) for name in file if name.startswith(strip)]
        same = sum(a == b for a, b in hits)
        named = sum(b is not None for _, b in hits)
        if not (strip and add and named < least):
            most = max(most, named)
        if named and not (strip and add and same < least):
            found.append((-same, -named, len(strip + add), (strip, add)))
    found = [each for each in found if -2 * each[1] >= most]
    return min(found)[-1] if found else ('', '')


names = st.lists(st.sampled_from(['a', 'b', 'layer', 'weight']), min_size=1, max_size=4).map('.'.join)
tables = st.dictionaries(names, st.sampled_from([(1,), (2,), (2, 2)]), max_size=14)


@given(tables, tables)
@settings(max_examples=150)
def test_as_by_trying_all(file: Shapes, own: Shapes) -> None:
    assert find_prefixes(file, own) == brute_force(file, own)


@given(st.dictionaries(names, st.just((2,)), min_size=1, max_size=14), names, names, st.randoms())
@settings(max_examples=40)
def test_one_that_was_put_on_is_taken_off_again(own: Shapes, one: str, other: str, random: object) -> None:
    one, other = f'x.{one}.', f'y.{other}.'
    wrapped = {one + name: shape for name, shape in own.items()}
    elsewhere = {other + name: shape for name, shape in own.items()}
    assert find_prefixes(wrapped, own) == (one, '')
    assert find_prefixes(own, wrapped) == ('', one)
    shuffled = list(elsewhere.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    strip, add = find_prefixes(wrapped, dict(shuffled))
    assert all(add + name[len(strip) :] in elsewhere for name in wrapped)


def test_ties_go_to_the_shortest_then_to_the_alphabet() -> None:
    own = {'conv.weight': (3,), 'conv.bias': (3,)}
    twice = {f'{root}{name}': shape for root in ('student.', 'ema.', 'teacher.') for name, shape in own.items()}
    assert find_prefixes(twice, own) == ('ema.', '')
    assert find_prefixes({**twice, **{f'abc.{n}': s for n, s in own.items()}}, own) == ('abc.', '')
    assert find_prefixes({}, own) == find_prefixes(own, {}) == find_prefixes({'p.q': (1,)}, own) == ('', '')


def test_shapes_decide_between_equal_names() -> None:
    own = {'conv.weight': (3,), 'conv.bias': (3,)}
    file = {'a.conv.weight': (4,), 'a.conv.bias': (4,), 'wide.conv.weight': (3,), 'wide.conv.bias': (3,)}
    assert find_prefixes(file, own) == ('wide.', '')


@pytest.mark.parametrize('start, other, found', [('', '', ''), ('backbone.', '', 'backbone.'), ('a.', 'b.', '')])
def test_a_stage_is_not_taken_for_the_one_before(start: str, other: str, found: str) -> None:
    """In a network of twice the width, each stage has the shapes of the next one of the narrower network."""

    def network(width: int, root: str) -> dict[str, tuple[int, ...]]:
        return {f'{root}layer{n}.{i}.weight': (width * 2**n,) for n in range(1, 5) for i in range(9)}

    assert find_prefixes(network(8, start), network(16, other)) == (found, '')


def test_thousands_of_names_of_one_shape() -> None:
    """Pairs of names are 10^8 here; looking at them one by one would not end."""
    file = {f'model.blocks.{i}.{j}.weight': (3,) for i in range(100) for j in range(100)}
    own = {f'net.blocks.{i}.{j}.weight': (3,) for i in range(100) for j in range(100)}
    assert find_prefixes(file, own) == ('model.', 'net.')
