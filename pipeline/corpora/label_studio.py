"""The `label_studio` reader: a project's export as JSON, one task a recording, with regions that people labelled."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from lpgnet.pipeline.common.files import parse_json
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root, one_file
from lpgnet.pipeline.corpora.manifest import Utterance, utterance_from
from lpgnet.pipeline.corpora.text import read_utf8
from lpgnet.pipeline.errors import PipelineError, UsageError, did_you_mean, shorten

VERSION = 2
PUBLISHED_COUNTS: PublishedCounts = {}
# What the format `labelstudio` of `predict` calls the key of the recording, and the controls.
AUDIO, EMOTION, SPEAKER, TEXT = "audio", "emotion", "speaker", "text"
# Under which key a control of each kind keeps what it says of a region.
_SAID = ("labels", "choices", "text")
_PLACE = ("start", "end", "channel")
# Label Studio puts this before the name of a file that is uploaded, and keeps only these characters of it.
_PREFIX = re.compile(r"\A[0-9a-f]{8}-")
_NOT_KEPT = re.compile(r"[^-\w.]")
_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}
Kind = TypeVar("Kind")
_Times: TypeAlias = tuple[float | None, ...]


def read(
    root: str,
    *,
    export: str | None = None,
    audio: str = AUDIO,
    emotion: str = EMOTION,
    speaker: str = SPEAKER,
    text: str = TEXT,
) -> ReadCorpus:
    """Read the regions of every task as the utterances of a dialogue, in the order of their starts.

    Of several annotations of a task the ground truth counts, else the last one that was not cancelled. Where other
    people labelled a region of the very same times, what all of them say of it are its votes. Recordings are
    found in the corpus's folder by the end of their addresses, with or without what Label Studio put before the name
    of an upload.

    Args:
        root: folder of the corpus, with the recordings.
        export: the export's path in that folder; None: the only `.json` file there.
        audio: key of a task's data that holds the address of its recording.
        emotion, speaker, text: names of the controls (`from_name`) for a region's label, speaker and words.

    Raises:
        PipelineError: the export is not there or is no such JSON, a recording is not in the folder, or a region is
            wrong; names file, task and region.
        UsageError: an option is no text.
    """
    path = _export_path(root, export)
    controls = _checked_controls({"emotion": emotion, "speaker": speaker, "text": text, "audio": audio})
    tasks, warnings = _annotated(_tasks(path), path, emotion)
    _check_labelled(tasks, emotion, path)
    recordings = _Recordings(corpus_root(root))
    utterances: list[Utterance] = []
    wheres: dict[str, str] = {}
    for task in tasks:
        recording = recordings.find(_address(task, audio), where=task.where)
        dialogue_id = recording.rpartition(".")[0] or recording
        if (first := wheres.setdefault(dialogue_id, task.where)) != task.where:
            raise PipelineError(f"{task.where}: is of {recording}, as is {first}; keep one of the two")
        utterances += _utterances(task, controls, dialogue_id, recording)
    return ReadCorpus(utterances, warnings, VERSION)


def sources(root: str, *, export: str | None = None, **_: object) -> list[Path]:
    """Return what the manifest depends on: the export, and the names of the recordings in the root and its folders."""
    folder = corpus_root(root)
    return [_export_path(root, export), folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]


def _export_path(root: str, export: str | None) -> Path:
    return one_file(root, export, option="export", what="export", suffixes=(".json",))


def _checked_controls(names: Mapping[str, str]) -> dict[str, str]:
    """Return which field of an utterance each control says."""
    for option, name in names.items():
        if not isinstance(name, str):
            raise UsageError(f"corpus.options.{option}: give a name in quotes, not {name!r:.60}")
    return {names["emotion"]: "label", names["speaker"]: "speaker", names["text"]: "text"}


@dataclass(frozen=True)
class _Task:
    """A recording's annotation: what each control says of each region, and the labels that others gave such times."""

    where: str
    data: dict[str, Any]
    result: list[dict[str, Any]]
    others: list[dict[_Times, str]]


def _checked(value: object, kind: type[Kind], *, where: str) -> Kind:
    if not isinstance(value, kind):
        raise PipelineError(f"{where} must be {_KINDS[kind]}, not {value!r:.60}; export the project as JSON")
    return value


def _tasks(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give the tasks of an export, each with what errors call it."""
    content = parse_json(read_utf8(path), where=str(path), several_lines=True)
    for number, task in enumerate(_checked(content, list, where=f"{path}: the export"), start=1):
        where = f"{path}, task {number}"
        yield where, _checked(task, dict, where=where)


def _annotated(tasks: Iterable[tuple[str, dict[str, Any]]], path: Path, emotion: str) -> tuple[list[_Task], list[str]]:
    """Return the tasks that somebody annotated, and warnings of the others and of those that several did."""
    found: list[_Task] = []
    without = several = 0
    for where, values in tasks:
        annotations = _annotations(values, where)
        without, several = without + (not annotations), several + (len(annotations) > 1)
        if annotations:
            # The sort is stable: the last of those that are the truth, or of all.
            taken = sorted(annotations, key=lambda annotation: annotation.get("ground_truth") is True)[-1]
            data = _checked(values.get("data"), dict, where=f"{where}: data")
            others = [_labels(annotation, emotion) for annotation in _others(annotations, taken)]
            found.append(_Task(where, data, _result(taken, where), others))
    if not found:
        raise PipelineError(f"{path}: none of its tasks is annotated; submit annotations, and export again")
    counts = {"without an annotation, which are left out": without, "with several, of which one is taken": several}
    return found, [f"{path}: tasks {what}: {count}" for what, count in counts.items() if count]


def _annotations(task: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    values = _checked(task.get("annotations"), list, where=f"{where}: annotations")
    checked = [_checked(value, dict, where=f"{where}: an annotation") for value in values]
    return [annotation for annotation in checked if annotation.get("was_cancelled") is not True]


def _result(annotation: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    result = _checked(annotation.get("result"), list, where=f"{where}: result")
    return [_checked(part, dict, where=f"{where}: a part of result") for part in result]


def _others(annotations: Iterable[Mapping[str, Any]], taken: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the last annotation of everybody but the person whose annotation is taken."""
    last = {_person(annotation): annotation for annotation in annotations}
    unknown = _person(taken) is None
    return [] if unknown else [one for person, one in last.items() if person not in (None, _person(taken))]


def _person(annotation: Mapping[str, Any]) -> int | None:
    who = annotation.get("completed_by")
    number = who.get("id") if isinstance(who, dict) else who
    return number if isinstance(number, int) else None


def _labels(annotation: Mapping[str, Any], emotion: str) -> dict[_Times, str]:
    """Return the labels that an annotation gives, by their times; whatever is no such label is passed over."""
    result = annotation.get("result")
    parts = [part for part in result if isinstance(part, dict)] if isinstance(result, list) else []
    values: list[Any] = [part.get("value") for part in parts if part.get("from_name") == emotion]
    found: dict[_Times, str] = {}
    for value in values:
        match value:
            case {"start": _, "labels": [str(label)]} | {"start": _, "choices": [str(label)]} if label:
                found[_times(value)] = label
    return found


def _times(place: Mapping[str, Any]) -> _Times:
    """Return where a region lies; without split channels some say that it is on the first, and some nothing."""
    values = (place.get(key) or 0 for key in _PLACE)
    return tuple(value if isinstance(value, int | float) else None for value in values)


def _votes(region: Mapping[str, Any], others: Iterable[Mapping[_Times, str]]) -> dict[str, int] | None:
    """Count what several people say of a region; None where it was one."""
    said = [region.get("label"), *(labels.get(_times(region)) for labels in others)]
    votes = Counter(label for label in said if label is not None)
    return dict(votes) if votes.total() > 1 else None


def _check_labelled(tasks: Sequence[_Task], emotion: str, path: Path) -> None:
    controls = {str(part["from_name"]) for task in tasks for part in task.result if "from_name" in part}
    if emotion not in controls:
        raise PipelineError(
            f"{path}: nothing is labelled by a control '{emotion}'{did_you_mean(emotion, controls)}; its controls are"
            f" {shorten(sorted(controls)) or 'none'}; name the one for emotions in corpus.options.emotion"
        )


def _address(task: _Task, key: str) -> str:
    if key not in task.data:
        known = shorten(task.data) or "nothing"
        raise PipelineError(
            f"{task.where}: data has no '{key}' but {known}; name the recording's in corpus.options.audio"
        )
    return _checked(task.data[key], str, where=f"{task.where}: data.{key}")


def _utterances(task: _Task, controls: Mapping[str, str], dialogue_id: str, recording: str) -> list[Utterance]:
    regions = _regions(task, controls)
    # Without split channels, all regions are said to be on the first.
    split = any(region.get("channel") not in (None, 0) for region in regions.values())
    turns = [
        utterance_from(
            {
                **region,
                "votes": _votes(region, task.others),
                "channel": region.get("channel") if split else None,
                "dialogue_id": dialogue_id,
                "utterance_id": name,
                "audio": recording,
            },
            where=task.where,
        )
        for name, region in regions.items()
    ]
    turns.sort(key=lambda turn: (turn.start or 0.0, turn.end or 0.0))
    return [replace(turn, utterance_id=f"{dialogue_id}_{number:03d}") for number, turn in enumerate(turns, start=1)]


def _regions(task: _Task, controls: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the fields of each region, by its id; answers about the whole recording, and relations, are none."""
    regions: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for part in task.result:
        value, name, control = part.get("value"), part.get("id"), part.get("from_name")
        if not isinstance(value, dict) or "start" not in value or not isinstance(control, str):
            continue
        if not isinstance(name, str) or not name:
            raise PipelineError(f"{task.where}: has a region without an id; export the project from Label Studio again")
        region = regions[f"region {name}"]
        region |= {key: value[key] for key in _PLACE if key in value}
        if control in controls:
            region[controls[control]] = _said(value, where=f"{task.where}, region {name}: {control}")
    return dict(regions)


def _said(value: Mapping[str, Any], *, where: str) -> str | None:
    """Return what a control says of a region; None where nothing is chosen."""
    said: Any = next((value[key] for key in _SAID if key in value), [])
    every = [said] if isinstance(said, str) else _checked(said, list, where=where)
    lines = [_checked(line, str, where=where) for line in every]
    if len(lines) > 1 and "text" not in value:
        raise PipelineError(f"{where} is {shorten(lines)}; choose one of them")
    return " ".join(lines) or None


@dataclass(frozen=True)
class _Recordings:
    """The files of a corpus's folder; those that an export names are looked up here, so that none leads elsewhere."""

    root: Path

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths relative to the root, by the name that their upload would have."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for path in sorted(self.root.rglob("*")):
            if path.is_file():
                found[_as_uploaded(path.name)].append(path.relative_to(self.root).as_posix())
        return found

    def find(self, address: str, *, where: str) -> str:
        """Return the path, relative to the root, of the file whose end the address shares most of.

        Raises:
            PipelineError: there is none, or several share as much.
        """
        *folders, name = [_as_uploaded(part) for part in _path_of(address).replace("\\", "/").split("/")]
        plain = _PREFIX.sub("", name)
        files = self._by_name.get(name) or self._by_name.get(plain) or []
        if not files:
            raise PipelineError(
                f"{where}: its recording '{address:.200}' is not in {self.root}; put it there as '{plain:.200}'"
            )
        shared = {file: _shared(file, folders) for file in files}
        most = max(shared.values())
        best = [file for file in files if shared[file] == most]
        if len(best) > 1:
            raise PipelineError(f"{where}: its recording '{address:.200}' may be {shorten(best)}; rename all but one")
        return best[0]


def _path_of(address: str) -> str:
    """Return the path in an address; that of a local file is in its query."""
    try:
        parts = urlsplit(address)
        return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    except ValueError:
        return address


def _as_uploaded(name: str) -> str:
    return _NOT_KEPT.sub("", name.strip().replace(" ", "_"))


def _shared(file: str, folders: Sequence[str]) -> int:
    """Count the folders that a file's path and an address have in common, from the end."""
    own = [_as_uploaded(part) for part in file.split("/")[:-1]]
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(own), reversed(folders), strict=False))
    )
