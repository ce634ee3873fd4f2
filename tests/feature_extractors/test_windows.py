"""Windows and batches, worked by hand and as properties."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpgnet.feature_extractors.pooling import Part, join, pool
from lpgnet.feature_extractors.windows import Frames, Window, batches, cut

WAV2VEC = Frames.of_convolutions((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))


def test_the_length_formula_of_wav2vec2() -> None:
    assert Frames(320, 400) == WAV2VEC
    assert [WAV2VEC.count(samples) for samples in (400, 719, 720, 16_000, 480_000)] == [1, 1, 2, 49, 1499]
    assert WAV2VEC.samples(1499) == 479_760


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=5), st.integers(0, 5000))
def test_one_formula_for_a_stack_of_convolutions(layers: list[tuple[int, int]], more: int) -> None:
    frames = Frames.of_convolutions(*zip(*layers, strict=True))
    samples = length = frames.receptive + more
    for kernel, stride in layers:
        length = (length - kernel) // stride + 1
    assert frames.count(samples) == length
    assert frames.count(frames.samples(length)) == length


def test_windows_by_hand() -> None:
    assert cut(5, 6, 2) == [Window(0, 5, 0, 5)]
    assert cut(13, 6, 2) == [Window(0, 6, 0, 5), Window(4, 10, 5, 8), Window(7, 13, 8, 13)]


@given(st.integers(1, 500), st.integers(4, 60), st.integers(0, 15))
def test_windows_count_everything_once(length: int, size: int, overlap: int) -> None:
    windows = cut(length, size, min(overlap, size // 4))
    counted = [position for window in windows for position in range(window.first, window.end)]
    assert counted == list(range(length))
    assert all(w.start <= w.first < w.end <= w.stop and w.stop - w.start <= size for w in windows)


@given(st.lists(st.integers(1, 99), max_size=40), st.integers(0, 300))
def test_batches_hold_everything_within_the_budget(sizes: list[int], budget: int) -> None:
    groups = batches(sizes, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(sizes)))
    for group in groups:
        assert len(group) == 1 or max(sizes[index] for index in group) * len(group) <= budget


def test_pooling_by_hand() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [9.0]], [[2.0], [7.0], [4.0]]])
    counted = torch.tensor([[True, True, False], [False, True, True]])
    assert pool(hidden, counted, "mean").tolist() == [[2.0], [5.5]]
    assert pool(hidden, counted, "mean_std").tolist() == [[2.0, 1.0], [5.5, 1.5]]
    assert pool(hidden, counted, "max").tolist() == [[3.0], [7.0]]
    assert pool(hidden, counted, "first").tolist() == [[1.0], [2.0]]


def test_joining_by_hand() -> None:
    """Frames 1, 3 and 8 in windows of two and one: mean 4, variance (9 + 1 + 16) / 3."""
    parts = [Part(np.array([[2.0, 1.0]], np.float32), 2), Part(np.array([[8.0, 0.0]], np.float32), 1)]
    joined = join(parts, "mean_std")
    np.testing.assert_allclose(joined.values, [[4.0, np.sqrt(26 / 3)]], rtol=1e-6)
    assert joined.n_frames == 3
