"""A corpus at an fsspec address gives the manifest and the embeddings of the same corpus on disk."""

import json

import fsspec
import pytest

from tests.e2e.workplace import Run, Workplace

ADDRESS = "memory://somewhere/corpus"


@pytest.fixture
def uploaded(workplace: Workplace) -> str:
    memory = fsspec.filesystem("memory")
    for path in workplace.corpus.rglob("*"):
        if path.is_file():
            memory.pipe(f"/somewhere/corpus/{path.relative_to(workplace.corpus)}", path.read_bytes())
    return ADDRESS


def test_an_address_is_as_good_as_a_folder(workplace: Workplace, uploaded: str, run: Run) -> None:
    local = (workplace.folder / "work" / "small" / "manifest.jsonl").read_text()
    options = ["--corpus.root", uploaded, "--name", "remote"]
    assert run(workplace.arguments("prepare", *options))[0] == 0
    assert (workplace.folder / "work" / "remote" / "manifest.jsonl").read_text() == local
    code, out, _ = run(workplace.arguments("features", *options))
    assert code == 0 and "computed" not in out, "keys are of the content, not of the place"
    summary = json.loads((workplace.folder / "work" / "remote" / "features.json").read_text())
    assert summary["audio"]["utterances"] == len(local.splitlines())


def test_embeddings_are_computed_from_an_address(workplace: Workplace, uploaded: str, run: Run) -> None:
    options = ["--corpus.root", uploaded, "--name", "remote", "--features.store", str(workplace.folder / "fresh")]
    assert run(workplace.arguments("prepare", *options))[0] == 0
    code, out, _ = run(workplace.arguments("features", *options))
    assert code == 0 and "computed" in out


@pytest.mark.parametrize("root", ["memory://nowhere/at/all", "nosuchprotocol://bucket/corpus"])
def test_an_address_that_is_not_there(workplace: Workplace, run: Run, root: str) -> None:
    code, _, err = run(workplace.arguments("prepare", "--corpus.root", root))
    assert code == 1 and root in err and "unexpected" not in err
