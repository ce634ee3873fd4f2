"""Whether the time that something takes grows by more than its input does, told without a clock on the wall."""

import time
from collections.abc import Callable

# From the small to the largest input, time grows 8 times where it is linear and 64 where it is quadratic.
SMALL, LARGE, LARGEST = 1_500, 6_000, 12_000
# What is quadratic takes much longer than this for a large input.
NOISE_SECONDS = 3e-4


def grows_too_fast(use: Callable[[str], object], make: Callable[[int], str]) -> bool:
    """Whether time grows by much more than the text does; what looks so is looked at again with longer texts.

    Args:
        use: what takes time.
        make: gives a text of about so many characters.
    """
    return (
        _once(use, make(LARGE)) > NOISE_SECONDS
        and _seconds(use, make(LARGE)) > 2 * LARGE / SMALL * _seconds(use, make(SMALL))
        and _seconds(use, make(LARGEST)) > 3 * LARGEST / SMALL * _seconds(use, make(SMALL))
    )


def _seconds(use: Callable[[str], object], text: str) -> float:
    """Processor time, the less of two."""
    return min(_once(use, text) for _ in range(2))


def _once(use: Callable[[str], object], text: str) -> float:
    begun = time.process_time()
    use(text)
    return time.process_time() - begun
