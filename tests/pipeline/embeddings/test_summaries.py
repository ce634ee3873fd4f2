"""A damaged `features.json` or `corpus.json` gets one line that names the file and the key."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lpgnet.pipeline.corpora.manifest import CORPUS_FILE, Corpus, Manifest, Utterance, read_manifest, write_manifest
from lpgnet.pipeline.embeddings.summaries import FEATURES_FILE, ModalitySummary, Served, read_summaries, write_summaries
from lpgnet.pipeline.errors import PipelineError

SUMMARY = ModalitySummary({"name": "hf:a", "fingerprint": "ab" * 32}, {"hf:a": "bf16"}, 2, 90, ["u1", "u2"])
SERVED = replace(SUMMARY, served=Served("cd" * 16, [-1], 90))
CORPUS = Corpus("small", "corpus", "table", 1)
BROKEN = (None, True, 1.5, -1, 9, "words", [], [1], ["words"], {}, {"words": 1}, {"words": "words"}, float("nan"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, Manifest(CORPUS, (Utterance("d", "u"),)))
    write_summaries(tmp_path, {"text": SUMMARY, "audio": SERVED})
    assert read_summaries(tmp_path) == {"text": SUMMARY, "audio": SERVED}
    assert read_manifest(tmp_path).corpus == CORPUS
    return tmp_path


def places(values: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key in nested objects."""
    for name, value in values.items() if isinstance(values, dict) else ():
        yield (*path, name)
        yield from places(value, (*path, name))


def broken_versions(values: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key replaced by every broken value of another type, left out, and joined by one that is not known."""
    for place in places(values):
        for bad in (*BROKEN, "left out", "joined"):
            changed = deepcopy(values)
            inner = changed
            for name in place[:-1]:
                inner = inner[name]
            if bad == "left out":
                del inner[place[-1]]
            elif bad == "joined":
                inner["unheard_of"] = 1
            elif type(bad) is type(inner[place[-1]]) and bad != -1:
                continue
            else:
                inner[place[-1]] = bad
            yield place, changed


def check(path: Path, read: Callable[[Path], object], *, may_pass: Callable[[tuple[str, ...], Any], bool]) -> None:
    refused = 0
    for place, changed in list(broken_versions(json.loads(path.read_text()))):
        path.write_text(json.dumps(changed))
        try:
            read(path.parent)
        except PipelineError as error:
            line = str(error)
            named = "unheard_of" in line or any(part in line for part in place)
            assert named and line.startswith(str(path)) and "\n" not in line and "run" in line, line
            assert "unknown error" not in line and "unexpected" not in line
            refused += 1
        else:
            assert may_pass(place, changed), f"{place} in {changed}"
    assert refused > 40


def test_every_broken_key_of_the_summaries(folder: Path) -> None:
    """Free: which modalities and precisions there are, what else a spec says, and what files of before do not say."""

    def may_pass(place: tuple[str, ...], changed: dict[str, Any]) -> bool:
        if place[1:] == ("served",):
            return changed[place[0]].get("served") is None
        if place[0] not in changed or "trim" not in changed[place[0]]:
            return True
        return place[1] == "auto_precision" or "unheard_of" in changed[place[0]]["spec"]

    check(folder / FEATURES_FILE, read_summaries, may_pass=may_pass)


def test_every_broken_key_of_the_corpus(folder: Path) -> None:
    """Free: the version, any language, and to say nothing of the speech or of ratings, as before or as nobody knows."""

    def may_pass(place: tuple[str, ...], changed: dict[str, Any]) -> bool:
        value = changed.get("about")
        if place[0] == "about":
            said = None if value is None else value.get(place[-1])
            return said is None or (place[-1] != "speech" and isinstance(said, str | bool))
        return place == ("version",) or (place == ("ranges",) and "ranges" not in changed)

    check(folder / CORPUS_FILE, read_manifest, may_pass=may_pass)


CONTENTS = [b"", b"{", b"null", b"[]", b"5", b"[" * 100_000, b'{"text": ' + b"9" * 5000 + b"}", b"\xff\xfe\0"]


@pytest.mark.parametrize("content", CONTENTS, ids=range(len(CONTENTS)))
@pytest.mark.parametrize(("name", "read"), [(FEATURES_FILE, read_summaries), (CORPUS_FILE, read_manifest)])
def test_what_is_no_such_file(folder: Path, name: str, read: Callable[[Path], object], content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(PipelineError, match=re.escape(str(folder / name))) as caught:
        read(folder)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)
