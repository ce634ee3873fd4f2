"""What the predict stage was pointed to: recordings, folders of them, and manifests, each as things to label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, MANIFEST_FILE, Utterance, read_manifest
from lpgnet.pipeline.recordings.transcripts import find_transcript

# Suffixes that make a file of a folder a recording; a file that is named itself may have any.
_DECODED = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64", ".rf64")
_CONTAINERS = (".m4a", ".mp4", ".mov", ".mkv", ".webm", ".avi")
RECORDING_SUFFIXES = frozenset({*_DECODED, *_CONTAINERS})


@dataclass(frozen=True)
class RecordingSource:
    """A recording to label.

    Attributes:
        name: of its outputs, without a suffix and below the output folder.
        transcript: the one that was given, or that stands beside it; None where there is none.
    """

    name: str
    recording: Path
    transcript: Path | None

    @property
    def files(self) -> list[Path]:
        """What its timeline is made from."""
        return [self.recording, *([self.transcript] if self.transcript else [])]


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


Source = RecordingSource | DialogueSource


def find_sources(paths: Sequence[str], transcript: str | None) -> list[Source]:
    """Find all that is to be labeled, with names that tell their outputs apart.

    Args:
        transcript: belongs to the one recording; None looks beside each.

    Returns:
        The sources in the order of the paths.

    Raises:
        PipelineError: a manifest is wrong.
    """
    sources = [source for path in paths for source in _sources(Path(path), transcript)]
    return _told_apart(sources)


def _sources(path: Path, transcript: str | None) -> Iterator[Source]:
    manifest = path.parent if path.name == MANIFEST_FILE else path
    if (manifest / MANIFEST_FILE).is_file() and (manifest / CORPUS_FILE).is_file():
        yield from _dialogues(manifest)
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in RECORDING_SUFFIXES and _may_be_read(file) and not file.name.startswith("."):
                yield RecordingSource(_flat(str(file.relative_to(path).with_suffix(""))), file, find_transcript(file))
    else:
        yield RecordingSource(path.stem, path, Path(transcript) if transcript else find_transcript(path))


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


def _told_apart(sources: Sequence[Source]) -> list[Source]:
    """`call.wav` and `call.mp3` give `call.wav.csv` and `call.mp3.csv`; what is still alike is numbered."""
    counts = Counter(source.name for source in sources)
    named = [
        replace(source, name=source.name + source.recording.suffix)
        if counts[source.name] > 1 and isinstance(source, RecordingSource)
        else source
        for source in sources
    ]
    seen: Counter[str] = Counter()
    result: list[Source] = []
    for source in named:
        seen[source.name] += 1
        result.append(source if seen[source.name] == 1 else replace(source, name=f"{source.name}~{seen[source.name]}"))
    return result
