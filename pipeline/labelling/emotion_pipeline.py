"""The emotion pipeline: turn a recording into an emotion timeline with a trained model and its encoders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lpgnet.model import EmotionModel, load_model
from lpgnet.pipeline.common.console import quiet_transformers
from lpgnet.pipeline.common.processes import resolve_device
from lpgnet.pipeline.common.threads import place
from lpgnet.pipeline.config import PredictionConfig, check_prediction, renamed
from lpgnet.pipeline.corpora.audio import describe, locate
from lpgnet.pipeline.corpora.manifest import MANIFEST_FILE, Utterance
from lpgnet.pipeline.embeddings.extraction import CHUNK_COST, GPU_FACTOR, Extraction, cost, embed
from lpgnet.pipeline.embeddings.plan import Plan, Problem, Request, plan_audio, plan_text, stack_embeddings
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.evaluation.inference import FUSED, Prediction, predict_in_windows, temperature_of
from lpgnet.pipeline.labelling.hearing import Heard, hear
from lpgnet.pipeline.labelling.model_folders import BUNDLED_ENCODERS, class_names, load_model_encoder, model_folder
from lpgnet.pipeline.recordings.diarizers import AUTO, Diarizer, SpeakerCount, load_diarizer, resolve_diarizer
from lpgnet.pipeline.recordings.media import as_far_as_it_goes, decodable
from lpgnet.pipeline.recordings.remote_files import fetch
from lpgnet.pipeline.recordings.sources import (
    DialogueSource,
    RecordingSource,
    RemoteSource,
    Source,
    check_exists,
    source_of,
)
from lpgnet.pipeline.recordings.transcripts import Transcript, find_transcript
from lpgnet.pipeline.recordings.turns import TurnFinder, Turns
from lpgnet.pipeline.reports.rows import UNCERTAIN, Timeline, TimelineRow
from lpgnet.pipeline.training.dialogues import make_dialogue
from lpgnet.pipeline.training.distances import Distances, read_distances, unlike_training
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import model_encoders
from lpgnet.pipeline.training.standardization import standardize_groups
from lpgnet.pipeline.training.trained_on import about_model

if TYPE_CHECKING:
    from lpgnet.feature_extractors import Encoder
    from lpgnet.pipeline.recordings.speech_models import SpeechModel

# At most so many recordings are embedded together, whatever their length: their temporary files are on the disk.
MOST_TOGETHER = 500


@dataclass
class Seconds:
    """How long each step took over all calls, for the benchmark."""

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
        """Add seconds to a step."""
        self.steps[step] = self.steps.get(step, 0.0) + seconds


@dataclass(frozen=True)
class Failed:
    """A recording or dialogue that could not be labelled, and why."""

    source: Source | str | Path
    error: Exception


@dataclass(frozen=True)
class Prepared:
    """A source whose turns are found, before anything of it is embedded.

    Attributes:
        plans: what is to be embedded, by modality.
        about: how errors call it.
        names: of temporary files, what they stand for.
        finish: makes the timeline of the rows and warnings.
    """

    source: Source
    utterances: tuple[Utterance, ...]
    plans: Mapping[str, Plan]
    about: str
    names: Mapping[str, str]
    finish: Callable[[Sequence[TimelineRow], Sequence[str]], Timeline]


@dataclass(frozen=True)
class Embedded:
    """The embeddings of a source by modality and utterance, and what could not be embedded."""

    values: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)

    def checked(self, modality: str, about: str) -> dict[str, np.ndarray]:
        """Give the embeddings of a modality, none if it is not used.

        Raises:
            PipelineError: utterances could not be embedded; names `about` and them.
        """
        _refuse_problems(self.problems.get(modality, ()), about)
        return self.values.get(modality, {})


@dataclass(frozen=True)
class EmotionPipeline:
    """A trained model with its encoders: loaded once, called for many recordings.

    Attributes:
        about_model: what the model is good for: a sentence, and perhaps a warning.
        distances: how far other dialogues of its corpus lie from those of training, by modality.

    Example:
        pipeline = EmotionPipeline.from_pretrained("work/demo/runs/default")
        rows = pipeline("call.wav", transcript="call.srt")
    """

    model: EmotionModel
    encoders: dict[str, Encoder]
    device: str
    config: PredictionConfig
    about_model: tuple[str, ...] = ()
    distances: Mapping[str, Distances] = field(default_factory=dict)
    seconds: Seconds = field(default_factory=Seconds)
    _speech_models: dict[str, SpeechModel] = field(default_factory=dict)
    _diarizers: dict[str, Diarizer] = field(default_factory=dict)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **settings: Any) -> EmotionPipeline:
        """Load a model and the encoders that it names.

        Args:
            folder: a run folder, or a folder written by `save_pretrained` or the export stage.
            **settings: fields of `PredictionConfig`, such as `device` or `asr`.

        Raises:
            PipelineError: the folder has no model, or an encoder is not the one that the model was trained with.
            UsageError: a setting is unknown or invalid.
        """
        known = [entry.name for entry in fields(PredictionConfig)]
        for name in settings:
            if name not in known:
                raise UsageError(f"unknown setting '{name}'{renamed(name) or '; known: ' + ', '.join(known)}")
        config = PredictionConfig(model=str(folder), **settings)
        check_prediction(config)
        return cls.from_config(config)

    @classmethod
    def from_config(cls, config: PredictionConfig) -> EmotionPipeline:
        """Load the model that a configuration names, and the encoders of the modalities that it uses.

        Raises:
            PipelineError: the folder has no model, or an encoder is not the one that the model was trained with.
            UsageError: the model does not take the modality that the configuration names.
        """
        quiet_transformers()
        folder = model_folder(Path(config.model or ""))
        device = resolve_device(config.device)
        model = load_model(folder).eval()
        model.to(torch.device(device))
        said, distances = about_model(model.config, folder), read_distances(model.config, folder)
        elsewhere = {"audio": config.audio_encoder, "text": config.text_encoder}
        encoders = {
            modality: load_model_encoder(
                spec,
                folder / BUNDLED_ENCODERS / modality,
                elsewhere.get(modality),
                device,
                trust_remote_code=config.trust_remote_code,
            )
            for modality, spec in model_encoders(model, folder).items()
            if config.modalities in ("all", modality)
        }
        if not encoders:
            takes = ", ".join(model.config.modality_names)
            raise UsageError(f"key 'modalities': the model takes only {takes}, not {config.modalities}")
        return cls(model, encoders, device, config, said, distances)

    @property
    def places(self) -> str:
        """Where each encoder computes, for people."""
        return "; ".join(f"{name} encoder {place(self.device, encoder)}" for name, encoder in self.encoders.items())

    def __call__(
        self,
        recording: str | Path | np.ndarray | torch.Tensor,
        transcript: str | Path | Transcript | None = None,
        *,
        sampling_rate: int | None = None,
    ) -> list[TimelineRow]:
        """Label every turn of a recording.

        Args:
            recording: an audio file, or a waveform `(samples,)` or `(samples, channels)` of floats from -1 to 1 or
                integers at full scale.
            transcript: its turns; None takes the file of the same name in the recording's folder, or finds turns by
                voice activity if there is no such file.
            sampling_rate: samples per second of a waveform.

        Raises:
            PipelineError: a file cannot be read, or a turn is outside the recording; names the file and turn.
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
        """Label a recording or a dialogue.

        Raises:
            PipelineError: a file cannot be read, or a turn is outside the recording; names the file and turn.
        """
        (outcome,) = self.label_many([source])
        if isinstance(outcome, Failed):
            raise outcome.error
        return outcome

    def label_recording(
        self, recording: Path, transcript: str | Path | Transcript | None = None, *, name: str | None = None
    ) -> Timeline:
        """Label a recording.

        Args:
            recording: an audio or video file.
            transcript: as in `__call__`.
            name: name of the outputs; None takes that of the recording.

        Raises:
            PipelineError: a file cannot be read, or a turn is outside the recording; names the file and turn.
        """
        given = Path(transcript) if isinstance(transcript, str) else transcript
        return self.label(RecordingSource(name or recording.stem, recording, given))

    def label_many(self, sources: Iterable[Source | str | Path]) -> Iterator[Timeline | Failed]:
        """Label recordings and dialogues, the turns of several in each batch of the encoders.

        Memory is bounded by what is embedded together, not by the number of sources, which may be a generator.

        Args:
            sources: recordings and dialogues; a path is a recording, whose transcript stands beside it if it has one.

        Yields:
            For each source, in their order, its timeline, or what is wrong with it: the others do not suffer for it.
            What a timeline is made from is there until the next one is asked for.
        """
        waiting = iter(sources)
        while True:
            with ExitStack() as files:
                group = self._take(waiting, files)
                yield from self._label_together(group)
                if not group:
                    return

    def _take(self, waiting: Iterator[Source | str | Path], files: ExitStack) -> list[Prepared | Failed]:
        """Prepare the next sources, as many as are embedded together; temporary files stay until `files` ends."""
        factor = 1 if self.device == "cpu" else GPU_FACTOR
        costs: Counter[str] = Counter()
        group: list[Prepared | Failed] = []
        for source in waiting:
            group.append(self._prepare(source, files))
            costs.update(_costs(group[-1]))
            if len(group) == MOST_TOGETHER or any(costs[name] >= factor * CHUNK_COST[name] for name in costs):
                break
        return group

    def _prepare(self, given: Source | str | Path, files: ExitStack) -> Prepared | Failed:
        """Find the turns of a source and what is to be embedded of them."""
        try:
            source = source_of(given)
            with ExitStack() as own:
                prepared = (
                    self._prepare_dialogue(source)
                    if isinstance(source, DialogueSource)
                    else self._prepare_recording(source, own)
                )
                files.enter_context(own.pop_all())
                return prepared
        except Exception as error:
            return Failed(given, error)

    def _prepare_recording(self, source: RecordingSource | RemoteSource, files: ExitStack) -> Prepared:
        local, names = (source, {}) if isinstance(source, RecordingSource) else _fetched(source, files)
        with _told_of(names):
            check_exists(local.recording)
            decoded = files.enter_context(decodable(local.recording))
            audio, is_part = files.enter_context(as_far_as_it_goes(decoded))
        names |= {str(audio): str(source.recording)}
        with _told_of(names):
            info = describe(str(audio))
            with self.seconds.of("turns"):
                given = local.transcript or find_transcript(local.recording)
                turns = self._finder.find(audio, info, given, is_part=is_part)
            utterances = _utterances(audio, turns)
            heard = self._heard(utterances, str(audio.parent), pads=True)
        # What is at an address is nowhere that a report could play it from.
        playable = local.recording if isinstance(source, RecordingSource) else None
        choices = tuple(_in_place_of(names, line) for line in (*turns.choices, *heard.choices))

        def finish(rows: Sequence[TimelineRow], warnings: Sequence[str]) -> Timeline:
            return self._timeline(source.name, rows, playable, info.seconds, (*choices, *warnings))

        return Prepared(source, tuple(utterances), self._plans(utterances, heard), str(source.recording), names, finish)

    def _label_choices(self) -> list[str]:
        """What people should know about how labels and numbers came about."""
        least, rated = self.config.min_probability, self.model.config.rated
        labels = [f"labels: {UNCERTAIN} where no emotion has a probability of {least:g}"] if least else []
        if (by := self.model.config.standardise) != "corpus":
            whose = "of each speaker in it" if by == "speaker" else "of this recording"
            labels.append(f"inputs: standardized by the statistics of all turns {whose}")
        ranges = ", ".join(f"{name} ({low:g} to {high:g})" for name, (low, high) in rated.items())
        return [*labels, f"dimensions: {ranges}, in the units of the corpus"] if rated else labels

    def _prepare_dialogue(self, source: DialogueSource) -> Prepared:
        """Prepare a manifest's dialogue; utterances in separate files are placed one after another."""
        # Whoever made the manifest may be another than the owner of what its links lead to.
        files = {u.audio: locate(source.root, u.audio, follow_links=False) for u in source.utterances if u.audio}
        heard = self._heard(source.utterances, source.root, pads=False)
        whole = len({utterance.audio for utterance in source.utterances}) == 1
        recording = Path(next(iter(files.values()))) if whole and files else None

        def finish(rows: Sequence[TimelineRow], warnings: Sequence[str]) -> Timeline:
            choices = (f"turns: {source.manifest / MANIFEST_FILE}", *heard.choices, *warnings)
            if recording is not None and recording.is_file():
                return self._timeline(source.name, rows, recording, describe(str(recording)).seconds, choices)
            placed = _one_after_another(rows, source)
            return self._timeline(source.name, placed, None, placed[-1].end, choices)

        return Prepared(source, source.utterances, self._plans(source.utterances, heard), source.name, {}, finish)

    def _timeline(
        self, name: str, rows: Sequence[TimelineRow], recording: Path | None, seconds: float, choices: tuple[str, ...]
    ) -> Timeline:
        model, choices = str(self.config.model), (*choices, *self._label_choices())
        return Timeline(
            name,
            tuple(rows),
            recording,
            seconds,
            choices,
            model,
            about_model=self.about_model,
            ranges=self.model.config.rated,
        )

    @cached_property
    def _finder(self) -> TurnFinder:
        config = self.config

        def loader(name: str | None) -> Callable[[], SpeechModel] | None:
            return partial(self._speech_model, name) if name else None

        name = resolve_diarizer(config.diarizer)
        return TurnFinder(
            config.turns,
            config.vad,
            channels=config.channels,
            wants_words="text" in self.encoders,
            needs_words="audio" not in self.encoders,
            aligner=loader(config.aligner),
            recognizer=loader(config.asr),
            diarizer=partial(self._diarizer, name) if name else None,
            diarizer_name=name,
            suggest_diarizer=config.diarizer == AUTO,
            speakers=SpeakerCount(config.speakers, config.min_speakers, config.max_speakers),
            language=config.language,
        )

    def _diarizer(self, name: str) -> Diarizer:
        if name not in self._diarizers:
            self._diarizers[name] = load_diarizer(name, device=self.device)
        return self._diarizers[name]

    def _speech_model(self, name: str) -> SpeechModel:
        from lpgnet.pipeline.recordings.speech_models import load_speech_model

        if name not in self._speech_models:
            self._speech_models[name] = load_speech_model(name, device=self.device, precision="auto")
        return self._speech_models[name]

    def _heard(self, utterances: Sequence[Utterance], root: str, *, pads: bool) -> Heard:
        """Find the sound to embed of each utterance, cut or padded to what the model was trained on.

        Args:
            utterances: of a recording or a dialogue.
            root: what their paths are relative to.
            pads: whether the borders are those of turns, which may be moved, or of a corpus.
        """
        if "audio" not in self.encoders:
            return Heard(Plan((), ()))
        with self.seconds.of("decoding"):
            plan = plan_audio(utterances, root, None)
        with self.seconds.of("turns"):
            return hear(plan, self.model.config, pads=pads)

    def _plans(self, utterances: Sequence[Utterance], heard: Heard) -> dict[str, Plan]:
        """What is to be embedded in each modality that is used."""
        context_turns = self.model.config.text_context_turns
        return {
            name: plan_text(utterances, context_turns) if name == "text" else heard.plan
            for name in self.model.config.modality_names
            if name in self.encoders
        }

    def _label_together(self, group: Sequence[Prepared | Failed]) -> Iterator[Timeline | Failed]:
        embedded = self._embed_all([one for one in group if isinstance(one, Prepared)])
        for one in group:
            yield one if isinstance(one, Failed) else self._finish(one, next(embedded))

    def _embed_all(self, group: Sequence[Prepared]) -> Iterator[Embedded | Exception]:
        """Embed the turns of several sources at once; where that is not possible, those of each alone."""
        try:
            yield from self._embed_group(group)
        except Exception as error:
            if len(group) < 2:
                yield error
            else:
                yield from chain.from_iterable(self._embed_all([one]) for one in group)

    def _embed_group(self, group: Sequence[Prepared]) -> list[Embedded]:
        """Embed the turns of several sources in every modality; what cannot be embedded is a problem of its source."""
        embedded = [Embedded() for _ in group]
        for modality in self.encoders if group else ():
            for one, of_one in zip(embedded, group, strict=True):
                one.values[modality], one.problems[modality] = {}, list(of_one.plans[modality].problems)
            requests = [
                replace(request, utterance_id=f"{number} {request.utterance_id}")
                for number, of_one in enumerate(group)
                for request in of_one.plans[modality].requests
            ]
            rows, problems = self._embed(modality, requests)
            for request, values in rows:
                number, _, name = request.utterance_id.partition(" ")
                embedded[int(number)].values[modality][name] = values
            for problem in problems:
                number, _, name = problem.utterance_id.partition(" ")
                embedded[int(number)].problems[modality].append(Problem(name, problem.message))
        return embedded

    def _embed(
        self, modality: str, requests: Sequence[Request]
    ) -> tuple[list[tuple[Request, np.ndarray]], list[Problem]]:
        started, extraction = perf_counter(), Extraction()
        rows = embed(
            self.encoders[modality],
            requests,
            extraction,
            device=self.device,
            workers=self.config.workers,
            batch_budget=None,
        )
        found = [(request, embedding.values) for request, embedding in rows]
        self.seconds.add("decoding", extraction.seconds_waited)
        self.seconds.add(f"{modality} encoder", perf_counter() - started - extraction.seconds_waited)
        return found, extraction.problems

    def _finish(self, prepared: Prepared, embedded: Embedded | Exception) -> Timeline | Failed:
        """Let the model label what is embedded."""
        try:
            if isinstance(embedded, Exception):
                raise embedded
            with _told_of(prepared.names):
                return prepared.finish(*self._rows(prepared, embedded))
        except Exception as error:
            return Failed(prepared.source, error)

    def _rows(self, prepared: Prepared, embedded: Embedded) -> tuple[list[TimelineRow], list[str]]:
        """Make a row for every utterance of a source; warn where it is unlike training."""
        sizes = self.model.config.input_sizes
        embeddings = {
            name: stack_embeddings(embedded.checked(name, prepared.about), empty_shape=(sizes[name][0], sizes[name][1]))
            for name in self.model.config.modality_names
        }
        with self.seconds.of("model"):
            utterances = prepared.utterances
            read = make_dialogue(prepared.about, utterances, [NO_LABEL] * len(utterances), embeddings)
            (dialogue,) = standardize_groups([read], self.model, among=[read])
            warnings = unlike_training(self.model, dialogue, self.distances)
            predictions = predict_in_windows(
                self.model,
                dialogue,
                window=self.config.window,
                overlap=self.config.window_overlap,
                temperature=temperature_of(self.model),
            )
        return [self._row(u, p) for u, p in zip(utterances, predictions, strict=True)], warnings

    def _row(self, utterance: Utterance, prediction: Prediction) -> TimelineRow:
        names = class_names(self.model)
        probabilities = prediction.probabilities[FUSED]
        is_certain = max(probabilities) >= self.config.min_probability
        return TimelineRow(
            utterance=utterance.utterance_id,
            start=float(utterance.start or 0.0),
            end=float(utterance.end or 0.0),
            speaker=utterance.speaker,
            text=utterance.text,
            label=names[prediction.guess()] if is_certain else UNCERTAIN,
            probabilities=dict(zip(names, probabilities, strict=True)),
            modality_weights=prediction.weights,
            channel=utterance.channel,
            dimensions=prediction.dimensions,
        )


def _costs(one: Prepared | Failed) -> dict[str, float]:
    """Seconds of audio and characters of text that are to be embedded."""
    plans = {} if isinstance(one, Failed) else one.plans
    return {name: sum(map(cost, plan.requests)) for name, plan in plans.items()}


def _fetched(source: RemoteSource, files: ExitStack) -> tuple[RecordingSource, dict[str, str]]:
    """Copy what is at an address to temporary files, which stay until `files` ends; give what each stands for too."""
    folder = Path(files.enter_context(TemporaryDirectory(prefix="lpgnet-")))
    given = {file: fetch(file, folder) for file in source.versions}
    names = {str(copy): file for file, copy in given.items()}
    recording = given.get(source.recording, Path(source.recording))
    transcript = given.get(source.transcript, Path(source.transcript)) if source.transcript else None
    return RecordingSource(source.name, recording, transcript), names


@contextmanager
def _told_of(names: Mapping[str, str]) -> Iterator[None]:
    """Let errors of temporary files be about the recordings that they are made from."""
    try:
        yield
    except PipelineError as error:
        raise type(error)(_in_place_of(names, str(error))) from error


def _in_place_of(names: Mapping[str, str], line: str) -> str:
    for temporary, name in names.items():
        line = line.replace(temporary, name)
    return line


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
    """Replace lone surrogates, which a JSON file may contain but UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8") if text else None


def _one_after_another(rows: Sequence[TimelineRow], source: DialogueSource) -> list[TimelineRow]:
    """Place the rows as if their recordings followed each other; a turn without audio lasts one second."""
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


def _refuse_problems(problems: Sequence[Problem], about: str) -> None:
    if problems:
        listed = "; ".join(f"{problem.utterance_id} {problem.message}" for problem in problems[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise PipelineError(f"{about}: {listed}{more}")
