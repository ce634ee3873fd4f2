"""The store is looked after by commands: damage is found and mended, what nobody needs goes, and sets are exchanged."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lpgnet.cache import FeatureStore, info
from tests.e2e.workplace import Run, Workplace, fails, read_table


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
    fails(run, workplace.arguments("features", *options), "import them first")
    assert run(["cache", "import", str(file), *store, *manifest])[0] == 0
    for stage in ("features", "train", "evaluate"):
        assert run(workplace.arguments(stage, *options, "--run", "imported"))[0] == 0
    assert run(workplace.arguments("train", "--run", "own"))[0] == 0
    runs = workplace.folder / "work" / "small" / "runs"
    weights = [load_file(runs / name / "best" / "model.safetensors") for name in ("imported", "own")]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_file_with_code_in_it_is_refused(workplace: Workplace, run: Run, store: list[str]) -> None:
    file = workplace.folder / "bad.npz"
    name = read_table(workplace.corpus / "utterances.csv")[0]["utterance_id"]
    np.savez(file, **{name: np.array([print], dtype=object)}, allow_pickle=True)
    manifest = ["--manifest", str(workplace.folder / "work" / "small"), "--modality", "audio"]
    fails(run, ["cache", "import", str(file), *store, *manifest], "bad.npz", "pickled")


def test_a_folder_that_is_no_store(run: Run, tmp_path: Path) -> None:
    fails(run, ["cache", "info", "--store", str(tmp_path)], "holds no embeddings")
