"""Many recordings at once: the same timelines as one by one, and one that is bad spoils no other."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.labelling import batch, emotion_pipeline
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline, Failed
from lpgnet.pipeline.recordings.sources import find_sources
from lpgnet.pipeline.reports.rows import Timeline
from tests.e2e.workplace import RECORDING, Run
from tests.s3 import S3, SECRETS

SRT = "1\n00:00:00,290 --> 00:00:02,070\nAnn: yes\n\n2\n00:00:02,370 --> 00:00:04,420\nBob: oh that dog\n"


@pytest.fixture(scope="module")
def pipeline(trained: Path) -> EmotionPipeline:
    return EmotionPipeline.from_pretrained(trained, device="cpu", diarizer="none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Recordings of every kind: with and without a transcript, truncated, bad, and the dialogues of a manifest."""
    waveform, rate = soundfile.read(RECORDING, dtype="float32")
    calls = tmp_path / "calls"
    calls.mkdir()
    for number in range(6):
        soundfile.write(calls / f"{number}.wav", waveform[number * rate : (number + 6) * rate], rate)
    for number in range(3):
        (calls / f"{number}.srt").write_text(SRT)
    (calls / "bad.wav").write_text("no audio at all")
    soundfile.write(calls / "silent.wav", np.zeros(rate), rate)
    soundfile.write(calls / "outside.wav", waveform[:rate], rate)
    (calls / "outside.srt").write_text(SRT)
    cut = shutil.copy(calls / "1.wav", calls / "truncated.wav")
    cut.write_bytes(cut.read_bytes()[:-20_000])
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(2):
        soundfile.write(corpus / f"part{number}.wav", waveform[: 2 * rate], rate)
    utterances = [Utterance(name, f"{name}-{n}", f"part{n}.wav", text="yes") for name in ("x", "y") for n in range(2)]
    broken = Utterance("z", "z-0", "nowhere.wav", text="yes")
    write_manifest(corpus, Manifest(Corpus("c", str(corpus), "table", 1), (*utterances, broken)))
    return tmp_path


def one_by_one(pipeline: EmotionPipeline, sources: Sequence) -> list[Timeline | PipelineError]:
    found: list[Timeline | PipelineError] = []
    for source in sources:
        try:
            found.append(pipeline.label(source))
        except PipelineError as error:
            found.append(error)
    return found


def assert_alike(one: Timeline, other: Timeline) -> None:
    """All is equal but the numbers, which differ by what the company in a batch does to the embeddings."""
    for mine, others in zip(one.rows, other.rows, strict=True):
        for numbers in ("probabilities", "modality_weights", "dimensions"):
            assert getattr(mine, numbers) == pytest.approx(getattr(others, numbers), abs=1e-5)
        known = ("utterance", "start", "end", "speaker", "text", "label", "channel")
        assert [getattr(mine, name) for name in known] == [getattr(others, name) for name in known]
    assert (one.name, one.recording, one.seconds) == (other.name, other.recording, other.seconds)
    assert (one.choices, one.model, one.ranges) == (other.choices, other.model, other.ranges)


def test_many_are_labelled_as_one_by_one(pipeline: EmotionPipeline, folder: Path) -> None:
    sources = find_sources([str(folder / "calls"), str(folder / "corpus")], None)
    expected = one_by_one(pipeline, sources)
    found = list(pipeline.label_many(iter(sources)))
    assert len(found) == len(sources) == 13
    failed = [one.source.name for one in found if isinstance(one, Failed)]
    assert failed == ["bad", "outside", "silent", "z"]
    for one, source, alone in zip(found, sources, expected, strict=True):
        if isinstance(one, Failed):
            assert one.source == source
            assert (type(one.error), str(one.error)) == (type(alone), str(alone))
        else:
            assert isinstance(alone, Timeline)
            assert_alike(one, alone)


def test_turns_of_several_share_a_batch(
    pipeline: EmotionPipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    embed = emotion_pipeline.embed
    monkeypatch.setattr(
        emotion_pipeline,
        "embed",
        lambda encoder, requests, *rest, **named: (
            calls.append(len(requests)) or embed(encoder, requests, *rest, **named)
        ),
    )
    recordings = [folder / "calls" / f"{number}.wav" for number in range(3)]
    assert len(list(pipeline.label_many(recordings))) == 3
    assert calls == [6, 6], "the six turns of three recordings at once, in each modality"
    monkeypatch.setattr(emotion_pipeline, "MOST_TOGETHER", 2)
    assert len(list(pipeline.label_many(map(str, recordings)))) == 3
    assert calls[2:] == [4, 4, 2, 2]
    monkeypatch.setattr(emotion_pipeline, "CHUNK_COST", {"audio": 1.0, "text": 1e9})
    assert len(list(pipeline.label_many(recordings))) == 3
    assert calls[6:] == [2] * 6, "no more at once than a chunk of the extraction"


def test_what_fails_for_all_at_once_is_tried_for_each(
    pipeline: EmotionPipeline, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = emotion_pipeline.embed

    def fails(encoder, requests, *rest, **named):  # type: ignore[no-untyped-def]
        if any("1.wav" in getattr(request.source, "file", "") for request in requests):
            raise PipelineError("a decoding process ended")
        return embed(encoder, requests, *rest, **named)

    monkeypatch.setattr(emotion_pipeline, "embed", fails)
    found = list(pipeline.label_many([folder / "calls" / f"{number}.wav" for number in range(3)]))
    assert [isinstance(one, Failed) for one in found] == [False, True, False]


def test_memory_follows_what_is_taken(pipeline: EmotionPipeline, folder: Path) -> None:
    """A generator of sources is not read ahead further than one group."""
    asked: list[int] = []

    def endless():  # type: ignore[no-untyped-def]
        while True:
            asked.append(1)
            yield folder / "calls" / "0.wav"

    timelines = pipeline.label_many(endless())
    assert isinstance(next(timelines), Timeline)
    assert len(asked) < 60
    timelines.close()  # type: ignore[attr-defined]
    assert list(pipeline.label_many([])) == []


def parquet_rows(out: Path) -> list[dict]:
    import pyarrow.parquet as pq

    found = [row for part in (out / "timelines.parquet").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    return sorted(found, key=lambda row: (row["timeline"], row["turn"]))


def failures(out: Path) -> list[dict]:
    import pyarrow.parquet as pq

    return list(pq.read_table(out / "failed.parquet").to_pylist())


@pytest.fixture
def predict(run: Run, trained: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs the stage with outputs in tmp_path/out."""

    def run_stage(*arguments: str | Path) -> tuple[int, str, str]:
        options = ["--model", str(trained), "--out", str(tmp_path / "out"), "--diarizer", "none", "--device", "cpu"]
        return run(["predict", *options, *map(str, arguments)])

    return run_stage


def test_a_dataset_has_what_the_other_formats_have(predict: Callable, folder: Path, tmp_path: Path) -> None:
    code, out, err = predict(folder / "calls", folder / "corpus", "--formats", "parquet,jsonl")
    assert code == 1 and "4 of 13 recordings could not be labelled" in err.splitlines()[-1]
    assert f"labelled: 9 recordings, 22 turns; in {tmp_path / 'out' / 'timelines.parquet'}" in out
    rows = parquet_rows(tmp_path / "out")
    for name in ("0", "5", "x"):
        written = [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()]
        mine = [row for row in rows if row["timeline"] == name]
        assert [row["turn"] for row in mine] == list(range(1, len(written) + 1))
        for one, other in zip(mine, written, strict=True):
            known = ("utterance", "start", "end", "speaker", "channel", "text", "label")
            assert [one[column] for column in known] == [other[column] for column in known]
            assert {f"p_{name}": value for name, value in other["probabilities"].items()}.items() <= one.items()
            assert {f"w_{name}": value for name, value in other["modality_weights"].items()}.items() <= one.items()
            assert len(one["model"]) == len(one["made_from"]) == 64 and one["audio_encoder"] and one["text_encoder"]
    assert {row["recording"] for row in rows if row["timeline"] == "0"} == {str(folder / "calls" / "0.wav")}
    assert [row["timeline"] for row in failures(tmp_path / "out")] == ["bad", "outside", "silent", "z"]
    assert failures(tmp_path / "out")[0]["recording"] == str(folder / "calls" / "bad.wav")
    assert "is not audio" in failures(tmp_path / "out")[0]["reason"]


def test_what_is_done_is_not_done_again_by_content(predict: Callable, folder: Path, tmp_path: Path) -> None:
    calls, out = folder / "calls", tmp_path / "out"
    for bad in ("bad.wav", "silent.wav", "outside.wav", "outside.srt", "truncated.wav"):
        (calls / bad).unlink()
    assert predict(calls, "--formats", "parquet")[0] == 0
    before, parts = parquet_rows(out), {path.name for path in (out / "timelines.parquet").iterdir()}
    assert len(parts) == 1 and {row["timeline"] for row in before} == set("012345")
    os.utime(calls / "0.wav", (1, 1))
    code, said, err = predict(calls, "--formats", "parquet")
    assert code == 0 and "up to date: 6 of 6" in err and "labelled" not in said
    assert {path.name for path in (out / "timelines.parquet").iterdir()} == parts and failures(out) == []
    (calls / "1.srt").write_text(SRT.replace("yes", "no"))
    (calls / "2.wav").unlink()
    (calls / "3.wav").write_text("damaged since")
    code, _, err = predict(calls, "--formats", "parquet")
    assert code == 1 and "up to date: 3 of 5" in err
    after = parquet_rows(out)
    assert [row["text"] for row in after if row["timeline"] == "1"] == ["no", "oh that dog"]
    unchanged = [row for row in before if row["timeline"] in set("0245")]
    assert [row for row in after if row["timeline"] != "1"] == unchanged, "of 3 the rows are gone, of 2 they stay"
    assert [row["timeline"] for row in failures(out)] == ["3"]
    assert "up to date" not in predict(calls / "0.wav", "--formats", "parquet", "--min_probability", "0.9")[2]
    assert "up to date" not in predict(calls / "0.wav", "--formats", "parquet,csv", "--min_probability", "0.9")[2]
    assert "up to date: 1 of 1" in predict(calls / "0.wav", "--formats", "csv,parquet", "--min_probability", "0.9")[2]


def test_a_run_that_fails_takes_nothing_away(predict: Callable, folder: Path, tmp_path: Path) -> None:
    recordings, out = [folder / "calls" / f"{number}.wav" for number in range(2)], tmp_path / "out"
    assert predict(*recordings, "--formats", "parquet")[0] == 0
    before = parquet_rows(out)
    for wrong in (
        ["--text_encoder", f"hf:{tmp_path / 'nowhere'}"],
        ["--engine", "ray", "--ray.address", "127.0.0.1:1"],
    ):
        assert predict(*recordings, "--formats", "parquet", "--again", "true", *wrong)[0] == 1
        assert parquet_rows(out) == before


def test_rows_that_are_there_twice_go_with_the_next_run(predict: Callable, folder: Path, tmp_path: Path) -> None:
    recordings, out = [folder / "calls" / f"{number}.wav" for number in range(2)], tmp_path / "out"
    assert predict(*recordings, "--formats", "parquet")[0] == 0
    (part,) = (out / "timelines.parquet").iterdir()
    before, twice = parquet_rows(out), part.with_name("part-0.parquet")
    shutil.copy2(part, twice)
    assert len(parquet_rows(out)) == 2 * len(before)
    code, _, err = predict(*recordings, "--formats", "parquet")
    assert code == 0 and "up to date: 2 of 2" in err and parquet_rows(out) == before


def test_an_interrupted_run_keeps_what_is_done(
    predict: Callable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [folder / "calls" / f"{number}.wav" for number in range(6)]
    label_many = EmotionPipeline.label_many

    def interrupted(self: EmotionPipeline, sources):  # type: ignore[no-untyped-def]
        for number, one in enumerate(label_many(self, sources)):
            if number == 4:
                raise KeyboardInterrupt
            yield one

    with monkeypatch.context() as patched:
        patched.setattr(EmotionPipeline, "label_many", interrupted)
        code, _, err = predict(*calls, "--formats", "parquet")
    assert code == 130
    assert {row["timeline"] for row in parquet_rows(tmp_path / "out")} == set("0123")
    code, _, err = predict(*calls, "--formats", "parquet")
    assert code == 0 and "up to date: 4 of 6" in err
    assert {row["timeline"] for row in parquet_rows(tmp_path / "out")} == set("012345")


def test_of_many_no_timeline_is_printed(
    predict: Callable, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FEW", 3)
    (folder / "calls" / "truncated.wav").unlink()
    code, out, err = predict(folder / "calls", "--formats", "jsonl")
    assert code == 1
    assert out.splitlines() == [f"labelled: 6 recordings, 15 turns; in {tmp_path / 'out'}"]
    assert sum("failed: " in line for line in err.splitlines()) == 3 and "turns:" not in err


def test_lists_of_recordings(predict: Callable, folder: Path, tmp_path: Path) -> None:
    import pandas

    calls = folder / "calls"
    shutil.copy(calls / "0.srt", folder / "other.srt")
    rows = [
        {"recording": "calls/3.wav", "transcript": "other.srt", "client": 1},
        {"recording": str(calls / "0.wav"), "transcript": None, "client": 2},
    ]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    pandas.DataFrame(rows).to_parquet(folder / "list.parquet")
    assert predict(folder / "list.jsonl", "--formats", "parquet")[0] == 0
    first = parquet_rows(tmp_path / "out")
    assert [(row["timeline"], row["text"]) for row in first] == [
        ("0", "yes"),
        ("0", "oh that dog"),
        ("calls/3", "yes"),
        ("calls/3", "oh that dog"),
    ]
    code, _, err = predict(folder / "list.parquet", "--formats", "parquet")
    assert code == 0 and "up to date: 2 of 2" in err


def test_recordings_at_addresses(predict: Callable, folder: Path, tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    for name in ("0.wav", "0.srt", "bad.wav", "1.wav"):
        files.pipe(f"/rec/deep/{name}", (folder / "calls" / name).read_bytes())
    code, _, err = predict("memory://rec", "--formats", "parquet,html,eaf")
    assert code == 1, err
    assert "failed: memory://rec/deep/bad.wav: is not audio" in err and "/tmp" not in err.replace(str(tmp_path), "")
    assert predict(folder / "calls" / "0.wav", folder / "calls" / "1.wav", "--formats", "jsonl")[0] == 0
    rows = parquet_rows(tmp_path / "out")
    assert {row["recording"] for row in rows} == {"memory://rec/deep/0.wav", "memory://rec/deep/1.wav"}
    local = [json.loads(line) for line in (tmp_path / "out" / "0.jsonl").read_text().splitlines()]
    for mine, other in zip(rows, local, strict=False):
        assert mine["timeline"] == "deep/0" and mine["text"] == other["text"]
        assert mine["p_sad"] == pytest.approx(other["probabilities"]["sad"], abs=1e-5)
    assert "up to date: 2 of 3" in predict("memory://rec", "--formats", "parquet,html,eaf")[2]
    files.pipe("/rec/deep/0.wav", (folder / "calls" / "4.wav").read_bytes())
    assert "up to date: 1 of 3" in predict("memory://rec", "--formats", "eaf")[2], "another is there under this name"
    files.rm("/rec", recursive=True)
    code, _, err = predict("memory://rec/deep/0.wav")
    assert code == 1 and "memory://rec/deep/0.wav: no such recording" in err.splitlines()[-1]
    secret = "s3://me:hunter2@host/calls"
    for address in (secret, "s3://bucket/calls?X-Amz-Signature=hunter2"):
        code, _, err = predict(address)
        assert code == 1 and "hunter2" not in err and "a login or a ? in it" in err


def test_recordings_in_object_storage(
    predict: Callable, folder: Path, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (folder / "calls").iterdir():
        s3.files.pipe(f"{s3.bucket}/calls/{path.name}", path.read_bytes())
    address = f"s3://{s3.bucket}/calls"
    s3.requests()
    code, _, err = predict(address, "--formats", "parquet")
    asked = s3.requests()
    assert code == 1 and "3 of 10 recordings could not be labelled" in err.splitlines()[-1]
    assert sum(method == "GET" and "list-type" in path for method, path, *_ in asked) <= 3, "a listing, and no more"
    assert predict(folder / "calls", "--formats", "jsonl")[0] == 1
    for row in parquet_rows(tmp_path / "out"):
        lines = (tmp_path / "out" / f"{row['timeline']}.jsonl").read_text().splitlines()
        local = json.loads(lines[row["turn"] - 1])
        assert row["p_sad"] == pytest.approx(local["probabilities"]["sad"], abs=1e-5)
        assert (row["text"], row["label"]) == (local["text"], local["label"])
        assert row["recording"] == f"{address}/{row['timeline']}.wav"
    code, _, err = predict(address, "--formats", "parquet")
    assert code == 1 and "up to date: 7 of 10" in err
    s3.files.pipe(f"{s3.bucket}/list.jsonl", b'{"recording": "calls/0.wav"}\n{"recording": "calls/gone.wav"}\n')
    code, _, err = predict(f"s3://{s3.bucket}/list.jsonl", "--formats", "parquet")
    assert code == 1 and "1 of 2 recordings could not be labelled" in err.splitlines()[-1]
    assert f"failed: {address}/gone.wav: no such recording" in err
    s3.spoil("GET", "calls/5.wav", "403")
    (tmp_path / "again").mkdir()
    code, _, err = predict(f"{address}/5.wav", "--out", tmp_path / "again")
    assert code == 1 and f"{address}/5.wav: cannot be read (" in err.splitlines()[-1]
    assert not any(secret in err for secret in SECRETS.values())
