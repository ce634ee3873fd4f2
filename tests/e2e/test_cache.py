"""The store is looked after by commands: damage is found and mended, what nobody needs goes, and sets are exchanged."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from lpgnet.cache import FeatureStore, info
from tests.e2e.workplace import ROOT, Run, Workplace, fails, read_table, write_table


@pytest.fixture
def store(workplace: Workplace) -> list[str]:
    return ["--store", str(workplace.folder / "work" / "store")]


def shards(workplace: Workplace) -> list[Path]:
    return sorted((workplace.folder / "work" / "store").glob("*/*.arrow"))


def test_info_names_the_encoders(workplace: Workplace, run: Run, store: list[str]) -> None:
    code, out, _ = run(["cache", "info", *store])
    assert code == 0 and out.count("hf:") == 2 and " 90 " in out
    seconds = sum(float(row["end"]) - float(row["start"]) for row in read_table(workplace.corpus / "utterances.csv"))
    stores = [FeatureStore(store[1], path.parent.name) for path in Path(store[1]).glob("*/encoder.json")]
    hours = [found for one in stores if (found := info(one).hours) is not None]
    assert hours == [pytest.approx(seconds / 3600, rel=0.03)]


def test_damage_is_found_mended_and_computed_again(workplace: Workplace, run: Run, store: list[str]) -> None:
    assert run(["cache", "verify", *store])[0] == 0
    shard = shards(workplace)[0]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    code, out, _ = run(["cache", "verify", *store])
    assert code == 1 and shard.name in out
    code, out, _ = run(["cache", "repair", *store])
    assert code == 0 and "1 shards set aside" in out and "1 rows must be computed again" in out
    assert run(["cache", "verify", *store])[0] == 0
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed 1 " in out
    assert list(shard.parent.rglob(f"damaged/{shard.name}*"))


def test_what_no_manifest_needs_goes_when_asked(workplace: Workplace, run: Run, store: list[str]) -> None:
    table = workplace.corpus / "utterances.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:-30]))
    assert run(workplace.arguments("prepare"))[0] == 0
    keep = ["--keep-manifest", str(workplace.folder / "work" / "small")]
    code, out, _ = run(["cache", "gc", *store, *keep])
    assert code == 0 and out.count("would be dropped") == 2 and "nothing was changed" in out
    assert run(["cache", "gc", *store, *keep, "--delete"])[0] == 0
    code, out, _ = run(workplace.arguments("features"))
    assert code == 0 and "computed" not in out
    table.write_text("".join(lines))
    assert run(workplace.arguments("prepare"))[0] == 0
    assert "computed 30 " in run(workplace.arguments("features"))[1]


def test_rows_of_recordings_that_cannot_be_read_stay_unless_told(
    workplace: Workplace, run: Run, store: list[str], tmp_path: Path
) -> None:
    keep = ["--keep-manifest", str(workplace.folder / "work" / "small")]
    audios = [row["audio"] for row in read_table(workplace.corpus / "utterances.csv")]
    lost = f"{audios.count(audios[0])} rows"
    shutil.move(workplace.corpus / audios[0], tmp_path)
    code, out, err = run(["cache", "gc", *store, *keep])
    assert code == 0 and f"{lost} would be dropped" in out and "have no key" in err
    code, out, err = run(["cache", "gc", *store, *keep, "--delete"])
    assert code == 1 and "dropped" not in out and "add --drop-unreadable" in err
    assert f"{lost} would be dropped" in run(["cache", "gc", *store, *keep])[1]
    code, out, _ = run(["cache", "gc", *store, *keep, "--delete", "--drop-unreadable"])
    assert code == 0 and f"{lost} dropped" in out


def test_compacting_loses_nothing(workplace: Workplace, run: Run, store: list[str]) -> None:
    assert run(["cache", "compact", *store])[0] == 0
    assert len(shards(workplace)) == 2
    assert "computed" not in run(workplace.arguments("features"))[1]


def test_exported_embeddings_can_be_imported_and_trained_on(workplace: Workplace, run: Run, store: list[str]) -> None:
    manifest = ["--manifest", str(workplace.folder / "work" / "small"), "--modality", "audio"]
    file = workplace.folder / "audio.safetensors"
    assert run(["cache", "export", str(file), *store, *manifest])[0] == 0
    exported = load_file(file)
    assert set(exported) == {row["utterance_id"] for row in read_table(workplace.corpus / "utterances.csv")}
    options = ["--encoders.audio.name", f"imported:{file}"]
    err = fails(run, workplace.arguments("features", *options), "import them first")
    hint = shlex.split(err.strip().splitlines()[-1].partition("import them first: ")[2])
    assert hint == ["lpgnet", "cache", "import", str(file), *store, *manifest]
    assert run(["cache", "import", str(file), *store, *manifest])[0] == 0
    for stage in ("features", "train", "evaluate"):
        assert run(workplace.arguments(stage, *options, "--run", "imported"))[0] == 0
    assert run(workplace.arguments("train", "--run", "own"))[0] == 0
    runs = workplace.folder / "work" / "small" / "runs"
    weights = [load_file(runs / name / "best" / "model.safetensors") for name in ("imported", "own")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_matrix_is_imported_by_its_list_of_ids(workplace: Workplace, run: Run, store: list[str]) -> None:
    ids = [row["utterance_id"] for row in read_table(workplace.corpus / "utterances.csv")]
    file = workplace.folder / "mine.npy"
    np.save(file, np.random.default_rng(0).standard_normal((90, 7)).astype(np.float32))
    file.with_suffix(".txt").write_text("\n".join(ids))
    manifest = ["--manifest", str(workplace.folder / "work" / "small"), "--modality", "audio"]
    options = ["--encoders.audio.name", f"imported:{file}"]
    code, out, _ = run(["cache", "import", str(file), *store, *manifest])
    assert code == 0 and "90 embeddings added" in out
    assert run(workplace.arguments("train", *options, "--run", "mine"))[0] == 0
    file.with_suffix(".txt").write_text("\n".join(ids[::-1]))
    fails(run, workplace.arguments("train", *options), "import them first")


def test_a_file_of_other_utterances_is_refused(workplace: Workplace, run: Run, store: list[str]) -> None:
    file = workplace.folder / "other.npz"
    np.savez(file, Ses01F_impro01_F000=np.ones(5, np.float32))
    manifest = ["--manifest", str(workplace.folder / "work" / "small"), "--modality", "audio"]
    fails(run, ["cache", "import", str(file), *store, *manifest], "none of its 1 rows", "Ses01F_impro01_F000")


def test_what_is_known_of_the_sound_is_kept_counted_and_exchanged(
    workplace: Workplace, run: Run, store: list[str]
) -> None:
    rows = read_table(workplace.corpus / "utterances.csv")
    loud = np.sign(np.sin(np.arange(16000))).astype(np.float32)
    sounds = {"silence": np.zeros(16000), "loud": loud, "click": np.full(40, 0.1)}
    for name, sound in sounds.items():
        soundfile.write(workplace.corpus / f"{name}.wav", sound, 16000, subtype="FLOAT")
        times = {"start": "", "end": ""}
        rows.append(rows[-1] | times | {"utterance_id": name, "audio": f"{name}.wav", "text": name})
    write_table(workplace.corpus / "utterances.csv", rows)
    for stage in ("prepare", "features"):
        assert run(workplace.arguments(stage))[0] == 0
    code, out, _ = run(["cache", "info", *store])
    assert code == 0 and out.count(": 1 silent, 1 clipped, 1 padded\n") == 1 and "unknown" not in out

    manifest = ["--manifest", str(workplace.folder / "work" / "small"), "--modality", "audio"]
    file = workplace.folder / "audio.safetensors"
    assert run(["cache", "export", str(file), *store, *manifest])[0] == 0
    other = ["--store", str(workplace.folder / "other")]
    code, _, err = run(["cache", "import", str(file), *other, *manifest])
    assert code == 0, err
    assert ": 1 silent, 1 clipped, 1 padded\n" in run(["cache", "info", *other])[1]


def test_a_store_of_an_earlier_version(workplace: Workplace, run: Run, store: list[str]) -> None:
    shutil.rmtree(store[1])
    shutil.copytree(ROOT / "tests" / "data" / "store_version_1", store[1])
    code, out, err = run(["cache", "info", *store])
    assert code == 0 and err.count("2 shards are in the format of an earlier version; run `lpgnet cache repair") == 3
    code, out, _ = run(["cache", "verify", *store])
    assert code == 1 and out.count("`lpgnet cache repair` converts it") == 6
    fails(run, ["cache", "compact", *store], "run `lpgnet cache repair --store")
    code, out, _ = run(["cache", "repair", *store])
    assert code == 0 and out.count("2 shards of an earlier version converted") == 3
    assert run(["cache", "verify", *store])[0] == 0 and "with unknown flags" in run(["cache", "info", *store])[1]


def test_a_file_with_code_in_it_is_refused(workplace: Workplace, run: Run, store: list[str]) -> None:
    file = workplace.folder / "bad.npz"
    name = read_table(workplace.corpus / "utterances.csv")[0]["utterance_id"]
    np.savez(file, **{name: np.array([print], dtype=object)}, allow_pickle=True)
    manifest = ["--manifest", str(workplace.folder / "work" / "small"), "--modality", "audio"]
    fails(run, ["cache", "import", str(file), *store, *manifest], "bad.npz", "pickled")


def test_a_folder_that_is_no_store(run: Run, tmp_path: Path) -> None:
    fails(run, ["cache", "info", "--store", str(tmp_path)], "holds no embeddings")
