"""Extraction of embeddings compared with what people do instead: speed, padding, memory, and how results differ.

Run `python benchmarks/extraction.py`; it takes less than five minutes on two CPU cores, runs on a GPU where there is
one, prints Markdown tables, and puts them into the documentation with `--write`. Base-size wav2vec2 and RoBERTa with
random weights embed synthetic speech and words whose lengths are distributed as IEMOCAP's. The ways are

(a) the documentation's loop: one utterance at a time in fp32 through the stock feature extractor or tokenizer;
(b) the same in batches of 8 in arrival order, padded, averaged over each utterance's own frames or tokens;
(c) this project's extraction, in fp32, and in bf16 where the device has instructions for it;
(d) only the forward passes of (c): its own batches again, already on the device, nothing decoded, padded or pooled;
and other packages, as `peers.py` says, where they are installed in `build/peers`.

All but (d) read the same 16 kHz wav files from disk, which stay in the page cache, and give one mean vector an
utterance. (c) decodes in the process itself unless `--workers` says otherwise: starting a worker takes longer than
decoding these few files does. Its windows hold the longest utterance, as (a) knows no windows. The rounds of all ways
take turns; a speed is the median of the rounds, a ratio the median of the ratios within each round, in brackets the
same by processor time, which other work on the machine disturbs less. Memory is the highest resident memory (on a GPU:
allocated) during a way beyond that before it, the models being loaded.

A table of its own compares Whisper's windows, `full` and `tight`, by a base-size Whisper encoder with random weights
over the same utterances: there, differences are not errors but those of the two settings.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import soundfile
from page import add_other_packages, make_parser, publish

# isort: split
import torch
from peers import PEERS, Peer
from processes import memory, peak_memory
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import (
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from lpgnet.feature_extractors import Encoder, load_encoder
from lpgnet.feature_extractors.devices import full_float32, has_bfloat16
from lpgnet.feature_extractors.padding import Lengths
from lpgnet.pipeline.common.console import quiet_transformers
from lpgnet.pipeline.corpora.audio import Segment
from lpgnet.pipeline.embeddings.extraction import Extraction, cost, embed
from lpgnet.pipeline.embeddings.plan import Request, Words

RATE = 16_000
BATCH = 8
# IEMOCAP's: median, the length that 95 % stay below, shortest and longest (seconds; words).
SECONDS = (3.6, 11.0, 0.6, 34.0)
WORDS = (9.0, 30.0, 1.0, 100.0)
LONGEST_WINDOW = 35.0
# Of the normal distribution: 95 % stay below.
Z95 = 1.645
VOCABULARY = 2_000


@dataclass(frozen=True)
class Result:
    """One pass over all utterances: vectors (utterances, width), None for (d), and padded size over real size."""

    vectors: np.ndarray | None
    padding: float | None


@dataclass
class Way:
    """One way to embed, and what its rounds measured: seconds, processor seconds and MB of memory.

    Attributes:
        run: embeds all utterances; None where that cannot be done here, and `why` says why.
        limit: the way that nothing can be faster than.
    """

    name: str
    run: Callable[[], Result] | None
    why: str = ""
    limit: "Way | None" = None
    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    result: Result | None = None


def draw_lengths(shape: tuple[float, float, float, float], count: int, random: np.random.Generator) -> np.ndarray:
    """Draw log-normal lengths by median and 95th percentile, cut at the shortest and longest."""
    middle, most, shortest, longest = shape
    spread = np.log(most / middle) / Z95
    return np.clip(middle * np.exp(spread * random.standard_normal(count)), shortest, longest)


def write_speech(folder: Path, count: int) -> list[Request]:
    """Write wav files of gliding tones in noise, and return the requests for them."""
    random = np.random.default_rng(0)
    requests = []
    for index, seconds in enumerate(draw_lengths(SECONDS, count, random)):
        time = np.arange(int(seconds * RATE)) / RATE
        tone = 0.2 * np.sin(2 * np.pi * random.uniform(90, 250) * time + 3 * np.sin(5 * time))
        path = folder / f"{index}.wav"
        soundfile.write(path, tone + 0.02 * random.standard_normal(len(time)), RATE, subtype="PCM_16")
        segment = Segment(str(path), 0, len(time), 0, RATE)
        requests.append(Request(str(index), index.to_bytes(16, "big"), segment))
    return requests


def make_texts(count: int) -> list[Request]:
    """Make requests for synthetic utterances."""
    random = np.random.default_rng(0)
    lengths = draw_lengths(WORDS, count, random).astype(int)
    texts = [" ".join(f"w{word}" for word in random.integers(0, VOCABULARY, length)) for length in lengths]
    return [Request(str(n), n.to_bytes(16, "big"), Words(text)) for n, text in enumerate(texts)]


def save_encoders(folder: Path) -> None:
    """Save checkpoints of base size with random weights."""
    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "audio")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "audio")
    sizes = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
    WhisperModel(WhisperConfig(**sizes, decoder_layers=1, decoder_attention_heads=8)).save_pretrained(
        folder / "whisper"
    )
    WhisperFeatureExtractor().save_pretrained(folder / "whisper")
    # RoBERTa-base: two positions lie before the padding's, and the vocabulary is of 50,265 tokens.
    config = RobertaConfig(vocab_size=50_265, max_position_embeddings=514, type_vocab_size=1)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder / "text")
    special = {token: index for index, token in enumerate(("<s>", "<pad>", "</s>", "<unk>"))}
    words = {f"w{index}": len(special) + index for index in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(special | words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names).save_pretrained(folder / "text")


def load_stock(kind: Any, folder: Path, device: str, **options: Any) -> Any:
    """Load a model as the documentation of transformers does."""
    return kind.from_pretrained(folder, **options).to(device).eval()


def stock_audio(folder: Path, device: str, requests: Sequence[Request], size: int) -> Callable[[], Result]:
    """Return the loop over batches of `size` waveforms."""
    model = load_stock(Wav2Vec2Model, folder, device)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)

    @torch.inference_mode()
    def run() -> Result:
        vectors, computed, real = [], 0, 0
        for start in range(0, len(requests), size):
            sources = [request.source for request in requests[start : start + size]]
            waveforms = [soundfile.read(s.file, dtype="float32")[0] for s in sources if isinstance(s, Segment)]
            inputs = extractor(waveforms, sampling_rate=RATE, return_tensors="pt", padding=True).to(device)
            states = model(**inputs).last_hidden_state
            counts = [int(model._get_feat_extract_output_lengths(len(waveform))) for waveform in waveforms]
            vectors += [row[:count].mean(0).cpu().numpy() for row, count in zip(states, counts, strict=True)]
            computed, real = computed + inputs["input_values"].numel(), real + sum(map(len, waveforms))
        return Result(np.stack(vectors), computed / real)

    return run


def stock_text(folder: Path, device: str, requests: Sequence[Request], size: int) -> Callable[[], Result]:
    """Return the loop over batches of `size` texts."""
    model = load_stock(RobertaModel, folder, device, add_pooling_layer=False)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)

    @torch.inference_mode()
    def run() -> Result:
        vectors, computed, real = [], 0, 0
        for start in range(0, len(requests), size):
            sources = [request.source for request in requests[start : start + size]]
            texts = [source.text for source in sources if isinstance(source, Words)]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False).to(device)
            states = model(**inputs).last_hidden_state
            counts = inputs["attention_mask"].sum(1).tolist()
            vectors += [row[1 : count - 1].mean(0).cpu().numpy() for row, count in zip(states, counts, strict=True)]
            computed, real = computed + inputs["input_ids"].numel(), real + sum(counts)
        return Result(np.stack(vectors), computed / real)

    return run


def ours(encoder: Encoder, device: str, requests: Sequence[Request], workers: int) -> Callable[[], Result]:
    """Return this project's extraction, from files to vectors."""

    def run() -> Result:
        done = Extraction()
        pairs = embed(encoder, requests, done, device=device, workers=workers, batch_budget=None)
        found = {request.key: embedding.values[0] for request, embedding in pairs}
        return Result(np.stack([found[request.key] for request in requests]), (done.size + done.padding) / done.size)

    return run


def bare(encoder: Any, device: str, extract: Callable[[], Result]) -> Callable[[], Result]:
    """Record the forward passes of an extraction once, and return what repeats them."""
    lengths = encoder.front_end.lengths if encoder.sampling_rate else Lengths()
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Lengths]] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = Lengths()
        state.set(lengths.samples, lengths.frames)
        calls.append((args, kwargs, state))

    hook = encoder.model.register_forward_pre_hook(record, with_kwargs=True)
    padding = extract().padding
    hook.remove()

    @torch.inference_mode()
    def run() -> Result:
        with full_float32():
            for args, kwargs, state in calls:
                lengths.set(state.samples, state.frames)
                encoder.model(*args, **kwargs)
        if device != "cpu":
            torch.cuda.synchronize()
        return Result(None, padding)

    return run


def make_ways(folder: Path, modality: str, requests: Sequence[Request], device: str, workers: int) -> list[Way]:
    """Return all ways to embed these requests; those that cannot be run here say why."""
    stock = stock_audio if modality == "audio" else stock_text
    return [
        Way("(a) one at a time", stock(folder / modality, device, requests, 1)),
        Way(f"(b) batches of {BATCH} as they come", stock(folder / modality, device, requests, BATCH)),
        *our_ways(folder / modality, "fp32", requests, device, workers),
        *our_ways(folder / modality, "bf16", requests, device, workers),
        *(peer_way(peer, folder / modality, requests, device) for peer in PEERS[modality]),
    ]


def our_ways(
    checkpoint: Path, precision: str, requests: Sequence[Request], device: str, workers: int
) -> tuple[Way, Way]:
    """Return this project's extraction and its limit."""
    names = f"(c) this project, {precision}", f"(d) bare forward passes, {precision}"
    if precision == "bf16" and not has_bfloat16(device):
        why = "no bf16 instructions here"
        return Way(names[0], None, why), Way(names[1], None, why)
    encoder = load_encoder(f"hf:{checkpoint}", device=device, precision=precision, max_seconds=LONGEST_WINDOW)
    run = ours(encoder, device, requests, workers)
    limit = Way(names[1], bare(encoder, device, run))
    return Way(names[0], run, limit=limit), limit


def peer_way(peer: Peer, checkpoint: Path, requests: Sequence[Request], device: str) -> Way:
    """Return how another package embeds these requests."""
    name = f"{peer.package} {peer.version or ''}".rstrip() + f", {peer.how}"
    if peer.version is None:
        return Way(name, None, "not installed")
    if device not in peer.devices:
        return Way(name, None, f"not run on {device}")
    progress(f"loading {name}")
    with redirect_stdout(sys.stderr):
        embed_all = peer.make(checkpoint, device, requests)
    return Way(name, lambda: Result(embed_all(), None))


def make_window_ways(folder: Path, requests: Sequence[Request], device: str, workers: int) -> list[Way]:
    """Return Whisper's windows, by this project's extraction."""
    name, precision = f"hf:{folder / 'whisper'}", "bf16" if has_bfloat16(device) else "fp32"
    encoders = {
        window: load_encoder(name, device=device, precision=precision, window=window) for window in ("full", "tight")
    }
    return [
        Way(f"({letter}) {window}, {encoder.spec.precision}", ours(encoder, device, requests, workers))
        for letter, (window, encoder) in zip("ab", encoders.items(), strict=True)
    ]


def measure(ways: Sequence[Way], rounds: int, device: str) -> None:
    """Run all ways in turn, each round starting with another; the first pass of each is not counted."""
    able = [(way, way.run) for way in ways if way.run is not None]
    for way, run in able:
        progress(f"{way.name}, first pass")
        way.result = run()
    for index in range(rounds):
        progress(f"round {index + 1} of {rounds}")
        for way, run in (*able[index % len(able) :], *able[: index % len(able)]):
            before = reset_memory_peak(device)
            started, worked = perf_counter(), process_time()
            run()
            way.processor_seconds.append(process_time() - worked)
            way.seconds.append(perf_counter() - started)
            way.memory.append(highest_memory(device) - before)


def progress(what: str) -> None:
    """Say what is being done, where it is not taken for a table."""
    print(what, file=sys.stderr, flush=True)


def reset_memory_peak(device: str) -> float:
    """Return the MB in use, and start counting the highest use anew."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    Path("/proc/self/clear_refs").write_text("5")
    return memory()


def highest_memory(device: str) -> float:
    """Return the most MB in use since `reset_memory_peak`."""
    return torch.cuda.max_memory_allocated() / 1e6 if device != "cpu" else peak_memory()


def table(ways: Sequence[Way], amount: float, unit: str) -> Iterator[str]:
    """Yield the Markdown table; `amount` is what one pass embeds, in `unit` times seconds."""
    yield f"| way | {unit} | x (a) | x (d) | padded/real | memory (MB) | largest difference from (a) | least cosine |"
    yield "|---|---|---|---|---|---|---|---|"
    for way in ways:
        yield f"| {' | '.join((way.name, *cells(way, ways[0], amount)))} |"


def cells(way: Way, first: Way, amount: float) -> tuple[str, ...]:
    """Return the cells of a way's row, the first way being what it is compared with."""
    if way.result is None:
        return way.why, *[""] * 6
    return (
        f"{amount / median(way.seconds):.1f}",
        faster(way, first),
        faster(way, way.limit) if way.limit else "",
        f"{way.result.padding:.2f}" if way.result.padding else "",
        f"{median(way.memory):.0f}",
        *differences(way.result, first.result),
    )


def faster(way: Way, other: Way) -> str:
    """Tell how much faster one way is than another, and on a CPU the same by processor time."""
    by_clock = _ratio(other.seconds, way.seconds)
    by_processor = _ratio(other.processor_seconds, way.processor_seconds)
    return f"{by_clock:.2f}" if torch.cuda.is_available() else f"{by_clock:.2f} ({by_processor:.2f})"


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    return median(one / other for one, other in zip(some, others, strict=True))


def differences(result: Result | None, reference: Result | None) -> tuple[str, str]:
    """Return the largest difference of an utterance relative to its norm, and the least cosine."""
    if result is None or reference is None or result.vectors is None or reference.vectors is None:
        return "", ""
    found, expected = result.vectors.astype(np.float64), reference.vectors.astype(np.float64)
    norms = np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(1) / norms / np.linalg.norm(found, axis=1)
    return f"{(np.linalg.norm(found - expected, axis=1) / norms).max():.1e}", f"{cosines.min():.7f}"


def tables(folder: Path, counts: tuple[int, int], rounds: int, device: str, workers: int) -> Iterator[str]:
    """Measure, and yield the three tables; `counts` are of utterances of speech and of words."""
    save_encoders(folder)
    speech, texts = write_speech(folder, counts[0]), make_texts(counts[1])
    seconds = sum(map(cost, speech))
    kinds: tuple[tuple[str, Sequence[Request], float, str], ...] = (
        ("audio", speech, seconds, "x real time"),
        ("text", texts, len(texts), "utterances/s"),
    )
    for modality, requests, amount, unit in kinds:
        yield from (f"**{modality.capitalize()}**, {len(requests)} utterances:", "")
        ways = make_ways(folder, modality, requests, device, workers)
        measure(ways, rounds, device)
        yield from (*table(ways, amount, unit), "")
    yield from (f"**Whisper's windows**, {len(speech)} utterances:", "")
    ways = make_window_ways(folder, speech, device, workers)
    measure(ways, rounds, device)
    yield from table(ways, seconds, "x real time")


def main() -> None:
    """Run everything in a temporary folder."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--utterances", type=int, default=16, help="of speech (default: 16)")
    parser.add_argument("--texts", type=int, default=48, help="of words (default: 48)")
    parser.add_argument("--rounds", type=int, default=3, help="of all ways (default: 3)")
    parser.add_argument("--workers", type=int, default=0, help="decoding processes of (c) (default: 0)")
    options = parser.parse_args()
    quiet_transformers()
    add_other_packages()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how = f"{torch.cuda.get_device_name() if device == 'cuda' else 'on the processor'}, rounds: {options.rounds}"
    with tempfile.TemporaryDirectory() as name:
        counts = options.utterances, options.texts
        lines = tables(Path(name), counts, options.rounds, device, options.workers)
        publish(lines, script="extraction.py", write=options.write, how=how)


if __name__ == "__main__":
    main()
