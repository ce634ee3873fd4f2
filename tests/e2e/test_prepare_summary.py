"""The table that `prepare` prints: classes beside the corpus's codes, and clips that sound the same."""

import shutil

import numpy as np
import pytest
import soundfile

from lpgnet.cache import StatCache
from lpgnet.pipeline.corpora.manifest import Corpus, Utterance
from lpgnet.pipeline.embeddings import equal_clips as module
from tests.e2e.workplace import Run, Workplace, read_table, write_table


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
