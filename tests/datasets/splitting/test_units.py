"""Units and joined groups."""

from __future__ import annotations

import networkx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlcls.datasets.splitting import join_groups
from mlcls.datasets.splitting.units import Units, by_first_image
from mlcls.structures import LabelMatrix

groupings = st.integers(1, 25).flatmap(
    lambda count: st.lists(st.lists(st.integers(0, 8), min_size=count, max_size=count), min_size=1, max_size=3)
)


@given(groupings)
def test_joined_groups_are_connected_components(lists):
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(lists[0])))
    for groups in lists:
        for image, group in enumerate(groups):
            graph.add_edge(image, groups.index(group))
    expected = np.empty(len(lists[0]), np.int64)
    for number, component in enumerate(sorted(networkx.connected_components(graph), key=min)):
        expected[list(component)] = number
    np.testing.assert_array_equal(join_groups(*map(np.array, lists)), expected)


def test_groups_are_numbered_by_their_first_image():
    assert by_first_image(np.array([7, 3, 7, 1, 3])).tolist() == [0, 1, 0, 2, 1]
    assert by_first_image(np.array(['b', 'a', 'b'])).tolist() == [0, 1, 0]


def test_units_by_hand():
    labels = LabelMatrix.from_dense(np.array([[1, 0], [1, 1], [0, -1], [1, 0]], np.int8))
    units = Units.of(labels, np.array([5, 2, 5, 5]))
    assert units.unit_of.tolist() == [0, 1, 0, 0] and units.sizes.tolist() == [3, 1] and not units.single
    assert list(zip(units.rows, units.columns, units.counts)) == [(0, 0, 2), (1, 0, 1), (1, 1, 1)]
    assert units.images_of_classes().tolist() == [3, 1] and units.units_of_classes().tolist() == [2, 1]
    assert units.counts_in_parts(np.array([1, 0]), 2).tolist() == [[1, 1], [2, 0]]
    assert Units.of(labels).single
