"""Number formats, worked out by hand and against torch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lpgnet.cache import StoreError
from lpgnet.cache.layout import Layout


def layout(dtype: str) -> Layout:
    return Layout(dtype, 1, 1, False)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (1, 40), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_bfloat16_equals_torch(values: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(values).to(torch.bfloat16)
    stored = layout("bfloat16").encode(values)
    assert np.array_equal(stored, expected.view(torch.uint16).numpy())
    assert np.array_equal(layout("bfloat16").decode(stored), expected.float().numpy())


def test_bfloat16_by_hand() -> None:
    # 1 + 2^-8 lies in the middle and goes to the even 1; 1 + 3 * 2^-8 lies in the middle and goes up.
    values = np.array([[1.0, 1 + 2**-8, 1 + 3 * 2**-8, -0.0, np.inf]], np.float32)
    stored = layout("bfloat16").encode(values)
    assert stored.tolist() == [[0x3F80, 0x3F80, 0x3F82, 0x8000, 0x7F80]]


def test_bfloat16_keeps_nan() -> None:
    worst = np.array([[0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001]], np.uint32).view(np.float32)
    assert np.isnan(layout("bfloat16").decode(layout("bfloat16").encode(worst))).all()


@pytest.mark.parametrize(("dtype", "value"), [("float16", 7e4), ("bfloat16", 3.4028e38), ("float32", 1e39)])
def test_a_number_too_large_is_refused_and_infinity_is_not(dtype: str, value: float) -> None:
    with pytest.raises(StoreError, match="cannot hold"):
        layout(dtype).encode(np.array([[value]]))
    assert np.isinf(layout(dtype).decode(layout(dtype).encode(np.array([[np.inf]]))))


@pytest.mark.parametrize(
    "values", [np.ones((1, 1), int), np.ones((1, 1), complex), np.array([["a"]]), np.array([[{}]])]
)
def test_only_floating_point_is_stored(values: np.ndarray) -> None:
    with pytest.raises(StoreError, match="floating point"):
        layout("float32").encode(values)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (-1, 3), (2**31, 1), (True, 3), (1.0, 3)])
def test_layout_refuses_sizes(sizes: tuple[int, int]) -> None:
    with pytest.raises(StoreError):
        Layout("float32", *sizes, False)
