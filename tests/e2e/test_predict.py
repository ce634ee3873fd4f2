"""New recordings to timelines, by the command and in Python: every way in, every format out, and every bad input."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lpgnet.pipeline import cli
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, write_manifest
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from lpgnet.pipeline.recordings.transcripts import read_transcript
from lpgnet.pipeline.reports.timeline import check_formats, output_paths
from tests.e2e.workplace import DEMO, ROOT, Run, Workplace, edit_in_disguise

RECORDING = DEMO / "recording" / "recording.flac"
CONVERSATION = ROOT / "tests" / "data" / "conversation"
CTC = f"hf:{DEMO / 'encoders' / 'audio'}"


@pytest.fixture(scope="module")
def model(extracted: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for three epochs on tiny encoders."""
    folder = tmp_path_factory.mktemp("model")
    assert cli.main(extracted.arguments("train", "--run", str(folder.name))) == 0
    return extracted.folder / "work" / "small" / "runs" / folder.name


@pytest.fixture(scope="module")
def pipeline(model: Path) -> EmotionPipeline:
    return EmotionPipeline.from_pretrained(model, device="cpu")


@pytest.fixture(scope="module")
def short() -> tuple[np.ndarray, int]:
    """The first three turns of the demo recording."""
    waveform, rate = soundfile.read(RECORDING, dtype="float32")
    return waveform[: int(6.4 * rate)], rate


SRT = "1\n00:00:00,290 --> 00:00:02,070\nAnn: yes\n\n2\n00:00:02,370 --> 00:00:04,420\nAnn: oh that dog\n"


@pytest.fixture
def predict(run: Run, model: Path, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs the stage with outputs in tmp_path/out."""

    def run_stage(*arguments: str | Path) -> tuple[int, str, str]:
        return run(["predict", *map(str, arguments), "--model", str(model), "--out", str(tmp_path / "out")])

    return run_stage


def rows_of(folder: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (folder / "out" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def test_all_formats_and_nothing_twice(predict: Callable, tmp_path: Path) -> None:
    code, out, err = predict(RECORDING, "--formats", "all")
    assert code == 0
    assert "turns:" in err
    assert "recording.html" in out
    paths = output_paths(tmp_path / "out", "recording", check_formats("all"))
    made = {path: path.stat().st_mtime_ns for path in paths.values()}
    code, out, err = predict(RECORDING, "--formats", "all")
    assert code == 0
    assert "up to date: 1 of 1" in err
    assert "timeline:" not in out
    assert made == {path: path.stat().st_mtime_ns for path in paths.values()}
    paths["srt"].unlink()
    assert "up to date" not in predict(RECORDING, "--formats", "all")[2], "a missing output is made again"
    assert "up to date" not in predict(RECORDING, "--formats", "all", "--turns.max_turn", "20")[2], (
        "so are other choices"
    )
    assert not list((tmp_path / "out").glob(".*.[0-9]*")), "no temporary file is left"


def test_without_a_transcript(predict: Callable, tmp_path: Path) -> None:
    shutil.copy(RECORDING, tmp_path / "bare.flac")
    code, _, err = predict(tmp_path / "bare.flac")
    assert code == 1
    assert "--asr" in err
    assert "--modalities audio" in err
    code, _, err = predict(tmp_path / "bare.flac", "--modalities", "audio")
    assert code == 0
    assert "by voice activity" in err
    rows = rows_of(tmp_path, "bare")
    assert {row["text"] for row in rows} == {None}
    assert 20 <= len(rows) <= 28
    assert all(row["modality_weights"]["text"] == pytest.approx(0, abs=1e-6) for row in rows)
    code, _, err = predict(tmp_path / "bare.flac", "--asr", CTC)
    assert code == 0
    assert "recognized by" in err
    assert sum(row["text"] is not None for row in rows_of(tmp_path, "bare")) > 15
    code, _, err = predict(tmp_path / "bare.flac", "--asr", CTC, "--language", "de")
    assert code == 2
    assert "key 'language'" in err.splitlines()[-1]


def test_plain_text_is_aligned(predict: Callable, tmp_path: Path) -> None:
    turns = read_transcript(RECORDING.with_suffix(".srt")).turns
    shutil.copy(RECORDING, tmp_path / "plain.flac")
    (tmp_path / "plain.txt").write_text("".join(f"{turn.speaker}: {turn.text}\n" for turn in turns))
    assert predict(tmp_path / "plain.flac")[0] == 1, "an aligner is needed"
    shutil.copytree(DEMO / "encoders" / "audio", tmp_path / "aligner")
    aligner = f"hf:{tmp_path / 'aligner'}"
    code, _, err = predict(tmp_path / "plain.flac", "--aligner", aligner)
    assert code == 0
    assert "forced alignment" in err
    rows = rows_of(tmp_path, "plain")
    assert [row["speaker"] for row in rows] == [turn.speaker for turn in turns]
    assert "up to date" in predict(tmp_path / "plain.flac", "--aligner", aligner)[2]
    edit_in_disguise(tmp_path / "aligner" / "config.json", "{\n ", "{ \n")
    assert "up to date" not in predict(tmp_path / "plain.flac", "--aligner", aligner)[2], "the aligner has changed"
    near = [abs(row["start"] - turn.start) <= 0.2 for row, turn in zip(rows, turns, strict=True)]
    assert np.mean(near) >= 0.9


def test_a_folder_in_which_some_are_bad(predict: Callable, tmp_path: Path, short: tuple[np.ndarray, int]) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    for name in ("a", "c"):
        soundfile.write(folder / f"{name}.wav", *short)
        (folder / f"{name}.srt").write_text(SRT)
    (folder / "b.wav").write_bytes(b"")
    (folder / "d.wav").write_text("no audio at all")
    code, out, err = predict(folder)
    assert code == 1
    assert "2 of 4 recordings could not be labelled" in err.splitlines()[-1]
    failed = [line for line in out.splitlines() if line.startswith("failed:")]
    assert len(failed) == 2
    assert "b.wav" in failed[0]
    assert "is empty" in failed[0]
    assert "d.wav" in failed[1]
    assert len(rows_of(tmp_path, "a")) == len(rows_of(tmp_path, "c")) == 2
    for name in ("b", "d"):
        soundfile.write(folder / f"{name}.wav", *short)
        (folder / f"{name}.srt").write_text(SRT)
    code, _, err = predict(folder)
    assert code == 0
    assert "up to date: 2 of 4" in err
    (folder / "a.srt").write_text(SRT.replace("yes", "no"))
    assert "up to date: 3 of 4" in predict(folder)[2], "another transcript makes one anew"
    edit_in_disguise(folder / "c.srt", "yes", "yep")
    assert "up to date: 3 of 4" in predict(folder)[2], "even one that kept its size and time"
    times = (folder / "b.wav").stat()
    soundfile.write(folder / "b.wav", -short[0], short[1])
    os.utime(folder / "b.wav", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(folder / "a.wav", (1, 1))
    assert "up to date: 3 of 4" in predict(folder)[2], "so does another recording, and another time alone does not"
    assert "up to date: 4 of 4" in predict(folder)[2]


def test_a_manifest(predict: Callable, tmp_path: Path, extracted: Workplace) -> None:
    """A dialogue in one file keeps its times; one in a file per utterance is put end to end."""
    waveform, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(tmp_path / "whole.wav", waveform[: 5 * rate], rate)
    for number in range(2):
        soundfile.write(tmp_path / f"part{number}.wav", waveform[: 2 * rate], rate)
    utterances = (
        Utterance("one", "one-1", "whole.wav", 0.3, 2.0, text="yes", speaker="Ann"),
        Utterance("one", "one-2", "whole.wav", 2.4, 4.4, text="oh that dog", speaker="Ann"),
        *(Utterance("two", f"two-{n}", f"part{n}.wav", text="yes", speaker="Bob") for n in range(2)),
    )
    write_manifest(tmp_path, Manifest(Corpus("c", str(tmp_path), "table", 1), utterances))
    code, _, err = predict(tmp_path / "manifest.jsonl")
    assert code == 0, err
    assert [row["start"] for row in rows_of(tmp_path, "one")] == [0.3, 2.4]
    assert [(row["start"], row["end"]) for row in rows_of(tmp_path, "two")] == [(0.0, 2.0), (2.0, 4.0)]
    assert "<audio" in (tmp_path / "out" / "one.html").read_text()
    assert "<audio" not in (tmp_path / "out" / "two.html").read_text()


def test_in_python(pipeline: EmotionPipeline, short: tuple[np.ndarray, int], tmp_path: Path, model: Path) -> None:
    waveform, rate = short
    soundfile.write(tmp_path / "short.wav", waveform, rate, subtype="FLOAT")
    (tmp_path / "other.srt").write_text(SRT)
    by_path = pipeline(tmp_path / "short.wav", transcript=tmp_path / "other.srt")
    by_array = pipeline(waveform, transcript=tmp_path / "other.srt", sampling_rate=rate)
    assert by_path == by_array
    assert len(by_path) == 2
    with pytest.raises(UsageError, match="sampling_rate"):
        pipeline(waveform)
    with pytest.raises(UsageError, match="unknown setting 'asrr'"):
        EmotionPipeline.from_pretrained(model, asrr="hf:x")


@pytest.mark.parametrize(
    ("rate", "subtype", "suffix"),
    [
        (8000, "PCM_16", "wav"),
        (96_000, "PCM_24", "wav"),
        (44_100, "FLOAT", "wav"),
        (8000, "ALAW", "wav"),
        (44_100, "MPEG_LAYER_III", "mp3"),
        (48_000, "VORBIS", "ogg"),
        (48_000, "OPUS", "ogg"),
        (22_050, "PCM_16", "aiff"),
    ],
)
def test_recordings_of_every_kind(
    pipeline: EmotionPipeline, short: tuple[np.ndarray, int], tmp_path: Path, rate: int, subtype: str, suffix: str
) -> None:
    """The same speech gives the same turns with emotions in any coding, and a report that plays it."""
    import soxr

    from lpgnet.pipeline.reports.config import PageConfig
    from lpgnet.pipeline.reports.page import to_html

    waveform = soxr.resample(short[0], short[1], rate)
    path = tmp_path / f"call.{suffix}"
    soundfile.write(path, np.stack([waveform, waveform], axis=1), rate, subtype=subtype)
    path.with_suffix(".srt").write_text(SRT)
    timeline = pipeline.label_recording(path)
    assert len(timeline.rows) == 2
    assert timeline.seconds == pytest.approx(6.4, abs=0.1)
    assert "data:audio/" in to_html(timeline, tmp_path, PageConfig())


def test_a_video(predict: Callable, short: tuple[np.ndarray, int], tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra 'media' is not installed")
    with av.open(str(tmp_path / "call.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=short[1], layout="mono")
        frame = av.AudioFrame.from_ndarray(short[0][None], format="fltp", layout="mono")
        frame.sample_rate = short[1]
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (tmp_path / "call.srt").write_text(SRT)
    code, _, err = predict(tmp_path / "call.mp4", "--formats", "jsonl,eaf,html")
    assert code == 0, err
    assert len(rows_of(tmp_path, "call")) == 2
    assert "call.mp4" in (tmp_path / "out" / "call.eaf").read_text()


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros(32_000), 16_000)


def noise(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.01, 64_000), 16_000)


BAD_RECORDINGS = {
    "silence": (silence, ["nobody speaks"]),
    "no speech": (noise, ["nobody speaks"]),
    "zero bytes": (lambda path: path.write_bytes(b""), ["is empty"]),
    "text": (lambda path: path.write_text("hello " * 100), ["is not audio"]),
    "no file": (lambda path: None, ["no such recording"]),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 16_000), ["holds no samples"]),
}
if hasattr(os, "mkfifo"):
    BAD_RECORDINGS["pipe"] = (os.mkfifo, ["it is a named pipe, and only regular files are read"])


@pytest.mark.parametrize("kind", BAD_RECORDINGS)
def test_bad_recordings(predict: Callable, tmp_path: Path, kind: str) -> None:
    make, fragments = BAD_RECORDINGS[kind]
    make(tmp_path / "bad.wav")
    code, _, err = predict(tmp_path / "bad.wav", "--modalities", "audio")
    line = err.strip().splitlines()[-1]
    assert code == 1
    assert line.startswith("lpgnet: error: ")
    assert "bad.wav" in line
    assert "unexpected" not in line
    assert all(fragment in line for fragment in fragments)
    assert not list((tmp_path / "out").glob("bad*"))


def cues(*lines: str) -> str:
    return "".join(f"{number}\n{line}\n\n" for number, line in enumerate(lines, start=1))


ONE, TWO = "00:00:00,290 --> 00:00:02,070\nyes", "00:00:02,370 --> 00:00:04,420\noh café"
TRANSCRIPTS: dict[str, tuple[bytes, int, str]] = {
    "overlapping": (cues(ONE, "00:00:01,000 --> 00:00:03,000\nno").encode(), 2, ""),
    "empty cue": (cues(ONE, "00:00:02,370 --> 00:00:04,420\n").encode(), 1, "no words"),
    "unsorted": (cues(TWO, ONE).encode(), 2, "sorted by start"),
    "negative": (cues("-00:00:01,000 --> 00:00:02,070\nhm", ONE).encode(), 1, "negative time"),
    "UTF-16": (cues(ONE, TWO).encode("utf-16"), 2, ""),
    "Latin-1": (cues(ONE, TWO).encode("latin-1"), 2, ""),
    "a byte order mark": (cues(ONE, TWO).encode("utf-8-sig"), 2, ""),
}


@pytest.mark.parametrize("kind", TRANSCRIPTS)
def test_transcripts_in_the_wild(predict: Callable, short: tuple[np.ndarray, int], tmp_path: Path, kind: str) -> None:
    content, n_turns, warning = TRANSCRIPTS[kind]
    soundfile.write(tmp_path / "call.wav", *short)
    (tmp_path / "call.srt").write_bytes(content)
    code, _, err = predict(tmp_path / "call.wav")
    assert code == 0
    assert warning in err
    rows = rows_of(tmp_path, "call")
    assert len(rows) == n_turns
    assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)
    assert all("café" in row["text"] for row in rows if row["text"].startswith("oh"))


def test_a_transcript_longer_than_its_recording(
    predict: Callable, short: tuple[np.ndarray, int], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "call.wav", *short)
    (tmp_path / "call.srt").write_text(cues(ONE, "00:00:05,000 --> 00:01:05,000\nno"))
    code, _, err = predict(tmp_path / "call.wav")
    assert code == 1
    assert "call.wav" in err
    assert "but its file" in err


def test_an_output_folder_that_cannot_be_written(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run(["predict", str(RECORDING), "--model", str(model), "--out", str(tmp_path / "file" / "out")])
    assert code == 1
    assert "cannot be written" in err
    assert "--out" in err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--formats", "textgird"], "did you mean 'textgrid'"),
        (["--vad.release", "0.9"], "must not be above vad.threshold"),
        (["--vad_release", "0.9"], "it is now 'vad.release'"),
        (["--window", "10", "--window_overlap", "9"], "at most half"),
        (["--modalities", "video"], "modalities"),
        (["--turns.min_turn", "-1"], "must not be negative"),
    ],
)
def test_wrong_settings(predict: Callable, arguments: list[str], fragment: str) -> None:
    code, _, err = predict(RECORDING, *arguments)
    assert code == 2
    assert fragment in err


def test_a_lone_half_character_of_json(predict: Callable, short: tuple[np.ndarray, int], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", *short)
    (tmp_path / "call.json").write_text('{"segments": [{"start": 0.3, "end": 2.0, "text": "yes \\ud83d"}]}')
    code, _, err = predict(tmp_path / "call.wav", "--formats", "all")
    assert code == 0, err


@pytest.mark.parametrize("transcript", ["sample.stm", "sample.rttm"])
def test_a_real_conversation(predict: Callable, tmp_path: Path, transcript: str) -> None:
    modalities = ["--modalities", "audio"] if transcript.endswith("rttm") else []
    options = ["--transcript", CONVERSATION / transcript, "--formats", "all", *modalities]
    code, _, err = predict(CONVERSATION / "sample.wav", *options)
    assert code == 0, err
    rows = rows_of(tmp_path, "sample")
    assert len(rows) >= 9
    assert {row["speaker"] for row in rows} in ({"Diane", "Sheila"}, {"speaker90", "speaker91"})
    for form in ("srt", "vtt", "textgrid", "eaf", "rttm"):
        if form == "textgrid" and modalities:
            continue
        path = output_paths(tmp_path / "out", "sample", [form])[form]
        assert len(read_transcript(path, recording="sample").turns) == len(rows)
