"""What kind of speech a corpus holds: what the reader knows, and what the user says of it."""

import json
from pathlib import Path

import pytest

from lpgnet.pipeline import cli
from lpgnet.pipeline.corpora import READERS, known_about
from lpgnet.pipeline.corpora.about import About
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance, read_manifest, write_manifest


@pytest.mark.parametrize("reader", ["iemocap", "meld"])
def test_readers_of_published_corpora_know_them(reader: str) -> None:
    assert known_about(reader, About()) == About("English", "acted", synthetic=False)
    assert known_about(reader, About(language="German")) == About("German", "acted", synthetic=False)


def test_of_a_table_nothing_is_known_but_what_the_user_says() -> None:
    assert known_about("table", About()) == READERS["table"].about == About(None, None, None)
    assert known_about("table", About("Dutch", "natural", synthetic=False)) == About("Dutch", "natural", False)


def test_prepare_writes_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("dialogue_id,text,label\nd,yes,hap\n")
    arguments = ["prepare", "--name", "x", "--work", str(tmp_path / "work"), "--corpus.root", str(tmp_path)]
    path = tmp_path / "work" / "x" / "corpus.json"
    assert cli.main(arguments) == 0
    assert json.loads(path.read_text())["about"] == {"language": None, "speech": None, "synthetic": None}
    assert cli.main([*arguments, "--corpus.about.synthetic", "true", "--corpus.about.language", "Greek"]) == 0
    assert read_manifest(path.parent).corpus.about == About("Greek", None, synthetic=True)


def test_a_manifest_of_a_version_without_it_is_read(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(Corpus("x", ".", "table", 1, About("Greek")), (Utterance("d", "u"),)))
    path = tmp_path / "corpus.json"
    path.write_text(
        json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "about"})
    )
    assert read_manifest(tmp_path).corpus.about == About()
