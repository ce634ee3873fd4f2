"""From a recording to all outputs: how fast, which step takes how much, and what a long recording costs in memory.

Run `python benchmarks/predict.py`; it prints Markdown tables, and `--write` puts them into docs/benchmarks.md. The
recording is that of the demo, repeated; the model has random weights, which changes no cost. `base` encoders have the
sizes of wav2vec2-base and roberta-base, `demo` ones are those of the demo, with which two hours take minutes. Each row
has its own process, so that its peak memory is only its own. Shares are of the time by the clock.

The second table is the network that finds speech: as this project runs it, decoding included, and as silero-vad's own
package does, frame by frame over a waveform that is decoded already.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import soundfile
from page import ROOT, make_parser, publish
from processes import in_a_process, memory, peak_memory

DEMO = ROOT / "examples" / "demo"
RECORDING = DEMO / "recording" / "recording.flac"
STEPS = ("turns", "decoding", "audio encoder", "text encoder", "model", "outputs")
RATE = 16_000
ENCODERS = ("audio encoder", "text encoder")
VOICE_ACTIVITY = ("this project", "the package, frame by frame")


def make_recording(folder: Path, repeats: int) -> Path:
    """Repeat the demo recording, with its transcript; write it piece by piece."""
    waveform, rate = soundfile.read(RECORDING, dtype="int16")
    path = folder / f"{repeats}-times.wav"
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as sound:
        for _ in range(repeats):
            sound.write(waveform)
    lines = list(_repeated(len(waveform) / rate, repeats))
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def repeats_of(minutes: float) -> int:
    """Return how often the demo recording is to be repeated to last so long."""
    return max(1, round(minutes * 60 / soundfile.info(RECORDING).duration))


def _repeated(seconds: float, repeats: int) -> Iterator[dict[str, object]]:
    from lpgnet.pipeline.recordings.transcripts import read_transcript

    turns = read_transcript(RECORDING.with_suffix(".srt")).turns
    for repeat in range(repeats):
        for turn in turns:
            start, end = ((time or 0.0) + repeat * seconds for time in (turn.start, turn.end))
            yield {"start": start, "end": end, "text": turn.text, "speaker": turn.speaker}


def make_base_encoders(folder: Path) -> dict[str, Path]:
    """Save encoders with random weights in the sizes of wav2vec2-base and roberta-base."""
    from transformers import (
        AutoTokenizer,
        RobertaConfig,
        RobertaModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2Model,
    )

    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "audio")
    Wav2Vec2FeatureExtractor().save_pretrained(folder / "audio")
    AutoTokenizer.from_pretrained(DEMO / "encoders" / "text").save_pretrained(folder / "text")
    RobertaModel(RobertaConfig(vocab_size=50_265, max_position_embeddings=514, pad_token_id=1)).save_pretrained(
        folder / "text"
    )
    return {name: folder / name for name in ("audio", "text")}


def make_model(folder: Path, encoders: dict[str, Path]) -> Path:
    """Save an LPGNet with random weights for these encoders."""
    from lpgnet.feature_extractors import load_encoder, resolve_spec
    from lpgnet.model import build_model

    specs = {
        name: resolve_spec(f"hf:{path}", modality=name, layers="all", precision="fp32")
        for name, path in encoders.items()
    }
    loaded = {name: load_encoder(spec) for name, spec in specs.items()}
    sizes = {name: [encoder.n_layers, encoder.width] for name, encoder in loaded.items()}
    described = {name: spec.to_dict() for name, spec in specs.items()}
    build_model("lpgnet", input_sizes=sizes, encoders=described).save_pretrained(folder)
    return folder


def make_demo_model(folder: Path) -> Path:
    """Save an LPGNet with random weights for copies of the demo's encoders."""
    copies = {name: folder / "encoders" / name for name in ("audio", "text")}
    for name, copy in copies.items():
        shutil.copytree(DEMO / "encoders" / name, copy)
    return make_model(folder / "model", copies)


def measure(recording: Path, model: Path, modalities: str) -> dict[str, Any]:
    """Label one recording and return what it took; call it in a fresh process."""
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
    from lpgnet.pipeline.reports.config import PageConfig
    from lpgnet.pipeline.reports.timeline import check_formats, write_timeline

    pipeline = EmotionPipeline.from_pretrained(model, device="cpu", modalities=modalities, diarizer="none")
    loaded = memory()
    if modalities == "audio":
        recording = _without_transcript(recording)
    with tempfile.TemporaryDirectory() as out:
        started, worked = perf_counter(), process_time()
        timeline = pipeline.label_recording(recording)
        with pipeline.seconds.of("outputs"):
            write_timeline(timeline, Path(out), check_formats("all"), PageConfig())
        total, cpu = perf_counter() - started, process_time() - worked
    return {
        "audio": timeline.seconds,
        "turns": len(timeline.rows),
        "total": total,
        "cpu": cpu,
        "steps": pipeline.seconds.steps,
        "loaded": loaded,
        "peak": peak_memory(),
    }


def _without_transcript(recording: Path) -> Path:
    """Link the recording in a folder that holds no transcript."""
    link = recording.parent / "without transcript" / recording.name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(recording)
    return link


def measure_voice_activity(recording: Path, way: str) -> dict[str, float]:
    """Return the processor seconds that finding speech takes in an hour; call it in a fresh process."""
    find = find_speech_here(recording) if way == VOICE_ACTIVITY[0] else find_speech_by_package(recording)
    started = process_time()
    find()
    return {"cpu": 3600 * (process_time() - started) / soundfile.info(recording).duration}


def find_speech_here(recording: Path) -> Callable[[], object]:
    """Return what finds speech as this project does."""
    from lpgnet.pipeline.corpora.audio import describe, segment_of
    from lpgnet.pipeline.corpora.voice_activity import load_network, probabilities_of

    load_network()
    segment = segment_of(str(recording), describe(str(recording)), start=None, end=None, channel=None)
    return lambda: probabilities_of(segment)


def find_speech_by_package(recording: Path) -> Callable[[], object]:
    """Return what finds speech as silero-vad does."""
    import torch
    from silero_vad import load_silero_vad

    network, waveform = load_silero_vad(), torch.from_numpy(soundfile.read(recording, dtype="float32")[0])
    return lambda: network.audio_forward(waveform, RATE)


def run(recording: Path, model: Path, modalities: str) -> dict[str, Any]:
    """Measure in a fresh process."""
    return in_a_process(__file__, "--measure", recording, model, modalities)


def row(encoders: str, modalities: str, result: dict[str, Any]) -> str:
    """Return one row of the table."""
    total, steps = result["total"], result["steps"]
    shares = [steps.get(step, 0.0) / total for step in STEPS]
    encoding = sum(steps.get(step, 0.0) for step in ENCODERS) / total
    cells = [
        encoders,
        "transcript" if modalities == "all" else "voice activity",
        f"{result['audio'] / 60:.1f} min",
        str(result["turns"]),
        f"{total / result['audio']:.4f}",
        f"{3600 * result['cpu'] / result['audio']:.1f}",
        *(f"{share:.1%}" for share in shares),
        f"{1 - sum(shares):.1%}",
        f"{1 - encoding:.1%}",
        f"{result['loaded'] / 1000:.2f} GB",
        f"{result['peak'] / 1000:.2f} GB",
    ]
    return f"| {' | '.join(cells)} |"


def table(folder: Path, lengths: list[tuple[str, float]]) -> Iterator[str]:
    """Yield the lines of the first table: the encoders and minutes of each recording."""
    before = ("encoders", "turns by", "audio", "turns", "real time factor", "CPU seconds an hour")
    columns = (*before, *STEPS, "other", "not encoders", "memory: loaded", "peak")
    yield "**A recording, from the file to all eight outputs**"
    yield ""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    models = {"demo": make_demo_model(folder / "demo")}
    if any(encoders == "base" for encoders, _ in lengths):
        models["base"] = make_model(folder / "base", make_base_encoders(folder / "encoders"))
    for encoders, minutes in lengths:
        recording = make_recording(folder, repeats_of(minutes))
        for modalities in ("all", "audio"):
            yield row(encoders, modalities, run(recording, models[encoders], modalities))


def voice_activity_table(folder: Path, minutes: float) -> Iterator[str]:
    """Yield the lines of the second table."""
    recording = make_recording(folder, repeats_of(minutes))
    found = [in_a_process(__file__, "--voice-activity", recording, way)["cpu"] for way in VOICE_ACTIVITY]
    yield ""
    yield "**Finding speech**"
    yield ""
    yield "| by | CPU seconds an hour | x |"
    yield "|---|---|---|"
    for way, seconds in zip(VOICE_ACTIVITY, found, strict=True):
        yield f"| {way} | {seconds:.1f} | {seconds / found[0]:.1f} |"


def main() -> None:
    """Measure every row and print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--base-minutes", type=float, default=3.0, help="length for the base encoders; 0 leaves them out"
    )
    parser.add_argument("--minutes", type=float, nargs="*", default=[10.0, 120.0], help="lengths for the demo encoders")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--voice-activity", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        recording, model, modalities = options.measure
        print(json.dumps(measure(Path(recording), Path(model), modalities)))
    elif options.voice_activity:
        recording, way = options.voice_activity
        print(json.dumps(measure_voice_activity(Path(recording), way)))
    else:
        base = [("base", options.base_minutes)] if options.base_minutes else []
        lengths = [*base, *(("demo", minutes) for minutes in options.minutes)]
        with tempfile.TemporaryDirectory() as folder:
            lines = chain(table(Path(folder), lengths), voice_activity_table(Path(folder), min(options.minutes)))
            publish(
                lines, script="predict.py", write=options.write, how="one recording a row, threads as `predict` chooses"
            )


if __name__ == "__main__":
    main()
