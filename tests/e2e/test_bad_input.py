"""Bad input gets one clear line and exit code 1, and what was done is kept."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.e2e.workplace import DEMO, Run, Workplace, fails, read_table, write_table

RECORDING = DEMO / "recording" / "recording.flac"


def edit(workplace: Workplace, row: int, **cells: str) -> str:
    """Change cells of one row of the corpus's table; returns its utterance id."""
    path = workplace.corpus / "utterances.csv"
    rows = read_table(path)
    rows[row] |= cells
    write_table(path, rows)
    return rows[row]["utterance_id"]


def damage_audio(workplace: Workplace, damage: Callable[[Path], object]) -> list[str]:
    """Damage the first dialogue's recording; returns the ids of its utterances."""
    rows = read_table(workplace.corpus / "utterances.csv")
    damage(workplace.corpus / rows[0]["audio"])
    return [row["utterance_id"] for row in rows if row["audio"] == rows[0]["audio"]]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


DAMAGES = {
    "missing": (lambda path: path.unlink(), "no such audio file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "truncated": (truncate, "truncated"),
    "no audio": (lambda path: path.write_text("words " * 999), "is not audio"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_bad_file_is_reported_with_its_utterances_and_can_be_skipped(
    workplace: Workplace, run: Run, kind: str
) -> None:
    damage, message = DAMAGES[kind]
    bad = damage_audio(workplace, damage)
    err = fails(run, workplace.arguments("features"), message, "--features.on_error skip")
    assert sum(f"bad utterance {name}:" in err for name in bad) >= (1 if kind == "truncated" else len(bad))
    fails(run, workplace.arguments("train"), "run the features stage") if kind == "truncated" else None
    assert run(workplace.arguments("features", "--features.on_error", "skip"))[0] == 0
    assert run(workplace.arguments("train"))[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_hostile_rows_are_their_own_problem_alone(workplace: Workplace, run: Run, tmp_path: Path, workers: str) -> None:
    first = read_table(workplace.corpus / "utterances.csv")[0]["audio"]
    bad = dict.fromkeys(damage_audio(workplace, replace_by_pipe), "named pipe")
    others = [n for n, row in enumerate(read_table(workplace.corpus / "utterances.csv")) if row["audio"] != first]
    bad[edit(workplace, others[0], audio="audio/a\0b.wav")] = "no file can have this name"
    bad[edit(workplace, others[1], start="1e305", end="")] = "no time in a recording"
    bad[edit(workplace, others[2], audio="audio/memory.wav")] = "memory.wav"
    bad[edit(workplace, others[3], audio="audio")] = "it is a folder"
    (workplace.corpus / "audio" / "memory.wav").symlink_to("/proc/self/mem")
    assert run(workplace.arguments("prepare"))[0] == 0
    options = ["--features.store", str(tmp_path / "another"), "--features.workers", workers]
    err = fails(run, workplace.arguments("features", *options), f"{len(bad)} utterances could not be embedded")
    for name, message in bad.items():
        assert any(f"bad utterance {name}: " in line and message in line for line in err.splitlines()), (name, message)
    skip = [*options, "--features.on_error", "skip"]
    code, out, _ = run(workplace.arguments("features", *skip))
    assert code == 0 and "computed" not in out, "the others were cached"
    assert run(workplace.arguments("train", *skip))[0] == 0


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_to_another_disk_are_followed_for_a_corpus_of_ones_own(
    workplace: Workplace, run: Run, tmp_path: Path
) -> None:
    (workplace.corpus / "audio").rename(tmp_path / "disk")
    (workplace.corpus / "audio").symlink_to(tmp_path / "disk")
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out
    refusal = ["a link leads out of", "corpus.follow_links"]
    fails(run, workplace.arguments("features", "--corpus.follow_links", "false"), "bad utterance", *refusal)
    assert run(workplace.arguments("train"))[0] == 0
    model = str(workplace.folder / "work" / "small" / "runs" / "default")
    manifest = str(workplace.folder / "work" / "small")
    for modalities in ("all", "text"):
        predict = ["predict", manifest, "--model", model, "--out", str(tmp_path / "out"), "--modalities", modalities]
        code, _, err = run(predict)
        assert code == 1 and err.count("a link leads out of") >= 9
    table = workplace.corpus / "utterances.csv"
    table.rename(tmp_path / "elsewhere.csv")
    table.symlink_to(tmp_path / "elsewhere.csv")
    assert run(workplace.arguments("prepare"))[0] == 0
    fails(run, workplace.arguments("prepare", "--corpus.follow_links", "false"), "utterances.csv", *refusal)


def test_the_good_utterances_of_a_bad_corpus_are_cached(workplace: Workplace, run: Run, tmp_path: Path) -> None:
    bad = set(damage_audio(workplace, lambda path: path.write_bytes(b"")))
    store = ["--features.store", str(tmp_path / "another")]
    fails(run, workplace.arguments("features", *store), f"{len(bad)} utterances could not be embedded")
    code, out, _ = run(workplace.arguments("features", *store, "--features.on_error", "skip"))
    assert code == 0 and "computed" not in out


def test_samples_that_are_no_numbers(workplace: Workplace, run: Run) -> None:
    def poison(path: Path) -> None:
        waveform, rate = soundfile.read(path)
        waveform[100] = np.nan
        path.unlink()
        soundfile.write(path.with_suffix(".wav"), waveform, rate, subtype="FLOAT")

    names = damage_audio(workplace, poison)
    rows = read_table(workplace.corpus / "utterances.csv")
    first = float(rows[0]["start"])
    for row in rows[: len(names)]:
        row["audio"] = row["audio"].replace(".flac", ".wav")
    rows[0]["start"] = "0"
    write_table(workplace.corpus / "utterances.csv", rows)
    assert first >= 0 and run(workplace.arguments("prepare"))[0] == 0
    fails(run, workplace.arguments("features"), f"bad utterance {names[0]}:", "NaN or infinite")


@pytest.mark.parametrize(
    ("stage", "cells", "fragments"),
    [
        ("prepare", {"start": "5.0", "end": "4.0"}, ["utterances.csv", "ends at 4.0", "starts at 5.0"]),
        ("prepare", {"utterance_id": ""}, ["utterances.csv", "utterance_id"]),
        ("prepare", {"audio": "../../secret.wav"}, ["utterances.csv", "leaves the corpus root"]),
        ("prepare", {"votes.ang": "-1"}, ["utterances.csv", "line 5", "'votes.ang'", "-1"]),
        ("prepare", {"valence": "9"}, ["utterances.csv", "line 5", "valence 9 is not between 1 and 5"]),
        ("features", {"start": "0.1", "end": "9999"}, ["but its file", "9999"]),
        ("features", {"text": ""}, ["its text is empty"]),
        (
            "train",
            {"label": "hapy"},
            ["manifest.jsonl", "label code 'hapy'", "did you mean 'hap'?", "map it to a class, or to null"],
        ),
    ],
)
def test_a_bad_row_is_named(
    workplace: Workplace, run: Run, stage: str, cells: dict[str, str], fragments: list[str]
) -> None:
    name = edit(workplace, 3, **cells)
    stages = ["prepare", "features", "train"]
    for earlier in stages[: stages.index(stage)]:
        assert run(workplace.arguments(earlier))[0] == 0
    fails(run, workplace.arguments(stage), *fragments, *([name] if stage != "prepare" else []))


def test_a_vote_for_a_code_that_the_config_does_not_know(workplace: Workplace, run: Run) -> None:
    rows = read_table(workplace.corpus / "utterances.csv")
    for row in rows:
        row["votes.angg"] = row.pop("votes.ang")
    write_table(workplace.corpus / "utterances.csv", rows)
    for stage in ("prepare", "features"):
        assert run(workplace.arguments(stage))[0] == 0
    fails(run, workplace.arguments("train"), "manifest.jsonl", "has votes for 'angg'", "did you mean 'ang'?")


def test_a_second_use_of_an_utterance_id(workplace: Workplace, run: Run) -> None:
    rows = read_table(workplace.corpus / "utterances.csv")
    edit(workplace, 3, utterance_id=rows[1]["utterance_id"])
    fails(run, workplace.arguments("prepare"), rows[1]["utterance_id"], "unique")


def test_a_table_in_the_wrong_encoding(workplace: Workplace, run: Run) -> None:
    edit(workplace, 3, text="café")
    path = workplace.corpus / "utterances.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    fails(run, workplace.arguments("prepare"), "utterances.csv", "UTF-8")


def test_a_manifest_in_the_wrong_encoding(workplace: Workplace, run: Run) -> None:
    path = workplace.folder / "work" / "small" / "manifest.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"text": "', b'"text": "\xe9'))
    fails(run, workplace.arguments("features"), "manifest.jsonl", "is not UTF-8")


def test_a_checkpoint_of_other_encoders(workplace: Workplace, run: Run) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    other = ["--encoders.text.pooling", "max"]
    assert run(workplace.arguments("features", *other))[0] == 0
    fails(run, workplace.arguments("evaluate", *other), "was trained on text embeddings from", "train again")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--splits.test", "['1']"], "splits and fold"),
        (["--labels", "{ang: happy, hap: angry, neu: neutral, sad: sad}"], "labels"),
        (["--training.drop_unlabelled", "true"], "training.drop_unlabelled"),
    ],
)
def test_a_run_is_measured_on_its_own_split_and_labels(
    workplace: Workplace, run: Run, options: list[str], what: str
) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    fails(run, workplace.arguments("evaluate", *options), f"was trained with other {what}", "train it again")


def test_a_file_that_went_away_is_no_missing_modality(workplace: Workplace, run: Run) -> None:
    names = damage_audio(workplace, lambda path: path.unlink())
    fails(run, workplace.arguments("train"), f"the audio of {len(names)} utterances cannot be used", names[0])


def test_a_timeline_never_replaces_the_transcript(workplace: Workplace, run: Run, tmp_path: Path) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    for name in ("recording.flac", "recording.srt"):
        (tmp_path / name).write_bytes((RECORDING.parent / name).read_bytes())
    words = (tmp_path / "recording.srt").read_text()
    model = str(workplace.folder / "work" / "small" / "runs" / "default")
    arguments = ["predict", str(tmp_path / "recording.flac"), "--model", model, "--out", str(tmp_path)]
    fails(run, [*arguments, "--formats", "srt"], "would be overwritten")
    assert (tmp_path / "recording.srt").read_text() == words


def test_an_encoder_that_changed_since_is_refused(workplace: Workplace, run: Run, tmp_path: Path) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    model = workplace.folder / "work" / "small" / "runs" / "default"
    arguments = ["predict", str(RECORDING), "--model", str(model), "--out", str(tmp_path / "out")]
    demo = f"hf:{DEMO / 'encoders' / 'text'}"
    fails(run, [*arguments, "--text_encoder", demo], "is not the text encoder that the model was trained with")


def test_stages_out_of_order(workplace: Workplace, run: Run) -> None:
    fails(run, workplace.arguments("train", "--name", "new"), "manifest.jsonl", "run the stage that writes it first")
    fails(run, workplace.arguments("train", "--encoders.text.pooling", "max"), "run the features stage")
    fails(run, workplace.arguments("evaluate", "--run", "none"), "has no trained model yet")


def test_a_modality_without_encoder(workplace: Workplace, run: Run) -> None:
    fails(run, workplace.arguments("train", "--encoders.text.name", "null"), "encoders.text.name is null", code=2)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["trian"], ["unknown stage 'trian'; did you mean 'train'?"]),
        (["train", "--config", "nowhere.yaml"], ["nowhere.yaml: no such config file"]),
        (["predict"], ["give at least one recording and --model"]),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], fragments: list[str]) -> None:
    fails(run, arguments, *fragments, code=2)


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transcripts")
    (folder / "empty.srt").write_text("")
    (folder / "late.csv").write_text("start,end,text\n1.0,2.0,hello\n3.0,9999.0,bye\n")
    (folder / "lines.txt").write_text("hello\nbye\n")
    (folder / "what.docx").write_text("hello")
    return folder


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        ("empty.srt", ["empty.srt"]),
        ("late.csv", ["recording.flac", "turn 2 ends at 9999"]),
        ("lines.txt", ["lines.txt", "no times"]),
        ("what.docx", ["what.docx", "known"]),
        ("gone.srt", ["gone.srt"]),
    ],
)
def test_bad_transcripts(
    workplace: Workplace, run: Run, transcripts: Path, tmp_path: Path, name: str, fragments: list[str]
) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    model = workplace.folder / "work" / "small" / "runs" / "default"
    arguments = ["predict", str(RECORDING), "--model", str(model), "--transcript", str(transcripts / name)]
    fails(run, [*arguments, "--out", str(tmp_path / "out")], *fragments)


def test_a_folder_that_is_no_model(run: Run, tmp_path: Path) -> None:
    fails(run, ["predict", str(RECORDING), "--model", str(tmp_path)], "has no trained model")


def test_nothing_done_is_lost_by_an_error(workplace: Workplace, run: Run) -> None:
    """A corpus that is broken and mended again finds every embedding where it was."""
    path = workplace.corpus / "utterances.csv"
    whole = path.read_bytes()
    edit(workplace, 0, text="")
    assert run(workplace.arguments("prepare"))[0] == 0
    fails(run, workplace.arguments("features"), "its text is empty")
    path.write_bytes(whole)
    assert run(workplace.arguments("prepare"))[0] == 0
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out
    summary = json.loads((workplace.folder / "work" / "small" / "features.json").read_text())
    assert summary["text"]["utterances"] == len(read_table(path))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not text")
def test_a_name_that_is_not_text(workplace: Workplace, run: Run, tmp_path: Path) -> None:
    assert run(workplace.arguments("train"))[0] == 0
    recording = tmp_path / os.fsdecode(b"caf\xe9.flac")
    for suffix in (".flac", ".srt"):
        recording.with_suffix(suffix).write_bytes(RECORDING.with_suffix(suffix).read_bytes())
    model = str(workplace.folder / "work" / "small" / "runs" / "default")
    code, _, err = run(
        ["predict", str(recording), "--model", model, "--out", str(tmp_path / "out"), "--formats", "all"]
    )
    assert code == 0, err
    assert json.loads((tmp_path / "out" / recording.with_suffix(".jsonl").name).read_text().splitlines()[0])


def test_folders_that_cannot_be_made(workplace: Workplace, run: Run) -> None:
    """A file stands where a folder should be: refused to the administrator too."""
    fails(run, workplace.arguments("prepare", "--work", str(workplace.config)), "x.yaml", "Not a directory")
    fails(run, workplace.arguments("prepare", "--name", "n" * 300), "File name too long", "choose a shorter name")


def test_names_of_columns_are_text(workplace: Workplace, run: Run) -> None:
    options = ["--corpus.options", "{table: utterances.csv, columns: {text: 5}}"]
    fails(run, workplace.arguments("prepare", *options), "corpus.options.columns.text", "not 5", code=2)
