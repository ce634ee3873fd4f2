"""Corpus and store in object storage: what the commands compute, train on and report is what they do with folders."""

from pathlib import Path

import numpy as np
import pytest

from lpgnet.cache import FeatureStore
from tests.e2e.workplace import Run, Workplace, fails
from tests.s3 import S3, SECRETS


@pytest.fixture
def remote(workplace: Workplace, s3: S3) -> list[str]:
    """Options for a corpus, and an empty store, at an address."""
    for path in workplace.corpus.rglob("*"):
        if path.is_file():
            s3.files.put_file(str(path), f"{s3.bucket}/corpus/{path.relative_to(workplace.corpus)}")
    folder = str(workplace.folder / "copies")
    store = ["--features.store", s3.root, "--features.cache_folder", folder]
    return ["--corpus.root", f"s3://{s3.bucket}/corpus", "--name", "remote", *store]


def check_no_secret(folder: Path, *printed: str) -> None:
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for secret in SECRETS.values():
        assert not any(secret in text for text in printed)
        assert not any(secret.encode() in content for content in written)


def test_from_address_to_address(workplace: Workplace, s3: S3, run: Run, remote: list[str]) -> None:
    printed = list[str]()

    def good(arguments: list[str]) -> str:
        code, out, err = run(arguments)
        assert code == 0, err
        printed.extend((out, err))
        return out

    good(workplace.arguments("prepare", *remote))
    assert good(workplace.arguments("features", *remote)).count("computed 90 ") == 2
    for folder in (workplace.folder / "work" / "store").glob("*/encoder.json"):
        local = FeatureStore(folder.parents[1], folder.parent.name)
        stored = FeatureStore(s3.root, folder.parent.name)
        assert list(stored.keys()) == list(local.keys()) and stored.description == local.description
        for here, there in zip(local.read(local.keys()), stored.read(local.keys()), strict=True):
            assert (here.n_frames, here.flags) == (there.n_frames, there.flags)
            assert np.allclose(here.values, there.values, rtol=0, atol=1e-5)
    more = ["--features.cache_gigabytes", "1"]
    assert "computed" not in good(workplace.arguments("features", *remote, *more)), "no key depends on the cache"
    for stage in ("train", "evaluate", "crossval"):
        good(workplace.arguments(stage, *remote, "--training.epochs", "1"))
    cache = ["--store", s3.root, "--cache_folder", str(workplace.folder / "copies")]
    manifest = ["--manifest", str(workplace.folder / "work" / "remote")]
    assert good(["cache", "info", *cache]).count("hf:") == 2
    for action in ("verify", "repair", "compact"):
        good(["cache", action, *cache])
    assert "0 rows would be dropped" in good(["cache", "gc", *cache, "--keep-manifest", manifest[1]])
    file = str(workplace.folder / "text.safetensors")
    good(["cache", "export", file, *cache, *manifest, "--modality", "text"])
    good(["cache", "import", file, *cache, *manifest, "--modality", "text"])
    check_no_secret(workplace.folder, *printed)


def test_push_and_pull(workplace: Workplace, s3: S3, run: Run) -> None:
    local = str(workplace.folder / "work" / "store")
    for _ in range(2):
        code, out, _ = run(["cache", "push", s3.root, "--store", local])
        assert code == 0
    assert out.count(" 0 shards copied (0.0 MB), 1 were there already") == 2
    code, out, err = run(["cache", "pull", s3.root, "--store", str(workplace.folder / "copy")])
    assert code == 0 and out.count(" 1 shards copied") == 2, err
    assert run(["cache", "verify", "--store", str(workplace.folder / "copy")])[0] == 0
    (cut,) = list((workplace.folder / "copy").glob("*/*.arrow"))[:1]
    cut.write_bytes(cut.read_bytes()[:1000])
    code, out, _ = run(["cache", "push", s3.root + "/again", "--store", str(workplace.folder / "copy")])
    assert code == 1 and cut.name in out, "a shard that cannot be opened is told, and is not said to be there"
    (name,) = s3.files.glob(f"{s3.bucket}/stores/*/*.arrow")[:1]
    s3.files.pipe_file(name, s3.files.cat_file(name)[:-8] + b"12345678")
    code, out, _ = run(["cache", "pull", s3.root, "--store", str(workplace.folder / "another")])
    assert code == 1 and name.rpartition("/")[2] in out and "repair that store" in out
    code, out, _ = run(["cache", "verify", "--store", s3.root])
    assert code == 1 and name.rpartition("/")[2] in out


def test_what_was_computed_is_kept_when_the_address_goes_away(
    workplace: Workplace, s3: S3, run: Run, remote: list[str]
) -> None:
    assert run(workplace.arguments("prepare", *remote))[0] == 0
    s3.spoil("PUT", ".arrow", "hang up", after=1)
    err = fails(run, workplace.arguments("features", *remote), "cannot write to s3://", "run again")
    s3.heal()
    code, out, more = run(workplace.arguments("features", *remote))
    assert code == 0 and out.count("computed 90 ") == 1, "one modality was there already"
    check_no_secret(workplace.folder, err, out, more)


def test_errors_of_addresses(workplace: Workplace, s3: S3, run: Run, remote: list[str]) -> None:
    login = f"s3://{SECRETS['AWS_ACCESS_KEY_ID']}:{SECRETS['AWS_SECRET_ACCESS_KEY']}@{s3.bucket}/x"
    for key in ("features.store", "corpus.root"):
        err = fails(run, workplace.arguments("prepare", *remote, f"--{key}", login), f"key '{key}'", code=2)
        check_no_secret(workplace.folder, err)
    for option in (["info", "--store", login], ["push", login], ["pull", login]):
        check_no_secret(workplace.folder, fails(run, ["cache", *option], "environment", code=2))
    fails(run, ["cache", "pull", "s3://nobucket/x"], "holds no embeddings")
    s3.spoil("GET", "stores", "403")
    fails(run, ["cache", "info", "--store", s3.root], "cannot list s3://")


@pytest.mark.parametrize("how", ["403", "500", "hang up"])
def test_a_corpus_at_an_address_that_does_not_answer(
    workplace: Workplace, s3: S3, run: Run, remote: list[str], how: str
) -> None:
    s3.spoil("GET", "corpus", how)
    fails(run, workplace.arguments("prepare", *remote), f"s3://{s3.bucket}/corpus", "check the address")
    s3.heal()
    s3.spoil("GET", "utterances.csv", how)
    err = fails(run, workplace.arguments("prepare", *remote), "address" if how == "hang up" else "utterances.csv")
    assert "None" not in err


def test_what_a_driver_says_is_repeated_without_secrets(
    workplace: Workplace, s3: S3, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DriverError(Exception):
        __module__ = "botocore.exceptions"

    def refuse(*_: object, **__: object) -> None:
        raise DriverError(" ".join(SECRETS.values()))

    monkeypatch.setattr("lpgnet.pipeline.prepare.read_corpus", refuse)
    check_no_secret(workplace.folder, fails(run, workplace.arguments("prepare", "--name", "x"), "*** *** ***"))


def fetched(s3: S3) -> list[str]:
    """The recordings of which anything was downloaded since this was asked last."""
    asked = {path.partition("?")[0] for method, path, *_ in s3.requests() if method == "GET" and "/corpus/" in path}
    return sorted(path.rpartition("/corpus/")[2] for path in asked if path.endswith((".wav", ".flac")))


def test_no_stage_downloads_a_recording_that_it_knows(
    workplace: Workplace, s3: S3, run: Run, remote: list[str]
) -> None:
    def good(stage: str, *more: str) -> str:
        code, out, err = run(workplace.arguments(stage, *remote, *more))
        assert code == 0, err
        return out

    good("prepare")
    good("features")
    recordings = fetched(s3)
    assert recordings
    for stage in ("prepare", "features", "train", "evaluate"):
        assert "computed" not in good(stage, "--training.epochs", "1")
    assert fetched(s3) == []
    (workplace.folder / "copies" / "stat.sqlite").write_bytes(b"no database" * 1000)
    assert "computed" not in good("features"), "time is lost, and no embedding"
    assert fetched(s3) == recordings
    one = f"{s3.bucket}/corpus/{recordings[0]}"
    content = bytearray(s3.files.cat_file(one))
    assert content[:4] == b"fLaC"
    content[30] ^= 1  # of the digest of its samples, which nobody compares
    s3.files.pipe_file(one, bytes(content))
    s3.requests()
    assert "computed" in good("features"), "another of the same size is another"
    assert fetched(s3) == recordings[:1]
