"""The IEMOCAP reader on a small tree in the corpus's layout, with the traps of the real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lpgnet.pipeline.corpora import compare_counts, read_corpus, sources
from lpgnet.pipeline.corpora.agreement import agreement
from lpgnet.pipeline.corpora.iemocap import PUBLISHED_COUNTS
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.errors import PipelineError, UsageError

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
IMPRO = "Ses01F_impro01"
# The man speaks first and third; the woman's second turn begins before the man's turn that stands above it.
IMPRO_TURNS = f"""{IMPRO}_M000 [001.0000-003.5000]: Where's your form?
M: Yeah.
{IMPRO}_F000 [006.2901-008.2357]: Excuse me.
{IMPRO}_MXX0 [008.0000-009.0000]: [LAUGHTER]
{IMPRO}_M001 [010.5000-012.0000]: [BREATHING]
{IMPRO}_F001 [010.0000-014.2500]:  Did you  get the [mail]: so?
"""
# All turns of the woman, then all of the man; votes of single raters between them.
IMPRO_LABELS = f"""{HEADER}[6.2901 - 8.2357]\t{IMPRO}_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tAnger; Frustration;\t()
C-F1:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[10.0000 - 14.2500]\t{IMPRO}_F001\txxx\t[3.0000, 2.0000, 2.6667]
C-E2:\tSadness;\t()

[1.0000 - 3.5000]\t{IMPRO}_M000\tang\t[1.5000, 4.0000, 4.5000]
C-M1:\tNeutral;\t()
[10.5000 - 12.0000]\t{IMPRO}_M001\tfru\t[2.0000, 3.0000, 3.0000]
A-E4:\tval 2; act 3; dom  3;\t()
"""
SCRIPT = "Ses05M_script01_1b"
SCRIPT_TURNS = f"{SCRIPT}_F000 [000.5850-001.1700]: Caf\u00e9?\r\n"
SCRIPT_LABELS = f"{HEADER}[0.5850 - 1.1700]\t{SCRIPT}_F000\texc\t[4.0000, 4.0000, 3.0000]\r\n"


def add_dialogue(root: Path, name: str, turns: str | None, labels: str | None) -> None:
    """Write a dialogue and the folders and files beside it that are none."""
    base = root / f"Session{int(name[3:5])}" / "dialog"
    transcripts, evaluations = base / "transcriptions", base / "EmoEvaluation"
    for folder in (transcripts, *(evaluations / part for part in ("Attribute", "Categorical", "Self-evaluation"))):
        folder.mkdir(parents=True, exist_ok=True)
    if turns is not None:
        (transcripts / f"{name}.txt").write_bytes(turns.encode("cp1252"))
        (transcripts / f"._{name}.txt").write_bytes(b"\x00\x05\x16\x07\x00\x02Mac OS X\xff")
    if labels is not None:
        (evaluations / f"{name}.txt").write_bytes(labels.encode())
        (evaluations / f"._{name}.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    (evaluations / "Categorical" / f"{name}_e1_cat.txt").write_text(f"{name}_F000 :Anger; ()\n")
    (evaluations / "Attribute" / f"{name}_e1_atr.txt").write_text(f"{name}_F000 :act 3; :val 3; ()\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_dialogue(tmp_path, SCRIPT, SCRIPT_TURNS, SCRIPT_LABELS)
    add_dialogue(tmp_path, IMPRO, IMPRO_TURNS, IMPRO_LABELS)
    return tmp_path


def test_turns_come_in_the_order_of_the_transcript_and_only_the_labelled_ones(root: Path) -> None:
    utterances = read_corpus("iemocap", str(root)).utterances
    assert [u.utterance_id for u in utterances] == [
        f"{IMPRO}_M000",
        f"{IMPRO}_F000",
        f"{IMPRO}_M001",
        f"{IMPRO}_F001",
        f"{SCRIPT}_F000",
    ]
    assert [u.label for u in utterances] == ["ang", "neu", "fru", "xxx", "exc"]


def test_all_fields_of_an_utterance(root: Path) -> None:
    utterances = read_corpus("iemocap", str(root)).utterances
    assert utterances[1] == Utterance(
        dialogue_id=IMPRO,
        utterance_id=f"{IMPRO}_F000",
        audio=f"Session1/sentences/wav/{IMPRO}/{IMPRO}_F000.wav",
        text="Excuse me.",
        speaker="Ses01F",
        session="Ses01",
        condition="improvised",
        label="neu",
        votes={"neu": 1.0, "ang": 0.5, "fru": 0.5},
        valence=2.5,
        arousal=2.5,
        dominance=2.5,
        extra={"self_votes": {"neu": 1.0}, "shared_votes": {"ang": 0.5, "fru": 0.5}},
    )
    assert utterances[3].text == "Did you  get the [mail]: so?"
    last = utterances[3]
    assert (last.votes, last.valence, last.arousal, last.dominance) == ({"sad": 1.0}, 3.0, 2.0, 2.6667)
    assert last.extra == {}


def test_the_speaker_is_the_letter_of_the_last_field_and_suffixed_dialogues_are_read(root: Path) -> None:
    last = read_corpus("iemocap", str(root)).utterances[-1]
    assert (last.dialogue_id, last.speaker, last.session, last.condition) == (SCRIPT, "Ses05F", "Ses05", "scripted")
    assert last.text == "Caf\u00e9?"


def test_dialog_audio_has_the_times_of_the_evaluation_file(root: Path) -> None:
    utterances = read_corpus("iemocap", str(root), audio="dialog").utterances
    assert {u.audio for u in utterances[:4]} == {f"Session1/dialog/wav/{IMPRO}.wav"}
    assert [(u.start, u.end) for u in utterances[:2]] == [(1.0, 3.5), (6.2901, 8.2357)]


def test_the_root_may_be_the_parent_of_the_release(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    parent = tmp_path_factory.mktemp("parent")
    root.rename(parent / "IEMOCAP_full_release")
    utterances = read_corpus("iemocap", str(parent)).utterances
    assert utterances[0].audio == f"IEMOCAP_full_release/Session1/sentences/wav/{IMPRO}/{IMPRO}_M000.wav"


def test_sources_are_transcripts_and_evaluations(root: Path) -> None:
    names = [path.relative_to(root).as_posix() for path in sources("iemocap", str(root), audio="dialog")]
    assert names == [
        f"Session1/dialog/EmoEvaluation/{IMPRO}.txt",
        f"Session1/dialog/transcriptions/{IMPRO}.txt",
        f"Session5/dialog/EmoEvaluation/{SCRIPT}.txt",
        f"Session5/dialog/transcriptions/{SCRIPT}.txt",
    ]


def test_what_cannot_be_read_is_told(root: Path) -> None:
    add_dialogue(root, "Ses02F_impro01", None, IMPRO_LABELS)
    add_dialogue(root, "Ses03F_impro01", SCRIPT_TURNS, None)
    add_dialogue(root, IMPRO, IMPRO_TURNS.replace("_F000", "_F009"), IMPRO_LABELS)
    corpus = read_corpus("iemocap", str(root))
    assert [u.dialogue_id for u in corpus.utterances] == [IMPRO] * 3 + [SCRIPT]
    lost, unlabelled, cp1252, *rest = corpus.warnings
    assert f"{IMPRO}.txt: has no line for {IMPRO}_F000" in lost
    assert "Ses03F_impro01.txt: no such file" in unlabelled
    assert f"{SCRIPT}.txt: is not UTF-8, so it was read as cp1252" in cp1252
    assert rest == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1.0 - 2.0] Ses01F_impro01_M000 neu [1, 2, 3]", "line 3: is not a label line"),
        ("[1.0 - 2.0]\tSes01F_impro01_M000\tneu\t[1.0, 2.0]", "line 3: has a time or a rating that is not a number"),
        ("[1.0.0 - 2.0]\tSes01F_impro01_M000\tneu\t[1.0, 2.0, 3.0]", "line 3: has a time or a rating"),
        ("[1.0 - 2.0]\tSes01F_impro01_M000\tneu\t[0.0, 2.0, 3.0]", "line 3: valence 0 is not between 1 and 5"),
        ("[1.0 - 2.0]\tSes01F_impro01_M000\tneu\t[1.0, 25, 3.0]", "line 3: arousal 25 is not between 1 and 5"),
        ("[1.0 - 2.0]\tSes01F_impro01_M000\tneu\t[1.0, 2.0, nan]", "line 3: dominance nan is not between 1 and 5"),
    ],
)
def test_wrong_label_lines_name_file_and_line(root: Path, line: str, message: str) -> None:
    add_dialogue(root, IMPRO, IMPRO_TURNS, HEADER + line)
    with pytest.raises(PipelineError) as caught:
        read_corpus("iemocap", str(root))
    assert f"EmoEvaluation/{IMPRO}.txt, {message}" in str(caught.value)


def test_wrong_roots_and_options(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"has no Session1/dialog/transcriptions/\*\.txt"):
        read_corpus("iemocap", str(tmp_path))
    with pytest.raises(UsageError, match="'sentence' is not one of sentences, dialog; did you mean 'sentences'"):
        read_corpus("iemocap", str(tmp_path), audio="sentence")
    with pytest.raises(UsageError, match="no corpus reader 'iemocp'; did you mean 'iemocap'"):
        read_corpus("iemocp", str(tmp_path))


def test_published_counts_agree_with_themselves() -> None:
    labels, by_session = PUBLISHED_COUNTS[("label",)], PUBLISHED_COUNTS[("session", "label")]
    assert PUBLISHED_COUNTS[()] == {(): 10039}
    for code in ("ang", "hap", "exc", "sad", "neu"):
        assert sum(count for (_, label), count in by_session.items() if label == code) == labels[(code,)]
    assert sum(by_session.values()) == 5531


def published_utterances() -> list[Utterance]:
    """As many utterances of each label and session as the corpus has."""
    by_session = PUBLISHED_COUNTS[("session", "label")]
    cells = [(session, label, count) for (session, label), count in by_session.items()]
    rest = set(PUBLISHED_COUNTS[("label",)]) - {(label,) for _, label in by_session}
    cells += [("Ses01", label, PUBLISHED_COUNTS[("label",)][(label,)]) for (label,) in rest]
    return [
        Utterance("d", f"{session}_{label}_{number}", session=session, label=label)
        for session, label, count in cells
        for number in range(count)
    ]


def test_counts_are_compared_with_the_published_ones() -> None:
    utterances = published_utterances()
    assert compare_counts("iemocap", utterances) == []
    index = next(place for place, u in enumerate(utterances) if (u.session, u.label) == ("Ses03", "hap"))
    assert compare_counts("iemocap", utterances[:index] + utterances[index + 1 :]) == [
        "utterances differ from the published counts: all 10038 instead of 10039",
    ]
    utterances[index] = replace(utterances[index], label="exc")
    assert compare_counts("iemocap", utterances) == [
        "utterances by label differ from the published counts: exc 1042 instead of 1041, hap 594 instead of 595",
        "utterances by session and label differ from the published counts: Ses03 hap 134 instead of 135,"
        " Ses03 exc 152 instead of 151",
    ]
    assert compare_counts("table", utterances) == []


# By hand: four evaluators, one of whom divides a vote in three and one in two; the actors' reports count apart.
RATED = f"""{HEADER}[1.0000 - 3.5000]\t{IMPRO}_M000\txxx\t[1.5000, 4.0000, 4.5000]
C-E1:\tanger;\t(loud; but (not) shouting)
C-E2:\tAnger; Frustration; Disgust;\t()
C-E3:\tNeutral state; Other;\t()
C-E4:\tAnger;
C-F1:\tExcited; Happiness;\t()
C-M1:\tSurprise;\t(fear)
A-E1:\tval 2; act 4; dom  4;\t()
[6.2901 - 8.2357]\t{IMPRO}_F000\tfea\t[1.0000, 5.0000, 3.3333]
C-E1:\tFear; FEAR;\t()
C-E2: Sadness; ()
"""


def test_votes_are_divided_among_what_an_evaluator_named(root: Path) -> None:
    add_dialogue(root, IMPRO, IMPRO_TURNS, RATED)
    corpus = read_corpus("iemocap", str(root))
    first, second = corpus.utterances[:2]
    third, half = 1 / 3, 1 / 2
    assert first.votes == {"ang": 2 + third, "fru": third, "dis": third, "neu": half, "oth": half}
    assert sum(first.votes.values()) == pytest.approx(4)
    assert first.extra == {
        "self_votes": {"exc": half, "hap": half, "sur": 1.0},
        "shared_votes": {"ang": third, "fru": third, "dis": third, "neu": half, "oth": half},
    }
    assert (second.votes, second.extra) == ({"fea": 1.0, "sad": 1.0}, {})
    assert (first.valence, first.arousal, first.dominance) == (1.5, 4.0, 4.5)
    assert corpus.ranges == {"valence": (1.0, 5.0), "arousal": (1.0, 5.0), "dominance": (1.0, 5.0)}
    assert not [warning for warning in corpus.warnings if IMPRO in warning]


def test_an_utterance_that_only_its_actor_judged_has_no_votes(root: Path) -> None:
    utterance = read_corpus("iemocap", str(root)).utterances[0]
    assert (utterance.votes, utterance.extra) == (None, {"self_votes": {"neu": 1.0}})


def test_an_evaluators_line_that_cannot_be_read_is_told_and_loses_its_vote(root: Path) -> None:
    label = f"[1.0000 - 3.5000]\t{IMPRO}_M000\tneu\t[1.5000, 4.0000, 4.5000]\n"
    lines = [
        "C-E1:\tAnger;\t()",
        label.strip(),
        "C-E1:\tNeutral;\t()",
        "C-E2:\tBored; Anger;\t()",
        "C-E:\tAnger;\t()",
        "C-E3:\tBored;\t()",
        "C E4:\tAnger;\t()",
        "C-E5:\t\t()",
    ]
    add_dialogue(root, IMPRO, IMPRO_TURNS, HEADER + "\n".join(lines))
    corpus = read_corpus("iemocap", str(root))
    assert corpus.utterances[0].votes == {"neu": 1.0}
    found = [warning for warning in corpus.warnings if "EmoEvaluation" in warning]
    place = f"EmoEvaluation/{IMPRO}.txt, line"
    assert [warning[warning.index(place) + len(place) :] for warning in found] == [
        " 3: an evaluator's line stands before the first label line; its vote is left out",
        "s 6, 8: 'Bored' is not a category of IEMOCAP; this evaluator's vote is left out",
        " 7: is not an evaluator's line: 'C-E:\\tAnger;\\t()'; its vote is left out",
        " 9: is not an evaluator's line: 'C E4:\\tAnger;\\t()'; its vote is left out",
    ]


def test_no_evaluators_line_is_left_out_in_silence(root: Path) -> None:
    label = f"[1.0000 - 3.5000]\t{IMPRO}_M000\tneu\t[1.5000, 4.0000, 4.5000]\n"
    lines = ["c-e1:\tNeutral;", "  C-e2:\tAnger;\t()", "c-f1:\tSadness;", "E-C3:\tAnger;", "a-e1:\tval 2;", "", "% end"]
    add_dialogue(root, IMPRO, IMPRO_TURNS, f"{HEADER}E-C1:\tAnger;\n{label}" + "\n".join(lines))
    corpus = read_corpus("iemocap", str(root))
    assert corpus.utterances[0].votes == {"neu": 1.0, "ang": 1.0}
    assert corpus.utterances[0].extra == {"self_votes": {"sad": 1.0}}
    found = [warning.partition(", line ")[2] for warning in corpus.warnings if f"{IMPRO}.txt, line " in warning]
    assert found == [
        "3: an evaluator's line stands before the first label line; its vote is left out",
        "8: is not an evaluator's line: 'E-C3:\\tAnger;'; its vote is left out",
    ]


def test_the_half_points_beyond_the_range_that_the_release_has_stop_nobody(root: Path) -> None:
    labels = IMPRO_LABELS.replace("[1.5000, 4.0000, 4.5000]", "[0.5000, 5.5000, 5.5000]")
    add_dialogue(root, IMPRO, IMPRO_TURNS, labels)
    corpus = read_corpus("iemocap", str(root))
    assert (corpus.utterances[0].valence, corpus.utterances[0].arousal, corpus.utterances[0].dominance) == (1, 5, 5)
    assert [warning.partition(", ")[2] for warning in corpus.warnings[:3]] == [
        "line 13: valence 0.5 is not between 1 and 5; it counts as 1",
        "line 13: arousal 5.5 is not between 1 and 5; it counts as 5",
        "line 13: dominance 5.5 is not between 1 and 5; it counts as 5",
    ]


# Codes by evaluator; of whoever named one code there are 3 for anger, 3 for neutral and 1 for sadness that can be
# compared, as the last utterance has one evaluator only.
AGREED = {
    f"{IMPRO}_M000": ("ang", ["Anger;", "Anger;", "Neutral;"]),
    f"{IMPRO}_F000": ("neu", ["Neutral;", "Neutral;", "Neutral; Sadness;"]),
    f"{IMPRO}_M001": ("xxx", ["Sadness;", "Anger;", "Sadness; Anger;"]),
    f"{IMPRO}_F001": ("sad", ["Sadness;"]),
}


def test_distributions_and_agreement_by_hand(root: Path) -> None:
    """Of 7 votes, weights of differing pairs 2, 0 and 2: alpha is 1 - 6 * 4 / (49 - 9 - 9 - 1) = 0.2."""
    blocks = [
        f"[1.0000 - 3.5000]\t{name}\t{code}\t[2.0000, 3.0000, 4.0000]\n"
        + "".join(f"C-E{number}:\t{names}\t()\n" for number, names in enumerate(said, start=1))
        + "C-F1:\tFear;\t()\n"
        for name, (code, said) in AGREED.items()
    ]
    add_dialogue(root, IMPRO, IMPRO_TURNS, HEADER + "".join(blocks))
    utterances = read_corpus("iemocap", str(root)).utterances[:4]
    assert {u.utterance_id: u.votes for u in utterances} == {
        f"{IMPRO}_M000": {"ang": 2, "neu": 1},
        f"{IMPRO}_F000": {"neu": 2.5, "sad": 0.5},
        f"{IMPRO}_M001": {"sad": 1.5, "ang": 1.5},
        f"{IMPRO}_F001": {"sad": 1},
    }
    found = agreement(utterances)
    assert found.alpha == pytest.approx(0.2)
    assert (found.voted, found.compared, found.shared, found.without_majority) == (4, 3, 2, 1)
    assert {(u.valence, u.arousal, u.dominance) for u in utterances} == {(2, 3, 4)}
