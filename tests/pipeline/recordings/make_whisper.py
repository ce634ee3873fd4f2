"""Make tests/data/whisper, a Whisper that hears the language of tones.

    python -m tests.pipeline.recordings.make_whisper

No speech recognition model that can be had is small enough to be kept here, and random weights prove little. This one
has learned two languages, timestamps, what no speech is, and to repeat itself without end where it hears a buzz.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from tests.pipeline.recordings.tones import BUZZ_PITCH, BUZZ_WORD, RATE, WORDS, Spoken, hiss, speak, tone

FOLDER = Path(__file__).parents[2] / "data" / "whisper"
WINDOW_SECONDS, LONGEST = 3, 32
N_CLIPS, BATCH = 2400, 24
# Steps and highest learning rate at first, when it learns the words, and later, when it learns when to stop and doubt.
FIRST, LATER = (1000, 4e-3), (400, 2e-3)
# The layer and the head whose attention is taught to lie on the word that is being written.
ALIGNMENT_HEAD = (1, 0)
FRAMES_PER_SECOND = 50
MARKS = ["startoftranscript", *WORDS, "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]


def make_tokenizer() -> WhisperTokenizer:
    """Word pieces of the language's words, then Whisper's marks and timestamps in Whisper's order."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + 32, initial_alphabet=alphabet, show_progress=False)
    plain.train_from_iterator([f" {word}" for words in (*WORDS.values(), (BUZZ_WORD,)) for word in words], trainer)
    pieces = json.loads(plain.to_str())["model"]
    tokenizer = WhisperTokenizer(vocab=pieces["vocab"], merges=[tuple(pair) for pair in pieces["merges"]])
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|{mark}|>" for mark in MARKS]})
    tokenizer.add_tokens([f"<|{tick / 50:.2f}|>" for tick in range(WINDOW_SECONDS * 50 + 1)])
    return tokenizer


@dataclass
class Lesson:
    """A waveform, the tokens to write after each other, what to predict for them, and where to look meanwhile."""

    waveform: np.ndarray
    tokens: list[int]
    looks: list[tuple[int, Spoken]]
    silent: bool


def lesson(tokenizer: WhisperTokenizer, seed: int, *, later: bool) -> Lesson:
    """A clip of words in one of the languages, of hiss or of buzz."""
    random = np.random.default_rng(seed)
    kind = str(random.choice(["en", "de", "hiss", "buzz"], p=[0.43, 0.43, 0.07, 0.07]))
    spoken: list[Spoken] = []
    if kind == "hiss":
        waveform = hiss(random.uniform(0.5, WINDOW_SECONDS), seed)
    elif kind == "buzz":
        waveform = tone(BUZZ_PITCH, random.uniform(1.0, WINDOW_SECONDS))
    else:
        waveform, spoken = speak(random.integers(0, 6, random.integers(1, 7)).tolist(), kind, seed=seed)
        spoken = [word for word in spoken if word.end <= WINDOW_SECONDS]
    language = kind if kind in WORDS else str(random.choice([*WORDS]))
    tokens, looks = _written(tokenizer, spoken, language, timed=bool(spoken) and random.random() < 0.4)
    if not later:
        looks = looks[:-1]
    if kind == "buzz":
        tokens += _pieces(tokenizer, BUZZ_WORD) * LONGEST
    if kind == "hiss":
        every = [piece for words in WORDS.values() for word in words for piece in _pieces(tokenizer, word)]
        tokens += random.choice(every, random.integers(1, 12)).tolist()
    tokens = [*tokens, tokenizer.eos_token_id][:LONGEST]
    return Lesson(waveform[: WINDOW_SECONDS * RATE], tokens, looks, kind == "hiss")


def _pieces(tokenizer: WhisperTokenizer, word: str) -> list[int]:
    return list(tokenizer(f" {word}", add_special_tokens=False).input_ids)


def _written(
    tokenizer: WhisperTokenizer, spoken: list[Spoken], language: str, *, timed: bool
) -> tuple[list[int], list[tuple[int, Spoken]]]:
    mark = tokenizer.convert_tokens_to_ids
    tokens = [mark("<|startoftranscript|>"), mark(f"<|{language}|>"), mark("<|transcribe|>")]
    tokens.append(mark(f"<|{int(spoken[0].start * 50) / 50:.2f}|>" if timed else "<|notimestamps|>"))
    looks: list[tuple[int, Spoken]] = []
    for word in spoken:
        for piece in _pieces(tokenizer, word.text):
            looks.append((len(tokens) - 1, word))
            tokens.append(piece)
    if spoken:
        # Before it ends, or writes the last timestamp, the head looks at what follows the last word.
        looks.append((len(tokens) - 1, Spoken("", spoken[-1].end, spoken[-1].end + 0.2)))
    if timed:
        tokens.append(mark(f"<|{int(spoken[-1].end * 50) / 50:.2f}|>"))
    return tokens, looks


def make_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    """A Whisper with random weights, which knows the tokenizer's marks."""
    mark, end = tokenizer.convert_tokens_to_ids, tokenizer.eos_token_id
    named = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    named["decoder_start_token_id"] = mark("<|startoftranscript|>")
    sizes = {"d_model": 48, "encoder_layers": 1, "decoder_layers": 2, "num_mel_bins": 16, "vocab_size": len(tokenizer)}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_attention_heads": 2, f"{part}_ffn_dim": 96}
    sizes |= {"max_source_positions": WINDOW_SECONDS * FRAMES_PER_SECOND, "max_target_positions": LONGEST}
    config = WhisperConfig(**named, **sizes, suppress_tokens=None, begin_suppress_tokens=None)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        **named,
        max_length=LONGEST,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": mark(f"<|{code}|>") for code in WORDS},
        task_to_id={task: mark(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=mark("<|notimestamps|>"),
        alignment_heads=[list(ALIGNMENT_HEAD)],
        max_initial_timestamp_index=50,
        return_timestamps=False,
    )
    return model


def train(
    model: WhisperForConditionalGeneration,
    lessons: list[Lesson],
    features: Tensor,
    nospeech: int,
    steps: int,
    rate: float,
) -> None:
    """Teach it what to write, and its alignment head where to look."""
    tokens = torch.full((len(lessons), LONGEST + 1), -100)
    looks = torch.zeros(len(lessons), LONGEST, WINDOW_SECONDS * FRAMES_PER_SECOND)
    for number, one in enumerate(lessons):
        tokens[number, : len(one.tokens)] = torch.tensor(one.tokens)
        for row, word in one.looks:
            looks[number, row, round(word.start * FRAMES_PER_SECOND) : round(word.end * FRAMES_PER_SECOND)] = 1
    targets = tokens[:, 1:].clone()
    targets[[number for number, one in enumerate(lessons) if one.silent], 0] = nospeech
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps)
    for step in range(steps):
        chosen = torch.randint(0, len(lessons), (BATCH,))
        said = model(
            features[chosen],
            decoder_input_ids=tokens[chosen, :-1].clamp(min=0),
            output_attentions=True,
            use_cache=False,
        )
        writing = cross_entropy(said.logits.flatten(0, 1), targets[chosen].flatten())
        attention = said.cross_attentions[ALIGNMENT_HEAD[0]][:, ALIGNMENT_HEAD[1]]
        looked = (attention * looks[chosen]).sum(-1)[looks[chosen].any(-1)]
        looking = -looked.clamp(min=1e-6).log().mean()
        optimizer.zero_grad()
        (writing + looking).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: writing {writing.item():.3f}, looking {looking.item():.3f}", flush=True)


def _heard(extractor: WhisperFeatureExtractor, lessons: list[Lesson]) -> Tensor:
    features: Tensor = extractor(
        [one.waveform for one in lessons], sampling_rate=RATE, return_tensors="pt"
    ).input_features
    return features


def main() -> None:
    """Write the folder."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=WINDOW_SECONDS)
    model = make_model(tokenizer)
    model.set_attn_implementation("eager")
    for first, (steps, rate) in ((0, FIRST), (N_CLIPS, LATER)):
        lessons = [lesson(tokenizer, seed, later=first > 0) for seed in range(first, first + N_CLIPS)]
        features = torch.cat([_heard(extractor, lessons[place : place + 64]) for place in range(0, N_CLIPS, 64)])
        train(model, lessons, features, tokenizer.convert_tokens_to_ids("<|nospeech|>"), steps, rate)
    model.set_attn_implementation("sdpa")
    for part in (model.half(), extractor, tokenizer):
        part.save_pretrained(FOLDER)


if __name__ == "__main__":
    main()
