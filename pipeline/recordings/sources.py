"""What the predict stage was pointed to: recordings, folders of them, and manifests, each as things to label."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath

from lpgnet.cache.addresses import without_local_scheme
from lpgnet.pipeline.common.console import say
from lpgnet.pipeline.common.files import is_address
from lpgnet.pipeline.common.remote_files import RemoteFiles
from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, MANIFEST_FILE, Utterance, read_manifest
from lpgnet.pipeline.errors import PipelineError, UsageError, shorten
from lpgnet.pipeline.recordings.lists import is_list, read_list
from lpgnet.pipeline.recordings.remote_files import transcript_beside
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
    def versions(self) -> Mapping[str, str]:
        """What there is at the addresses that its timeline is made from, by address."""
        return {}

    @property
    def folder(self) -> str:
        """Where it stands, to tell it apart from others of its name."""
        return os.path.abspath(self.recording.parent)

    @property
    def size(self) -> int:
        """How much there is to read, 0 where it is not there (bytes)."""
        return _size(self.recording)

    def __str__(self) -> str:
        return str(self.recording)


@dataclass(frozen=True)
class RemoteSource:
    """A recording to label that, or whose transcript, is at an address: it is fetched by whoever labels it.

    Attributes:
        recording, transcript: addresses, or one of them a local file.
        versions: what there is at each address, by its tag and size, or by all that its file system tells of it.
        size: of the recording (bytes).
    """

    name: str
    recording: str
    transcript: str | None
    versions: Mapping[str, str]
    size: int

    @property
    def files(self) -> list[Path]:
        """The local one of its files, if one is."""
        return [Path(file) for file in (self.recording, self.transcript) if file and not is_address(file)]

    @property
    def folder(self) -> str:
        """Where it stands, to tell it apart from others of its name."""
        return "/" + self.recording.replace("://", "/").strip("/").rpartition("/")[0]

    def __str__(self) -> str:
        return self.recording


@dataclass(frozen=True)
class DialogueSource:
    """A dialogue of a manifest to label.

    Attributes:
        root: what the utterances' paths are relative to.
        manifest: the folder that it was read from.
        versions: what there is at the addresses of its recordings, where the root is one.
    """

    name: str
    utterances: tuple[Utterance, ...]
    root: str
    manifest: Path
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The local files that its timeline is made from."""
        audio = () if is_address(self.root) else _audio_of(self.utterances)
        return [self.manifest / MANIFEST_FILE, *(Path(self.root) / path for path in audio)]

    @property
    def folder(self) -> str:
        """Where its manifest stands, to tell it apart from others of its name."""
        return os.path.abspath(self.manifest)

    @property
    def size(self) -> int:
        """How much there is to read, 0 of what is not there (bytes)."""
        return sum(map(_size, self.files[1:]))

    def __str__(self) -> str:
        return f"dialogue {self.name}"


Source = RecordingSource | RemoteSource | DialogueSource


def find_sources(paths: Sequence[str], transcript: str | None) -> list[Source]:
    """Find all that is to be labeled, each once, with names that tell their outputs apart.

    Args:
        paths: recordings, folders of them, manifests, lists of recordings, and addresses of recordings, folders and
            lists.
        transcript: belongs to the one recording, or holds turns of several and names them; None looks beside each.

    Returns:
        The sources in the order of the paths.

    Raises:
        PipelineError: a manifest or a list is wrong, the transcript cannot be read, or nothing is at an address.
        UsageError: there are several recordings, and the transcript is of one.
    """
    found: dict[tuple[str, str], Source] = {}
    remote = RemoteFiles()
    for path in map(without_local_scheme, paths):
        for source in _sources(path, remote):
            found.setdefault(_identity(source), source)
    sources = list(found.values())
    return _told_apart(_with_transcript(sources, Path(transcript)) if transcript else sources)


def source_of(recording: Source | str | Path) -> Source:
    """Give what is to be labelled of a recording that is named by its path or address.

    Raises:
        PipelineError: nothing is at the address.
    """
    if not isinstance(recording, str | Path):
        return recording
    path = without_local_scheme(str(recording))
    return _recording(PurePath(path).stem, path, None, RemoteFiles())


def check_exists(recording: Path) -> None:
    """Refuse a recording that is not there.

    Raises:
        PipelineError: names it.
    """
    if not recording.exists():
        raise PipelineError(f"{recording}: no such recording")


def _sources(given: str, remote: RemoteFiles) -> Iterator[Source]:
    path = Path(given)
    if is_address(given):
        yield from _sources_at(given, remote)
    elif is_list(given):
        yield from _listed(given, remote)
    elif (manifest := _manifest_folder(path)) is not None:
        yield from _dialogues(manifest, remote)
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if _is_recording(file.name) and _may_be_read(file):
                name = file.relative_to(path).with_suffix("").as_posix()
                yield RecordingSource(name, file, find_transcript(file))
    else:
        yield RecordingSource(path.stem, path, find_transcript(path))


def _sources_at(address: str, remote: RemoteFiles) -> Iterator[Source]:
    """Find what an address gives: a list's recordings, a recording, or those below a folder."""
    if is_list(address):
        yield from _listed(address, remote)
    elif remote.is_file(address):
        yield _recording(PurePosixPath(address).stem, address, None, remote)
    else:
        for file, below in remote.below(address):
            if _is_recording(PurePosixPath(below).name):
                yield _recording(PurePosixPath(below).with_suffix("").as_posix(), file, None, remote)


def _listed(given: str, remote: RemoteFiles) -> Iterator[Source]:
    """Give the recordings of a list; paths are relative to its folder, whose tree their names keep."""
    beside = given.replace("\\", "/").rpartition("/")[0]
    for row in read_list(given):
        recording, transcript = (_beside(beside, path) for path in (row.recording, row.transcript))
        path = PurePosixPath(row.recording)
        is_inside = not (path.is_absolute() or ".." in path.parts or is_address(row.recording))
        name = path.with_suffix("").as_posix() if is_inside else path.stem
        yield _recording(name, recording or "", transcript, remote)


def _beside(folder: str, path: str | None) -> str | None:
    if path is None or is_address(path := without_local_scheme(path)):
        return path
    return f"{folder}/{path}" if is_address(folder) else os.path.join(folder, path)


def _recording(name: str, recording: str, transcript: str | None, remote: RemoteFiles) -> Source:
    """Give a recording with the transcript that was given, or that stands beside it."""
    if not any(is_address(file) for file in (recording, transcript or "")):
        path = Path(recording)
        return RecordingSource(name, path, Path(transcript) if transcript else find_transcript(path))
    if transcript is None:
        transcript = transcript_beside(recording, remote)
    versions = {file: remote.version(file) for file in (recording, transcript) if file and is_address(file)}
    size = remote.size(recording) if is_address(recording) else _size(Path(recording))
    return RemoteSource(name, recording, transcript, versions, size)


def _is_recording(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in RECORDING_SUFFIXES and not name.startswith(".")


def _manifest_folder(path: Path) -> Path | None:
    folder = path.parent if path.name == MANIFEST_FILE else path
    return folder if (folder / MANIFEST_FILE).is_file() and (folder / CORPUS_FILE).is_file() else None


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return 0


def _dialogues(folder: Path, remote: RemoteFiles) -> Iterator[DialogueSource]:
    manifest = read_manifest(folder)
    root = without_local_scheme(manifest.corpus.root)
    for dialogue_id, utterances in manifest.dialogues():
        there = [f"{root.rstrip('/')}/{path}" for path in _audio_of(utterances)] if is_address(root) else ()
        versions = {address: remote.version(address) for address in there}
        yield DialogueSource(_flat(dialogue_id), tuple(utterances), root, folder, versions)


def _audio_of(utterances: Iterable[Utterance]) -> list[str]:
    return sorted({utterance.audio for utterance in utterances if utterance.audio})


def _flat(name: str) -> str:
    """A name without folders in it, so that a dialogue's id cannot lead out of the output folder."""
    return name.replace("\\", "/").strip("/.").replace("/", "-") or "recording"


def _may_be_read(file: Path) -> bool:
    """Whether it is a file, or a link that leads nowhere, such as to a disk that is not there: that one is told."""
    return file.is_file() or (file.is_symlink() and not file.exists())


def _identity(source: Source) -> tuple[str, str]:
    if isinstance(source, DialogueSource):
        return source.folder, source.utterances[0].dialogue_id
    return source.recording if isinstance(source, RemoteSource) else os.path.abspath(source.recording), ""


def _stem(source: RecordingSource | RemoteSource) -> str:
    return PurePath(source.recording).stem


def _with_transcript(sources: list[Source], transcript: Path) -> list[Source]:
    """Give the transcript to the one recording, or to all that it names."""
    recordings = [source for source in sources if not isinstance(source, DialogueSource)]
    if len(recordings) > 1 and not is_shared(transcript):
        raise UsageError(
            "--transcript is for one recording, unless it is RTTM, STM, CTM or UEM and names several; give each other "
            "transcript its recording's name and folder"
        )
    named = recordings_of(transcript) if len(recordings) > 1 else set(map(_stem, recordings))
    chosen = [source for source in recordings if _stem(source) in named]
    _check_named(transcript, chosen, recordings)
    given = {_identity(source): _given(source, transcript) for source in chosen}
    return [given.get(_identity(source), source) for source in sources]


def _given(source: RecordingSource | RemoteSource, transcript: Path) -> Source:
    if isinstance(source, RecordingSource):
        return replace(source, transcript=transcript)
    kept = {file: version for file, version in source.versions.items() if file == source.recording}
    return replace(source, transcript=str(transcript), versions=kept)


def _check_named(
    transcript: Path,
    chosen: Sequence[RecordingSource | RemoteSource],
    recordings: Sequence[RecordingSource | RemoteSource],
) -> None:
    """Refuse a transcript of which nobody knows whose turns it holds, and say of how many recordings it is."""
    if recordings and not chosen:
        raise UsageError(f"{transcript}: names none of the recordings; it must name them without folder and suffix")
    twice = [stem for stem, count in Counter(map(_stem, chosen)).items() if count > 1]
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
    names = {id(source): name for alike in groups.values() for source, name in _names_apart(alike)}
    seen: Counter[str] = Counter()
    result: list[Source] = []
    for source in sources:
        name = _inside(names[id(source)])
        seen[name] += 1
        result.append(replace(source, name=name if seen[name] == 1 else f"{name}~{seen[name]}"))
    return result


def _inside(name: str) -> str:
    """A name that leads out of no folder: keys of objects, and rows of lists, may be whatever somebody wrote."""
    return "/".join(part for part in PurePosixPath(name).parts if part not in ("..", "/")) or "recording"


def _names_apart(alike: Sequence[Source]) -> Iterator[tuple[Source, str]]:
    """Give each of several sources of one name a name with the folders in which they differ, and with its suffix."""
    folders = Counter(source.folder for source in alike)
    above = os.path.commonpath(folders)
    for source in alike:
        inside = Path(os.path.relpath(source.folder, above)) if len(folders) > 1 else None
        name = (inside / source.name.rpartition("/")[2]).as_posix() if inside else source.name
        has_suffix = folders[source.folder] > 1 and not isinstance(source, DialogueSource)
        yield source, name + PurePath(str(source)).suffix if has_suffix else name
