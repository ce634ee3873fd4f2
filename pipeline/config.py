"""The configuration of an experiment: nested dataclasses, filled from one YAML file and the command line.

Their fields have types that need no evaluation (no `from __future__ import annotations` in their modules): for texts,
jsonargparse parses a module's source anew for each dataclass, a fifth of what a command that is up to date takes.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from lpgnet.model import CONFIG_TYPES, ModelError
from lpgnet.pipeline.common.bounded_yaml import UnboundedYamlError, load_yaml
from lpgnet.pipeline.common.files import check_address, is_address, name_near, read_regular
from lpgnet.pipeline.common.ranges import (
    Count,
    Folds,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    Share,
)
from lpgnet.pipeline.common.voice_activity import VoiceActivityConfig
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.ratings import DIMENSIONS
from lpgnet.pipeline.errors import UsageError, did_you_mean, shorten
from lpgnet.pipeline.model_config import ModelConfig, ModelType
from lpgnet.pipeline.presets import preset_file
from lpgnet.pipeline.recordings.config import TurnsConfig
from lpgnet.pipeline.recordings.diarizers import AUTO, resolve_diarizer
from lpgnet.pipeline.reports.config import PageConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from jsonargparse import ArgumentParser


Select: TypeAlias = Literal["weighted_f1", "macro_f1", "uar", "ccc", "loss", "last"]


@dataclass
class CorpusConfig:
    """What to read.

    Attributes:
        reader: the corpus's layout: iemocap, meld, msp_podcast, dailytalk, crema_d, ravdess, table, datasets or
            label_studio
        root: folder or fsspec address that holds the corpus
        follow_links: follow links in that folder that lead out of it, as to another disk
        about: what kind of speech it holds, which a model that was trained on it tells
        options: further settings of the reader, such as the table's file and columns
    """

    reader: str = "table"
    root: str = "."
    follow_links: bool = True
    about: About = field(default_factory=About)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AudioEncoderConfig:
    """How speech is embedded.

    Attributes:
        name: family:model, such as hf:facebook/wav2vec2-base or hf:./a/local/folder; null for no audio
        layers: last, all, an index or a list of indices (0 is the input of the first block, n the output of block n)
        pooling: mean, mean_std, max or first over an utterance's frames, or none to keep every frame
        precision: fp32, bf16, or auto, which is bf16 where the CPU or GPU supports it
        max_seconds: longer utterances are cut into overlapping windows of this length (seconds)
        window: full, or tight, by which Whisper computes an utterance's own frames instead of 30 s (other numbers)
        trim: none, or speech: an utterance is cut to its first and last speech before it is embedded
        trust_remote_code: allow the model to run code that it comes with
    """

    name: str | None = None
    layers: Literal["last", "all"] | int | list[int] = "last"
    pooling: Literal["mean", "mean_std", "max", "first", "none"] = "mean"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    max_seconds: PositiveFloat = 30.0
    window: Literal["full", "tight"] = "full"
    trim: Literal["none", "speech"] = "none"
    trust_remote_code: bool = False


@dataclass
class TextEncoderConfig:
    """How text is embedded.

    Attributes:
        name: family:model, such as hf:FacebookAI/roberta-base; null for no text
        layers: last, all, an index or a list of indices (0 is the input of the first block, n the output of block n)
        pooling: mean, mean_std, max or first over an utterance's tokens, or none to keep every token
        precision: fp32, bf16, or auto, which is bf16 where the CPU or GPU supports it
        context_turns: number of previous turns that the encoder reads before the utterance (turns)
        trust_remote_code: allow the model to run code that it comes with
    """

    name: str | None = None
    layers: Literal["last", "all"] | int | list[int] = "last"
    pooling: Literal["mean", "mean_std", "max", "first", "none"] = "mean"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    context_turns: NonNegativeInt = 0
    trust_remote_code: bool = False


@dataclass
class EncodersConfig:
    """The encoder of each modality.

    Attributes:
        audio: how speech is embedded
        text: how text is embedded
    """

    audio: AudioEncoderConfig = field(default_factory=AudioEncoderConfig)
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)


Engine: TypeAlias = Literal["local", "ray"]


@dataclass
class RayConfig:
    """Where Ray is, for the stages whose engine it is.

    Attributes:
        address: auto (a cluster that runs here, or else this machine alone), local (this machine alone), or the address
            of a cluster, such as ray://head:10001
        encoders: processes that hold the encoders; null takes one for each GPU, or where there are none one for all
            but one of the processors (processes)
        gpus: of each of these processes, a fraction where several share one; null takes one where there are GPUs
    """

    address: str = "auto"
    encoders: Count | None = None
    gpus: NonNegativeFloat | None = None


@dataclass
class FeaturesConfig:
    """How embeddings are computed and where they are kept.

    Attributes:
        store: folder or fsspec address (s3://bucket/prefix) of the feature store, which corpora and experiments share
        cache_folder: folder for copies of what is read of a store at an address; null takes one in the user's cache
        cache_gigabytes: the most that these copies take, those that were not read for longest go first (gigabytes)
        on_error: stop (exit with code 1 once the good utterances are cached) or skip (continue without the bad ones)
        device: auto, cpu, cuda, cuda:N, or mps (Apple's GPU)
        workers: processes that decode and resample audio for the encoder; 0 uses the main process; Ray takes what
            processors the encoders leave
        batch_budget: samples or tokens in a batch, padding included; null depends on the device, 0 means one item
        dtype: number format of the stored embeddings
    """

    store: str = "work/store"
    cache_folder: str | None = None
    cache_gigabytes: PositiveFloat = 20.0
    on_error: Literal["stop", "skip"] = "stop"
    device: str = "auto"
    workers: NonNegativeInt = 1
    batch_budget: NonNegativeInt | None = None
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


@dataclass
class SplitsConfig:
    """Which dialogues are for training, development and testing.

    Attributes:
        scheme: manifest (use its split field), session or speaker (hold out those in test), or dialogue (k folds)
        test: sessions or speakers to hold out for testing; null takes the last one
        folds: number of folds in the dialogue scheme (folds)
        dev_share: share of the training dialogues used for development, unless the manifest names some
        dev: what development is made of: dialogues, or whole sessions or speakers, whom training then never meets
        allow_speaker_overlap: allow speakers of the test split in the other splits (as in MELD's official split)
        seed: random seed for choosing the development data
    """

    scheme: Literal["manifest", "session", "speaker", "dialogue"] = "session"
    test: list[str] | None = None
    folds: Folds = 5
    dev_share: Share = 0.125
    dev: Literal["dialogues", "session", "speaker"] = "dialogues"
    allow_speaker_overlap: bool = False
    seed: NonNegativeInt = 0


@dataclass
class TrainingConfig:
    """How a model is trained. This project chose the values: the paper's are not published.

    Attributes:
        seed: random seed for the weights, the dropout and the order of dialogues
        epochs: largest number of passes over the training dialogues (epochs)
        patience: stop after this many epochs without a better development score, where the schedule is constant; null
            goes on to the last epoch (epochs)
        select: development score that the epoch is chosen by, among the last quarter of them unless the schedule is
            constant; ccc is the mean over model.dimensions, loss is measured without class_weights and label_smoothing,
            and last keeps the last epoch, whatever it scores
        batch_size: dialogues per optimizer step, over all processes and micro-batches (dialogues)
        micro_batches: split each process's batch into this many parts to save memory
        learning_rate: highest learning rate of the schedule
        layer_rate: how many times as fast the weights learn by which the layers of an encoder are mixed
        schedule: one_cycle or cosine (both have a warm-up and a cosine decay), or constant
        warmup_share: share of all steps during which the learning rate rises
        weight_decay: weight decay of AdamW, of the matrices alone
        max_gradient_norm: gradients are clipped to this norm
        ema_decay: decay per step of the moving average of the weights, which is evaluated and saved; 0 turns it off
        target: majority (the label), or distribution (the shares of the raters' votes, where there are votes)
        vote_smoothing: votes that every class gets beside those of the raters; fractions are allowed
        unagreed: drop, or use utterances without a majority too (with the distribution as target)
        label_smoothing: share of each target that is spread over all classes alike
        class_weights: none, or inverse to weight classes by their inverse frequency in the training split
        contrast: weight of the supervised contrast, which draws turns of one class together; 0 turns it off
        modality_dropout: probability that an utterance loses one of its modalities in a training step
        mixed_precision: no, bf16 or fp16 (fp16 needs a CUDA GPU)
        device: auto, cpu, cuda, or mps (Apple's GPU)
        drop_unlabelled: leave out utterances without a class, whatever else is known of them, instead of keeping them
            as context
        tracker: none, tensorboard, wandb or trackio; a JSON Lines log is always written as well
        compile: compile the model with torch.compile
        keep_checkpoints: keep the checkpoints of a finished run, which nothing needs any more
    """

    seed: NonNegativeInt = 0
    epochs: Count = 12
    patience: Count | None = None
    select: Select = "weighted_f1"
    batch_size: Count = 4
    micro_batches: Count = 1
    learning_rate: PositiveFloat = 1e-3
    layer_rate: PositiveFloat = 30.0
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    warmup_share: Share = 0.1
    weight_decay: NonNegativeFloat = 0.01
    max_gradient_norm: PositiveFloat = 1.0
    ema_decay: Share = 0.98
    target: Literal["majority", "distribution"] = "majority"
    vote_smoothing: NonNegativeFloat = 0.0
    unagreed: Literal["drop", "use"] = "drop"
    label_smoothing: Share = 0.0
    class_weights: Literal["none", "inverse"] = "none"
    contrast: NonNegativeFloat = 0.0
    modality_dropout: Share = 0.0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    drop_unlabelled: bool = False
    tracker: Literal["none", "tensorboard", "wandb", "trackio"] = "none"
    compile: bool = False
    keep_checkpoints: bool = False


@dataclass
class TuneConfig:
    """How an encoder is tuned (LoRA). What is learned, and by which score the epoch is chosen, `training` says.

    Attributes:
        modality: whose encoder is tuned
        rank: rank of what is added to each layer's weights
        alpha: what is added is multiplied by alpha / rank
        dropout: dropout before the adapters and the heads
        targets: ends of the names of the linear layers to adapt, such as [q_proj, v_proj]; null takes all those of the
            transformer blocks
        epochs: passes over the training utterances (epochs)
        batch_size: utterances per optimizer step, over all processes and micro-batches (utterances)
        micro_batches: split each process's batch into this many parts to save memory
        learning_rate: highest learning rate of the schedule
        weight_decay: weight decay of AdamW
        mixed_precision: no, bf16 or fp16 (fp16 needs a CUDA GPU)
        checkpointing: compute each transformer block twice instead of keeping what it computes, to save memory
    """

    modality: Literal["audio", "text"] = "audio"
    rank: Count = 8
    alpha: PositiveFloat = 16.0
    dropout: Share = 0.1
    targets: list[str] | None = None
    epochs: Count = 10
    batch_size: Count = 16
    micro_batches: Count = 1
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    checkpointing: bool = False


@dataclass
class EvaluationConfig:
    """How a trained model is measured.

    Attributes:
        bootstrap: number of times the test dialogues are resampled for the confidence intervals (resamples)
        confidence: confidence level of the intervals
        modalities: which of its inputs the model gets: text, audio or both; null means all
        missing_shares: shares of utterances to hide each modality from, for the plot of accuracy; [] means no plot
    """

    bootstrap: NonNegativeInt = 1000
    confidence: Share = 0.95
    modalities: list[Literal["text", "audio"]] | None = None
    missing_shares: list[Fraction] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0])


@dataclass
class CrossvalConfig:
    """Which runs make up a table.

    Attributes:
        models: values of model.type, one row of the table each, without the preset of this configuration
        presets: names of presets, one row each; null is that of this configuration, where it has one
        overlays: config files, or folders of them; each adds a row with its settings on top of this configuration
            without its preset
        baseline: name of the row that all others are compared with; null is the first
        tune: modalities, audio or text, whose encoder is tuned once a fold; each row of a model or preset that takes
            one of them gets a row NAME-tuned beside it
        seeds: runs per row and fold, with the seeds 0, 1, ... (seeds)
        folds: all, or one for only the fold that splits.test names
        refit: once development data has chosen the number of epochs, train as many again on these data too
        workers: runs in parallel; null means one per GPU, or one per CPU core
        table: name of the table; its files go to work/NAME/TABLE, its runs to work/NAME/crossval
    """

    models: list[ModelType] = field(default_factory=lambda: ["lpgnet"])
    presets: list[str] | None = None
    overlays: list[str] = field(default_factory=list)
    baseline: str | None = None
    tune: list[Literal["text", "audio"]] = field(default_factory=list)
    seeds: Count = 3
    folds: Literal["all", "one"] = "all"
    refit: bool = False
    workers: Count | None = None
    table: str = "crossval"


@dataclass
class SearchConfig:
    """Which settings are searched, by their scores on the development dialogues alone.

    Attributes:
        space: by dotted key of model or training, such as training.learning_rate, a list of values or the ends of a
            range, {low: 1e-4, high: 3e-3, log: true}; whole numbers may have a step
        study: name of the search; its files go to work/NAME/search/STUDY, where it goes on another time
        trials: settings to try, those of earlier times included (trials)
        folds: all, or one for only the fold that splits.test names, whose test split then stays unseen
        seeds: runs per trial and fold, with the seeds 0, 1, ... (seeds)
        at_once: trials chosen before the first of them is measured, so that the workers have work; workers change no
            result, this does (trials)
        workers: runs in parallel; null means one per GPU, or one per CPU core
        seed: random seed of what is tried
        show_test: measure the best trial on the test split, which a study does once, and its report tells from then on
    """

    space: dict[str, Any] = field(default_factory=dict)
    study: str = "default"
    trials: Count = 30
    folds: Literal["all", "one"] = "one"
    seeds: Count = 2
    at_once: Count = 4
    workers: Count | None = None
    seed: NonNegativeInt = 0
    show_test: bool = False


@dataclass
class PredictionConfig:
    """How new recordings are labelled; everything else comes from the model's folder.

    Attributes:
        recordings: files to label, folders of them, manifests, lists (.parquet or .jsonl with a column recording), or
            fsspec addresses of files and folders (s3://bucket/prefix)
        model: run folder, or folder of a trained model
        transcript: transcript of the recording; null takes the file of the same name in the same folder
        out: folder for the timelines
        formats: file formats, separated by commas: jsonl, csv, srt, vtt, textgrid, eaf, rttm, labelstudio, audacity,
            html, or all of these; and parquet, one table of all recordings
        min_probability: turns whose most probable class is less probable are labelled uncertain
        modalities: which inputs to use: all, audio or text
        asr: speech recognition model for recordings without text, such as hf:openai/whisper-small
        language: code of the language that is spoken, such as en, for a multilingual asr; null detects it
        aligner: CTC model that adds times to a transcript without them, such as hf:facebook/wav2vec2-base-960h
        channels: speakers if each channel of a recording is one speaker, mix to average them, auto to measure which
        diarizer: finds who speaks without a transcript: senko, a plugin's name, none, or auto (senko if installed)
        speakers: number of speakers in each recording, for the diarizer; null lets it find the number (speakers)
        min_speakers: least number of speakers, where the number is not known (speakers)
        max_speakers: largest number of speakers, where the number is not known (speakers)
        vad: what counts as speech
        turns: how long turns are
        page: the HTML page of a timeline
        csv_raw: keep cells of CSV that a spreadsheet would run as a formula as they are, without an apostrophe before
        window: longer conversations are processed in windows of this many turns (turns)
        window_overlap: turns shared by successive windows, over which one fades into the next (turns)
        again: re-label recordings that are up to date
        audio_encoder: where to find the audio encoder if it has moved; its fingerprint must match the model's
        text_encoder: where to find the text encoder if it has moved; its fingerprint must match the model's
        trust_remote_code: allow the model's encoders to run code that they come with
        device: auto, cpu, cuda, cuda:N, or mps (Apple's GPU)
        workers: processes that decode and resample audio for the encoder; 0 uses the main process; Ray takes what
            processors the encoders leave
        engine: what labels: local (this process) or ray (a cluster of machines)
        ray: where Ray is
    """

    recordings: list[str] = field(default_factory=list)
    model: str | None = None
    transcript: str | None = None
    out: str = "timelines"
    formats: str = "jsonl,csv,html"
    min_probability: Share = 0.0
    modalities: Literal["all", "audio", "text"] = "all"
    asr: str | None = None
    language: str | None = None
    aligner: str | None = None
    channels: Literal["auto", "mix", "speakers"] = "auto"
    diarizer: str = AUTO
    speakers: Count | None = None
    min_speakers: Count | None = None
    max_speakers: Count | None = None
    vad: VoiceActivityConfig = field(default_factory=VoiceActivityConfig)
    turns: TurnsConfig = field(default_factory=TurnsConfig)
    page: PageConfig = field(default_factory=PageConfig)
    csv_raw: bool = False
    window: Count = 400
    window_overlap: NonNegativeInt = 100
    again: bool = False
    audio_encoder: str | None = None
    text_encoder: str | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    workers: NonNegativeInt = 0
    engine: Engine = "local"
    ray: RayConfig = field(default_factory=RayConfig)


@dataclass
class ServeConfig:
    """A web page on which recordings are labelled.

    Attributes:
        model: run folder, or folder of a trained model
        prediction: how recordings are labelled
        host: address to listen on; the default is reachable from this machine only
        port: port to listen on; 0 takes a free one
        allowed_hosts: further names under which browsers may ask for the page, such as that of a proxy before it
        max_megabytes: reject larger files (megabytes)
        max_minutes: reject longer recordings (minutes)
    """

    model: str | None = None
    prediction: PredictionConfig = field(default_factory=lambda: PredictionConfig(formats="all"))
    host: str = "127.0.0.1"
    port: NonNegativeInt = 7860
    allowed_hosts: list[str] = field(default_factory=list)
    max_megabytes: PositiveFloat = 200.0
    max_minutes: PositiveFloat = 120.0


@dataclass
class ExportConfig:
    """A model to share.

    Attributes:
        model: run folder, or folder of a trained model
        out: new folder to create
        bundle_encoders: include copies of the encoders
    """

    model: str | None = None
    out: str | None = None
    bundle_encoders: bool = False


def class_names(labels: Mapping[str, str | None]) -> list[str]:
    """Return the classes that a label map names, in order of their index."""
    return list(dict.fromkeys(name for name in labels.values() if name is not None))


@dataclass
class Config:
    """One experiment.

    Attributes:
        name: name of the experiment; its folder is work/NAME
        work: folder that all experiments write to
        run: name of this training run; its folder is work/NAME/runs/RUN
        preset: name of a preset, such as lpgnet-plus, whose values hold wherever none is given here
        engine: what computes the features: local (the processes of this command) or ray (a cluster of machines)
        ray: where Ray is
        labels: the class that each of the corpus's codes stands for, or null to ignore the code
        corpus: what to read
        encoders: the encoder of each modality
        features: how embeddings are computed and where they are kept
        splits: which dialogues are for training, development and testing
        model: the network
        training: how a model is trained
        tune: how an encoder is tuned
        evaluation: how a trained model is measured
        crossval: which runs make up a table
        search: which settings are searched
    """

    name: str = "experiment"
    work: str = "work"
    run: str = "default"
    preset: str | None = None
    engine: Engine = "local"
    ray: RayConfig = field(default_factory=RayConfig)
    labels: dict[str, str | None] = field(default_factory=dict)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    encoders: EncodersConfig = field(default_factory=EncodersConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    crossval: CrossvalConfig = field(default_factory=CrossvalConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    @property
    def folder(self) -> Path:
        """The experiment's folder."""
        return Path(self.work) / self.name

    @property
    def run_folder(self) -> Path:
        """The run's folder."""
        return self.folder / "runs" / self.run

    @property
    def classes(self) -> list[str]:
        """The classes that the labels map to, in the order of their first mention."""
        return class_names(self.labels)

    @property
    def dimensions(self) -> list[str]:
        """The dimensions that the configured model predicts."""
        return list(self.model.settings().get("dimensions", []))


Section = TypeVar("Section", bound="DataclassInstance")

YAML_MODE = "bounded_yaml"
TRAINING_STAGES = ("train", "crossval", "search", "tune")
# A configuration has a few thousand; more is not read.
CONFIG_BYTES = 1_000_000


def config_from(values: dict[str, Any]) -> Config:
    """Build the configuration from nested dictionaries, as a run folder keeps it."""
    return _fill(Config, values)


def _fill(section: type[Section], values: dict[str, Any]) -> Section:
    types = get_type_hints(section)
    return section(**{k: _fill(types[k], v) if is_dataclass(types[k]) else v for k, v in values.items()})


def make_parser(command: str, section: type) -> "ArgumentParser":
    """Make the parser of a command that a dataclass configures; a field `recordings` is positional."""
    from jsonargparse import ArgumentParser, set_loader

    set_loader(YAML_MODE, load_yaml, exceptions=(yaml.YAMLError,))
    parser = ArgumentParser(prog=f"lpgnet {command}", exit_on_error=False, allow_abbrev=False, parser_mode=YAML_MODE)
    parser.add_argument("--config", action="config", help="YAML file with these fields")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    positional = {entry.name for entry in fields(section)} & {"recordings"}
    parser.add_class_arguments(section, None, skip=set(positional))
    for name in positional:
        parser.add_argument(name, nargs="*", type=str, default=[], help="files or folders")
    return parser


def parse_config(command: str, arguments: Sequence[str], section: type[Section]) -> Section:
    """Fill a dataclass from the command line and the YAML files that it names.

    Raises:
        UsageError: a key is unknown, a value has the wrong type, a file is missing or not YAML, there is no such
            preset; names file and key.
    """
    from jsonargparse import ArgumentError

    paths = [Path(value) for option, value in _given(arguments) if option == "--config"]
    files = {path: _read_yaml(path) for path in paths}
    for path, given in files.items():
        _check_keys(given, section, where=str(path))
    parser = make_parser(command, section)
    try:
        values = parser.parse_args([*_beneath(arguments, files, section), *arguments]).as_dict()
    except ArgumentError as error:
        raise UsageError(_explain(str(error), arguments, paths, section)) from None
    except OverflowError as error:
        raise UsageError(f"command line: a number is too large ({error})") from None
    # jsonargparse gives numbers types of its own, which YAML and other processes do not know.
    config = _fill(section, json.loads(json.dumps({entry.name: values[entry.name] for entry in fields(section)})))
    try:
        _check_values(config)
        if isinstance(config, Config) and command in TRAINING_STAGES:
            check_schedule(config.training)
    except UsageError as error:
        raise UsageError(f"{shorten(paths) or 'command line'}: {error}") from None
    for path in paths:
        _find_encoders(config, beside=path.parent)
    _expand_home(config)
    return config


def _expand_home(config: "DataclassInstance") -> None:
    """Take `~` for the home folder where no shell did, as in a file."""
    if isinstance(config, Config):
        config.work, config.features.store = map(os.path.expanduser, (config.work, config.features.store))


def _find_encoders(config: "DataclassInstance", *, beside: Path) -> None:
    """Take the folders of encoders that a configuration file names for what they are from where it stands."""
    if isinstance(config, Config):
        for encoder in (config.encoders.audio, config.encoders.text):
            encoder.name = name_near(encoder.name, beside=beside) if encoder.name else encoder.name


def _given(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each option that has a value with it, in their order: a later one wins."""
    for index, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if equals:
            yield option, value
        elif index + 1 < len(arguments):
            yield option, arguments[index + 1]


def _beneath(arguments: Sequence[str], files: Mapping[Path, Mapping[str, object]], section: type) -> list[str]:
    """Return what is read before the arguments: the preset that they name, by themselves or in their files."""
    if section is not Config:
        return []
    name, where = None, "command line"
    for option, value in _given(arguments):
        if option == "--config" and "preset" in (values := files[Path(value)]):
            name, where = values["preset"], value
        elif option == "--preset":
            name, where = None if value == "null" else value, "command line"
    try:
        return ["--config", str(preset_file(name))] if isinstance(name, str) else []
    except UsageError as error:
        raise UsageError(f"{where}: key 'preset': {error}") from None


def _read_yaml(path: Path) -> dict[str, object]:
    try:
        values = load_yaml(read_regular(path, limit=CONFIG_BYTES).decode("utf-8"))
    except FileNotFoundError:
        known = [str(other) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise UsageError(f"{path}: no such config file{did_you_mean(str(path), known)}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except UnboundedYamlError as error:
        raise UsageError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{line}: is not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: must hold keys and values, such as `name: demo`")
    return values


def _check_keys(values: dict[str, object], section: type, *, where: str, prefix: str = "") -> None:
    types = get_type_hints(section)
    for key, value in values.items():
        if key not in types:
            hint = renamed(str(key)) or did_you_mean(str(key), types) or f"; known here: {', '.join(types)}"
            raise UsageError(f"{where}: unknown key '{prefix}{key}'{hint}")
        if wrong := _wrong_shape(value, types[key]):
            raise UsageError(f"{where}: key '{prefix}{key}': {wrong}")
        if is_dataclass(types[key]) and isinstance(value, dict):
            _check_keys(value, types[key], where=where, prefix=f"{prefix}{key}.")


def _wrong_shape(value: object, kind: Any) -> str | None:
    """Say what to give instead of a value that is null, no section, no list or too large, or None where it fits.

    The rest of the types is for jsonargparse to check, which takes null for nothing given.
    """
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    shapes = {dict if is_dataclass(one) else get_origin(one) or one for one in kinds}
    if value is None:
        return None if shapes & {Any, NoneType} else "is null; give a value, or leave the key out for its default"
    if isinstance(value, str) and "\0" in value:
        return "holds a null character"
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return "is too large a number"
    if dict in shapes and not isinstance(value, dict):
        return f"is {value!r:.60}; give keys and values, such as {{a: b}}"
    if shapes - {NoneType} == {list} and not isinstance(value, list):
        return f"is {value!r:.60}; give a list, such as [a, b]"
    return None


def known_keys(section: type, prefix: str = "") -> Iterator[str]:
    """List every dotted key of the configuration."""
    for name, kind in get_type_hints(section).items():
        yield f"{prefix}{name}"
        if isinstance(kind, type) and is_dataclass(kind):
            yield from known_keys(kind, f"{prefix}{name}.")


# Keys that version 0.1.0 had under another name.
RENAMED = {
    **{f"vad_{name}": f"vad.{name}" for name in ("threshold", "release", "min_speech", "min_silence", "padding")},
    **{name: f"turns.{name}" for name in ("max_turn", "min_turn", "max_pause")},
    "embed_megabytes": "page.embed_megabytes",
}


def renamed(key: str) -> str:
    """A hint such as `; it is now 'vad.threshold'` for a key that had another name, else nothing."""
    section, _, name = key.rpartition(".")
    new = RENAMED.get(name)
    return f"; it is now '{section}{'.' if section else ''}{new}'" if new else ""


def _explain(message: str, arguments: Sequence[str], paths: Sequence[Path], section: type) -> str:
    """Put jsonargparse's message in one plain line, with where the key is and the nearest known key."""
    message = " ".join(message.split()).replace("<class '", "").replace("'>", "")
    options = [argument.partition("=")[0].lstrip("-") for argument in arguments if argument.startswith("--")]
    known = [*known_keys(section), "config", "debug", "help"]
    if message.startswith("unrecognized arguments"):
        unknown = [option for option in options if option not in known]
        hint = renamed(unknown[0]) or did_you_mean(unknown[0], known) if unknown else "; see --help"
        return f"command line: {message}{hint}"
    inside = next((key for key in options if f'"{key}"' in message), None)
    where = "command line" if inside or not paths else shorten(paths)
    said = _explain_range(message) or _explain_union(message, section)
    return f"{where}: {said or message.replace('Parser key', 'key')}"


_KEY = re.compile(r'Parser key "([^"]+)"')
_RESTRICTION = re.compile(r"conform to restriction (v\S+(?: and v\S+)*)")
_GIVEN = re.compile(r"(?:Given value: |: )(\S+) (?:does not conform|$)|Given value: (\S+)$")
_NO_NUMBER = re.compile(r"(?:literal for|convert string to) (int|float)(?:\(\) with base \d++)?: (.*)", re.DOTALL)
_RELATIONS = {"v>=": "at least ", "v>": "above ", "v<=": "at most ", "v<": "below "}


def _explain_range(message: str) -> str | None:
    """Say `key 'a.b': 0 must be at least 1` if jsonargparse's message is about a number's range, else None."""
    key = _KEY.search(message)
    if key and (unread := _NO_NUMBER.search(message)):
        kind = "whole number" if unread[1] == "int" else "number"
        return f"key '{key[1]}': {unread[2].partition(' - Expected')[0]} is not a {kind}"
    restriction, given = _RESTRICTION.search(message), _GIVEN.search(message)
    if not (key and restriction and given):
        return None
    value, bounds = given[1] or given[2], restriction[1]
    for relation, words in _RELATIONS.items():
        bounds = bounds.replace(relation, words)
    needs = "not be negative" if bounds == "at least 0" else f"be {bounds}"
    return f"key '{key[1]}': {value} must {needs}"


def _explain_union(message: str, section: type) -> str | None:
    """Say `key 'a.b': is c; give ...` if jsonargparse's message is about a field of several types, else None."""
    key = _KEY.search(message)
    if not key or key[1] not in known_keys(section):
        return None
    kind: Any = section
    for name in key[1].split("."):
        kind = get_type_hints(kind)[name]
    if get_origin(kind) not in (Union, UnionType):
        return None
    given = message.rpartition("Given value: ")[2]
    null = ", or null" if NoneType in get_args(kind) else ""
    return f"key '{key[1]}': is {given:.60}; give {in_words(kind)}{null}"


def in_words(kind: Any) -> str:
    """Say which values a field can have but for null, as in `true or false`."""
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return ", or ".join(_one_in_words(part) for part in parts if part is not NoneType)


def _one_in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        lists = {str: "a list of texts, such as [a, b]", int: "a list of whole numbers"}
        return lists.get(item, f"a list whose items are {in_words(item)}")
    words = {bool: "true or false", str: "a text", int: "a whole number"}
    return words.get(kind, "a value of this field")


def _check_values(config: "DataclassInstance") -> None:
    """Check what types cannot."""
    if isinstance(config, Config):
        check_experiment(config)
    if isinstance(config, PredictionConfig):
        check_prediction(config)


def _check_targets(training: TrainingConfig) -> None:
    if training.unagreed == "use" and training.target != "distribution":
        raise UsageError(
            "key 'training.unagreed': use needs training.target distribution: no majority is there to learn"
        )
    if training.unagreed == "use" and training.drop_unlabelled:
        raise UsageError(
            "key 'training.drop_unlabelled': leaves out what training.unagreed is to use; drop one of them"
        )


def check_schedule(training: TrainingConfig) -> None:
    """Check that a schedule comes to its end; runs that were trained before this was asked are still read.

    Raises:
        UsageError: names the key.
    """
    if training.patience is not None and training.schedule != "constant":
        raise UsageError(
            f"key 'training.patience': would stop before training.schedule {training.schedule} has ended; "
            "leave patience out, or set the schedule to constant"
        )


def check_experiment(config: Config) -> None:
    """Check that names are no paths, that addresses hold no login, and that the network can be built.

    Raises:
        UsageError: names the key.
    """
    for key, name in (("name", config.name), ("run", config.run)):
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise UsageError(f"key '{key}': {name!r} must be a name, not a path outside the work folder")
    for key, root in (("features.store", config.features.store), ("corpus.root", config.corpus.root)):
        check_address(root, key=key)
    _check_places({"work": config.work, "features.cache_folder": config.features.cache_folder}, config.ray)
    if not config.model.modalities:
        raise UsageError("key 'model.modalities': name text, audio or both")
    _check_targets(config.training)
    settings = config.model.settings()
    for name in settings.get("dimensions", []):
        if name not in DIMENSIONS:
            close = did_you_mean(name, DIMENSIONS)
            raise UsageError(f"key 'model.dimensions': {name!r:.40} is not one of {', '.join(DIMENSIONS)}{close}")
    # The corpus's own are not known before it is read.
    ranges = {name: [0.0, 1.0] for name in DIMENSIONS}
    try:
        CONFIG_TYPES[config.model.kind](**settings, ranges=ranges)
    except ModelError as error:
        raise UsageError(f"section 'model': {error}") from None


def _check_ranges(section: "DataclassInstance", prefix: str = "") -> None:
    """Check each number against the range in its type, as the command line does."""
    for name, hint in get_type_hints(type(section)).items():
        value, key = getattr(section, name), f"{prefix}{name}"
        if is_dataclass(value) and not isinstance(value, type):
            _check_ranges(value, f"{key}.")
        for kind in (hint, *get_args(hint)):
            if value is not None and isinstance(kind, type) and issubclass(kind, int | float) and kind is not bool:
                check_number(kind, value, key)


def check_number(kind: type, value: object, key: str) -> None:
    """Check a number against the range in its type.

    Raises:
        UsageError: names the key and the range.
    """
    try:
        kind(value)
    except ValueError as error:
        raise UsageError(_explain_range(f'Parser key "{key}": {error}') or f"key '{key}': {error}") from None


def check_prediction(config: PredictionConfig) -> None:
    """Check the values, which Python code may have given, and what no type states.

    Raises:
        UsageError: a value is out of range; names the key.
    """
    _check_ranges(config)
    _check_places({key: getattr(config, key) for key in ("model", "transcript", "out")}, config.ray)
    if config.vad.release > config.vad.threshold:
        raise UsageError(f"key 'vad.release': {config.vad.release} must not be above vad.threshold")
    if not 0 <= config.window_overlap <= config.window // 2:
        raise UsageError(f"key 'window_overlap': {config.window_overlap} must be at most half of window")
    _check_speakers(config)


def _check_places(local: Mapping[str, str | None], ray: RayConfig) -> None:
    """Refuse addresses where only a file or folder of this machine will do, and repeat no login."""
    check_address(ray.address, key="ray.address")
    for key, path in local.items():
        check_address(path or "", key=key)
        if is_address(path or ""):
            raise UsageError(f"key '{key}': {path} is an address; name a file or folder of this machine")


def _check_speakers(config: PredictionConfig) -> None:
    try:
        resolve_diarizer(config.diarizer)
    except UsageError as error:
        raise UsageError(f"key 'diarizer': {error}") from None
    bounds = config.min_speakers, config.max_speakers
    if config.speakers is not None and bounds != (None, None):
        raise UsageError("key 'speakers': gives the number; leave min_speakers and max_speakers out")
    if (config.min_speakers or 1) > (config.max_speakers or math.inf):
        raise UsageError(f"key 'min_speakers': {config.min_speakers} must not be above max_speakers")
