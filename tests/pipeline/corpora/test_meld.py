"""The MELD reader on a small tree in the corpus's layout, with the traps of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpgnet.pipeline.corpora import compare_counts, read_corpus, sources
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.corpora.meld import PUBLISHED_COUNTS
from lpgnet.pipeline.errors import PipelineError

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
END = '8,21,"00:16:16,059","00:16:21,731"'
TRAIN = [
    f'1,"also I was the point person, ""so"" to say…",Chandler,neutral,neutral,0,0,{END}',
    f"2,That’s it,The Interviewer,surprise,positive,0,3,{END}",
    '3,"Oh,\nno!",Joey,sadness,negative,4,0,8,21,"00:16:21,731","00:16:16,059"',
    f"4,Later row of the first dialogue,Chandler,joy,positive,0,1,{END}",
    f"5,Bad clip,Ross,anger,negative,125,3,{END}",
]
# As in the old copies, in which bytes of cp1252 became control characters.
DEV = [f"1,Ross\x92s \x93line\x94\x85 \x91tis \x97 ok,Phoebe,disgust,negative,0,0,{END}"]
TEST = [f"1,Wrong audio,Rachel,fear,negative,38,4,{END}", f"2,Hi,Rachel,neutral,neutral,0,0,{END}"]


def write_table(folder: Path, split: str, rows: list[str], *, encoding: str = "utf-8") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = "\r\n".join([HEADER, *rows, ""])
    (folder / f"{split}_sent_emo.csv").write_bytes(text.encode(encoding))


def add_clips(root: Path, folder: str, *names: str) -> None:
    (root / folder).mkdir(exist_ok=True)
    for name in names:
        (root / folder / name).touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, rows in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        write_table(tmp_path, split, rows)
    extra = "dia99_utt0.wav"
    train = ("dia0_utt0.wav", "dia0_utt1.flac", "dia4_utt0.wav", "dia125_utt3.wav", "._dia0_utt3.wav", extra)
    add_clips(tmp_path, "train_splits", *train, "dia0_utt3.avi")
    add_clips(tmp_path, "dev_splits_complete", "dia0_utt0.wav")
    add_clips(tmp_path, "output_repeated_splits_test", "dia38_utt4.wav", "dia0_utt0.WAV")
    return tmp_path


def test_turns_by_dialogue_with_ids_that_tell_the_split(root: Path) -> None:
    utterances = read_corpus("meld", str(root)).utterances
    assert [(u.split, u.dialogue_id, u.utterance_id) for u in utterances] == [
        ("train", "train_dia0", "train_dia0_utt0"),
        ("train", "train_dia0", "train_dia0_utt1"),
        ("train", "train_dia0", "train_dia0_utt3"),
        ("train", "train_dia4", "train_dia4_utt0"),
        ("train", "train_dia125", "train_dia125_utt3"),
        ("dev", "dev_dia0", "dev_dia0_utt0"),
        ("test", "test_dia38", "test_dia38_utt4"),
        ("test", "test_dia0", "test_dia0_utt0"),
    ]


def test_all_fields_of_an_utterance(root: Path) -> None:
    utterances = read_corpus("meld", str(root)).utterances
    assert utterances[0] == Utterance(
        dialogue_id="train_dia0",
        utterance_id="train_dia0_utt0",
        audio="train_splits/dia0_utt0.wav",
        text='also I was the point person, "so" to say…',
        speaker="Chandler",
        label="neutral",
        split="train",
        extra={
            "sentiment": "neutral",
            "season": "8",
            "episode": "21",
            "start_time": "00:16:16,059",
            "end_time": "00:16:21,731",
        },
    )
    assert (utterances[3].text, utterances[3].start, utterances[3].end) == ("Oh,\nno!", None, None)


def test_control_characters_become_what_cp1252_means_by_them(root: Path) -> None:
    utterances = {u.utterance_id: u for u in read_corpus("meld", str(root)).utterances}
    assert utterances["dev_dia0_utt0"].text == "Ross’s “line”… ‘tis — ok"
    assert utterances["train_dia0_utt3"].text == "That’s it"


def test_clips_that_are_missing_or_bad_leave_no_audio_and_a_warning(root: Path) -> None:
    corpus = read_corpus("meld", str(root))
    assert [u.audio for u in corpus.utterances] == [
        "train_splits/dia0_utt0.wav",
        "train_splits/dia0_utt1.flac",
        None,
        "train_splits/dia4_utt0.wav",
        None,
        "dev_splits_complete/dia0_utt0.wav",
        None,
        "output_repeated_splits_test/dia0_utt0.WAV",
    ]
    bad, missing, bad_test = corpus.warnings
    assert "train_splits: clips known to be bad, used without audio: dia125_utt3" in bad
    assert "1 of 5 utterances have no clip as .wav, .flac or .mp4 and are without audio: dia0_utt3" in missing
    assert "clips known to be bad, used without audio: dia38_utt4" in bad_test


def test_clips_are_read_as_the_mp4_files_that_they_are_unless_there_is_a_wav(root: Path) -> None:
    add_clips(
        root, "train_splits", "dia0_utt0.mp4", "dia0_utt0.flac", "dia0_utt1.mp4", "dia0_utt3.mp4", "dia125_utt3.mp4"
    )
    add_clips(root, "output_repeated_splits_test", "dia38_utt4.mp4", "dia0_utt0.MP4")
    corpus = read_corpus("meld", str(root))
    assert corpus.version == 2
    assert [u.audio for u in corpus.utterances] == [
        "train_splits/dia0_utt0.wav",
        "train_splits/dia0_utt1.flac",
        "train_splits/dia0_utt3.mp4",
        "train_splits/dia4_utt0.wav",
        None,
        "dev_splits_complete/dia0_utt0.wav",
        None,
        "output_repeated_splits_test/dia0_utt0.WAV",
    ]
    assert all("known to be bad" in warning for warning in corpus.warnings)


@pytest.mark.parametrize("inner", ["data", "data/MELD"])
def test_tables_may_lie_in_data_and_splits_be_absent(tmp_path: Path, inner: str) -> None:
    write_table(tmp_path / inner, "dev", DEV)
    corpus = read_corpus("meld", str(tmp_path))
    assert [u.split for u in corpus.utterances] == ["dev"]
    assert corpus.utterances[0].audio is None
    train, clips, test = corpus.warnings
    assert "has no train_sent_emo.csv; the train split is left out" in train
    assert "1 of 1 utterances have no clip" in clips
    assert "has no test_sent_emo.csv" in test


def test_raw_cp1252_is_read_with_a_warning(tmp_path: Path) -> None:
    write_table(tmp_path, "train", [f"1,That’s it,Ross,joy,positive,0,0,{END}"], encoding="cp1252")
    corpus = read_corpus("meld", str(tmp_path))
    assert corpus.utterances[0].text == "That’s it"
    assert "train_sent_emo.csv: is not UTF-8, so it was read as cp1252" in corpus.warnings[0]


def test_sources_are_tables_and_the_folders_of_clips(root: Path) -> None:
    names = [path.name for path in sources("meld", str(root))]
    assert names == [
        "dev_sent_emo.csv",
        "dev_splits_complete",
        "output_repeated_splits_test",
        "test_sent_emo.csv",
        "train_sent_emo.csv",
        "train_splits",
    ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            HEADER.replace("Speaker", "Speakr") + f"\n1,a,b,joy,positive,0,0,{END}\n",
            "no column 'Speaker'; did you mean",
        ),
        (f"{HEADER}\n1,a,b,joy,positive,x,0,{END}\n", "line 2: Dialogue_ID 'x' is not a number"),
        (f"{HEADER}\n1,a,b,joy,positive,0,-1,{END}\n", "line 2: Utterance_ID '-1' is not a number"),
        (f"{HEADER}\n1,a,b,joy,positive,0,{'1' * 5000},{END}\n", f"line 2: Utterance_ID '{'1' * 40}' is not a number"),
        (f"{HEADER}\n1,a, b,c,joy,positive,0,0,{END}\n", "line 2: has 12 cells where the header has 11"),
        (f"{HEADER}\n", "has no rows"),
    ],
)
def test_wrong_tables_name_file_and_line(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "train_sent_emo.csv").write_text(table)
    with pytest.raises(PipelineError) as caught:
        read_corpus("meld", str(tmp_path))
    assert "train_sent_emo.csv" in str(caught.value)
    assert message in str(caught.value)


def test_a_row_that_stands_twice_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, "dev", [*DEV, *DEV])
    with pytest.raises(PipelineError, match="utterance_id 'dev_dia0_utt0' is already used in row 1"):
        read_corpus("meld", str(tmp_path))


def test_a_root_without_tables(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no train_sent_emo\.csv"):
        read_corpus("meld", str(tmp_path))


def test_published_counts() -> None:
    assert PUBLISHED_COUNTS[("split",)] == {("train",): 9989, ("dev",): 1109, ("test",): 2610}
    few = [Utterance("d", "u", split="dev", label="joy")]
    (by_split,) = compare_counts("meld", few)
    assert by_split.endswith("train 0 instead of 9989, dev 1 instead of 1109, test 0 instead of 2610")
    counts = PUBLISHED_COUNTS[("split",)].items()
    joyful = [Utterance("d", "u", split=split, label="joy") for (split,), count in counts for _ in range(count)]
    (by_label,) = compare_counts("meld", joyful)
    assert "by split and label" in by_label
    assert by_label.endswith("and 16 more")
