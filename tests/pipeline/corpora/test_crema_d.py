"""The CREMA-D reader on a small tree in the corpus's layout, with the traps of the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpgnet.pipeline.corpora import READERS, compare_counts, known_about, read_corpus, sources
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError

CLIPS = (
    "1001_DFA_ANG_XX.wav",
    "1001_IEO_HAP_HI.wav",
    "1002_ITS_NEU_XX.WAV",
    # Its level has one letter in the real corpus too, and two in the table.
    "1040_ITH_SAD_X.wav",
    # Known to be silent.
    "1076_MTI_SAD_XX.wav",
)
# As R writes it: the row's number has no name, and its first digit tells voice, face or both.
HEADER = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp"'
VOTES = (
    '"100001",6,2,0,0,1,0,"1001_DFA_ANG_XX",9,0.666666666666667,"A",54.6',
    '"100002",5,5,0,0,1,1,"1001_IEO_HAP_HI",12,0.416666666666667,"A:D",50.5',
    '"100003",0,0,0,0,10,0,"1002_ITS_NEU_XX",10,1,"N",77.8',
    '"100004",0,0,4,0,0,6,"1040_ITH_SAD_XX",10,0.6,"S",NA',
    '"100005",0,0,0,0,3,4,"1076_MTI_SAD_XX",7,0.571428571428571,"S",41',
    '"200001",9,0,0,0,0,0,"1001_DFA_ANG_XX",9,1,"A",60',
    '"200002",0,0,0,8,0,0,"1001_IEO_HAP_HI",8,1,"H",71',
    '"300001",8,1,0,0,0,0,"1001_DFA_ANG_XX",9,0.888888888888889,"A",66',
    '"300002",0,0,0,9,1,0,"1001_IEO_HAP_HI",10,0.9,"H",70',
)
ACTORS = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'


def write_votes(root: Path, *rows: str, header: str = HEADER) -> None:
    (root / "processedResults").mkdir(exist_ok=True)
    (root / "processedResults" / "tabulatedVotes.csv").write_text("\n".join([header, *rows, ""]))


def add_clips(root: Path, *names: str) -> None:
    (root / "AudioWAV").mkdir(exist_ok=True)
    for name in names:
        (root / "AudioWAV" / name).touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_clips(tmp_path, *CLIPS, "._1001_DFA_ANG_XX.wav")
    write_votes(tmp_path, *VOTES)
    (tmp_path / "VideoDemographics.csv").write_text(ACTORS)
    return tmp_path


def by_id(root: Path, **options: object) -> dict[str, Utterance]:
    return {u.utterance_id: u for u in read_corpus("crema_d", str(root), **options).utterances}


def test_all_fields_of_an_utterance(root: Path) -> None:
    assert by_id(root)["1001_DFA_ANG_XX"] == Utterance(
        dialogue_id="1001_DFA_ANG_XX",
        utterance_id="1001_DFA_ANG_XX",
        audio="AudioWAV/1001_DFA_ANG_XX.wav",
        text="Don't forget a jacket.",
        speaker="1001",
        label="ANG",
        votes={"ANG": 6, "DIS": 2, "NEU": 1},
        extra={
            "sentence": "DFA",
            "intended": "ANG",
            "level": "XX",
            "age": "51",
            "sex": "Male",
            "race": "Caucasian",
            "ethnicity": "Not Hispanic",
        },
    )


def test_every_clip_is_a_dialogue_of_its_own(root: Path) -> None:
    utterances = list(by_id(root).values())
    assert [u.dialogue_id for u in utterances] == [Path(name).stem for name in CLIPS]
    assert [u.speaker for u in utterances] == ["1001", "1001", "1002", "1040", "1076"]
    assert "age" not in utterances[2].extra


@pytest.mark.parametrize(
    ("votes", "happy", "sad"),
    [
        ("voice", {"ANG": 5, "DIS": 5, "NEU": 1, "SAD": 1}, {"FEA": 4, "SAD": 6}),
        ("face", {"HAP": 8}, None),
        ("both", {"HAP": 9, "NEU": 1}, None),
    ],
)
def test_votes_are_of_the_presentation_that_is_asked_for(
    root: Path, votes: str, happy: dict[str, float], sad: dict[str, float] | None
) -> None:
    found = by_id(root, votes=votes)
    assert found["1001_IEO_HAP_HI"].votes == happy
    assert found["1040_ITH_SAD_X"].votes == sad


def test_the_perceived_label_is_the_first_of_the_votes_and_null_where_several_are(root: Path) -> None:
    labels = {name: utterance.label for name, utterance in by_id(root, label="perceived").items()}
    assert labels == {
        "1001_DFA_ANG_XX": "ANG",
        "1001_IEO_HAP_HI": None,
        "1002_ITS_NEU_XX": "NEU",
        "1040_ITH_SAD_X": "SAD",
        "1076_MTI_SAD_XX": "SAD",
    }
    assert by_id(root, label="perceived", votes="face")["1040_ITH_SAD_X"].label is None


def test_the_silent_clip_is_without_audio_and_its_level_of_one_letter_is_understood(root: Path) -> None:
    corpus = read_corpus("crema_d", str(root))
    found = {u.utterance_id: u for u in corpus.utterances}
    assert found["1076_MTI_SAD_XX"].audio is None
    assert found["1040_ITH_SAD_X"].extra["level"] == "XX"
    assert corpus.warnings == [
        f"{root}/AudioWAV: 1076_MTI_SAD_XX is known to be without sound and is used without audio"
    ]


def test_clips_without_votes_and_files_with_other_names_are_named(root: Path) -> None:
    add_clips(root, "1003_TSI_FEA_XX.wav", "1003_XYZ_FEA_XX.wav", "notes.wav")
    corpus = read_corpus("crema_d", str(root))
    assert [u.votes for u in corpus.utterances if u.speaker == "1003"] == [None]
    assert any(
        w.endswith("left out, as the name is none of CREMA-D's: 1003_XYZ_FEA_XX.wav, notes.wav")
        for w in corpus.warnings
    )
    assert any(w.endswith("has no votes of voice for 1003_TSI_FEA_XX") for w in corpus.warnings)


def test_only_the_clips_are_needed(tmp_path: Path) -> None:
    (tmp_path / "1001_DFA_ANG_XX.wav").touch()
    corpus = read_corpus("crema_d", str(tmp_path))
    assert [(u.audio, u.votes, u.label) for u in corpus.utterances] == [("1001_DFA_ANG_XX.wav", None, "ANG")]
    assert corpus.warnings == [f"{tmp_path}/processedResults/tabulatedVotes.csv: no such file; there are no votes"]
    assert sources("crema_d", str(tmp_path)) == [tmp_path]


def test_pointers_of_git_lfs_are_told_from_sound(root: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 70000\n"
    (root / "AudioWAV" / CLIPS[0]).write_text(pointer)
    warnings = read_corpus("crema_d", str(root)).warnings
    assert any("1001_DFA_ANG_XX.wav: is a pointer of Git LFS, not sound; run `git lfs pull`" in w for w in warnings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"100001",6,2,0,0,x,0,"1001_DFA_ANG_XX",9', "tabulatedVotes.csv, line 2: has 9 cells where the header has 12"),
        (VOTES[0].replace("6", "-6", 1), "line 2, column 'A': '-6' is not a number of votes"),
        (VOTES[0].replace("6", "nan", 1), "line 2, column 'A': 'nan' is not a number of votes"),
        (VOTES[0].replace("6", "9" * 4000, 1), f"line 2, column 'A': '{'9' * 59} is not a number of votes"),
    ],
)
def test_a_wrong_row_names_file_and_line(root: Path, row: str, message: str) -> None:
    write_votes(root, row)
    with pytest.raises(PipelineError) as caught:
        read_corpus("crema_d", str(root))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named(root: Path) -> None:
    write_votes(root, *VOTES, header=HEADER.replace("fileName", "file_name"))
    with pytest.raises(PipelineError, match=r"line 2: the table has no column 'fileName'; did you mean 'file_name'\?"):
        read_corpus("crema_d", str(root))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "percieved"}, "label: 'percieved' is not one of intended, perceived; did you mean 'perceived'"),
        ({"votes": ["voice"]}, r"votes: \['voice'\] is not one of voice, face, both"),
    ],
)
def test_a_wrong_option_is_named(root: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_corpus("crema_d", str(root), **options)


def test_a_root_without_clips(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no clip such as AudioWAV/1001_DFA_ANG_XX\.wav; set corpus\.root"):
        read_corpus("crema_d", str(tmp_path))


def test_sources_are_the_tables_and_the_folder_of_the_clips(root: Path) -> None:
    names = [path.name for path in sources("crema_d", str(root), votes="face")]
    assert names == ["AudioWAV", "VideoDemographics.csv", "tabulatedVotes.csv"]


def test_what_is_known_of_the_corpus() -> None:
    assert known_about("crema_d", About()) == About("English", "acted", synthetic=False)
    assert READERS["crema_d"].published == {(): {(): 7442}}
    assert compare_counts("crema_d", [Utterance("d", "u")]) == [
        "utterances differ from the published counts: all 1 instead of 7442"
    ]
