"""Label many recordings: skip those that are up to date, and continue when one fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.stamps import STAT_CACHE_FILE, Digest, digests_of, is_fresh, write_stamp
from lpgnet.pipeline.config import PredictionConfig
from lpgnet.pipeline.corpora.limits import MAX_RECORDING_BYTES
from lpgnet.pipeline.errors import PipelineError, counted, for_people, shorten
from lpgnet.pipeline.labelling.model_folders import model_folder
from lpgnet.pipeline.recordings.diarizers import resolve_diarizer
from lpgnet.pipeline.recordings.sources import RECORDING_SUFFIXES, RecordingSource, Source, check_exists
from lpgnet.pipeline.reports.timeline import Timeline, check_formats, output_paths, write_timeline

if TYPE_CHECKING:
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

# Subfolder of the output folder for what each timeline was made from.
STAMPS = ".made-from"
# Raised whenever the same inputs give different outputs, so that all timelines are made again.
OUTPUT_VERSION = 4
# Fields that do not change what a timeline contains.
_NOT_IN_STAMPS = ("recordings", "transcript", "out", "again", "device", "workers", "formats")


@dataclass(frozen=True)
class Labelled:
    """A timeline that was written, with a title to show and its files."""

    title: str
    timeline: Timeline
    paths: list[Path]


def label_sources(
    sources: Sequence[Source], config: PredictionConfig, *, on_labelled: Callable[[Labelled], None], debug: bool = False
) -> None:
    """Label the sources that are not up to date; failures are listed at the end and stop no other source.

    Args:
        sources: recordings and dialogues.
        config: how they are labelled.
        on_labelled: is called with each timeline once its files are written.
        debug: raise the first error as it is.

    Raises:
        PipelineError: some recordings could not be labelled.
    """
    waiting = list(sources) if config.again else _waiting(sources, config)
    if len(waiting) < len(sources):
        say(f"up to date: {len(sources) - len(waiting)} of {len(sources)} (use --again true to re-label them)")
    if not waiting:
        return
    # What is refused of a single recording is refused before seconds are spent on the models.
    if len(sources) == 1 and isinstance(sources[0], RecordingSource):
        check_exists(sources[0].recording)
    model_folder(Path(config.model or ""))
    _check_writable(Path(config.out))
    from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline

    pipeline = EmotionPipeline.from_config(config)
    for line in (*pipeline.about_model, f"predict: {pipeline.places}"):
        say(line)
    failed: list[Source] = []
    for n_done, source in enumerate(waiting, start=1):
        outcome = _name(source)
        try:
            on_labelled(_label_one(source, pipeline, config))
        except Exception as error:
            if debug or len(sources) == 1:
                raise
            failed.append(source)
            outcome = f"failed: {_about(source, for_people(error))}"
        if len(waiting) > 1:
            say(f"{n_done} of {len(waiting)}: {outcome}")
    _conclude(failed, len(waiting))


def _about(source: Source, error: PipelineError) -> str:
    """Put what the error is about before it, unless it begins so."""
    message = " ".join(str(error).split())
    return message if message.startswith(_name(source)) else f"{_name(source)}: {message}"


def _conclude(failed: Sequence[Source], n_sources: int) -> None:
    if failed:
        raise PipelineError(
            f"{len(failed)} of {counted(n_sources, 'recording')} could not be labelled, for the reasons above "
            f"({shorten(map(_name, failed))}); the others are done"
        )


def _label_one(source: Source, pipeline: EmotionPipeline, config: PredictionConfig) -> Labelled:
    stamp = _stamp_inputs(source, config, _digests(_inputs(source, config), config))
    _spare_inputs(source, config)
    timeline = pipeline.label(source)
    for choice in timeline.choices:
        say(choice)
    with pipeline.seconds.of("outputs"):
        formats = check_formats(config.formats)
        paths = write_timeline(timeline, Path(config.out), formats, config.page, csv_raw=config.csv_raw)
    # Written last, so that an interrupted timeline is made again; one a format, as each may be older than another.
    for form in formats:
        write_stamp(_stamp_path(source, config, form), stamp)
    return Labelled(_name(source), timeline, paths)


def _spare_inputs(source: Source, config: PredictionConfig) -> None:
    """Refuse to overwrite the recording or the transcript that a timeline is made from."""
    outputs = output_paths(Path(config.out), source.name, check_formats(config.formats)).values()
    if taken := {path.resolve() for path in outputs} & {path.resolve() for path in source.files}:
        raise PipelineError(
            f"{shorten(sorted(taken))} would be overwritten by the timeline; choose another folder with --out"
        )


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".try-"):
            pass
    except OSError as error:
        raise PipelineError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from None


def _name(source: Source) -> str:
    return str(source.recording) if isinstance(source, RecordingSource) else f"dialogue {source.name}"


def _stamp_path(source: Source, config: PredictionConfig, form: str) -> Path:
    return Path(config.out) / STAMPS / f"{source.name}.{form}.json"


def _inputs(source: Source, config: PredictionConfig) -> list[Path]:
    """Return the files that a timeline is made from."""
    model = model_folder(Path(config.model or ""))
    helpers = [_local_files(name) for name in (config.asr, config.aligner) if name]
    return [*source.files, model / "config.json", model / "model.safetensors", *chain.from_iterable(helpers)]


def _local_files(name: str) -> list[Path]:
    """Return the files of a model that is named by its folder, such as `hf:models/whisper`; none of one on the hub."""
    folder = Path(os.path.expanduser(name.partition(":")[2]))
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _digests(files: Iterable[Path], config: PredictionConfig) -> dict[str, Digest]:
    every = list(files)
    cache = Path(config.out) / STAMPS / STAT_CACHE_FILE
    # A recording that is too large to be labelled is not read for its digest either.
    read = [path for path in every if not _is_too_large(path)]
    return dict.fromkeys(map(str, every)) | digests_of(read, stat_cache=cache, large=RECORDING_SUFFIXES)


def _is_too_large(path: Path) -> bool:
    is_recording = path.suffix.lower() in RECORDING_SUFFIXES and path.is_file()
    return is_recording and path.stat().st_size > MAX_RECORDING_BYTES


def _stamp_inputs(source: Source, config: PredictionConfig, digests: Mapping[str, Digest]) -> dict[str, object]:
    """Return everything that a timeline depends on."""
    return {
        "version": OUTPUT_VERSION,
        "files": {str(path): digests[str(path)] for path in _inputs(source, config)},
        "settings": {name: value for name, value in asdict(config).items() if name not in _NOT_IN_STAMPS},
        "diarizer": resolve_diarizer(config.diarizer),
    }


def _waiting(sources: Sequence[Source], config: PredictionConfig) -> list[Source]:
    """Leave out the sources whose timelines are there, made from the files as they are now."""
    written = [source for source in sources if _is_written(source, config)]
    # At once for all: they share the model, and dialogues their manifest.
    digests = _digests((path for source in written for path in _inputs(source, config)), config)
    done = {source.name for source in written if _is_done(source, config, digests)}
    return [source for source in sources if source.name not in done]


def _is_done(source: Source, config: PredictionConfig, digests: Mapping[str, Digest]) -> bool:
    inputs = _stamp_inputs(source, config, digests)
    return all(is_fresh(_stamp_path(source, config, form), inputs) for form in check_formats(config.formats))


def _is_written(source: Source, config: PredictionConfig) -> bool:
    paths = output_paths(Path(config.out), source.name, check_formats(config.formats))
    return all(path.is_file() for path in paths.values())
