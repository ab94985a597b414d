"""Which rank holds what: each element once in what a checkpoint is made of, and all that a rank computes with."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from puna.parallel import pieces
from puna.parallel.layout import Layout

axis = st.integers(1, 4)
layouts = st.builds(Layout, replicate=axis, shard=st.integers(1, 7), tensor=axis, pipeline=axis)
LAYERS = 5
tensors = st.sampled_from(
    [("layers.3.attention.wq.weight", 2), ("layers.0.attention.wo.weight", 2), ("norm.weight", 1), ("output.weight", 2)]
)
size = st.integers(1, 9)


@given(layouts, tensors, size, size)
def test_pieces_are_the_tensor_each_element_once(
    layout: Layout, tensor: tuple[str, int], rows: int, columns: int
) -> None:
    name, dimensions = tensor
    shape = (rows, columns)[:dimensions]
    seen = torch.zeros(shape, dtype=torch.int64)
    for piece in pieces.pieces(layout, LAYERS, name, shape):
        assert piece.region == pieces.held(layout, LAYERS, piece.rank, name, shape)
        assert seen[piece.region].shape == pieces.sizes(piece.region)
        seen[piece.region] += 1
    assert bool((seen == 1).all())


@given(layouts, tensors, size, size)
def test_as_many_ranks_hold_an_element_as_is_said(
    layout: Layout, tensor: tuple[str, int], rows: int, columns: int
) -> None:
    name, dimensions = tensor
    shape = (rows, columns)[:dimensions]
    seen = torch.zeros(shape, dtype=torch.int64)
    for rank in range(layout.ranks):
        seen[pieces.held(layout, LAYERS, rank, name, shape)] += 1
    assert bool((seen == pieces.copies(layout, name)).all())


def test_moments_are_cut_as_their_tensor() -> None:
    layout = Layout(shard=3, tensor=2)
    for rank in range(6):
        held = pieces.held(layout, LAYERS, rank, "layers.0.attention.wo.weight", (8, 6))
        assert pieces.held(layout, LAYERS, rank, "exp_avg_sq.layers.0.attention.wo.weight", (8, 6)) == held


@given(layouts, st.integers(1, 30))
def test_ranks_that_read_share_a_batch_in_order(layout: Layout, count: int) -> None:
    from puna.parallel.mesh import Mesh

    read = []
    for rank in range(layout.ranks):
        if pieces.place(layout, rank).tensor == pieces.place(layout, rank).pipeline == 0:
            first, rows = Mesh(layout, rank).share(count)
            read += range(first, first + rows)
            assert rows <= -(-count // layout.data)
    assert read == list(range(count))
