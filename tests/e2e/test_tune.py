"""Tuned encoders by the commands: made, used like any other, and refused where they have seen what is tested."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lpgnet.pipeline import cli
from lpgnet.pipeline.common import threads
from tests.e2e.workplace import RECORDING, Run, Workplace, fails, read_table, write_config, write_table

EPOCHS = ("--tune.epochs", "2")


def folder_of(workplace: Workplace, modality: str = "audio") -> Path:
    return workplace.folder / "work" / "small" / "tuned" / modality


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def using(workplace: Workplace, modality: str = "audio") -> list[str]:
    return [f"--encoders.{modality}.name", f"hf:{folder_of(workplace, modality)}"]


@pytest.fixture(scope="module")
def made(extracted: Workplace, tmp_path_factory: pytest.TempPathFactory, tiny_encoders: Path) -> Workplace:
    """A workplace with tuned encoders, and the embeddings that they give; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(extracted.folder, folder, dirs_exist_ok=True)
    place = Workplace(folder, folder / "corpus", folder / "x.yaml")
    write_config(place.config, place.corpus, tiny_encoders, folder / "work")
    assert cli.main(place.arguments("prepare")) == 0
    for modality in ("audio", "text"):
        assert cli.main(place.arguments("tune", "--tune.modality", modality, *EPOCHS)) == 0
        assert cli.main(place.arguments("features", *using(place, modality))) == 0
    return place


def test_it_is_an_adapter_with_a_record_and_nothing_pickled(made: Workplace, run: Run) -> None:
    folder = folder_of(made)
    record = json.loads((folder / "tuned.json").read_text())
    assert record["fold"] == "3" and record["modality"] == "audio" and record["settings"]["rank"] == 8
    assert len(record["training"]["contents"]) == record["training"]["score"]["n"] == 50
    assert len(record["development"]["contents"]) == 10
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert not (folder / "checkpoints").exists()
    encoder = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert record["base"]["name"] == f"hf:{encoder}" and not Path(encoder).is_absolute()
    code, out, err = run(made.arguments("tune", *EPOCHS, "--tune.micro_batches", "2", "--tune.checkpointing", "true"))
    assert code == 0 and "tune: up to date" in err
    assert "50 / 10" in out and f"hf:{folder}" in out


def test_it_notes_in_how_many_threads_it_was_made(
    workplace: Workplace, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "COUNT_IS_SET", False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        code, _, err = run(workplace.arguments("tune", *EPOCHS))
    finally:
        torch.set_num_threads(before)
    assert code == 0, err
    assert json.loads((folder_of(workplace) / "environment.json").read_text())["threads"] == 1


def test_train_evaluate_predict_and_export_take_it(
    made: Workplace, run: Run, tmp_path: Path, tiny_encoders: Path
) -> None:
    options = [*using(made), "--run", "tuned"]
    for stage in ("train", "evaluate"):
        assert run(made.arguments(stage, *options))[0] == 0
    folder = made.folder / "work" / "small" / "runs" / "tuned"
    card, metrics = (folder / "best" / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())
    scores = metrics["tuned"]["audio"]
    assert (scores["training"]["n"], scores["development"]["n"]) == (50, 10)
    gap = scores["training"]["weighted_f1"] - scores["development"]["weighted_f1"]
    assert "### Tuned encoders" in card and f"| {gap:.3f} | 50 / 10 |" in card
    assert run(["export", "--model", str(folder), "--out", str(tmp_path / "out"), "--bundle_encoders", "true"])[0] == 0
    hidden = [folder_of(made), tiny_encoders / "audio"]
    for path in hidden:
        path.rename(path.with_name("hidden"))
    try:
        code, _, err = run(["predict", str(RECORDING), "--model", str(tmp_path / "out"), "--out", str(tmp_path / "t")])
    finally:
        for path in hidden:
            path.with_name("hidden").rename(path)
    assert code == 0, err
    assert (tmp_path / "t" / "recording.jsonl").is_file()


def test_a_split_that_tests_on_what_it_has_seen_is_refused(made: Workplace, run: Run) -> None:
    for stage in ("train", "evaluate"):
        arguments = made.arguments(stage, *using(made), "--splits.test", '["1"]')
        err = fails(run, arguments, "was tuned on", "of the test split 1", "encoders.audio.name")
        assert "s1d" in err and "more" in err


def test_a_split_that_develops_on_what_it_has_learned_from_is_refused(made: Workplace, run: Run) -> None:
    arguments = made.arguments("train", *using(made), "--splits.seed", "3", "--run", "other")
    fails(run, arguments, "was tuned on", "of the dev split")


def test_a_table_of_other_folds_is_refused(made: Workplace, run: Run) -> None:
    arguments = made.arguments("crossval", *using(made), "--crossval.seeds", "1")
    fails(run, arguments, "was tuned on", "of the test split 1")


def test_a_search_on_other_folds_is_refused_before_its_first_trial(made: Workplace, run: Run) -> None:
    space = "{training.learning_rate: [1e-3, 1e-2]}"
    arguments = made.arguments("search", "--search.space", space, "--search.folds", "all", *using(made))
    fails(run, arguments, "was tuned on", "of the test split 1")
    assert not any(
        (made.folder / "work" / "small" / "search" / "default" / name).exists() for name in ("results.json", "runs")
    )


def test_what_goes_away_of_a_finished_one_is_written_again_without_tuning(
    made: Workplace, workplace: Workplace, run: Run
) -> None:
    shutil.copytree(folder_of(made), folder_of(workplace))
    whole = tensors(folder_of(made))
    options = (*EPOCHS, "--name", "small")
    for name in ("tuned.json", "adapter_model.safetensors"):
        (folder_of(workplace) / name).unlink()
        code, _, err = run(workplace.arguments("tune", *options))
        assert code == 0 and "went away" in err and "train: " not in err, err
        assert all(torch.equal(values, whole[part]) for part, values in tensors(folder_of(workplace)).items())
    same = ("tuned.json", "best/model.safetensors")
    assert all((folder_of(workplace) / one).read_bytes() == (folder_of(made) / one).read_bytes() for one in same)


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_a_renamed_corpus_is_known_again(made: Workplace, run: Run, tmp_path: Path, modality: str) -> None:
    shutil.copytree(made.corpus, tmp_path / "corpus")
    rows = read_table(tmp_path / "corpus" / "utterances.csv")
    for place, row in enumerate(rows):
        row |= {"utterance_id": f"u{place}", "dialogue_id": row["dialogue_id"] + "x"}
        row |= {"session": "abc"[int(row["session"]) - 1], "audio": row["audio"].replace("s1", "z1")}
        row |= {"speaker": row["speaker"] + "x"}
    write_table(tmp_path / "corpus" / "utterances.csv", rows)
    for path in (tmp_path / "corpus" / "audio").glob("s1*"):
        path.rename(path.with_name(path.name.replace("s1", "z1")))
    config = yaml.safe_load(made.config.read_text())
    config["corpus"]["root"], config["name"] = str(tmp_path / "corpus"), "renamed"
    (tmp_path / "y.yaml").write_text(yaml.safe_dump(config))
    renamed = Workplace(made.folder, tmp_path / "corpus", tmp_path / "y.yaml")
    assert run(renamed.arguments("prepare"))[0] == 0
    assert run(renamed.arguments("features", *using(made, modality)))[0] == 0
    arguments = renamed.arguments("train", *using(made, modality), "--splits.test", "[a]")
    err = fails(run, arguments, "was tuned on", "of the test split a")
    assert "(u" in err


def test_a_killed_tuning_goes_on_to_the_same_numbers(made: Workplace, workplace: Workplace, run: Run) -> None:
    options = ("--tune.epochs", "4", "--tune.dropout", "0.3")
    assert run(workplace.arguments("tune", *options, "--name", "small"))[0] == 0
    whole = tensors(folder_of(workplace))
    shutil.rmtree(folder_of(workplace))
    command = [sys.executable, "-m", "lpgnet.pipeline.tune", *workplace.arguments("tune", *options)[1:]]
    process = subprocess.Popen(command, cwd=workplace.folder, stderr=subprocess.PIPE, text=True)
    checkpoints = folder_of(workplace) / "checkpoints"
    while not list(checkpoints.glob("epoch-0000[1-3].safetensors")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder_of(workplace) / "tuned.json").exists()
    fails(run, workplace.arguments("features", *using(workplace)), "tune", code=1)
    code, _, err = run(workplace.arguments("tune", *options))
    assert code == 0 and "resuming after epoch" in err
    assert all(torch.equal(values, whole[name]) for name, values in tensors(folder_of(workplace)).items())


def test_processes_micro_batches_and_checkpointing_change_nothing(workplace: Workplace, run: Run) -> None:
    options = (*EPOCHS, "--tune.dropout", "0", "--tune.batch_size", "10", "--model.dimensions", "[valence]")
    folder = folder_of(workplace)

    def tuned(*more: str, processes: int = 1) -> dict[str, torch.Tensor]:
        shutil.rmtree(folder, ignore_errors=True)
        done = workplace.launch("tune", *options, *more, processes=processes)
        assert done.returncode == 0, done.stderr
        return tensors(folder)

    alone = tuned()
    assert any(values.abs().max() > 1e-4 for name, values in alone.items() if "lora_B" in name)
    for other in (
        tuned(processes=2),
        tuned("--tune.micro_batches", "3"),
        tuned("--tune.checkpointing", "true"),
    ):
        assert max((values - alone[name]).abs().max() for name, values in other.items()) < 2e-5


@pytest.mark.parametrize(("kind", "learned", "developed"), [("session", 30, 30), ("speaker", 30, 16)])
def test_the_development_data_are_those_of_the_split(
    workplace: Workplace, run: Run, kind: str, learned: int, developed: int
) -> None:
    split = ("--splits.dev", kind)
    assert run(workplace.arguments("tune", "--tune.epochs", "1", "--tune.modality", "text", *split))[0] == 0
    record = json.loads((folder_of(workplace, "text") / "tuned.json").read_text())
    assert [len(record[part]["contents"]) for part in ("training", "development")] == [learned, developed]
    assert run(workplace.arguments("features", *using(workplace, "text")))[0] == 0
    options = (*using(workplace, "text"), "--model.type", "text", "--training.epochs", "1")
    assert run(workplace.arguments("train", *options, *split))[0] == 0


def test_half_precision(workplace: Workplace, run: Run) -> None:
    options = ("--tune.epochs", "1", "--tune.mixed_precision", "bf16", "--tune.modality", "text")
    assert run(workplace.arguments("tune", *options))[0] == 0


WITHOUT_PEFT = """
import sys
sys.modules["peft"] = None
from lpgnet.pipeline.cli import main
sys.exit(main())
"""


def test_tuning_without_the_extra_says_what_to_install(made: Workplace) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", WITHOUT_PEFT, *arguments], capture_output=True, text=True)

    done = command(*made.arguments("tune", "--name", "small", *EPOCHS, "--tune.rank", "2"))
    assert done.returncode == 1 and "pip install 'lpgnet[tune]'" in done.stderr, done.stderr
    assert command(*made.arguments("features", *using(made))).returncode == 0


def test_what_cannot_be_tuned(made: Workplace, run: Run) -> None:
    arguments = made.arguments("tune", "--encoders.audio.name", "librosa:prosody", "--encoders.audio.layers", "last")
    fails(run, arguments, "encoders.audio.name", "librosa:prosody has no layers that can be adapted", code=2)
    fails(run, made.arguments("tune", *using(made)), "is tuned already", code=2)
    arguments = made.arguments("tune", "--tune.targets", "[nothing]", "--work", str(made.folder / "work"))
    fails(run, arguments, "tune.targets", "it has", "q_proj", code=2)


def test_a_table_tunes_once_a_fold(workplace: Workplace, run: Run) -> None:
    options = ["--crossval.models", "[audio, text]", "--crossval.tune", "[audio]", "--crossval.seeds", "1", *EPOCHS]
    code, out, err = run(workplace.arguments("crossval", *options))
    assert code == 0, err
    table = json.loads((workplace.folder / "work" / "small" / "crossval" / "results.json").read_text())
    assert [row["model"] for row in table["rows"]] == ["audio", "audio-tuned", "text"]
    assert [len(row["tuned"].get("audio", [])) for row in table["rows"]] == [0, 3, 0]
    assert "Tuned encoders" in out
    tuned = workplace.folder / "work" / "small" / "tuned"
    folds = {fold: json.loads((tuned / "folds" / fold / "audio" / "tuned.json").read_text())["fold"] for fold in "123"}
    assert folds == {"1": "1", "2": "2", "3": "3"}
    for rank in ("8", "2"):
        assert run(workplace.arguments("tune", *EPOCHS, "--tune.rank", rank))[0] == 0
    _, _, err = run(workplace.arguments("crossval", *options))
    assert err.count("tune: up to date") in (0, 3) and "is now" not in err
    assert [path.name for path in tuned.rglob("*~*")] == ["audio~1"]
