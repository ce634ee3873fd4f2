"""From a recording to all outputs: how fast, which step takes how much, and what a long recording costs in memory.

Run `python benchmarks/predict.py`; it prints a Markdown table. The recording is that of the demo, repeated; the model
has random weights, which changes no cost. `base` encoders have the sizes of wav2vec2-base and roberta-base, `demo` ones
are those of the demo, with which two hours take minutes. Each row has its own process, so that its peak memory is only
its own.
"""

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import soundfile

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
RECORDING = DEMO / "recording" / "recording.flac"
STEPS = ("turns", "decoding", "audio encoder", "text encoder", "model", "outputs")
ENCODERS = ("audio encoder", "text encoder")


def make_recording(folder: Path, minutes: float) -> Path:
    """Repeat the demo recording, with its transcript; write it piece by piece."""
    waveform, rate = soundfile.read(RECORDING, dtype="int16")
    path = folder / f"{minutes:g}-minutes.wav"
    repeats = max(1, round(minutes * 60 * rate / len(waveform)))
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as sound:
        for _ in range(repeats):
            sound.write(waveform)
    lines = list(_repeated(len(waveform) / rate, repeats))
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


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


def measure(recording: Path, model: Path, modalities: str) -> None:
    """Label one recording and print what it took as JSON; call it in a fresh process."""
    import torch

    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
    from lpgnet.pipeline.reports.config import PageConfig
    from lpgnet.pipeline.reports.timeline import check_formats, write_timeline

    pipeline = EmotionPipeline.from_pretrained(model, device="cpu", modalities=modalities)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if modalities == "audio":
        recording = _without_transcript(recording)
    with tempfile.TemporaryDirectory() as out:
        started, worked = perf_counter(), process_time()
        timeline = pipeline.label_recording(recording)
        with pipeline.seconds.of("outputs"):
            write_timeline(timeline, Path(out), check_formats("all"), PageConfig())
        total, cpu = perf_counter() - started, process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    result = {
        "audio": timeline.seconds,
        "turns": len(timeline.rows),
        "total": total,
        "cpu": cpu,
        "steps": pipeline.seconds.steps,
    }
    print(json.dumps(result | {"loaded": loaded, "peak": peak, "threads": torch.get_num_threads()}))


def _without_transcript(recording: Path) -> Path:
    """Link the recording in a folder that holds no transcript."""
    link = recording.parent / "without transcript" / recording.name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(recording)
    return link


def run(recording: Path, model: Path, modalities: str) -> dict[str, Any]:
    """Call `measure` in a fresh process and return what it printed."""
    command = [sys.executable, __file__, "--measure", str(recording), str(model), modalities]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def show_header() -> None:
    """Print the machine and the head of the table."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    print(f"{len(names)} x {names[0]}, {platform.system()}, Python {platform.python_version()}\n")
    before = ("encoders", "turns by", "audio", "turns", "real time factor", "CPU seconds an hour")
    after = ("other", "not encoders", "memory: loaded", "peak")
    columns = (*before, *STEPS, *after)
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


def show(encoders: str, modalities: str, result: dict[str, Any]) -> None:
    """Print one row of the table."""
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
        f"{result['loaded']:.2f} GB",
        f"{result['peak']:.2f} GB",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Measure every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--base-minutes", type=float, default=3.0, help="length for the base encoders; 0 leaves them out"
    )
    parser.add_argument("--minutes", type=float, nargs="*", default=[10.0, 120.0], help="lengths for the demo encoders")
    parser.add_argument("--measure", nargs=3, metavar=("RECORDING", "MODEL", "MODALITIES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure[0]), Path(options.measure[1]), options.measure[2])
        return
    show_header()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copies = {name: folder / "demo encoders" / name for name in ("audio", "text")}
        for name, copy in copies.items():
            shutil.copytree(DEMO / "encoders" / name, copy)
        models = {"demo": make_model(folder / "demo", copies)}
        lengths = [("demo", minutes) for minutes in options.minutes]
        if options.base_minutes:
            models["base"] = make_model(folder / "base", make_base_encoders(folder / "encoders"))
            lengths.insert(0, ("base", options.base_minutes))
        for encoders, minutes in lengths:
            recording = make_recording(folder, minutes)
            for modalities in ("all", "audio"):
                show(encoders, modalities, run(recording, models[encoders], modalities))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
