"""Stage 4, predict: new recordings -> emotion timelines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lpgnet.model import EmotionModel, load_model
from lpgnet.pipeline.cli import module_main
from lpgnet.pipeline.common.console import quiet_transformers, say, show, show_table
from lpgnet.pipeline.common.processes import resolve_device
from lpgnet.pipeline.common.stamps import is_fresh, stat_of, write_stamp
from lpgnet.pipeline.config import PredictionConfig, check_prediction, parse_config
from lpgnet.pipeline.corpora.audio import describe
from lpgnet.pipeline.corpora.manifest import MANIFEST_FILE, Utterance
from lpgnet.pipeline.embeddings.extraction import Extraction, embed
from lpgnet.pipeline.embeddings.plan import Embeddings, Plan, Problem, plan_audio, plan_text, stack_embeddings
from lpgnet.pipeline.errors import PipelineError, UsageError, shorten
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction, predict_in_windows, temperature_of
from lpgnet.pipeline.recordings.media import decodable
from lpgnet.pipeline.recordings.sources import DialogueSource, RecordingSource, Source, find_sources
from lpgnet.pipeline.recordings.transcripts import Transcript, find_transcript
from lpgnet.pipeline.recordings.turns import TurnFinder, Turns, TurnSettings
from lpgnet.pipeline.recordings.voice_activity import SpeechSettings
from lpgnet.pipeline.reports.page import PageSettings
from lpgnet.pipeline.reports.timeline import Timeline, TimelineRow, check_formats, output_paths, write_timeline
from lpgnet.pipeline.training.dialogues import NO_LABEL, make_dialogue
from lpgnet.pipeline.training.runs import BEST_FOLDER

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder
    from lpgnet.pipeline.recordings.speech_models import SpeechModel

# Where `export --bundle-encoders` puts them, in the model's folder.
BUNDLED_ENCODERS = "encoders"
# What each timeline was made from, below the output folder.
STAMPS = ".made-from"
# Raised when the same inputs give other outputs, so that finished ones are made anew.
OUTPUT_VERSION = 1
# Fields that say where and how fast, but not what comes out.
_NOT_IN_STAMPS = ("recordings", "transcript", "out", "again", "device", "workers", "formats")
# Longest timeline that is printed whole (turns).
PRINTED_TURNS = 60


def main(arguments: Sequence[str]) -> int:
    """Run the stage from the command line; returns the exit code."""
    config = parse_config("predict", arguments, PredictionConfig)
    if not config.recordings or config.model is None:
        raise UsageError("give at least one recording and --model RUN_OR_FOLDER")
    check_formats(config.formats)
    sources = find_sources(config.recordings, config.transcript)
    if not sources:
        raise PipelineError(f"{shorten(config.recordings)}: holds no recordings")
    if config.transcript and len(sources) > 1:
        raise UsageError("--transcript belongs to one recording; put several beside their recordings, by name")
    return _label_all(sources, config, debug="--debug" in arguments)


def _label_all(sources: Sequence[Source], config: PredictionConfig, *, debug: bool) -> int:
    """Label what is not done yet; what fails is told at the end and stops nothing else."""
    waiting = [source for source in sources if config.again or not _is_done(source, config)]
    if len(waiting) < len(sources):
        say(f"up to date: {len(sources) - len(waiting)} of {len(sources)} (--again true labels them again)")
    if not waiting:
        return 0
    _check_writable(Path(config.out))
    pipeline = EmotionPipeline.from_config(config)
    failures: list[tuple[Source, Exception]] = []
    for number, source in enumerate(waiting, start=1):
        try:
            _label_one(source, pipeline, config)
        except Exception as error:
            if debug or len(sources) == 1:
                raise
            say(f"failed: {_name(source)}: {error}")
            failures.append((source, error))
        if len(waiting) > 1:
            say(f"{number} of {len(waiting)}: {_name(source)}")
    return _conclude(failures, len(waiting))


def _conclude(failures: Sequence[tuple[Source, Exception]], n_sources: int) -> int:
    for source, error in failures:
        show(f"failed: {_name(source)}: {' '.join(str(error).split())}")
    if failures:
        raise PipelineError(f"{len(failures)} of {n_sources} recordings could not be labelled; the rest is done")
    return 0


def _label_one(source: Source, pipeline: EmotionPipeline, config: PredictionConfig) -> None:
    stamp = _stamp_inputs(source, config)
    _spare_inputs(source, config)
    timeline = pipeline.label(source)
    for choice in timeline.choices:
        say(choice)
    with pipeline.seconds.of("outputs"):
        page = PageSettings(config.embed_megabytes)
        paths = write_timeline(timeline, Path(config.out), check_formats(config.formats), page)
    # Written last: a timeline without it is made again.
    write_stamp(_stamp_path(source, config), stamp)
    print_timeline(timeline.rows, title=_name(source))
    show(f"timeline: {shorten(paths, most=9)}")


def _spare_inputs(source: Source, config: PredictionConfig) -> None:
    """Refuse to write a timeline over the recording or the transcript that it is made from."""
    outputs = output_paths(Path(config.out), source.name, check_formats(config.formats)).values()
    if taken := {path.resolve() for path in outputs} & {path.resolve() for path in source.files}:
        raise PipelineError(
            f"{shorten(sorted(taken))} would be overwritten by the timeline; name another folder by --out"
        )


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".try-"):
            pass
    except OSError as error:
        raise PipelineError(f"{out}: cannot be written ({error.strerror}); name another folder by --out") from None


def _name(source: Source) -> str:
    return str(source.recording) if isinstance(source, RecordingSource) else f"dialogue {source.name}"


def _stamp_path(source: Source, config: PredictionConfig) -> Path:
    return Path(config.out) / STAMPS / f"{source.name}.json"


def _stamp_inputs(source: Source, config: PredictionConfig) -> dict[str, Any]:
    """All that a timeline depends on."""
    model = model_folder(Path(config.model or ""))
    return {
        "version": OUTPUT_VERSION,
        "files": stat_of(source.files),
        "model": stat_of([model / "config.json", model / "model.safetensors"]),
        "settings": {name: value for name, value in asdict(config).items() if name not in _NOT_IN_STAMPS},
    }


def _is_done(source: Source, config: PredictionConfig) -> bool:
    paths = output_paths(Path(config.out), source.name, check_formats(config.formats))
    written = all(path.is_file() for path in paths.values())
    return written and is_fresh(_stamp_path(source, config), _stamp_inputs(source, config))


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
        for row in rows[:PRINTED_TURNS]
    ]
    show_table(title, ("start (s)", "speaker", "emotion", "probability", "weight of", "text"), cells)
    if len(rows) > PRINTED_TURNS:
        show(f"... and {len(rows) - PRINTED_TURNS} more turns")


@dataclass
class Seconds:
    """How long each step took, over all calls: what the benchmark shows."""

    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Add the time that the block takes to a step."""
        started = perf_counter()
        try:
            yield
        finally:
            self.add(step, perf_counter() - started)

    def add(self, step: str, seconds: float) -> None:
        """Add to a step."""
        self.steps[step] = self.steps.get(step, 0.0) + seconds


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
    config: PredictionConfig
    seconds: Seconds = field(default_factory=Seconds)
    _speech_models: dict[str, SpeechModel] = field(default_factory=dict)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **settings: Any) -> EmotionPipeline:
        """Load a model and the encoders that it names.

        Args:
            folder: a run folder, or a folder that `save_pretrained` or the export stage wrote.
            settings: fields of `PredictionConfig`, such as `device` or `asr`.

        Raises:
            PipelineError: the folder holds no model, or an encoder is not the one that the model was trained with.
            UsageError: a setting is unknown or makes no sense.
        """
        known = [entry.name for entry in fields(PredictionConfig)]
        for name in settings:
            if name not in known:
                raise UsageError(f"unknown setting '{name}'; known: {', '.join(known)}")
        config = PredictionConfig(model=str(folder), **settings)
        check_prediction(config)
        return cls.from_config(config)

    @classmethod
    def from_config(cls, config: PredictionConfig) -> EmotionPipeline:
        """Load the model that a configuration names, and the encoders of the modalities that it listens for."""
        quiet_transformers()
        folder = model_folder(Path(config.model or ""))
        device = resolve_device(config.device)
        model = load_model(folder).eval()
        model.to(torch.device(device))  # type: ignore[arg-type]
        elsewhere = {"audio": config.audio_encoder, "text": config.text_encoder}
        encoders = {
            modality: _load_encoder(spec, folder / BUNDLED_ENCODERS / modality, elsewhere[modality], device)
            for modality, spec in model.config.encoders.items()
            if config.modalities in ("all", modality)
        }
        if not encoders:
            takes = ", ".join(model.config.encoders)
            raise UsageError(f"key 'modalities': the model takes {takes}, so it cannot go by {config.modalities} alone")
        return cls(model, encoders, device, config)

    def __call__(
        self,
        recording: str | Path | np.ndarray | torch.Tensor,
        transcript: str | Path | Transcript | None = None,
        *,
        sampling_rate: int | None = None,
    ) -> list[TimelineRow]:
        """Label every turn of a recording.

        Args:
            recording: an audio file, or a waveform `(samples,)` or `(samples, channels)`, floating point
                between -1 and 1 or integers at full scale.
            transcript: its turns; None takes the file of the same name beside the recording, or voice activity where
                there is none.
            sampling_rate: of the waveform, in samples per second.

        Raises:
            PipelineError: a file cannot be read, or a turn does not lie in the recording; names the file and turn.
        """
        if isinstance(recording, np.ndarray | torch.Tensor):
            return self._of_waveform(np.asarray(recording), transcript, sampling_rate)
        return list(self.label_recording(Path(recording), transcript).rows)

    def _of_waveform(
        self, waveform: np.ndarray, transcript: str | Path | Transcript | None, sampling_rate: int | None
    ) -> list[TimelineRow]:
        import soundfile

        if sampling_rate is None:
            raise UsageError("a waveform needs its sampling_rate")
        if waveform.ndim > 2 or (waveform.ndim == 2 and waveform.shape[0] < waveform.shape[1]):
            raise UsageError(f"a waveform is (samples,) or (samples, channels), not {waveform.shape}; transpose it")
        if np.issubdtype(waveform.dtype, np.integer):
            waveform = (waveform / (np.iinfo(waveform.dtype).max + 1.0)).astype(np.float32)
        with TemporaryDirectory(prefix="lpgnet-") as folder:
            path = Path(folder) / "waveform.wav"
            soundfile.write(path, waveform, sampling_rate, subtype="FLOAT")
            return self(path, transcript)

    def label(self, source: Source) -> Timeline:
        """The timeline of a source.

        Raises:
            PipelineError: a file cannot be read, or a turn does not lie in the recording; names the file and turn.
        """
        if isinstance(source, DialogueSource):
            return self._label_dialogue(source)
        return self.label_recording(source.recording, source.transcript, name=source.name)

    def label_recording(
        self, recording: Path, transcript: str | Path | Transcript | None = None, *, name: str | None = None
    ) -> Timeline:
        """The timeline of a recording, whose outputs are to have a name."""
        if not recording.is_file():
            raise PipelineError(f"{recording}: no such recording")
        with decodable(recording) as audio:
            info = describe(str(audio))
            with self.seconds.of("turns"):
                turns = self._finder.find(audio, info, transcript or find_transcript(recording))
            utterances = _utterances(audio, turns)
            rows = self._rows(utterances, str(audio.parent), about=str(recording))
        return Timeline(
            name or recording.stem, tuple(rows), recording, info.seconds, turns.choices, str(self.config.model)
        )

    def _label_dialogue(self, source: DialogueSource) -> Timeline:
        """The timeline of a manifest's dialogue; utterances in files of their own are put one after the other."""
        rows = self._rows(source.utterances, source.root, about=source.name)
        files = {utterance.audio for utterance in source.utterances}
        recording = Path(source.root) / str(files.pop()) if len(files) == 1 else None
        if recording is not None and recording.is_file():
            seconds = describe(str(recording)).seconds
        else:
            recording, rows = None, _one_after_the_other(rows, source)
            seconds = rows[-1].end
        choices = (f"turns: {source.manifest / MANIFEST_FILE}",)
        return Timeline(source.name, tuple(rows), recording, seconds, choices, str(self.config.model))

    @cached_property
    def _finder(self) -> TurnFinder:
        config = self.config

        def loader(name: str | None) -> Callable[[], SpeechModel] | None:
            return partial(self._speech_model, name) if name else None

        speech = SpeechSettings(
            threshold=config.vad_threshold,
            release=config.vad_release,
            min_speech=config.vad_min_speech,
            min_silence=config.vad_min_silence,
            padding=config.vad_padding,
        )
        settings = TurnSettings(
            speech=speech,
            per_channel=config.channels == "speakers",
            max_turn=config.max_turn,
            min_turn=config.min_turn,
            max_pause=config.max_pause,
            wants_words="text" in self.encoders,
        )
        return TurnFinder(settings, aligner=loader(config.aligner), recognizer=loader(config.asr))

    def _speech_model(self, name: str) -> SpeechModel:
        from lpgnet.pipeline.recordings.speech_models import load_speech_model

        if name not in self._speech_models:
            self._speech_models[name] = load_speech_model(name, device=self.device)
        return self._speech_models[name]

    def _rows(self, utterances: Sequence[Utterance], root: str, *, about: str) -> list[TimelineRow]:
        """A row for every utterance of one dialogue; `about` names it in errors."""
        embeddings = {name: self._embed(name, utterances, root, about) for name in self.model.config.encoders}
        with self.seconds.of("model"):
            dialogue = make_dialogue(about, utterances, [NO_LABEL] * len(utterances), embeddings)
            predictions = predict_in_windows(
                self.model,
                dialogue,
                window=self.config.window,
                overlap=self.config.window_overlap,
                temperature=temperature_of(self.model),
            )
        return [self._row(u, p) for u, p in zip(utterances, predictions, strict=True)]

    def _embed(self, modality: str, utterances: Sequence[Utterance], root: str, about: str) -> Embeddings:
        """One modality's embeddings; none of them where it is not listened for."""
        n_layers, width = self.model.config.input_sizes[modality]
        if modality not in self.encoders:
            return stack_embeddings({}, empty_shape=(n_layers, width))
        with self.seconds.of("decoding"):
            plan = self._plan(modality, utterances, root)
        started = perf_counter()
        extraction = Extraction(problems=list(plan.problems))
        rows = embed(
            self.encoders[modality],
            plan.requests,
            extraction,
            device=self.device,
            workers=self.config.workers,
            batch_budget=None,
        )
        values = {request.utterance_id: embedding.values for request, embedding in rows}
        _refuse_problems(extraction.problems, about)
        self.seconds.add("decoding", extraction.seconds_waited)
        self.seconds.add(f"{modality} encoder", perf_counter() - started - extraction.seconds_waited)
        return stack_embeddings(values, empty_shape=(n_layers, width))

    def _plan(self, modality: str, utterances: Sequence[Utterance], root: str) -> Plan:
        if modality == "text":
            return plan_text(utterances, int(self.model.config.text_context_turns))
        return plan_audio(utterances, root, None)

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


def _utterances(recording: Path, turns: Turns) -> list[Utterance]:
    return [
        Utterance(
            dialogue_id=recording.stem,
            utterance_id=f"turn {number}",
            audio=recording.name,
            start=turn.start,
            end=turn.end,
            channel=turn.channel,
            text=_encodable(turn.text),
            speaker=_encodable(turn.speaker),
        )
        for number, turn in enumerate(turns.turns, start=1)
    ]


def _encodable(text: str | None) -> str | None:
    """The text without the half characters that a JSON file can hold and no other can."""
    return text.encode("utf-8", "replace").decode("utf-8") if text else None


def _one_after_the_other(rows: Sequence[TimelineRow], source: DialogueSource) -> list[TimelineRow]:
    """The rows with times as if their recordings followed each other; a turn without sound is given a second."""
    placed: list[TimelineRow] = []
    for row, utterance in zip(rows, source.utterances, strict=True):
        start = placed[-1].end if placed else 0.0
        placed.append(replace(row, start=start, end=start + _length(utterance, source.root)))
    return placed


def _length(utterance: Utterance, root: str) -> float:
    if utterance.audio is None:
        return 1.0
    end = utterance.end if utterance.end is not None else describe(str(Path(root) / utterance.audio)).seconds
    return end - (utterance.start or 0.0)


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
    from lpgnet.feature_extractors import load_encoder, resolve_spec

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


def _refuse_problems(problems: Sequence[Problem], about: str) -> None:
    if problems:
        listed = "; ".join(f"{problem.utterance_id} {problem.message}" for problem in problems[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise PipelineError(f"{about}: {listed}{more}")


if __name__ == "__main__":
    module_main("predict")
