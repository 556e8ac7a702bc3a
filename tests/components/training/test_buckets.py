"""Pictures keep their shape, and the order of batches follows from seed and step alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.training.buckets import Order, cut, sizes


def test_sizes_have_at_most_the_area_and_at_most_four_to_one() -> None:
    found = sizes(1024, 64)
    assert (1024, 1024) in found and (512, 2048) in found and (2048, 512) in found
    for height, width in found:
        assert (
            height % 64 == width % 64 == 0
            and height * width <= 1024**2
            and max(height, width) <= 4 * min(height, width)
        )


def test_no_size_fits_where_the_multiple_is_larger_than_the_picture() -> None:
    with pytest.raises(ValueError, match="multiple of 128"):
        sizes(64, 128)


@given(st.integers(64, 3000), st.floats(0.25, 4))
def test_a_picture_is_covered_and_cropped_little(height: int, ratio: float) -> None:
    width = max(16, round(height * ratio))
    found = cut((height, width), sizes(1024, 64))
    assert all(found.resized[side] >= found.size[side] for side in (0, 1))
    assert min(found.resized[side] - found.size[side] for side in (0, 1)) == 0
    lost = 1 - found.size[0] * found.size[1] / (found.resized[0] * found.resized[1])
    assert lost < 0.13  # half of the widest gap between two neighbouring shapes
    corner_fits = [2 * found.corner[side] <= found.resized[side] - found.size[side] for side in (0, 1)]
    assert all(corner_fits)


SHAPES = [(64, 64)] * 5 + [(32, 128)] * 3 + [(128, 32)]


def test_a_batch_holds_one_size_and_every_picture_comes_in_turn() -> None:
    order = Order(SHAPES, seed=7, batch_size=2)
    batches = [order(step) for step in range(40)]
    assert all(len({SHAPES[index] for index in batch}) == 1 and len(batch) == 2 for batch in batches)
    assert Counter(index for batch in batches for index in batch).keys() == set(range(len(SHAPES)))


def test_rare_shapes_have_their_share_of_the_steps() -> None:
    """90 squares and 10 pictures of shapes of their own: these are a tenth of what is learnt from."""
    shapes = [(64, 64)] * 90 + [(32, 64 + 16 * number) for number in range(10)]
    order = Order(shapes, seed=7, batch_size=32)
    seen = Counter(index < 90 for step in range(2000) for index in order(step))
    assert 0.07 < seen[False] / seen.total() < 0.13


def test_shapes_are_64_pixels_apart_at_1024_and_closer_at_less() -> None:
    assert all(height % 64 == width % 64 == 0 for height, width in sizes(1024, 16))
    assert len(sizes(1024, 16)) < 30
    assert (32, 128) in sizes(64, 16)


def test_the_order_follows_from_the_step_wherever_one_begins() -> None:
    whole = Order(SHAPES, seed=7, batch_size=2)
    steps = [whole(step) for step in range(20)]
    assert steps == [Order(SHAPES, seed=7, batch_size=2)(step) for step in range(20)]
    assert steps == [Order(SHAPES, seed=7, batch_size=2)(step) for step in reversed(range(20))][::-1]
    assert [whole(step) for step in (19, 3)] == [steps[19], steps[3]]
    assert steps[:5] != steps[5:10] and steps != [Order(SHAPES, seed=8, batch_size=2)(step) for step in range(20)]
