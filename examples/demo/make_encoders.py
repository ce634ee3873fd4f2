"""Train the demo's two small encoders, on speech and text that carry no emotion label.

Audio: a wav2vec2 that learns to spell what espeak-ng says in voices which the corpus does not have, and also to
predict each frame's spectrum and pitch and the utterance's pitch, slope and tempo, so that its states keep how
something is said. Text: a RoBERTa trained by masked language modeling on small stories.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import language
import librosa
import numpy as np
import torch
import torchaudio
from speech import SAMPLING_RATE, Manner, Voice, speak
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaTokenizer,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)

HERE = Path(__file__).parent
SEED = 7

# Voices that neither the corpus nor the recording has.
VARIANTS = """
m2 m4 m6 m8 f1 Alex Alicia Andrea Andy Annie aunty belinda benjamin boris caleb david ed edward Gene Jacky Lee linda
Marco Mario max michael miguel mike pablo paul pedro rob robert steph steph2 steph3 victor zac anika travis
"""
ACCENTS = ("en-us", "en-us", "en-gb")


def main() -> None:
    """Make the encoders that the command line asks for."""
    arguments = _arguments()
    for modality in arguments.only or ("text", "audio"):
        torch.manual_seed(SEED)
        started = time.monotonic()
        make = make_text_encoder if modality == "text" else make_audio_encoder
        make(arguments.out / modality, np.random.default_rng(SEED), arguments.train)
        print(f"{modality}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "encoders", help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=("text", "audio"), help="make only these encoders")
    parser.add_argument("--untrained", dest="train", action="store_false", help="same shapes, random weights")
    return parser.parse_args()


# Text

STORIES = 20_000
TEXT_STEPS = 1500
TEXT_BATCH = 64
MASKED = 0.5  # of the rare words; frequent words are masked less


def make_text_encoder(folder: Path, rng: np.random.Generator, train: bool = True) -> None:
    """Write a RoBERTa with its tokenizer."""
    stories = [language.story(rng) for _ in range(STORIES)]
    tokenizer = _text_tokenizer(stories, folder)
    model = RobertaForMaskedLM(_text_config(tokenizer))
    if train:
        _train_text(model, tokenizer, stories, rng)
    model.eval().save_pretrained(folder)


def _text_tokenizer(stories: list[str], folder: Path) -> RobertaTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator(stories, vocab_size=2000, special_tokens=special, show_progress=False)
    pieces.save_model(str(folder))
    tokenizer = RobertaTokenizer.from_pretrained(folder, add_prefix_space=True, model_max_length=128)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _text_config(tokenizer: RobertaTokenizer) -> RobertaConfig:
    return RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=130,
        type_vocab_size=1,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _train_text(
    model: RobertaForMaskedLM, tokenizer: RobertaTokenizer, stories: list[str], rng: np.random.Generator
) -> None:
    chances = _mask_chances(stories, tokenizer)
    optimizer, schedule = _optimizer(model.parameters(), 2e-3, TEXT_STEPS)
    for step in range(TEXT_STEPS):
        chosen = [stories[i] for i in rng.integers(len(stories), size=TEXT_BATCH)]
        batch = tokenizer(chosen, padding=True, return_tensors="pt")
        labels = _mask(batch["input_ids"], chances, tokenizer.mask_token_id)
        loss = model(**batch, labels=labels).loss
        _advance(loss, model, optimizer, schedule, step)


def _mask_chances(stories: list[str], tokenizer: RobertaTokenizer) -> Tensor:
    """Return each token's chance to be masked (vocabulary,): what is rare says what the story is about."""
    ids = [i for story in stories for i in tokenizer(story, add_special_tokens=False).input_ids]
    counts = torch.bincount(torch.tensor(ids), minlength=len(tokenizer)).float()
    rarity = (counts[counts > 0].median() / counts.clamp(min=1)).sqrt().clamp(max=1)
    return MASKED * rarity * (counts > 0)


def _mask(ids: Tensor, chances: Tensor, mask: int) -> Tensor:
    """Mask some of the tokens in place; return the labels, -100 where nothing is asked."""
    asked = torch.rand(ids.shape) < chances[ids]
    labels = ids.masked_fill(~asked, -100)
    ids[asked & (torch.rand(ids.shape) < 0.9)] = mask
    return labels


# Audio

CLIPS = 1600
AUDIO_STEPS = 2000
AUDIO_BATCH = 8
BANDS = 24
LETTERS = "|'ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Clip:
    """One rendering: what the encoder hears (samples,) and what it must predict."""

    waveform: Tensor
    letters: Tensor  # (letters,)
    frames: Tensor  # (frames, BANDS + 2): log-mel spectrum, log pitch, voicing
    whole: Tensor  # (6,): level and spread of pitch, spread of loudness, slope, tempo, voiced share


@dataclass(frozen=True)
class Batch:
    """Clips padded to the longest."""

    waveforms: Tensor  # (B, samples)
    heard: Tensor  # (B, samples)
    letters: Tensor  # (B, letters), -100 where there is none
    frames: Tensor  # (B, T, BANDS + 2)
    real: Tensor  # (B, T), 1 for a real frame
    whole: Tensor  # (B, 6)


class Heads(nn.Module):
    """What the states must predict besides the letters; discarded after training."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.frames = nn.ModuleList(nn.Linear(width, BANDS + 2) for _ in range(layers))
        self.whole = nn.ModuleList(nn.Linear(width, 6) for _ in range(layers))

    def forward(self, states: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """Return the mean squared error; states are (B, T, width), one for each layer."""
        loss = torch.zeros(())
        real = batch.real.unsqueeze(-1)
        for state, frames, whole in zip(states, self.frames, self.whole, strict=True):
            error = (frames(state) - batch.frames).square() * real
            pooled = (state * real).sum(1) / real.sum(1)
            loss = loss + error.sum() / real.sum() / (BANDS + 2) + (whole(pooled) - batch.whole).square().mean()
        return loss / len(states)


def make_audio_encoder(folder: Path, rng: np.random.Generator, train: bool = True) -> None:
    """Write a wav2vec2 with its feature extractor, tokenizer and letter head."""
    tokenizer = _audio_tokenizer(folder)
    model = Wav2Vec2ForCTC(_audio_config(tokenizer))
    if train:
        _train_audio(model, tokenizer, rng)
    model.eval().save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)


def _audio_tokenizer(folder: Path) -> Wav2Vec2CTCTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *LETTERS]
    vocabulary = folder / "vocab.json"
    vocabulary.write_text("{" + ", ".join(f'"{t}": {i}' for i, t in enumerate(tokens)) + "}")
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary))
    tokenizer.save_pretrained(folder)
    return tokenizer


def _audio_config(tokenizer: Wav2Vec2CTCTokenizer) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=384,
        conv_dim=(32, 32, 64, 64, 64, 64, 64),
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        hidden_dropout=0.05,
        activation_dropout=0.05,
        attention_dropout=0.05,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        pad_token_id=tokenizer.pad_token_id,
    )


def _train_audio(model: Wav2Vec2ForCTC, tokenizer: Wav2Vec2CTCTokenizer, rng: np.random.Generator) -> None:
    clips = _standardized([_clip(tokenizer, rng) for _ in range(CLIPS)])
    print(f"{sum(len(c.waveform) for c in clips) / SAMPLING_RATE / 60:.0f} minutes of speech", file=sys.stderr)
    heads = Heads(model.config.hidden_size, model.config.num_hidden_layers + 1)
    optimizer, schedule = _optimizer([*model.parameters(), *heads.parameters()], 2e-3, AUDIO_STEPS)
    for step, batch in zip(range(AUDIO_STEPS), _batches(clips, rng), strict=False):
        told = model(batch.waveforms, attention_mask=batch.heard, labels=batch.letters, output_hidden_states=True)
        asked = heads(told.hidden_states, batch)
        if step % 50 == 0:
            print(f"ctc {told.loss.item():.3f} heads {asked.item():.3f}", file=sys.stderr)
        _advance(told.loss + asked, model, optimizer, schedule, step)


def _clip(tokenizer: Wav2Vec2CTCTokenizer, rng: np.random.Generator) -> Clip:
    text = language.babble(rng)
    voice = Voice(
        "", f"{rng.choice(ACCENTS)}+{rng.choice(VARIANTS.split())}", rng.uniform(35, 65), rng.uniform(155, 195)
    )
    spoken = np.pad(speak(text, voice, _any_manner(rng)), rng.integers(0, 4800, size=2))
    spoken = spoken + rng.normal(0, 2e-4, len(spoken))
    waveform = torch.tensor((spoken - spoken.mean()) / spoken.std(), dtype=torch.float32)
    frames = _frame_targets(waveform)
    return Clip(
        waveform=waveform,
        letters=torch.tensor(tokenizer(text.upper()).input_ids),
        frames=frames,
        whole=_whole_targets(frames, len(text)),
    )


def _any_manner(rng: np.random.Generator) -> Manner:
    return Manner(
        pitch=rng.uniform(-30, 35),
        spread=rng.uniform(0, 220),
        rate=rng.uniform(0.75, 1.4),
        tilt=rng.uniform(-6, 6),
        drive=rng.uniform(0.5, 4) if rng.random() < 0.4 else 0,
        gap=int(rng.integers(3)),
    )


def _frame_targets(waveform: Tensor) -> Tensor:
    """Return (frames, BANDS + 2) on wav2vec2's own frames: 400 samples every 320."""
    spectrum = torchaudio.transforms.MelSpectrogram(
        SAMPLING_RATE, n_fft=512, win_length=400, hop_length=320, n_mels=BANDS, center=False
    )(torch.nn.functional.pad(waveform, (56, 56)))
    bands = (spectrum + 1e-3).log().T
    pitch, voiced = _pitch(waveform.numpy(), len(bands))
    return torch.cat([bands, torch.stack([pitch, voiced], 1)], 1)


def _pitch(waveform: np.ndarray, frames: int) -> tuple[Tensor, Tensor]:
    """Return log2 of the pitch (0 where there is none) and voicing, each (frames,)."""
    hertz = librosa.yin(waveform, fmin=60, fmax=500, sr=SAMPLING_RATE, frame_length=1024, hop_length=320)
    loud = librosa.feature.rms(y=waveform, frame_length=1024, hop_length=320)[0]
    voiced = torch.tensor((loud > 0.3) & (hertz < 450), dtype=torch.float32)[:frames]
    return torch.tensor(np.log2(hertz / 150), dtype=torch.float32)[:frames] * voiced, voiced


def _whole_targets(frames: Tensor, letters: int) -> Tensor:
    bands, pitch, voiced = frames[:, :BANDS], frames[:, BANDS], frames[:, BANDS + 1].bool()
    voiced = voiced if voiced.sum() > 1 else torch.ones_like(voiced)
    slope = bands[voiced][:, BANDS // 2 :].mean() - bands[voiced][:, : BANDS // 2].mean()
    return torch.stack(
        [
            pitch[voiced].mean(),
            pitch[voiced].std(),
            bands.mean(1).std(),
            slope,
            torch.tensor(letters / len(frames)),
            voiced.float().mean(),
        ]
    )


def _standardized(clips: list[Clip]) -> list[Clip]:
    """Give every target a mean of 0 and a standard deviation of 1 over all clips."""
    frames, whole = torch.cat([c.frames for c in clips]), torch.stack([c.whole for c in clips])
    return [
        Clip(
            c.waveform,
            c.letters,
            (c.frames - frames.mean(0)) / frames.std(0),
            (c.whole - whole.mean(0)) / whole.std(0),
        )
        for c in clips
    ]


def _batches(clips: list[Clip], rng: np.random.Generator) -> Iterator[Batch]:
    """Yield batches of clips of similar length forever: padding is lost time."""
    order = sorted(range(len(clips)), key=lambda i: len(clips[i].waveform))
    groups = [order[i : i + AUDIO_BATCH] for i in range(0, len(order), AUDIO_BATCH)]
    while True:
        for i in rng.permutation(len(groups)):
            yield _collate([clips[j] for j in groups[i]])


def _collate(clips: list[Clip]) -> Batch:
    def pad(rows: list[Tensor], value: float = 0.0) -> Tensor:
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    return Batch(
        waveforms=pad([c.waveform for c in clips]),
        heard=pad([torch.ones(len(c.waveform), dtype=torch.long) for c in clips]),
        letters=pad([c.letters for c in clips], -100),
        frames=pad([c.frames for c in clips]),
        real=pad([torch.ones(len(c.frames)) for c in clips]),
        whole=torch.stack([c.whole for c in clips]),
    )


# Both


def _optimizer(
    parameters: Iterable[nn.Parameter], rate: float, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.OneCycleLR]:
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)


def _advance(
    loss: Tensor,
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    step: int,
) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    if step % 50 == 0:
        print(f"step {step}: loss {loss.item():.3f}", file=sys.stderr)


if __name__ == "__main__":
    main()
