"""The RAVDESS reader on a small tree in the corpus's layout, with the traps of the real one and of its copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpgnet.pipeline.corpora import compare_counts, known_about, read_corpus, sources
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.ravdess import PUBLISHED_COUNTS
from lpgnet.pipeline.errors import PipelineError, UsageError

CLIPS = (
    "Actor_12/03-01-06-01-02-01-12.wav",
    "Actor_01/03-01-01-01-01-02-01.wav",
    "Actor_01/03-01-08-02-01-01-01.WAV",
    # Sung, and a video.
    "Actor_01/03-02-03-01-01-01-01.wav",
    "Actor_01/01-01-03-01-01-01-01.mp4",
    "Actor_01/._03-01-01-01-01-02-01.wav",
)


def add(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, *CLIPS)
    return tmp_path


def test_all_fields_of_an_utterance(root: Path) -> None:
    assert read_corpus("ravdess", str(root)).utterances[-1] == Utterance(
        dialogue_id="03-01-06-01-02-01-12",
        utterance_id="03-01-06-01-02-01-12",
        audio="Actor_12/03-01-06-01-02-01-12.wav",
        text="Dogs are sitting by the door.",
        speaker="Actor_12",
        condition="speech",
        label="fearful",
        extra={"intensity": "normal", "repetition": 1, "sex": "female"},
    )


def test_speech_by_actor_and_the_songs_where_asked_for(root: Path) -> None:
    speech = read_corpus("ravdess", str(root)).utterances
    assert [(u.speaker, u.label, u.condition) for u in speech] == [
        ("Actor_01", "neutral", "speech"),
        ("Actor_01", "surprised", "speech"),
        ("Actor_12", "fearful", "speech"),
    ]
    assert speech[1].extra == {"intensity": "strong", "repetition": 1, "sex": "male"}
    songs = read_corpus("ravdess", str(root), song=True).utterances
    assert [u.label for u in songs if u.condition == "song"] == ["happy"]
    assert len(songs) == 4
    assert len({u.dialogue_id for u in songs}) == 4


def test_all_clips_may_lie_in_one_folder(tmp_path: Path) -> None:
    add(tmp_path, *(Path(file).name for file in CLIPS))
    assert [u.audio for u in read_corpus("ravdess", str(tmp_path)).utterances] == [
        "03-01-01-01-01-02-01.wav",
        "03-01-08-02-01-01-01.WAV",
        "03-01-06-01-02-01-12.wav",
    ]


def test_a_copy_that_holds_the_corpus_twice_is_read_once(root: Path) -> None:
    add(root, *(f"audio_speech_actors_01-24/{file}" for file in CLIPS))
    corpus = read_corpus("ravdess", str(root))
    assert [u.audio for u in corpus.utterances][-1] == "Actor_12/03-01-06-01-02-01-12.wav"
    assert len(corpus.utterances) == 3
    assert corpus.warnings == [f"{root}: 4 names are there more than once; the file in the fewest folders is read"]


def test_other_names_are_left_out_with_a_warning(root: Path) -> None:
    add(root, "Actor_01/03-01-09-01-01-01-01.wav", "Actor_25/03-01-01-01-01-01-25.wav")
    corpus = read_corpus("ravdess", str(root))
    assert len(corpus.utterances) == 3
    assert corpus.warnings[0].endswith("none of RAVDESS's audio: 03-01-09-01-01-01-01.wav, 03-01-01-01-01-01-25.wav")


def test_a_root_without_clips(tmp_path: Path) -> None:
    add(tmp_path, "Actor_01/03-02-03-01-01-01-01.wav")
    with pytest.raises(PipelineError, match=r"has no clip such as Actor_01/03-01-06-01-02-01-01\.wav"):
        read_corpus("ravdess", str(tmp_path))


def test_a_wrong_option_is_named(root: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.options\.song: give true or false, not 'yes'"):
        read_corpus("ravdess", str(root), song="yes")


def test_sources_are_the_folders_of_the_clips(root: Path) -> None:
    assert [path.name for path in sources("ravdess", str(root))] == [root.name, "Actor_01", "Actor_12"]


def test_what_is_known_of_the_corpus() -> None:
    assert known_about("ravdess", About()) == About("English", "acted", synthetic=False)
    by_label = PUBLISHED_COUNTS[("condition", "label")]
    assert sum(by_label.values()) == PUBLISHED_COUNTS[("condition",)][("speech",)] == 1440
    few = [Utterance("d", "u", condition="speech", label="calm"), Utterance("e", "v", condition="song", label="calm")]
    assert compare_counts("ravdess", few)[0].endswith("speech 1 instead of 1440")
