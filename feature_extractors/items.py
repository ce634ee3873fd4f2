"""What goes into an encoder and what comes out: waveforms, texts with context, embeddings, and their checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lpgnet.feature_extractors.errors import ItemError
from lpgnet.feature_extractors.spec import EncoderSpec

# Peak below -80 dB of full scale: digital silence, or a microphone that was off.
SILENCE_PEAK = 1e-4
# Three samples in a row at full scale: a sine below 1 kHz that merely touches full scale stays under this.
CLIPPING_LEVEL = 0.9999
CLIPPING_RUN = 3


@dataclass(frozen=True)
class TextItem:
    """An utterance's words and, oldest first, those of the turns before it that the encoder may look at."""

    text: str
    context: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """One utterance's embedding.

    `values` is float32 `(layers, width)`, or `(n_frames, layers, width)` when frames are kept; `n_frames`
    counts the frames or tokens that went into it. `flags` is a subset of `padded` (shorter than the model's
    minimum), `windowed` (longer than its maximum), `silent`, `clipped`. `size` is how many of its own samples or
    tokens went through the model (what windows share counts twice), `padding` how many others were computed beside
    them, `batch` how many utterances or windows its largest batch held; all are 0 for an encoder without batches.
    """

    values: np.ndarray
    n_frames: int
    flags: frozenset[str] = frozenset()
    size: int = 0
    padding: int = 0
    batch: int = 0


Item = np.ndarray | TextItem | str


class Encoder(Protocol):
    """What a family's `load` returns, and all that callers may rely on.

    `n_layers` and `width` are the two last dimensions of `Embedding.values`.
    """

    @property
    def spec(self) -> EncoderSpec:
        """Which encoder it is, with its settings."""
        ...

    @property
    def sampling_rate(self) -> int | None:
        """The rate in Hz of the waveforms it takes; None for text."""
        ...

    @property
    def n_layers(self) -> int:
        """The last dimension but one of `Embedding.values`."""
        ...

    @property
    def width(self) -> int:
        """The last dimension of `Embedding.values`."""
        ...

    def encode(self, items: Sequence[Item], batch_budget: int | None = None) -> list[Embedding]:
        """Embed the items.

        Args:
            items: waveforms `(samples,)`, or texts.
            batch_budget: padded samples or tokens in a batch; None for what suits the device.

        Returns:
            An embedding an item, in their order.

        Raises:
            ItemError: some of them cannot be embedded; it names every one.
        """
        ...

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Count the samples or tokens of each item, for planning batches."""
        ...


def checked_waveforms(items: Sequence[Item]) -> list[np.ndarray]:
    """Return the items as waveforms.

    Args:
        items: what `encode` was given.

    Returns:
        The same, `(samples,)` each.

    Raises:
        ItemError: some of them are no waveforms; it names every one.
    """
    _refuse_bad(items, _waveform_problem)
    return [item for item in items if isinstance(item, np.ndarray)]


def checked_texts(items: Sequence[Item]) -> list[TextItem]:
    """Return the items as texts, a plain string as one without context.

    Args:
        items: what `encode` was given.

    Raises:
        ItemError: some of them are no texts, or empty; it names every one.
    """
    _refuse_bad(items, _text_problem)
    return [_as_text(item) for item in items if isinstance(item, str | TextItem)]


def _waveform_problem(item: Item) -> str | None:
    """Say what makes the item unusable as a waveform, or None."""
    if not isinstance(item, np.ndarray):
        return f"an audio encoder takes 1-D float waveforms, this is {type(item).__name__}"
    if item.ndim != 1:
        return f"an audio encoder takes one channel, this array has shape {item.shape}"
    if not np.issubdtype(item.dtype, np.floating):
        return f"a waveform is floating point between -1 and 1, this is {item.dtype}"
    if not item.size:
        return "the waveform has no samples"
    # A sum is not finite when a sample is not, and needs no array of booleans as long as the audio.
    if not np.isfinite(np.sum(item, dtype=np.float64)):
        return "the waveform has NaN or infinite samples"
    return None


def _text_problem(item: Item) -> str | None:
    """Say what makes the item unusable as a text, or None."""
    if not isinstance(item, str | TextItem):
        return f"a text encoder takes strings or TextItem, this is {type(item).__name__}"
    if not _as_text(item).text.strip():
        return "the text is empty"
    return None


def _refuse_bad(items: Sequence[Item], problem: Callable[[Item], str | None]) -> None:
    """Raise one `ItemError` that names every item in which `problem` finds something."""
    found = {index: text for index, item in enumerate(items) if (text := problem(item)) is not None}
    if found:
        raise ItemError(found)


def _as_text(item: str | TextItem) -> TextItem:
    """Take a plain string as a text without context."""
    return TextItem(item) if isinstance(item, str) else item


def waveform_flags(waveform: np.ndarray) -> frozenset[str]:
    """Find which of `silent` and `clipped` hold for a waveform.

    Args:
        waveform: `(samples,)`, at least one.
    """
    peak = max(float(waveform.max()), -float(waveform.min()))
    flags = {"silent"} if peak < SILENCE_PEAK else set()
    if peak >= CLIPPING_LEVEL and _longest_run(np.abs(waveform) >= CLIPPING_LEVEL) >= CLIPPING_RUN:
        flags.add("clipped")
    return frozenset(flags)


def _longest_run(mask: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return int((edges[1::2] - edges[::2]).max(initial=0))
