"""The `ravdess` reader: clips whose names tell all that is known of them.

The seven numbers of a name, the statements and the counts are those of the corpus's page (https://zenodo.org/records/1188976);
the corpus is described by Livingstone and Russo, PLoS ONE 13(5): e0196391, 2018.
"""

from __future__ import annotations

import re
from pathlib import Path

from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.base import PublishedCounts, ReadCorpus, corpus_root
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError, shorten

VERSION = 1
# Actors, who say given sentences in a given emotion.
ABOUT = About("English", "acted", synthetic=False)

_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
# 24 actors say 2 statements twice, in two intensities; neutral has only one.
PUBLISHED_COUNTS: PublishedCounts = {
    ("condition",): {("speech",): 1440},
    ("condition", "label"): {("speech", emotion): 96 if emotion == "neutral" else 192 for emotion in _EMOTIONS},
}
_CHANNELS = ("speech", "song")
_INTENSITIES = ("normal", "strong")
_STATEMENTS = ("Kids are talking by the door.", "Dogs are sitting by the door.")
# Modality 03 is audio only; the others are videos.
_NAME = re.compile(
    r"03-0(?P<channel>[12])-0(?P<emotion>[1-8])-0(?P<intensity>[12])-0(?P<statement>[12])-0(?P<repetition>[12])"
    r"-(?P<actor>0[1-9]|1\d|2[0-4])"
)


def read(root: str, *, song: bool = False) -> ReadCorpus:
    """Read RAVDESS.

    These are no conversations: each clip is a dialogue of its own, so that none is context of another. `condition` is
    `speech` or `song`; the intensity, the repetition and the actor's sex go to `extra`.

    Args:
        root: folder with `Actor_01` to `Actor_24`, or any folder that has the wav files at any depth. A name that is
            there twice, as in copies of the corpus that hold it twice, is read once.
        song: read the sung clips too.

    Raises:
        PipelineError: no clip is there.
        UsageError: `song` is neither true nor false.
    """
    if not isinstance(song, bool):
        raise UsageError(f"corpus.options.song: give true or false, not {song!r:.60}")
    folder = corpus_root(root)
    files = _files(folder)
    clips = {path.stem: path for path in reversed(files) if _NAME.fullmatch(path.stem)}
    chosen = [_utterance(clips[name], folder) for name in sorted(clips, key=lambda name: (name[-2:], name))]
    utterances = [utterance for utterance in chosen if song or utterance.condition == "speech"]
    if not utterances:
        raise PipelineError(f"{root}: has no clip such as Actor_01/03-01-06-01-02-01-01.wav; set corpus.root")
    return ReadCorpus(utterances=utterances, warnings=_warnings(files, folder), version=VERSION)


def sources(root: str, *, song: bool = False) -> list[Path]:
    """Return the folders of the clips, whose change tells that clips came or went."""
    folder = corpus_root(root)
    return sorted({folder, *(path.parent for path in _files(folder))})


def _files(folder: Path) -> list[Path]:
    """Find every wav file, those of fewer folders first."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and path.name[0] != ".")
    return sorted(found, key=lambda path: (len(path.parts), path))


def _warnings(files: list[Path], folder: Path) -> list[str]:
    others = [path.name for path in files if not _NAME.fullmatch(path.stem)]
    warnings = [f"{folder}: left out, as the name is none of RAVDESS's audio: {shorten(others)}"] if others else []
    twice = len(files) - len({path.name for path in files})
    if twice:
        warnings.append(f"{folder}: {twice} names are there more than once; the file in the fewest folders is read")
    return warnings


def _utterance(path: Path, folder: Path) -> Utterance:
    match = _NAME.fullmatch(path.stem)
    assert match is not None
    emotion, channel, intensity, statement = (
        names[int(match[part]) - 1]
        for names, part in (
            (_EMOTIONS, "emotion"),
            (_CHANNELS, "channel"),
            (_INTENSITIES, "intensity"),
            (_STATEMENTS, "statement"),
        )
    )
    sex = "male" if int(match["actor"]) % 2 else "female"
    return Utterance(
        dialogue_id=path.stem,
        utterance_id=path.stem,
        audio=path.relative_to(folder).as_posix(),
        text=statement,
        speaker=f"Actor_{match['actor']}",
        condition=channel,
        label=emotion,
        extra={"intensity": intensity, "repetition": int(match["repetition"]), "sex": sex},
    )
