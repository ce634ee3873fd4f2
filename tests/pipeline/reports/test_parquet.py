"""The Parquet dataset of timelines: whole parts, no row twice, and what other programs read of it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.reports.parquet import Entry, Failure, Fingerprints, TimelineDataset
from lpgnet.pipeline.reports.rows import Timeline, TimelineRow

PRINTS = Fingerprints("m" * 64, {"audio": "a" * 64, "text": "t" * 64})
HOSTILE = '=HYPERLINK("http://x")\r\n\x00\x1b[31m"; DROP TABLE t;--,\u202e\U0001f600'


def entry(name: str, made_from: str, *, turns: int = 2, text: str | None = "yes", speaker: str | None = None) -> Entry:
    rows = tuple(
        TimelineRow(
            f"turn {n + 1}",
            float(n),
            n + 0.5,
            speaker,
            text,
            "sad",
            {"sad": 0.75, "happy": 0.25},
            {"text": 0.4, "audio": 0.6},
            dimensions={"valence": 2.5},
        )
        for n in range(turns)
    )
    choices = ("turns: by voice activity", "warning: is unlike anything")
    return Entry(Timeline(name, rows, None, float(turns), choices), f"calls/{name}.wav", made_from)


@pytest.fixture
def dataset(tmp_path: Path) -> TimelineDataset:
    return TimelineDataset(tmp_path / "out", tmp_path / "out" / ".made-from")


def rows_of(dataset: TimelineDataset) -> list[dict]:
    import pyarrow.parquet as pq

    found = [row for part in sorted(dataset.folder.glob("*")) for row in pq.read_table(part).to_pylist()]
    return sorted(found, key=lambda row: (row["timeline"], row["turn"]))


def test_a_row_a_turn(dataset: TimelineDataset) -> None:
    dataset.add([entry("b", "2", text=None), entry("a", "1", turns=1, text=HOSTILE, speaker="=1+1")], PRINTS)
    first, second, third = rows_of(dataset)
    assert first == {
        "recording": "calls/a.wav",
        "timeline": "a",
        "turn": 1,
        "utterance": "turn 1",
        "start": 0.0,
        "end": 0.5,
        "speaker": "=1+1",
        "channel": None,
        "text": HOSTILE,
        "label": "sad",
        "p_sad": 0.75,
        "p_happy": 0.25,
        "w_text": 0.4,
        "w_audio": 0.6,
        "valence": 2.5,
        "warnings": "warning: is unlike anything",
        "model": "m" * 64,
        "audio_encoder": "a" * 64,
        "text_encoder": "t" * 64,
        "made_from": "1",
    }
    assert [(row["timeline"], row["turn"], row["text"]) for row in (second, third)] == [("b", 1, None), ("b", 2, None)]
    assert dataset.done() == {"a": "1", "b": "2"}


def test_what_other_programs_read(dataset: TimelineDataset) -> None:
    """A column without any value has its type too, so that the parts go together."""
    import datasets
    import duckdb
    import pandas
    import polars

    dataset.add([entry("a", "1", text=None)], PRINTS)
    dataset.add([entry("b", "2", text=HOSTILE, speaker="Ann")], PRINTS)
    dataset.write_failures([Failure("c.wav", "c", "is empty")])
    expected = rows_of(dataset)
    folder = str(dataset.folder)
    by_pandas = pandas.read_parquet(folder)
    by_polars = polars.read_parquet(folder).to_dicts()
    by_duckdb = duckdb.sql(f"SELECT * FROM '{folder}/*.parquet'").arrow().read_all().to_pylist()
    by_datasets = list(datasets.load_dataset("parquet", data_dir=folder, split="train", cache_dir=f"{folder}-cache"))
    for found in (by_polars, by_duckdb, by_datasets):
        assert sorted(found, key=lambda row: (row["timeline"], row["turn"])) == expected
    assert list(by_pandas.columns) == list(expected[0]) and len(by_pandas) == 4
    assert sorted(by_pandas["p_sad"]) == [0.75] * 4
    assert pandas.read_parquet(dataset.out / "failed.parquet").to_dict("records") == [
        {"recording": "c.wav", "timeline": "c", "reason": "is empty"}
    ]


def test_work_that_is_done_twice_writes_the_same_part(dataset: TimelineDataset) -> None:
    first = dataset.add([entry("a", "1"), entry("b", "2")], PRINTS)
    assert dataset.add([entry("b", "2"), entry("a", "1")], PRINTS) == first
    assert len(rows_of(dataset)) == 4


def test_a_changed_recording_takes_its_old_rows_away_and_no_other(dataset: TimelineDataset) -> None:
    dataset.add([entry("a", "1"), entry("b", "2")], PRINTS)
    dataset.add([entry("c", "3")], PRINTS)
    dataset.settle({"b"})
    assert dataset.done() == {"a": "1", "c": "3"} and len(rows_of(dataset)) == 4
    dataset.settle({"c", "never there"})
    assert dataset.done() == {"a": "1"} and len(list(dataset.folder.iterdir())) == 1


def test_of_two_parts_with_one_recording_the_newest_stays(dataset: TimelineDataset) -> None:
    """As a task leaves them that was tried twice, once when a recording of it could not be read."""
    old = dataset.add([entry("a", "1"), entry("b", "1")], PRINTS)
    os.utime(old, (1, 1))
    dataset.add([entry("b", "2", turns=3)], PRINTS)
    assert dataset.done() == {"a": "1", "b": "2"}
    dataset.settle()
    assert dataset.done() == {"a": "1", "b": "2"} and len(rows_of(dataset)) == 5


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcd"), st.sampled_from("12"), min_size=1),
            st.sets(st.sampled_from("abcd")),
        ),
        max_size=6,
    )
)
def test_no_row_is_twice_after_settling(steps: list[tuple[dict[str, str], set[str]]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        dataset = TimelineDataset(Path(folder) / "out", Path(folder) / "scratch")
        expected: dict[str, str] = {}
        for time, (added, left_out) in enumerate(steps, start=1):
            part = dataset.add([entry(*pair) for pair in added.items()], PRINTS)
            os.utime(part, (time, time))
            expected |= added
            assert dataset.done() == expected
            dataset.settle(left_out)
            expected = {name: made for name, made in expected.items() if name not in left_out}
            for rewritten in dataset.folder.iterdir():
                os.utime(rewritten, (time, time))
            assert [(row["timeline"], row["made_from"]) for row in rows_of(dataset)] == [
                pair for pair in sorted(expected.items()) for _ in range(2)
            ]


def test_a_part_appears_whole(dataset: TimelineDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.add([entry("a", "1")], PRINTS)

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PipelineError, match="No space left on device; free some space"):
        dataset.add([entry("b", "2")], PRINTS)
    with pytest.raises(PipelineError, match=r"failed\.parquet: No space left"):
        dataset.write_failures([])
    assert dataset.done() == {"a": "1"} and not list(dataset.scratch.iterdir())


def test_what_a_killed_process_left_is_removed_when_it_is_old(dataset: TimelineDataset) -> None:
    dataset.add([entry("a", "1")], PRINTS)
    old, young = (dataset.scratch / f"part-{name}.parquet.x.unfinished" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"PAR1")
    os.utime(old, (1, 1))
    dataset.settle()
    assert young.exists() and not old.exists()


def test_a_damaged_part_is_named(dataset: TimelineDataset) -> None:
    part = dataset.add([entry("a", "1", turns=50), entry("b", "2")], PRINTS)
    whole = part.read_bytes()
    for content in (b"", b"PAR1", whole[:-100], whole[:40] + bytes(40) + whole[80:], b"PAR1" + bytes(100) + b"PAR1"):
        part.write_bytes(content)
        with pytest.raises(PipelineError, match=f"{part.name}: is damaged .*delete it, and its recordings"):
            dataset.settle({"a"})


def test_names_that_are_no_text(dataset: TimelineDataset) -> None:
    broken = entry("caf\udce9", "1", turns=1)
    dataset.add([replace(broken, recording="caf\udce9.wav")], PRINTS)
    assert dataset.done() == {"caf\\udce9": "1"}
    dataset.write_failures([Failure("caf\udce9.wav", "caf\udce9", "is \udce9")])
