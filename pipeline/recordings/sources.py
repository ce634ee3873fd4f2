"""What the predict stage was pointed to: recordings, folders of them, and manifests, each as things to label."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, MANIFEST_FILE, Utterance, read_manifest
from lpgnet.pipeline.errors import PipelineError, UsageError, shorten
from lpgnet.pipeline.recordings.transcripts import Transcript, find_transcript, is_shared, recordings_of

# Suffixes that make a file of a folder a recording; a file that is named itself may have any.
_DECODED = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
_CONTAINERS = (".m4a", ".mp4", ".mov", ".mkv", ".webm", ".avi")
RECORDING_SUFFIXES = frozenset({*_DECODED, *_CONTAINERS})


@dataclass(frozen=True)
class RecordingSource:
    """A recording to label.

    Attributes:
        name: of its outputs, without a suffix and below the output folder; with the folders of a tree of recordings.
        transcript: the one that was given, or that stands beside it; None looks beside it when it is labelled.
    """

    name: str
    recording: Path
    transcript: Path | Transcript | None = None

    @property
    def files(self) -> list[Path]:
        """What its timeline is made from."""
        return [self.recording, *([self.transcript] if isinstance(self.transcript, Path) else [])]

    @property
    def folder(self) -> Path:
        """Where it stands."""
        return self.recording.parent


@dataclass(frozen=True)
class DialogueSource:
    """A dialogue of a manifest to label.

    Attributes:
        root: what the utterances' paths are relative to.
        manifest: the folder that it was read from.
    """

    name: str
    utterances: tuple[Utterance, ...]
    root: str
    manifest: Path

    @property
    def files(self) -> list[Path]:
        """What its timeline is made from."""
        audio = {utterance.audio for utterance in self.utterances if utterance.audio}
        return [self.manifest / MANIFEST_FILE, *(Path(self.root) / path for path in sorted(audio))]

    @property
    def folder(self) -> Path:
        """Where its manifest stands."""
        return self.manifest


Source = RecordingSource | DialogueSource


def find_sources(paths: Sequence[str], transcript: str | None) -> list[Source]:
    """Find all that is to be labeled, each once, with names that tell their outputs apart.

    Args:
        paths: recordings, folders of them, and manifests.
        transcript: belongs to the one recording, or holds turns of several and names them; None looks beside each.

    Returns:
        The sources in the order of the paths.

    Raises:
        PipelineError: a manifest is wrong, or the transcript cannot be read.
        UsageError: there are several recordings, and the transcript is of one.
    """
    found: dict[tuple[str, str], Source] = {}
    for path in paths:
        for source in _sources(Path(path)):
            found.setdefault(_identity(source), source)
    sources = list(found.values())
    return _told_apart(_with_transcript(sources, Path(transcript)) if transcript else sources)


def source_of(recording: Source | str | Path) -> Source:
    """Give what is to be labelled of a recording that is named by its path."""
    return RecordingSource(Path(recording).stem, Path(recording)) if isinstance(recording, str | Path) else recording


def check_exists(recording: Path) -> None:
    """Refuse a recording that is not there.

    Raises:
        PipelineError: names it.
    """
    if not recording.exists():
        raise PipelineError(f"{recording}: no such recording")


def _sources(path: Path) -> Iterator[Source]:
    manifest = path.parent if path.name == MANIFEST_FILE else path
    if (manifest / MANIFEST_FILE).is_file() and (manifest / CORPUS_FILE).is_file():
        yield from _dialogues(manifest)
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in RECORDING_SUFFIXES and _may_be_read(file) and not file.name.startswith("."):
                name = file.relative_to(path).with_suffix("").as_posix()
                yield RecordingSource(name, file, find_transcript(file))
    else:
        yield RecordingSource(path.stem, path, find_transcript(path))


def _dialogues(folder: Path) -> Iterator[DialogueSource]:
    manifest = read_manifest(folder)
    for dialogue_id, utterances in manifest.dialogues():
        yield DialogueSource(_flat(dialogue_id), tuple(utterances), manifest.corpus.root, folder)


def _flat(name: str) -> str:
    """A name without folders in it, so that a dialogue's id cannot lead out of the output folder."""
    return name.replace("\\", "/").strip("/.").replace("/", "-") or "recording"


def _may_be_read(file: Path) -> bool:
    """Whether it is a file, or a link that leads nowhere, such as to a disk that is not there: that one is told."""
    return file.is_file() or (file.is_symlink() and not file.exists())


def _identity(source: Source) -> tuple[str, str]:
    if isinstance(source, RecordingSource):
        return os.path.abspath(source.recording), ""
    return os.path.abspath(source.manifest), source.utterances[0].dialogue_id


def _with_transcript(sources: list[Source], transcript: Path) -> list[Source]:
    """Give the transcript to the one recording, or to all that it names."""
    recordings = [source for source in sources if isinstance(source, RecordingSource)]
    if len(recordings) > 1 and not is_shared(transcript):
        raise UsageError(
            "--transcript is for one recording, unless it is RTTM, STM, CTM or UEM and names several; give each other "
            "transcript its recording's name and folder"
        )
    named = recordings_of(transcript) if len(recordings) > 1 else {recording.recording.stem for recording in recordings}
    chosen = [source.recording for source in recordings if source.recording.stem in named]
    _check_named(transcript, chosen, recordings)
    return [
        replace(source, transcript=transcript)
        if isinstance(source, RecordingSource) and source.recording in chosen
        else source
        for source in sources
    ]


def _check_named(transcript: Path, chosen: Sequence[Path], recordings: Sequence[RecordingSource]) -> None:
    """Refuse a transcript of which nobody knows whose turns it holds, and say of how many recordings it is."""
    if recordings and not chosen:
        raise UsageError(f"{transcript}: names none of the recordings; it must name them without folder and suffix")
    twice = [stem for stem, count in Counter(path.stem for path in chosen).items() if count > 1]
    if twice:
        raise UsageError(
            f"{transcript}: holds turns of {shorten(twice)}, which several recordings are called; label them one by one"
        )
    if len(chosen) < len(recordings):
        say(f"{transcript}: names {len(chosen)} of {len(recordings)} recordings; the others are labelled without it")


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """Names alike are told apart by the folders of their recordings, `mon/call` and `tue/call`.

    In one folder they are told apart by suffix, `call.wav` and `call.mp3`, and what is still alike by a number.
    """
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        groups[source.name].append(source)
    named = [_with_suffix(_with_folders(source, groups[source.name]), groups[source.name]) for source in sources]
    seen: Counter[str] = Counter()
    result: list[Source] = []
    for source in named:
        seen[source.name] += 1
        result.append(source if seen[source.name] == 1 else replace(source, name=f"{source.name}~{seen[source.name]}"))
    return result


def _with_folders(source: Source, alike: Sequence[Source]) -> Source:
    folders = [os.path.abspath(other.folder) for other in alike]
    if len(set(folders)) == 1:
        return source
    inside = os.path.relpath(os.path.abspath(source.folder), os.path.commonpath(folders))
    last = source.name.rpartition("/")[2]
    return replace(source, name=(Path(inside) / last).as_posix())


def _with_suffix(source: Source, alike: Sequence[Source]) -> Source:
    beside = [other for other in alike if other.folder == source.folder]
    if len(beside) == 1 or not isinstance(source, RecordingSource):
        return source
    return replace(source, name=source.name + source.recording.suffix)
