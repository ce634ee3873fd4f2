"""Whisper: its language, its words with times by cross-attention or timestamps, and how sure it is of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from lpgnet.pipeline.recordings.written import Written, words_of

if TYPE_CHECKING:
    from lpgnet.pipeline.recordings.speech_models import SpeechModel


def encode(model: SpeechModel, waveforms: Sequence[np.ndarray]) -> Tensor:
    """Compute the encoder's states `(B, T, d)` of waveforms `(samples,)`, each padded to a window."""
    inputs = model.inputs(waveforms, padding="max_length")
    states: Tensor = model.network.get_encoder()(inputs["input_features"]).last_hidden_state
    return states


def detect_language(model: SpeechModel, encoded: Tensor) -> str:
    """Tell the language that is most probable over all windows `(B, T, d)`, by its code."""
    start = torch.full((len(encoded), 1), model.network.generation_config.decoder_start_token_id, device=encoded.device)
    logits = _decoded(model, encoded, start)[:, 0]
    probabilities = model.network.get_output_embeddings()(logits)[:, list(model.languages.values())].float().softmax(-1)
    return list(model.languages)[int(probabilities.mean(0).argmax())]


def write(model: SpeechModel, encoded: Tensor, seconds: Sequence[float], language: str | None) -> list[Written]:
    """Write down windows.

    The tokens are chosen greedily, without the paper's fallback to chance, so that a window gives the same words each
    time and in every batch. One pass over what was written then gives probabilities and cross-attention.

    Args:
        model: a Whisper with timestamps.
        encoded: states of the windows `(B, T, d)`.
        seconds: of each window that are not padding.
        language: one of `model.languages`; None for a model that has one alone.

    Returns:
        What was said in each.
    """
    from transformers.modeling_outputs import BaseModelOutput

    settings = model.network.generation_config
    options: dict[str, Any] = {"return_timestamps": not _heads(model)}
    if language is not None:
        options["language"] = f"<|{language}|>"
        if hasattr(settings, "task_to_id"):
            options["task"] = "transcribe"
    tokens = model.network.generate(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded), force_unique_generate_call=True, **options
    )
    with _cross_attention(model) as attention:
        states = _decoded(model, encoded, tokens)  # (B, L, d)
    return [
        _written(model, tokens[place], states[place], [heads[place] for heads in attention], seconds[place])
        for place in range(len(tokens))
    ]


def _decoded(model: SpeechModel, encoded: Tensor, tokens: Tensor) -> Tensor:
    states: Tensor = model.network.get_decoder()(
        input_ids=tokens, encoder_hidden_states=encoded, use_cache=False
    ).last_hidden_state
    return states


def _heads(model: SpeechModel) -> list[list[int]]:
    """Layer and number of the heads that look at the word that is written; none where nobody has found them."""
    return getattr(model.network.generation_config, "alignment_heads", None) or []


@contextmanager
def _cross_attention(model: SpeechModel) -> Iterator[list[Tensor]]:
    """Collect the weights `(B, L, T)` of the alignment heads while the decoder runs."""
    collected: list[Tensor] = []
    by_layer: dict[int, list[int]] = {}
    for layer, head in _heads(model):
        by_layer.setdefault(layer, []).append(head)
    hooks = [
        model.network.get_decoder()
        .layers[layer]
        .encoder_attn.register_forward_hook(
            lambda _, __, output, heads=heads: collected.extend(output[1][:, head].float().cpu() for head in heads)
        )
        for layer, heads in by_layer.items()
    ]
    before = model.network.config._attn_implementation
    # The fused kernels give no weights.
    model.network.set_attn_implementation("eager")
    try:
        yield collected
    finally:
        model.network.set_attn_implementation(before)
        for hook in hooks:
            hook.remove()


def _written(
    model: SpeechModel, tokens: Tensor, states: Tensor, attention: Sequence[Tensor], seconds: float
) -> Written:
    """What the tokens `(L,)` say, by the decoder's states `(L, d)` over them."""
    said = _places_of_words(model, tokens)
    no_speech_token = model.network.generation_config.no_timestamps_token_id - 1
    no_speech = float(_log_probabilities(model, states[:1])[0, no_speech_token].exp())
    if not said:
        return Written((), no_speech=no_speech)
    # The token after the last word counts too: whether it was right to stop.
    judged = torch.tensor([*said, *([said[-1] + 1] if said[-1] + 1 < len(tokens) else [])], device=tokens.device)
    chosen = _log_probabilities(model, states[judged - 1]).gather(1, tokens[judged].unsqueeze(1))
    if attention:
        looks = torch.stack(list(attention))[:, [said[0] - 1, *said]]  # (heads, words + 1, T)
        times = _aligned(model, looks, seconds)
    else:
        times = _between_timestamps(model, tokens.tolist(), said, seconds)
    words = words_of(model.tokenizer, tokens[said].tolist(), times)
    return Written(words, float(chosen.mean()), no_speech)


def _log_probabilities(model: SpeechModel, states: Tensor) -> Tensor:
    logits: Tensor = model.network.get_output_embeddings()(states)
    return logits.float().log_softmax(-1)


def _places_of_words(model: SpeechModel, tokens: Tensor) -> list[int]:
    """Where tokens stand that are neither marks nor timestamps."""
    settings = model.network.generation_config
    tasks = getattr(settings, "task_to_id", None) or {}
    marks = {*model.tokenizer.all_special_ids, *model.languages.values(), *tasks.values()}
    return [
        place
        for place, token in enumerate(tokens.tolist())
        if place and token not in marks and token < settings.no_timestamps_token_id
    ]


def _seconds_per_frame(model: SpeechModel) -> float:
    return model.window_seconds / int(model.network.config.max_source_positions)


def _aligned(model: SpeechModel, looks: Tensor, seconds: float) -> list[tuple[float, float]]:
    """Start and end of every token but the last, by where the heads `(heads, N + 1, T)` look when it is to be written.

    As in Whisper's own timing.py: each frame's weights are compared over the tokens, smoothed, and averaged over heads.
    """
    per_frame = _seconds_per_frame(model)
    looks = looks[..., : max(1, round(seconds / per_frame))]
    deviation, mean = torch.std_mean(looks, dim=-2, keepdim=True, unbiased=False)
    looks = _smoothed((looks - mean) / deviation.clamp(min=1e-9), int(model.network.config.median_filter_width))
    starts = [start * per_frame for start in first_frames(looks.mean(0).numpy())]
    return [(start, min(end, seconds)) for start, end in pairwise(starts)]


def _smoothed(values: Tensor, width: int) -> Tensor:
    """The median of each frame `(..., T)` and its neighbors."""
    if values.shape[-1] <= width // 2:
        return values
    return pad(values, (width // 2, width // 2), mode="reflect").unfold(-1, width, 1).median(-1).values


def first_frames(scores: np.ndarray) -> list[float]:
    """Find the best way to give every frame to one token, in their order: the frame with which each token begins.

    Args:
        scores: `(N, T)`, how well each of the frames fits each token.

    Returns:
        N frames, the first of them 0; where there are fewer frames than tokens, parts of frames.
    """
    n_tokens, n_frames = scores.shape
    if n_tokens > n_frames:
        return [n_frames * token / n_tokens for token in range(n_tokens)]
    best = np.full(n_tokens, -np.inf)
    best[0] = scores[0, 0]
    begins = np.zeros((n_frames, n_tokens), bool)
    for frame in range(1, n_frames):
        from_before = np.concatenate([[-np.inf], best[:-1]])
        begins[frame] = from_before > best
        best = np.where(begins[frame], from_before, best) + scores[:, frame]
    starts = [0.0] * n_tokens
    token = n_tokens - 1
    for frame in range(n_frames - 1, 0, -1):
        if begins[frame, token]:
            starts[token] = float(frame)
            token -= 1
    return starts


def _between_timestamps(
    model: SpeechModel, tokens: Sequence[int], said: Sequence[int], seconds: float
) -> list[tuple[float, float]]:
    """Start and end of every token that is said: between two timestamps they follow each other evenly."""
    first = int(model.network.generation_config.no_timestamps_token_id) + 1
    per_frame = _seconds_per_frame(model)
    stamps = [(place, (token - first) * per_frame) for place, token in enumerate(tokens) if token >= first]
    times: list[tuple[float, float]] = []
    for (before, start), (after, end) in pairwise([(0, 0.0), *stamps, (len(tokens), seconds)]):
        group = [place for place in said if before < place < after]
        borders = np.linspace(min(start, seconds), min(max(start, end), seconds), len(group) + 1).tolist()
        times += pairwise(borders)
    return times
