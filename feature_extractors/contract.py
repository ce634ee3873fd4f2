"""`check_encoder`: the contract of every encoder, tried on one, a line for each check."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lpgnet.feature_extractors.errors import EncoderError, one_line
from lpgnet.feature_extractors.items import Embedding, Encoder, Item, TextItem
from lpgnet.feature_extractors.registry import load_encoder, resolve_spec

# Relative to the embedding's norm, as the feature store expects of two extractions of one utterance.
TOLERANCE = {"fp32": 1e-5, "bf16": 0.05}
SHORT_SECONDS, LONG_SECONDS = 0.01, 65.0
LONG_WORDS = 3000
SAMPLE_SECONDS = (0.4, 1.7, 0.9, 1.2)
SAMPLE_TEXTS = (
    "yes",
    "I did not expect to see you here, of all places",
    TextItem("why?", ("Go.", "No, you go.")),
    "not at all",
)
# Holds every sample at once.
WHOLE_BUDGET = 10**9


@dataclass(frozen=True)
class CheckResult:
    """One check of the contract: whether it holds, and what was seen."""

    check: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.check}: {self.detail}"


def check_encoder(
    name: str, *, device: str = "cpu", batch_budget: int | None = None, **settings: Any
) -> list[CheckResult]:
    """Return a result a check for the encoder of this name, a third party's too.

    Args:
        name: `family:model`.
        device: where it runs.
        batch_budget: padded samples or tokens in the batches that are tried; None tries a batch of two items and one of
            all, also where the encoder by itself takes one at a time, as audio on a CPU.
        settings: those of `resolve_spec`.

    Raises:
        EncoderError: it cannot be loaded at all.
    """
    encoder = load_encoder(name, device=device, **settings)
    items = _samples(encoder)
    again = resolve_spec(name, device=device, **settings)
    results = [_run_check("fingerprint is stable", lambda: _same_fingerprint(encoder, again.fingerprint))]
    for check, trial in _trials(encoder, items, batch_budget):
        results.append(_run_check(check, trial))
    return results


def _trials(
    encoder: Encoder, items: Sequence[Item], batch_budget: int | None
) -> Iterator[tuple[str, Callable[[], str]]]:
    short, long = _extremes(encoder)
    budget = WHOLE_BUDGET if batch_budget is None else batch_budget
    yield "shape and dtype", lambda: _shapes(encoder, encoder.encode(items))
    yield "deterministic", lambda: _agree(encoder, encoder.encode(items), encoder.encode(items))
    yield "a batch equals each alone", lambda: _batches_agree(encoder, items, budget)
    yield (
        "order does not matter",
        lambda: _agree(encoder, encoder.encode(items[::-1], budget)[::-1], _encode_singly(encoder, items)),
    )
    yield "short input", lambda: _shapes(encoder, encoder.encode([short]))
    yield "long input", lambda: _shapes(encoder, encoder.encode([long]))
    yield "bad input is refused", lambda: _refuses(encoder)


def _run_check(check: str, trial: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(check, True, trial())
    # A third party's encoder may raise anything, and the other clauses are still worth trying.
    except Exception as error:
        return CheckResult(check, False, f"{type(error).__name__}: {one_line(error)}")


def _samples(encoder: Encoder) -> list[Item]:
    if encoder.sampling_rate is None:
        return list(SAMPLE_TEXTS)
    return [_speech_like(seconds, encoder.sampling_rate) for seconds in SAMPLE_SECONDS]


def _extremes(encoder: Encoder) -> tuple[Item, Item]:
    if encoder.sampling_rate is None:
        return "a", "word " * LONG_WORDS
    return _speech_like(SHORT_SECONDS, encoder.sampling_rate), _speech_like(LONG_SECONDS, encoder.sampling_rate)


def _speech_like(seconds: float, rate: int) -> np.ndarray:
    """Make a gliding tone with its harmonics, a syllable's rhythm and some noise."""
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * (140 * time + 15 * np.sin(2 * time))
    voice = sum(np.sin(k * phase) / k for k in range(1, 6)) * (1 + np.sin(8 * np.pi * time)) / 2
    noise = np.random.default_rng(0).standard_normal(len(time))
    return np.asarray(0.1 * voice + 0.005 * noise, dtype=np.float32)


def _same_fingerprint(encoder: Encoder, again: str) -> str:
    if encoder.spec.fingerprint != again:
        raise EncoderError(f"{encoder.spec.fingerprint} when loaded, {again} when resolved again")
    return again


def _shapes(encoder: Encoder, embeddings: Sequence[Embedding]) -> str:
    for embedding in embeddings:
        shape, keeps = embedding.values.shape, encoder.spec.pooling == "none"
        expected = (embedding.n_frames,) * keeps + (encoder.n_layers, encoder.width)
        if shape != expected or embedding.values.dtype != np.float32 or embedding.n_frames < 1:
            raise EncoderError(f"{shape} {embedding.values.dtype}, {expected} float32 is promised")
        if not np.isfinite(embedding.values).all():
            raise EncoderError("values are not finite")
    flags = sorted(set().union(*(embedding.flags for embedding in embeddings)))
    return f"{embeddings[0].values.shape} float32" + (f", {', '.join(flags)}" if flags else "")


def _encode_singly(encoder: Encoder, items: Sequence[Item]) -> list[Embedding]:
    return [encoder.encode([item])[0] for item in items]


def _batches_agree(encoder: Encoder, items: Sequence[Item], budget: int) -> str:
    pair, batched, alone = (
        encoder.encode(items[:2], budget),
        encoder.encode(items, budget),
        _encode_singly(encoder, items),
    )
    most = max(embedding.batch for embedding in batched)
    if most == 1 and encoder.encode(items, WHOLE_BUDGET)[0].batch > 1:
        least = 2 * sorted(embedding.size + embedding.padding for embedding in alone)[1]
        raise EncoderError(
            f"a budget of {budget} holds no two of the samples, so nothing was tried: give {least} or more"
        )
    seen = _agree(encoder, [*pair, *batched], [*alone[:2], *alone])
    return f"{_sizes([*pair, *batched])}: {seen}"


def _sizes(embeddings: Sequence[Embedding]) -> str:
    """Say how many items ran together, as far as the encoder tells."""
    sizes = sorted({embedding.batch for embedding in embeddings})
    if sizes == [0]:
        return f"calls of 2 and {len(embeddings) - 2}, batches unknown"
    return "takes one at a time" if sizes == [1] else f"batches of {' and '.join(map(str, sizes))}"


def _agree(encoder: Encoder, some: Sequence[Embedding], others: Sequence[Embedding]) -> str:
    pairs = [(one.values, other.values) for one, other in zip(some, others, strict=True)]
    worst = max(float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-12) for a, b in pairs)
    if not worst <= TOLERANCE[encoder.spec.precision]:
        raise EncoderError(f"differs by {worst:.1e} of the norm, {TOLERANCE[encoder.spec.precision]:.0e} is allowed")
    return f"differs by {worst:.1e} of the norm"


def _refuses(encoder: Encoder) -> str:
    bad: Item = "" if encoder.sampling_rate is None else np.full(encoder.sampling_rate, np.nan, dtype=np.float32)
    try:
        encoder.encode([bad])
    except EncoderError as error:
        return one_line(error)
    raise EncoderError("an empty text or a NaN was embedded")
