"""The table that `prepare` prints: classes beside the corpus's codes, and clips that sound the same."""

import inspect
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from lpgnet.cache import StatCache
from lpgnet.pipeline.corpora import READERS, reader_version
from lpgnet.pipeline.corpora.manifest import Corpus, Utterance
from lpgnet.pipeline.embeddings import equal_clips as module
from tests.e2e.workplace import Run, Workplace, read_table, write_table

# What raters said in the demo's table.
VOTED = ("votes", "valence", "arousal", "dominance")


def line_of(out: str, field: str) -> str:
    return next((line.strip() for line in out.splitlines() if line.strip().startswith(field)), "")


@pytest.fixture
def rows(workplace: Workplace) -> list[dict[str, str]]:
    return read_table(workplace.corpus / "utterances.csv")


def prepared(workplace: Workplace, run: Run, rows: list[dict[str, str]], *options: str) -> str:
    write_table(workplace.corpus / "utterances.csv", rows)
    code, out, err = run(workplace.arguments("prepare", *options))
    assert code == 0, err
    return out


def test_classes_stand_beside_the_codes(workplace: Workplace, run: Run, rows: list[dict[str, str]]) -> None:
    for row, label in zip(rows, ["exc", "odd", "xxx", ""], strict=False):
        row["label"] = label
    labels = '{"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad", "xxx": null}'
    out = " ".join(prepared(workplace, run, rows, "--labels", labels).split())
    happy = sum(row["label"] in ("hap", "exc") for row in rows)
    assert f"happy {happy} (exc, hap)" in out and "exc 1" in out
    assert "(ignored) 1 (xxx)" in out and "(not in labels) 1 (odd)" in out and "(no label) 1" in out


def test_no_two_clips_of_the_demo_are_equal(workplace: Workplace, run: Run, rows: list[dict[str, str]]) -> None:
    rows[0]["text"] = "another"
    assert line_of(prepared(workplace, run, rows), "equal clips") == ""


def test_copies_and_repeated_segments_are_told(workplace: Workplace, run: Run, rows: list[dict[str, str]]) -> None:
    """A copy under another name; one segment, written in two ways, for two utterances; three of digital silence."""
    copy = workplace.corpus / "audio" / "copy.flac"
    shutil.copy(workplace.corpus / rows[0]["audio"], copy)
    rows.append(rows[0] | {"utterance_id": "again", "audio": "audio/copy.flac"})
    segment = {name: rows[1][name] for name in ("audio", "start", "end")}
    rows.append(rows[1] | segment | {"utterance_id": "twice", "start": f"{float(rows[1]['start']):.6f}"})
    for name in ("s1", "s2", "s3", "s4"):
        soundfile.write(workplace.corpus / f"{name}.wav", np.zeros(16_000), 16_000)
        rows.append(rows[-1] | {"utterance_id": name, "audio": f"{name}.wav", "start": "", "end": ""})
    out = " ".join(prepared(workplace, run, rows).split())
    first, second = rows[0]["utterance_id"], rows[1]["utterance_id"]
    assert f"equal clips 8: {first} = again, {second} = twice, s1 = s2 = s3 = ..." in out


def test_files_that_only_look_alike_are_not_read(
    workplace: Workplace, run: Run, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips of one length have one size: their middles tell them apart, and no digest is taken."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        soundfile.write(workplace.corpus / f"{name}.wav", random.uniform(-0.5, 0.5, 90_000), 16_000)
        rows.append(rows[-1] | {"utterance_id": name, "audio": f"{name}.wav", "start": "", "end": ""})
    planned: list[int] = []
    plan = module.plan_audio
    monkeypatch.setattr(module, "plan_audio", lambda some, *a, **k: planned.append(len(some)) or plan(some, *a, **k))
    assert line_of(prepared(workplace, run, rows), "equal clips") == ""
    assert planned == [0]


def test_nothing_is_fetched_from_an_address(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = [
        Utterance("d", name, audio="a.wav", start=1.0, end=end) for name, end in (("a", 2.0), ("b", 2.0), ("c", 3.0))
    ]
    monkeypatch.setattr(module, "plan_audio", None)
    corpus, cache = Corpus("far", "memory://far", "table", 1), StatCache(workplace.folder / "stat.sqlite")
    assert module.equal_clips(corpus, utterances, cache, follow_links=True) == [["a", "b"]]


def test_recordings_that_are_missing_are_the_features_stages_business(
    workplace: Workplace, run: Run, rows: list[dict[str, str]]
) -> None:
    rows += [rows[0] | {"utterance_id": name, "audio": f"audio/{name}.wav"} for name in ("gone", "lost")]
    assert line_of(prepared(workplace, run, rows), "equal clips") == ""


# The workplace's own options say ranges, and these tables have no ratings.
UNRATED = ("--corpus.options", '{"table": "utterances.csv"}')


def test_votes_their_classes_and_the_agreement_of_raters(
    workplace: Workplace, run: Run, rows: list[dict[str, str]]
) -> None:
    """By hand: aaa, ab and bb give alpha 0.5; ab has no majority; a rater who named several counts apart."""
    said = ["ang;ang;ang", "ang;exc", "exc|exc", '{"ang": 1.5, "odd": 0.5}', "", "xxx"]
    kept = [{name: cell for name, cell in row.items() if not name.startswith(VOTED)} for row in rows]
    given = [row | {"votes": cell} for row, cell in zip(kept, [*said, *[""] * len(rows)], strict=False)]
    labels = '{"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad", "xxx": null}'
    out = " ".join(prepared(workplace, run, given, *UNRATED, "--labels", labels).split())
    assert "votes ang 5.5, exc 3, xxx 1, odd 0.5" in out
    assert "votes by class angry 5.5 (ang), happy 3 (exc), (ignored) 1 (xxx), (not in labels) 0.5 (odd)" in out
    assert "Krippendorff's alpha 0.500, of 3 with at least 2 raters who named one code" in out
    assert "votes for several codes at once are left out (1)" in out
    assert "no majority 1 of the 5 with votes (20.0%)" in out


def test_dimensions_with_their_ranges(workplace: Workplace, run: Run, rows: list[dict[str, str]]) -> None:
    kept = [{name: cell for name, cell in row.items() if not name.startswith(VOTED)} for row in rows]
    given = [row | {"valence": "", "arousal": str(1 + place % 4)} for place, row in enumerate(kept)]
    for row, rating in zip(given, ["1.5", "4"], strict=False):
        row["valence"] = rating
    options = '{"table": "utterances.csv", "ranges": {"valence": [1, 5]}}'
    write_table(workplace.corpus / "utterances.csv", given)
    code, out, err = run(workplace.arguments("prepare", "--corpus.options", options))
    out, err = (" ".join(text.split()) for text in (out, err))
    assert code == 0, err
    assert "valence 2 rated, 1.5 to 4 (raters could give 1 to 5)" in out
    assert f"arousal {len(rows)} rated, 1 to 4 (raters could give 1 to 4)" in out
    assert "the range of arousal is taken from its ratings, 1 to 4; set corpus.options.ranges" in err
    assert "dominance" not in out


def test_without_raters_nothing_is_said_of_them(workplace: Workplace, run: Run, rows: list[dict[str, str]]) -> None:
    given = [{name: cell for name, cell in row.items() if not name.startswith(VOTED)} for row in rows]
    out = prepared(workplace, run, given, *UNRATED)
    assert "votes" not in out and "agreement" not in out and "valence" not in out


def test_a_newer_reader_prepares_the_corpus_again(
    workplace: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(workplace.arguments("prepare"))[0] == 0
    assert "up to date" in run(workplace.arguments("prepare"))[2]
    monkeypatch.setitem(READERS, "table", replace(READERS["table"], version=99))
    assert "up to date" not in run(workplace.arguments("prepare"))[2]


@pytest.mark.parametrize("name", READERS)
def test_readers_say_the_version_that_their_manifests_have(name: str) -> None:
    assert reader_version(name) == inspect.getmodule(READERS[name].read).VERSION  # type: ignore[union-attr]
