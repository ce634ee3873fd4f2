"""The `msp_podcast` reader: a table of consensus labels, one of every rater's choices, and a wav file for each segment.

The tables are those of the releases 1.10 to 2.0: a row of `labels_detailed.csv` holds a rater's choices in columns of
their own (1.6, 2.0) or in one cell, `WORKER0001; Happy; Happy,Amused; A:5; V:6; D:4;`. The codes, the scales of 1 to 7
and the partitions are those of the corpus's page
(https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html) and its papers: Lotfian and Busso, IEEE
Transactions on Affective Computing 10(4), 2019, and Busso et al., arXiv 2509.09791.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root, one_of, without
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ratings import Ranges, check_in_range
from lpgnet.pipeline.corpora.text import Row, cell, named_rows, read_any_text
from lpgnet.pipeline.errors import PipelineError, UsageError, shorten

VERSION = 1
# What people say in podcasts.
ABOUT = About("English", "natural", synthetic=False)
# Every release has others.
PUBLISHED_COUNTS: PublishedCounts = {}
RANGES: Ranges = {"valence": (1, 7), "arousal": (1, 7), "dominance": (1, 7)}

_CODES = {
    "Angry": "A",
    "Sad": "S",
    "Happy": "H",
    "Surprise": "U",
    "Fear": "F",
    "Disgust": "D",
    "Contempt": "C",
    "Neutral": "N",
}
# Raters may write what they like instead; the releases have hundreds of such words, most of them `Other-...`.
_OTHER = "O"
_RATINGS = {"valence": "EmoVal", "arousal": "EmoAct", "dominance": "EmoDom"}
_TESTS = ("Test1", "Test2", "Test3")
# Releases before 1.10 say Validation.
_SPLITS = {"Train": "train", "Development": "dev", "Validation": "dev"}
_NAME = re.compile(r"(?P<podcast>MSP-PODCAST_[A-Za-z0-9]{1,20})_(?P<segment>\d{1,9}(?:_\d{1,9}){0,3})")
# Its segments are of many podcasts, which their names do not tell.
_UNORDERED = "MSP-PODCAST_test3"


@dataclass
class _Choices:
    """What the raters of one segment chose: votes by code for the primary emotion, and names of all that they heard."""

    votes: Counter[str] = field(default_factory=Counter)
    secondary: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Files:
    """What lies beside the tables: the path of each recording, relative to the root, and each transcript, by name."""

    audio: Mapping[str, str]
    transcripts: Mapping[str, Path]


def read(root: str, *, test: Sequence[str] = ("Test1",)) -> ReadCorpus:
    """Read MSP-Podcast.

    A podcast's segments, in the order of their numbers, are a dialogue. They are not its every turn: what lies between
    two of them may be minutes. A podcast may have segments in several partitions (its host in one, a guest in another),
    so a dialogue is what a podcast has in one partition (`MSP-PODCAST_0023-Train`): nothing of a test dialogue is
    context in training. The segments of Test3 name no podcast and are dialogues of their own. Votes are the raters'
    primary emotions; the secondary ones are counted by name in `extra`. Where a table says `Unknown`, the speaker is
    null.

    Args:
        root: folder with `Labels/labels_consensus.csv`, `Labels/labels_detailed.csv` (without it there are no votes),
            `Audios` (the wav files, at any depth) and `Transcripts`.
        test: the partitions that are the test split. The other test partitions have no split, so that
            `splits.scheme: manifest` leaves them out.

    Raises:
        PipelineError: no label table is there, or a row is wrong; names file and line.
        UsageError: `test` is no list of test partitions.
    """
    splits = _splits(test)
    folder = corpus_root(root)
    choices, warnings = _read_choices(folder)
    files = _files(folder)
    text, notes = read_any_text(_consensus(folder))
    utterances: dict[str, Utterance] = {}
    for line, row in named_rows(text, _consensus(folder)):
        where = f"{_consensus(folder)}, line {line}"
        utterance = _utterance(row, splits, choices, files, where=where)
        if utterance.utterance_id in utterances:
            raise PipelineError(f"{where}: FileName '{utterance.utterance_id}' is there twice; names must be unique")
        utterances[utterance.utterance_id] = utterance
    ordered = sorted(utterances.values(), key=_place)
    if not ordered:
        raise PipelineError(f"{_consensus(folder)}: has no rows")
    return ReadCorpus(ordered, [*notes, *warnings, *_missing(ordered, folder, choices)], VERSION, ranges=RANGES)


def sources(root: str, *, test: Sequence[str] = ("Test1",)) -> list[Path]:
    """Return the label tables, the transcripts, and the folders of the recordings."""
    folder = corpus_root(root)
    recordings, transcripts = _named(folder / "Audios", ".wav"), _named(folder / "Transcripts", ".txt")
    detailed = folder / "Labels" / "labels_detailed.csv"
    folders = {path.parent for path in recordings.values()}
    return [_consensus(folder), *([detailed] if detailed.is_file() else []), *folders, *transcripts.values()]


def _consensus(folder: Path) -> Path:
    return folder / "Labels" / "labels_consensus.csv"


def _splits(test: Sequence[str]) -> dict[str, str | None]:
    """Return the split of each partition."""
    if not isinstance(test, list | tuple) or not test:
        raise UsageError(f"corpus.options.test: give a list of {', '.join(_TESTS)}, not {test!r:.60}")
    for name in test:
        one_of(name, _TESTS, option="test")
    return {**_SPLITS, **{name: "test" if name in test else None for name in _TESTS}}


def _read_choices(folder: Path) -> tuple[Mapping[str, _Choices], list[str]]:
    path = folder / "Labels" / "labels_detailed.csv"
    choices: dict[str, _Choices] = defaultdict(_Choices)
    words: Counter[str] = Counter()
    if not path.is_file():
        return choices, [f"{path}: no such file; there are no votes"]
    text, warnings = read_any_text(path)
    for line, row in named_rows(text, path):
        where = f"{path}, line {line}"
        primary, secondary = _rater(row, where=where)
        chosen = choices[cell(row, "FileName", where=where)]
        if primary:
            chosen.votes[_CODES.get(primary, _OTHER)] += 1
            words[primary] += 1
        chosen.secondary.update(_names(secondary))
    return choices, [*warnings, *_about_words(words, path)]


def _about_words(words: Counter[str], path: Path) -> list[str]:
    """Say which primary emotions count as other without saying so: a release may spell one of the eight its own way."""
    strange = [
        f"{count} {word}" for word, count in words.most_common() if word not in _CODES and not word.startswith("Other")
    ]
    told = f"{path}: words that are none of the corpus's emotions count as other ({_OTHER}), {len(strange)} in all"
    return [f"{told}: {shorten(strange)}"] if strange else []


def _rater(row: Row, *, where: str) -> tuple[str, str]:
    """Return a rater's primary emotion, and the secondary ones as they stand."""
    if "EmoDetail" not in row:
        return cell(row, "EmoClass_Major", where=where), cell(row, "EmoClass_Second", where=where)
    parts = [part.strip() for part in cell(row, "EmoDetail", where=where).split(";")]
    if len(parts) < 2:
        raise PipelineError(f"{where}: column 'EmoDetail' has no emotion after the rater: '{parts[0]:.40}'")
    # Some rows have no secondary emotions; A:, V: and D: follow.
    return parts[1], parts[2] if len(parts) > 2 and ":" not in parts[2] else ""


def _names(text: str) -> Iterator[str]:
    return (name.strip() for name in text.split(",") if name.strip())


def _files(folder: Path) -> _Files:
    recordings = _named(folder / "Audios", ".wav")
    audio = {name: path.relative_to(folder).as_posix() for name, path in recordings.items()}
    return _Files(audio, _named(folder / "Transcripts", ".txt"))


def _named(folder: Path, suffix: str) -> dict[str, Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() == suffix and path.name[0] != ".")
    return {path.stem: path for path in sorted(found, reverse=True)} if folder.is_dir() else {}


def _utterance(
    row: Row, splits: Mapping[str, str | None], choices: Mapping[str, _Choices], files: _Files, *, where: str
) -> Utterance:
    values = {column: cell(row, column, where=where) for column in ("FileName", "EmoClass", "SpkrID", "Gender")}
    name = values["FileName"].removesuffix(".wav")
    partition = cell(row, "Split_Set", where=where)
    if partition not in splits:
        raise PipelineError(f"{where}: Split_Set '{partition:.40}' is not one of {', '.join(splits)}")
    chosen = choices.get(values["FileName"], _Choices())
    return Utterance(
        dialogue_id=_dialogue(name, partition, where=where),
        utterance_id=name,
        audio=files.audio.get(name),
        text=_text(files.transcripts.get(name)),
        speaker=_known(values["SpkrID"]),
        label=values["EmoClass"] or None,
        votes={code: float(count) for code, count in chosen.votes.items()} or None,
        valence=_rating(row, "valence", where=where),
        arousal=_rating(row, "arousal", where=where),
        dominance=_rating(row, "dominance", where=where),
        split=splits[partition],
        extra=_extra(partition, values["Gender"], chosen),
    )


def _dialogue(name: str, partition: str, *, where: str) -> str:
    match = _NAME.fullmatch(name)
    if match is None:
        raise PipelineError(
            f"{where}: FileName '{name:.60}' is no name of MSP-Podcast, as MSP-PODCAST_0001_0008.wav is"
        )
    return name if match["podcast"] == _UNORDERED else f"{match['podcast']}-{partition}"


def _rating(row: Row, name: str, *, where: str) -> float | None:
    text = cell(row, _RATINGS[name], where=where)
    if not text:
        return None
    try:
        rating = float(text)
    except ValueError:
        raise PipelineError(f"{where}: {_RATINGS[name]} '{text:.40}' is not a number") from None
    check_in_range(name, rating, RANGES, where=where)
    return rating


def _text(path: Path | None) -> str | None:
    return None if path is None else read_any_text(path)[0].strip()


def _known(text: str) -> str | None:
    return None if text.lower() in ("", "unknown") else text


def _extra(partition: str, gender: str, chosen: _Choices) -> dict[str, Any]:
    return {"partition": partition, "gender": _known(gender), "secondary": dict(chosen.secondary)}


def _place(utterance: Utterance) -> tuple[str, list[int]]:
    """Where an utterance stands in the manifest: by its dialogue, then by the numbers of its segment."""
    match = _NAME.fullmatch(utterance.utterance_id)
    assert match is not None
    return utterance.dialogue_id, [int(number) for number in match["segment"].split("_")]


def _missing(utterances: Sequence[Utterance], folder: Path, choices: Mapping[str, _Choices]) -> list[str]:
    """Say which utterances have no recording, no transcript, or no votes where others have."""
    lacking = {
        f"{folder / 'Audios'}: no wav file, so without audio": [u for u in utterances if u.audio is None],
        f"{folder / 'Transcripts'}: no text file, so without text": [u for u in utterances if u.text is None],
        "labels_detailed.csv: no rater, so without votes": [u for u in utterances if choices and u.votes is None],
    }
    return without(lacking, utterances)
