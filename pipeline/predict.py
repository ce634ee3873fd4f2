"""Stage 4, predict: new recordings -> emotion timelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from model import EmotionModel, load_model
from pipeline.cli import module_main
from pipeline.config import PredictionConfig, parse_config
from pipeline.console import quiet_transformers, say, show, show_table
from pipeline.devices import resolve_device
from pipeline.dialogues import NO_LABEL, make_dialogue
from pipeline.embeddings import Embeddings, Plan, Problem, plan_audio, plan_text, stack_embeddings
from pipeline.errors import PipelineError, UsageError, shorten
from pipeline.extraction import Extraction, embed
from pipeline.inference import FUSED, Prediction, predict_dialogues
from pipeline.manifest import Utterance
from pipeline.recordings.transcripts import Transcript, find_transcript, read_transcript
from pipeline.reports.timeline import TimelineRow, write_timeline
from pipeline.runs import BEST_FOLDER

if TYPE_CHECKING:
    from feature_extractors import Encoder

# Where `export --bundle-encoders` puts them, in the model's folder.
BUNDLED_ENCODERS = "encoders"


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("predict", arguments, PredictionConfig)
    if not config.recordings or config.model is None:
        raise UsageError("give at least one recording and --model RUN_OR_FOLDER")
    if config.transcript and len(config.recordings) > 1:
        raise UsageError("--transcript belongs to one recording; put several beside their recordings, by name")
    pipeline = EmotionPipeline.from_pretrained(
        config.model,
        device=config.device,
        encoders={"audio": config.audio_encoder, "text": config.text_encoder},
        workers=config.workers,
    )
    for recording in config.recordings:
        rows = pipeline(recording, transcript=config.transcript)
        paths = write_timeline(rows, Path(config.out), Path(recording).stem)
        print_timeline(rows, title=recording)
        show(f"timeline: {shorten(paths)}")
    return 0


def print_timeline(rows: Sequence[TimelineRow], *, title: str) -> None:
    """Print a timeline as a table."""
    cells = [
        (
            f"{row.start:7.1f}",
            row.speaker or "-",
            row.label,
            f"{row.probability:.2f}",
            row.weights_text,
            row.text or "-",
        )
        for row in rows
    ]
    show_table(title, ("start (s)", "speaker", "emotion", "probability", "weight of", "text"), cells)


@dataclass(frozen=True)
class EmotionPipeline:
    """A trained model with its encoders: loaded once, called for many recordings.

    Example:
        pipeline = EmotionPipeline.from_pretrained("work/demo/runs/default")
        rows = pipeline("call.wav", transcript="call.srt")
    """

    model: EmotionModel
    encoders: dict[str, Encoder]
    device: str
    workers: int

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str = "auto",
        encoders: dict[str, str | None] | None = None,
        workers: int = 0,
    ) -> EmotionPipeline:
        """Load a model and the encoders that it names.

        Args:
            folder: a run folder, or a folder that `save_pretrained` or the export stage wrote.
            encoders: names to use where an encoder is no longer where the model says, by modality.

        Raises:
            PipelineError: the folder holds no model, or an encoder is not the one that the model was trained with.
        """
        quiet_transformers()
        folder = model_folder(Path(folder))
        device = resolve_device(device)
        model = load_model(folder).eval()
        model.to(torch.device(device))  # type: ignore[arg-type]
        loaded = {
            modality: _load_encoder(spec, folder / BUNDLED_ENCODERS / modality, (encoders or {}).get(modality), device)
            for modality, spec in model.config.encoders.items()
        }
        return cls(model, loaded, device, workers)

    def __call__(self, recording: str | Path, transcript: str | Path | Transcript | None = None) -> list[TimelineRow]:
        """Label every turn of a recording.

        Args:
            recording: an audio file.
            transcript: its turns with times; None takes the file of the same name beside the recording.

        Raises:
            PipelineError: a file cannot be read, or a turn does not lie in the recording; names the file and turn.
        """
        recording = Path(recording)
        turns = _read_turns(recording, transcript)
        utterances = [
            Utterance(
                dialogue_id=recording.stem,
                utterance_id=f"turn {number}",
                audio=recording.name,
                start=turn.start,
                end=turn.end,
                text=turn.text or None,
                speaker=turn.speaker,
            )
            for number, turn in enumerate(turns, start=1)
        ]
        embeddings = self._embed(utterances, recording)
        dialogue = make_dialogue(recording.stem, utterances, [NO_LABEL] * len(utterances), embeddings)
        temperature = float(getattr(self.model.config, "calibration_temperature", 1.0))
        predictions = predict_dialogues(self.model, [dialogue], temperature=temperature)
        return [self._row(u, p) for u, p in zip(utterances, predictions, strict=True)]

    def _embed(self, utterances: Sequence[Utterance], recording: Path) -> dict[str, Embeddings]:
        return {name: self._embed_modality(name, utterances, recording) for name in self.encoders}

    def _embed_modality(self, modality: str, utterances: Sequence[Utterance], recording: Path) -> Embeddings:
        encoder = self.encoders[modality]
        plan = self._plan(modality, utterances, recording)
        extraction = Extraction(problems=list(plan.problems))
        rows = embed(encoder, plan.requests, extraction, device=self.device, workers=self.workers, batch_budget=None)
        values = {request.utterance_id: embedding.values for request, embedding in rows}
        _refuse_problems(extraction.problems, recording)
        return stack_embeddings(values, empty_shape=(encoder.n_layers, encoder.width))

    def _plan(self, modality: str, utterances: Sequence[Utterance], recording: Path) -> Plan:
        if modality == "text":
            return plan_text(utterances, int(self.model.config.text_context_turns))
        return plan_audio(utterances, str(recording.parent), None)

    def _row(self, utterance: Utterance, prediction: Prediction) -> TimelineRow:
        names = class_names(self.model)
        probabilities = prediction.probabilities[FUSED]
        return TimelineRow(
            utterance=utterance.utterance_id,
            start=float(utterance.start or 0.0),
            end=float(utterance.end or 0.0),
            speaker=utterance.speaker,
            text=utterance.text,
            label=names[prediction.guess()],
            probabilities={names[number]: value for number, value in enumerate(probabilities)},
            modality_weights=prediction.weights,
        )


def class_names(model: EmotionModel) -> list[str]:
    """The model's classes, in the order of their numbers."""
    return [str(name) for _, name in sorted((model.config.id2label or {}).items())]


def model_folder(folder: Path) -> Path:
    """A run folder's best model, or the folder itself."""
    for candidate in (folder / BEST_FOLDER, folder):
        if (candidate / "config.json").exists():
            return candidate
    raise PipelineError(
        f"{folder}: holds no trained model; name a run folder (work/NAME/runs/RUN) or an exported model"
    )


def _load_encoder(spec: dict[str, Any], bundled: Path, elsewhere: str | None, device: str) -> Encoder:
    """The encoder of a checkpoint: where the user points, else in the model's folder, else by its name."""
    from feature_extractors import load_encoder, resolve_spec

    name = elsewhere or (f"hf:{bundled}" if bundled.is_dir() else spec["name"])
    settings = {key: spec[key] for key in ("modality", "layers", "pooling", "precision", "trust_remote_code")}
    if spec["max_seconds"] is not None:
        settings["max_seconds"] = spec["max_seconds"]
    found = resolve_spec(name, **settings)
    if found.fingerprint != spec["fingerprint"]:
        raise PipelineError(
            f"{name}: is not the {spec['modality']} encoder that the model was trained with ({spec['name']}): its "
            f"fingerprint is {found.fingerprint[:12]}, not {spec['fingerprint'][:12]}; point to the right one by "
            f"--{spec['modality']}_encoder"
        )
    return load_encoder(found, device=device)


def _read_turns(recording: Path, transcript: str | Path | Transcript | None) -> Sequence[Any]:
    if not recording.is_file():
        raise PipelineError(f"{recording}: no such recording")
    if not isinstance(transcript, Transcript):
        path = Path(transcript) if transcript else find_transcript(recording)
        if path is None:
            raise PipelineError(
                f"{recording}: has no transcript beside it (.srt, .vtt, .csv, .json); name one by --transcript"
            )
        transcript = read_transcript(path, recording=recording.stem)
    for warning in transcript.warnings:
        say(f"warning: {warning}")
    if not transcript.turns:
        raise PipelineError(f"{transcript.path}: has no turns; transcribe the recording first")
    if not transcript.has_times:
        raise PipelineError(f"{transcript.path}: its turns have no times; give a transcript with times, such as SRT")
    return transcript.turns


def _refuse_problems(problems: Sequence[Problem], recording: Path) -> None:
    if problems:
        listed = "; ".join(f"{problem.utterance_id} {problem.message}" for problem in problems[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise PipelineError(f"{recording}: {listed}{more}")


if __name__ == "__main__":
    module_main("predict")
