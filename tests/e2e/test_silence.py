"""Silence around the words, by the commands: measured, trimmed, remembered by the model, and followed by `predict`."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from lpgnet.pipeline import cli
from lpgnet.pipeline.config import Config, parse_config
from lpgnet.pipeline.corpora.manifest import Utterance, read_manifest
from lpgnet.pipeline.embeddings.prepared import Prepared, prepare_modality
from lpgnet.pipeline.embeddings.silence import SPEECH_FILE
from lpgnet.pipeline.labelling.emotion_pipeline import EmotionPipeline
from tests.e2e.test_features import assert_same_embeddings
from tests.e2e.workplace import ROOT, Run, Workplace, fails, read_table, write_config, write_table

TRIM = ("--encoders.audio.trim", "speech")
OLD_MODEL = ROOT / "tests" / "model" / "data" / "v0.1.0" / "lpgnet"


def put_silence_around(corpus: Path) -> None:
    """Make every utterance a clip with a second of silence before and after it, those of a dialogue in one file."""
    rows = read_table(corpus / "utterances.csv")
    for audio in dict.fromkeys(row["audio"] for row in rows):
        sound, rate = soundfile.read(corpus / audio, dtype="float32")
        parts, length = [], 0
        for row in [row for row in rows if row["audio"] == audio]:
            words = sound[round(float(row["start"]) * rate) : round(float(row["end"]) * rate)]
            parts.append(np.pad(words, rate))
            row["start"], row["end"] = str(length / rate), str((length + len(parts[-1])) / rate)
            length += len(parts[-1])
        soundfile.write(corpus / audio, np.concatenate(parts), rate)
    write_table(corpus / "utterances.csv", rows)


@pytest.fixture(scope="module")
def spacious(tmp_path_factory: pytest.TempPathFactory, extracted: Workplace, tiny_encoders: Path) -> Workplace:
    """A workplace whose utterances are mostly silence, with embeddings of them whole and trimmed."""
    folder = tmp_path_factory.mktemp("spacious")
    shutil.copytree(extracted.corpus, folder / "corpus")
    put_silence_around(folder / "corpus")
    place = Workplace(folder, folder / "corpus", folder / "x.yaml")
    write_config(place.config, place.corpus, tiny_encoders, folder / "work")
    for stage in (["prepare"], ["features"], ["features", *TRIM]):
        assert cli.main(place.arguments(*stage)) == 0
    return place


@pytest.fixture(scope="module", params=["none", "speech"])
def trained(request: pytest.FixtureRequest, spacious: Workplace) -> tuple[str, Path]:
    """How the utterances were trimmed, and the run that was trained on them."""
    options = ["--encoders.audio.trim", request.param, "--run", request.param]
    assert cli.main(spacious.arguments("train", *options)) == 0
    return request.param, spacious.folder / "work" / "small" / "runs" / request.param


def prepared(place: Workplace, trim: str) -> Prepared:
    arguments = place.arguments("features", "--encoders.audio.trim", trim)[1:]
    config = parse_config("features", arguments, Config)
    return prepare_modality(config, read_manifest(config.folder), "audio")


def test_trimming_changes_the_keys_and_not_the_encoder(spacious: Workplace, run: Run) -> None:
    whole, cut = prepared(spacious, "none"), prepared(spacious, "speech")
    assert whole.spec.fingerprint == cut.spec.fingerprint
    assert not {one.key for one in whole.plan.requests} & {one.key for one in cut.plan.requests}
    for trim in ("none", "speech"):
        code, out, _ = run(spacious.arguments("features", "--encoders.audio.trim", trim))
        assert code == 0 and "computed" not in out and "not speech" not in out


def test_the_features_stage_tells_how_much_is_not_speech(spacious: Workplace, run: Run) -> None:
    (spacious.folder / "work" / "small" / SPEECH_FILE).unlink()
    code, out, _ = run(spacious.arguments("features"))
    assert code == 0 and "computed" not in out and "searched 0.0" in out
    line = next(line for line in out.splitlines() if "not speech: " in line)
    lead = float(line.split()[2])
    assert lead == pytest.approx(1.0, abs=0.15)


def test_a_model_remembers_what_it_heard(spacious: Workplace, trained: tuple[str, Path], run: Run) -> None:
    trim, folder = trained
    config = json.loads((folder / "best" / "config.json").read_text())
    assert config["audio_trim"] == trim
    expected = {"none": 1.0, "speech": 0.1}[trim]
    assert config["audio_silence"]["lead"] == pytest.approx(expected, abs=0.15)
    assert config["audio_silence"]["trail"] == pytest.approx(expected, abs=0.15)
    options = ["--encoders.audio.trim", trim, "--run", trim]
    code, _, err = run(spacious.arguments("train", *options))
    assert code == 0 and "up to date" in err
    assert run(spacious.arguments("evaluate", *options))[0] == 0
    other = {"none": "speech", "speech": "none"}[trim]
    fails(run, spacious.arguments("evaluate", "--encoders.audio.trim", other, "--run", trim), "other data")


def test_predict_hears_what_the_features_stage_heard(
    spacious: Workplace, trained: tuple[str, Path], tmp_path: Path
) -> None:
    """A recording with the clips' borders as its transcript: the same keys, so the same embeddings."""
    trim, folder = trained
    rows = read_table(spacious.corpus / "utterances.csv")
    rows = [row for row in rows if row["audio"] == rows[0]["audio"]]
    pipeline = EmotionPipeline.from_pretrained(folder, device="cpu")
    turns = [
        Utterance("d", row["utterance_id"], rows[0]["audio"], float(row["start"]), float(row["end"])) for row in rows
    ]
    heard = pipeline._heard(turns, str(spacious.corpus), pads=True)
    stored = {one.utterance_id: one.key for one in prepared(spacious, trim).plan.requests}
    assert {one.utterance_id: one.key for one in heard.plan.requests} == {
        turn.utterance_id: stored[turn.utterance_id] for turn in turns
    }


def test_turns_that_are_found_are_padded_or_trimmed(
    spacious: Workplace, trained: tuple[str, Path], run: Run, tmp_path: Path
) -> None:
    trim, folder = trained
    recording = next((spacious.corpus / "audio").glob("*.flac"))
    options = ["--model", str(folder), "--out", str(tmp_path), "--modalities", "audio", "--formats", "jsonl"]
    code, _, err = run(["predict", str(recording), *options])
    assert code == 0
    said = {"none": "padded: turns are heard with ", "speech": "trimmed: turns are cut to their speech"}[trim]
    assert err.count(said) == 1
    # The times that are shown stay those of the words.
    rows = [json.loads(line) for line in (tmp_path / f"{recording.stem}.jsonl").read_text().splitlines()]
    assert all(after["start"] - before["end"] > 1.0 for before, after in pairwise(rows))


def test_dialogues_of_a_manifest_are_heard_as_in_evaluation(
    spacious: Workplace, trained: tuple[str, Path], run: Run, tmp_path: Path
) -> None:
    trim, folder = trained
    manifest = spacious.folder / "work" / "small"
    code, _, err = run(["predict", str(manifest), "--model", str(folder), "--out", str(tmp_path), "--formats", "csv"])
    assert code == 0 and "padded" not in err and ("trimmed" in err) is (trim == "speech")


def test_a_model_of_before_hears_turns_as_they_are() -> None:
    from lpgnet.model import load_model

    config = load_model(OLD_MODEL).config
    assert (config.audio_trim, config.audio_silence) == ("none", {})


def test_trimming_needs_the_features_stage(spacious: Workplace, run: Run, tmp_path: Path) -> None:
    speech = spacious.folder / "work" / "small" / SPEECH_FILE
    speech.rename(tmp_path / SPEECH_FILE)
    fails(run, spacious.arguments("train", *TRIM, "--run", "new"), "run the features stage")
    shutil.copy(tmp_path / SPEECH_FILE, speech)


def test_imported_embeddings_cannot_be_trimmed(spacious: Workplace, run: Run) -> None:
    options = ["--encoders.audio.name", "imported:a.npz", *TRIM]
    fails(run, spacious.arguments("features", *options), "encoders.audio.trim", code=2)


def test_the_store_keeps_and_gives_trimmed_rows(spacious: Workplace, run: Run, tmp_path: Path) -> None:
    folder, store = spacious.folder / "work" / "small", ["--store", str(spacious.folder / "work" / "store")]
    code, out, _ = run(["cache", "gc", *store, "--keep-manifest", str(folder)])
    assert code == 0 and "0 rows would be dropped" in out and " 180 kept" in out
    for trim in ("none", "speech"):
        assert run(spacious.arguments("features", "--encoders.audio.trim", trim))[0] == 0
        file = tmp_path / f"{trim}.safetensors"
        export = ["cache", "export", str(file), *store, "--manifest", str(folder), "--modality", "audio"]
        assert run(export)[0] == 0
    whole, cut = load_file(tmp_path / "none.safetensors"), load_file(tmp_path / "speech.safetensors")
    assert len(whole) == 90 and whole.keys() == cut.keys()
    assert not any(np.array_equal(whole[name], cut[name]) for name in whole)


def test_two_processes_search_and_trim_as_one_does(spacious: Workplace) -> None:
    store = spacious.folder / "two"
    work = spacious.folder / "work" / "small"
    one = json.loads((work / SPEECH_FILE).read_text())
    (work / SPEECH_FILE).unlink()
    done = spacious.launch("features", *TRIM, "--features.store", str(store), processes=2)
    assert done.returncode == 0, done.stderr
    assert json.loads((work / SPEECH_FILE).read_text()) == one
    alone = spacious.folder / "alone"
    assert cli.main(spacious.arguments("features", *TRIM, "--features.store", str(alone))) == 0
    assert_same_embeddings(alone, store)
