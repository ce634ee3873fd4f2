"""The MSP-Podcast reader on small trees in the layouts of its releases, with the traps of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpgnet.pipeline.corpora import known_about, read_corpus, refuse_links, sources
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
# The host of podcast 23 is in Train and its guest in Test1; the rows are in no order.
CONSENSUS = (
    "MSP-PODCAST_0023_0048.wav,H,5.2,5.6,4.8,30,Male,Train",
    "MSP-PODCAST_0023_0100.wav,X,4,3.5,4,Unknown,Unknown,Train",
    "MSP-PODCAST_0023_0009.wav,N,2.2,4.0,2.6,30,Male,Train",
    "MSP-PODCAST_0023_0050.wav,A,6,2,6,39,Female,Test1",
    "MSP-PODCAST_0024_0001_0002.wav,O,4,4,4,41,Female,Development",
    "MSP-PODCAST_0024_0001_0001.wav,S,,1.0,7.0,41,Female,Development",
    "MSP-PODCAST_0025_0003.wav,C,4,4,4,50,Male,Test2",
    "MSP-PODCAST_test3_0002.wav,,,,,,,Test3",
    "MSP-PODCAST_test3_0001.wav,,,,,,,Test3",
)
# Every rater of release 2.0 in a row of columns, of those before in one cell.
NEW = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
RATERS = (
    ("MSP-PODCAST_0023_0048.wav", "WORKER0001", "Happy", "Happy,Amused"),
    ("MSP-PODCAST_0023_0048.wav", "WORKER0002", "Happy", "Happy"),
    ("MSP-PODCAST_0023_0048.wav", "WORKER0003", "Neutral", ""),
    ("MSP-PODCAST_0023_0048.wav", "WORKER0004", "Other-sarcastic", "Amused"),
    ("MSP-PODCAST_0023_0050.wav", "WORKER0001", "Angry", "Angry"),
    ("MSP-PODCAST_0023_0100.wav", "WORKER0002", "Surprise", ""),
    ("MSP-PODCAST_0023_0100.wav", "WORKER0003", "Contempt", ""),
    ("MSP-PODCAST_0024_0001_0001.wav", "WORKER0001", "Sad", ""),
    ("MSP-PODCAST_0024_0001_0002.wav", "WORKER0001", "Other", ""),
    ("MSP-PODCAST_0025_0003.wav", "WORKER0001", "Contempt", ""),
)


def in_columns() -> list[str]:
    return [NEW, *(f'{file},{worker},{major},"{second}",4,5,4' for file, worker, major, second in RATERS)]


def in_one_cell() -> list[str]:
    rows = []
    for file, worker, major, second in RATERS:
        parts = [worker, major, *([second] if second else []), "A:4.000000", "V:5.000000", "D:4.000000"]
        rows.append(f'{file},"{"; ".join(parts)};"')
    return ["FileName,EmoDetail", *rows]


def write(root: Path, name: str, lines: list[str]) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([*lines, ""]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "Labels/labels_consensus.csv", [HEADER, *CONSENSUS])
    write(tmp_path, "Labels/labels_detailed.csv", in_columns())
    for row in CONSENSUS:
        name = row.split(".")[0]
        write(tmp_path, f"Audios/{name}.wav", [])
        if "test3" not in name:
            write(tmp_path, f"Transcripts/{name}.txt", [f"words of {name[-4:]}"])
    return tmp_path


def by_id(root: Path, **options: object) -> dict[str, Utterance]:
    return {u.utterance_id: u for u in read_corpus("msp_podcast", str(root), **options).utterances}


@pytest.mark.parametrize("detailed", [in_columns(), in_one_cell()])
def test_all_fields_of_an_utterance(root: Path, detailed: list[str]) -> None:
    write(root, "Labels/labels_detailed.csv", detailed)
    corpus = read_corpus("msp_podcast", str(root))
    assert next(u for u in corpus.utterances if u.utterance_id == "MSP-PODCAST_0023_0048") == Utterance(
        dialogue_id="MSP-PODCAST_0023-Train",
        utterance_id="MSP-PODCAST_0023_0048",
        audio="Audios/MSP-PODCAST_0023_0048.wav",
        text="words of 0048",
        speaker="30",
        label="H",
        votes={"H": 2, "N": 1, "O": 1},
        valence=5.6,
        arousal=5.2,
        dominance=4.8,
        split="train",
        extra={"partition": "Train", "gender": "Male", "secondary": {"Happy": 2, "Amused": 2}},
    )
    assert corpus.ranges == {"valence": (1, 7), "arousal": (1, 7), "dominance": (1, 7)}


def test_a_dialogue_is_what_a_podcast_has_in_one_partition_in_the_order_of_its_segments(root: Path) -> None:
    found = [(u.dialogue_id, u.utterance_id[12:], u.split) for u in read_corpus("msp_podcast", str(root)).utterances]
    assert found == [
        ("MSP-PODCAST_0023-Test1", "0023_0050", "test"),
        ("MSP-PODCAST_0023-Train", "0023_0009", "train"),
        ("MSP-PODCAST_0023-Train", "0023_0048", "train"),
        ("MSP-PODCAST_0023-Train", "0023_0100", "train"),
        ("MSP-PODCAST_0024-Development", "0024_0001_0001", "dev"),
        ("MSP-PODCAST_0024-Development", "0024_0001_0002", "dev"),
        ("MSP-PODCAST_0025-Test2", "0025_0003", None),
        ("MSP-PODCAST_test3_0001", "test3_0001", None),
        ("MSP-PODCAST_test3_0002", "test3_0002", None),
    ]


def test_the_test_split_is_of_the_partitions_that_are_named(root: Path) -> None:
    found = by_id(root, test=["Test2", "Test3"])
    splits = {name[12:]: utterance.split for name, utterance in found.items() if utterance.split in ("test", None)}
    assert splits == {"0023_0050": None, "0025_0003": "test", "test3_0001": "test", "test3_0002": "test"}


def test_what_is_unknown_is_null(root: Path) -> None:
    found = by_id(root)
    unknown = found["MSP-PODCAST_0023_0100"]
    assert (unknown.speaker, unknown.extra["gender"], unknown.label) == (None, None, "X")
    assert unknown.votes == {"U": 1, "C": 1}
    assert found["MSP-PODCAST_0023_0009"].votes is None
    unrated = found["MSP-PODCAST_0024_0001_0001"]
    assert (unrated.arousal, unrated.valence, unrated.dominance) == (None, 1.0, 7.0)
    hidden = found["MSP-PODCAST_test3_0001"]
    assert (hidden.label, hidden.votes, hidden.valence, hidden.speaker, hidden.text) == (None, None, None, None, None)


def test_what_is_missing_is_told(root: Path) -> None:
    (root / "Audios" / "MSP-PODCAST_0025_0003.wav").unlink()
    corpus = read_corpus("msp_podcast", str(root))
    assert [u.audio for u in corpus.utterances if u.speaker == "50"] == [None]
    audio, text, votes = corpus.warnings
    assert audio == f"{root}/Audios: no wav file, so without audio: 1 of 9 utterances: MSP-PODCAST_0025_0003"
    assert "Transcripts: no text file, so without text: 2 of 9 utterances: MSP-PODCAST_test3_0001" in text
    assert "no rater, so without votes: 3 of 9 utterances: MSP-PODCAST_0023_0009" in votes


def test_words_that_count_as_other_without_saying_so_are_told(root: Path) -> None:
    path = root / "Labels" / "labels_detailed.csv"
    raters = [("Sadness", 1), ("happy", 3), ("Other-bored", 4), ("Other", 1), ("tired", 2), ("Sad", 1)]
    rows = [f"MSP-PODCAST_0023_0048.wav,W,{word},,4,5,4" for word, count in raters for _ in range(count)]
    write(root, "Labels/labels_detailed.csv", [NEW, *rows])
    corpus = read_corpus("msp_podcast", str(root))
    rated = next(u for u in corpus.utterances if u.votes)
    assert rated.votes == {"O": 11, "S": 1}
    told = f"{path}: words that are none of the corpus's emotions count as other (O), 3 in all: 3 happy, 2 tired, "
    assert [warning for warning in corpus.warnings if str(path) in warning] == [f"{told}1 Sadness"]


def test_recordings_may_lie_in_folders_of_their_own(root: Path) -> None:
    (root / "Audios").rename(root / "inner")
    (root / "Audios").mkdir()
    (root / "inner").rename(root / "Audios" / "Audios")
    assert by_id(root)["MSP-PODCAST_0023_0048"].audio == "Audios/Audios/MSP-PODCAST_0023_0048.wav"


def test_only_the_consensus_is_needed(tmp_path: Path) -> None:
    write(tmp_path, "Labels/labels_consensus.csv", [HEADER, CONSENSUS[0]])
    corpus = read_corpus("msp_podcast", str(tmp_path))
    (utterance,) = corpus.utterances
    assert (utterance.audio, utterance.text, utterance.votes, utterance.valence) == (None, None, None, 5.6)
    assert corpus.warnings[0] == f"{tmp_path}/Labels/labels_detailed.csv: no such file; there are no votes"
    assert [path.name for path in sources("msp_podcast", str(tmp_path))] == ["labels_consensus.csv"]


def test_sources_are_what_the_manifest_depends_on(root: Path) -> None:
    names = [path.name for path in sources("msp_podcast", str(root))]
    assert names[:3] == ["Audios", "labels_consensus.csv", "labels_detailed.csv"]
    assert names[3:] == [f"MSP-PODCAST_{name}.txt" for name in ("0023_0009", "0023_0048", "0023_0050", "0023_0100")] + [
        f"MSP-PODCAST_{name}.txt" for name in ("0024_0001_0001", "0024_0001_0002", "0025_0003")
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (CONSENSUS[0].replace("5.6", "7.5"), "line 2: valence 7.5 is not between 1 and 7; correct it or leave it out"),
        (CONSENSUS[0].replace("5.2", "nan"), "line 2: arousal nan is not between 1 and 7"),
        (CONSENSUS[0].replace("4.8", "high"), "line 2: EmoDom 'high' is not a number"),
        (CONSENSUS[0].replace("Train", "Tset1"), "line 2: Split_Set 'Tset1' is not one of Train, Development"),
        (CONSENSUS[0].replace("_0048", ""), "line 2: FileName 'MSP-PODCAST_0023' is no name of MSP-Podcast"),
        (f"{CONSENSUS[0]}\n{CONSENSUS[0]}", "line 3: FileName 'MSP-PODCAST_0023_0048' is there twice"),
        (f"{CONSENSUS[0]},more", "line 2: has 9 cells where the header has 8"),
        ("", "labels_consensus.csv: has no rows"),
    ],
)
def test_a_wrong_row_names_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path, "Labels/labels_consensus.csv", [HEADER, row])
    with pytest.raises(PipelineError) as caught:
        read_corpus("msp_podcast", str(tmp_path))
    assert message in str(caught.value)
    assert "labels_consensus.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["FileName,EmoDetail", "MSP-PODCAST_0023_0048.wav,WORKER0001"], "line 2: column 'EmoDetail' has no emotion"),
        (["FileName,Emotion", "MSP-PODCAST_0023_0048.wav,Happy"], "line 2: the table has no column 'EmoClass_Major'"),
    ],
)
def test_a_wrong_rater_names_file_and_line(root: Path, lines: list[str], message: str) -> None:
    write(root, "Labels/labels_detailed.csv", lines)
    with pytest.raises(PipelineError) as caught:
        read_corpus("msp_podcast", str(root))
    assert f"labels_detailed.csv, {message}" in str(caught.value)


def test_a_root_without_labels(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"Labels/labels_consensus\.csv: no such file"):
        read_corpus("msp_podcast", str(tmp_path))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("Test1", "give a list of Test1, Test2, Test3, not 'Test1'"),
        ([], "give a list of Test1, Test2, Test3"),
        (["test1"], "'test1' is not one of Test1, Test2, Test3; did you mean 'Test1'"),
        ([1], "1 is not one of Test1, Test2, Test3"),
    ],
)
def test_a_wrong_option_is_named(root: Path, test: object, message: str) -> None:
    with pytest.raises(UsageError, match=rf"corpus\.options\.test: {message}"):
        read_corpus("msp_podcast", str(root), test=test)


def test_a_text_behind_a_link_that_leads_out_is_refused_where_links_are(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    secret.write_text("secret")
    text = root / "Transcripts/MSP-PODCAST_0023_0048.txt"
    text.unlink()
    text.symlink_to(secret)
    with pytest.raises(PipelineError, match=f"{text.name}: a link leads out of"):
        refuse_links(sources("msp_podcast", str(root)), str(root))


def test_what_is_known_of_the_corpus() -> None:
    assert known_about("msp_podcast", About()) == About("English", "natural", synthetic=False)
