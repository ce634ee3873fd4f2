"""The `datasets` reader gives what the table reader gives of the same files, whatever form a dataset has."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from lpgnet.pipeline.common.files import to_json
from lpgnet.pipeline.config import AudioEncoderConfig, Config, CorpusConfig, EncodersConfig, FeaturesConfig
from lpgnet.pipeline.corpora import ReadCorpus, read_corpus, sources
from lpgnet.pipeline.corpora.manifest import Utterance, read_manifest
from lpgnet.pipeline.embeddings.fill_store import fill_store
from lpgnet.pipeline.embeddings.plan import plan_audio
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.prepare import prepare
from tests.hub_server import Answering

ENCODER = Path(__file__).parents[3] / "examples" / "demo" / "encoders" / "audio"
EMOTIONS = ["ang", "hap", "neu"]
COLUMNS = {"label": "emotion", "speaker": "who"}
# Dialogues that are not together, a row without a label, and one without audio.
ROWS = [
    {"dialogue_id": "a", "who": "Ann", "text": "“Hi”", "emotion": "neu", "valence": 3.5, "note": "first", "c": "0.wav"},
    {"dialogue_id": "b", "who": "Bob", "text": "Oh!", "emotion": "ang", "valence": 1.0, "note": None, "c": "1.flac"},
    {"dialogue_id": "a", "who": "Bob", "text": "", "emotion": None, "valence": None, "note": "x", "c": "2.wav"},
    {"dialogue_id": "b", "who": "Ann", "text": "Yes", "emotion": "hap", "valence": 5.0, "note": "y", "c": None},
    {"dialogue_id": "c", "who": "Ann", "text": "Yes", "emotion": "hap", "valence": 4.0, "note": "z", "c": "0.wav"},
]  # fmt: skip
RANGES = {"valence": [1, 5]}
Made = Callable[[Path], Path]


def clip(number: int, form: str = "WAV") -> bytes:
    content = io.BytesIO()
    noise = 0.1 * np.random.default_rng(number).standard_normal((4000 + number, 1 + number % 2))
    soundfile.write(content, noise, 16_000, format=form)
    return content.getvalue()


def content_of(name: str) -> bytes:
    return clip(int(name[0]), "FLAC" if name.endswith("flac") else "WAV")


def lay_files(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for row in ROWS:
        if row["c"]:
            (folder / str(row["c"])).write_bytes(content_of(str(row["c"])))
    return folder


def cells(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "c"}


def as_table(folder: Path) -> ReadCorpus:
    lay_files(folder)
    lines = [json.dumps({**cells(row), "audio": row["c"]}) for row in ROWS]
    (folder / "t.jsonl").write_text("\n".join(lines))
    return read_corpus("table", str(folder), columns=COLUMNS, ranges=RANGES)


def dataset(sound: Callable[[str], object] = lambda name: {"bytes": content_of(name), "path": name}) -> Any:
    """With classes as numbers, and audio that is to be decoded, as most datasets are."""
    numbers = [EMOTIONS.index(row["emotion"]) if row["emotion"] else -1 for row in ROWS]
    columns: dict[str, list[Any]] = {name: [row[name] for row in ROWS] for name in cells(ROWS[0])}
    audio = [sound(str(row["c"])) if row["c"] else None for row in ROWS]
    made = datasets.Dataset.from_dict({**columns, "emotion": numbers, "audio": audio})
    return made.cast_column("emotion", datasets.ClassLabel(names=EMOTIONS)).cast_column("audio", datasets.Audio())


def saved(folder: Path) -> Path:
    dataset().save_to_disk(folder)
    return folder


def saved_splits(folder: Path) -> Path:
    datasets.DatasetDict({"validation": dataset()}).save_to_disk(folder)
    return folder


def parquet(folder: Path) -> Path:
    folder.mkdir()
    dataset().to_parquet(folder / "validation-00000-of-00001.parquet")
    return folder


def parquet_of_paths(folder: Path) -> Path:
    lay_files(folder / "clips")
    pq.write_table(dataset(lambda name: f"clips/{name}").data.table, folder / "validation.parquet")
    return folder


def json_of_paths(folder: Path) -> Path:
    lay_files(folder / "clips")
    lines = [json.dumps({**cells(row), "audio": f"clips/{row['c']}" if row["c"] else None}) for row in ROWS]
    (folder / "dev.jsonl").write_text("\n".join(lines))
    return folder


def both(folder: Path) -> Path:
    """Some clips in the table, some beside it."""
    lay_files(folder / "clips")
    made = dataset(lambda name: {"bytes": None if name == "2.wav" else content_of(name), "path": f"clips/{name}"})
    pq.write_table(made.data.table, folder / "validation.parquet")
    return folder


FORMS: dict[str, Made] = {
    one.__name__: one for one in (saved, saved_splits, parquet, parquet_of_paths, json_of_paths, both)
}


def keys(corpus: ReadCorpus, root: str) -> dict[str, bytes]:
    plan = plan_audio(corpus.utterances, corpus.root or root, None)
    assert not plan.problems
    return {request.utterance_id: request.key for request in plan.requests}


@pytest.mark.parametrize("form", FORMS)
def test_a_dataset_gives_the_manifest_and_the_keys_that_a_table_of_its_files_gives(tmp_path: Path, form: str) -> None:
    table = as_table(tmp_path / "table")
    folder = FORMS[form](tmp_path / "dataset")
    found = read_corpus("datasets", str(folder), clips=tmp_path / "clips", columns=COLUMNS, ranges=RANGES)
    part = None if form == "saved" else "dev"
    expected = [replace(one, split=part, audio=None) for one in table.utterances]
    assert [replace(one, audio=None) for one in found.utterances] == expected
    assert keys(found, str(folder)) == keys(table, str(tmp_path / "table"))
    assert found.ranges == table.ranges
    assert found.warnings == []
    inside = form.endswith("paths")
    assert Path(found.root or "") == (folder if inside else tmp_path / "clips")
    assert (tmp_path / "clips").is_dir() != inside, "what lies in the folder is not copied"


@pytest.mark.parametrize("metadata", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("archive", [False, True])
def test_a_folder_of_recordings_with_their_metadata(tmp_path: Path, metadata: str, archive: bool) -> None:
    rows = [row for row in ROWS if row["c"] not in (None, "1.flac")][:2]
    (tmp_path / "table").mkdir()
    (tmp_path / "dataset" / "train").mkdir(parents=True)
    for row in rows:
        for folder in ("table", "dataset/train"):
            (tmp_path / folder / str(row["c"])).write_bytes(content_of(str(row["c"])))
    listed = [{"dialogue_id": "a", "text": row["text"] or "so", "emotion": row["emotion"] or "sad"} for row in rows]
    lines = [json.dumps({"audio": row["c"], **cells}) for row, cells in zip(rows, listed, strict=True)]
    (tmp_path / "table" / "t.jsonl").write_text("\n".join(lines))
    with (tmp_path / "dataset" / "train" / metadata).open("w") as file:
        if metadata.endswith("csv"):
            file.write("file_name,dialogue_id,text,emotion\n")
            file.writelines(f'{r["c"]},a,"{c["text"]}",{c["emotion"]}\n' for r, c in zip(rows, listed, strict=True))
        else:
            file.writelines(json.dumps({"file_name": r["c"], **c}) + "\n" for r, c in zip(rows, listed, strict=True))
    if archive:
        shutil.make_archive(str(tmp_path / "train"), "zip", tmp_path / "dataset" / "train")
        shutil.rmtree(tmp_path / "dataset" / "train")
        shutil.move(tmp_path / "train.zip", tmp_path / "dataset" / "train.zip")
    columns = {"label": "emotion"}
    table = read_corpus("table", str(tmp_path / "table"), columns=columns)
    found = read_corpus("datasets", str(tmp_path / "dataset"), clips=tmp_path / "clips", columns=columns)
    expected = [replace(one, split="train", audio=None) for one in table.utterances]
    assert [replace(one, audio=None) for one in found.utterances] == expected
    assert keys(found, str(tmp_path / "dataset")) == keys(table, str(tmp_path / "table"))
    assert (found.root == str(tmp_path / "dataset")) != archive


def config_of(tmp_path: Path, reader: str, root: Path, **options: Any) -> Config:
    return Config(
        name=reader,
        work=str(tmp_path / "work"),
        corpus=CorpusConfig(reader=reader, root=str(root), options={"columns": COLUMNS, "ranges": RANGES, **options}),
        encoders=EncodersConfig(audio=AudioEncoderConfig(name=f"hf:{ENCODER}", precision="fp32")),
        features=FeaturesConfig(store=str(tmp_path / "store"), workers=0, device="cpu"),
    )


def test_the_stages_find_every_embedding_that_a_table_left(tmp_path: Path) -> None:
    as_table(tmp_path / "table")
    of_table = config_of(tmp_path, "table", tmp_path / "table")
    prepare(of_table)
    (first,) = fill_store(of_table)
    assert first.extraction.computed == 3
    config = config_of(tmp_path, "datasets", parquet(tmp_path / "dataset"))
    prepare(config)
    assert read_manifest(config.folder).corpus.root == str(config.folder / "audio")
    (second,) = fill_store(config)
    assert (second.wanted, second.cached, second.extraction.computed) == (first.wanted, first.wanted, 0)
    assert not second.extraction.problems


def test_clips_are_written_once_and_again_where_they_are_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, "datasets", parquet(tmp_path / "dataset"))
    prepare(config)
    written = sorted((config.folder / "audio").iterdir())
    assert sorted(path.suffix for path in written) == [".flac", ".wav", ".wav"], "equal clips are one file"
    assert {path.read_bytes() for path in written} == {content_of(name) for name in ("0.wav", "1.flac", "2.wav")}
    before = {path: path.stat().st_mtime_ns for path in written}
    capsys.readouterr()
    prepare(config)
    assert "up to date" in capsys.readouterr().err
    written[0].unlink()
    written[1].write_bytes(b"half")
    prepare(config)
    assert {path.read_bytes() for path in written} == {content_of(name) for name in ("0.wav", "1.flac", "2.wav")}
    assert written[2].stat().st_mtime_ns == before[written[2]]


def test_a_dataset_that_changed_is_prepared_again(tmp_path: Path) -> None:
    for form in FORMS:
        folder = FORMS[form](tmp_path / form)
        assert any(path.suffix in (".parquet", ".arrow", ".jsonl") for path in sources("datasets", str(folder)))
        assert not [path for path in sources("datasets", str(folder)) if path.suffix in (".wav", ".flac")]


def read(tmp_path: Path, folder: Path, **options: Any) -> ReadCorpus:
    return read_corpus("datasets", str(folder), clips=tmp_path / "clips", **options)


def write(tmp_path: Path, columns: dict[str, list[Any]], name: str = "train.parquet", **features: Any) -> Path:
    folder = tmp_path / "dataset"
    folder.mkdir(exist_ok=True)
    made = datasets.Dataset.from_dict(columns)
    for column, feature in features.items():
        made = made.cast_column(column, feature)
    made.to_parquet(folder / name)
    return folder


def test_votes_classes_and_numbers(tmp_path: Path) -> None:
    emotion = datasets.ClassLabel(names=EMOTIONS)
    columns = {
        "dialogue_id": [7, 7, 7],
        "label": [2, -1, None],
        "votes": [[0, 0, 2], [], [1]],
        "x": [1.5, float("nan"), None],
    }
    folder = write(tmp_path, columns, label=emotion, votes=datasets.List(emotion))
    found = read(tmp_path, folder).utterances
    assert [(u.dialogue_id, u.label, u.votes, u.extra) for u in found] == [
        ("7", "neu", {"ang": 2, "neu": 1}, {"x": 1.5}),
        ("7", None, None, {"x": None}),
        ("7", None, {"hap": 1}, {"x": None}),
    ]


def test_pictures_are_left_out(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"dialogue_id": ["a"], "image": [b"png"], "faces": [[{"bytes": b"png", "at": 1}]], "n": [{"m": 1}]}
    )
    assert read(tmp_path, folder).utterances == [Utterance("a", "a_001", split="train", extra={"n": {"m": 1}})]


def test_rows_without_dialogues_are_dialogues(tmp_path: Path) -> None:
    folder = write(tmp_path, {"text": ["a", "b"]})
    found = read(tmp_path, folder)
    assert [(u.dialogue_id, u.utterance_id) for u in found.utterances] == [
        ("train_000000", "train_000000_001"),
        ("train_000001", "train_000001_001"),
    ]
    no_dialogues, no_audio = found.warnings
    assert "each row is a dialogue of its own" in no_dialogues
    assert "no column holds audio" in no_audio
    write(tmp_path, {"text": ["a", "b"], "file": ["x", "y"]})
    named = read(tmp_path, folder, columns={"utterance_id": "file"})
    assert [(u.dialogue_id, u.utterance_id) for u in named.utterances] == [("x", "x"), ("y", "y")]


def test_splits_by_name_and_ids_that_restart_in_each(tmp_path: Path) -> None:
    for name in ("train.parquet", "validation.parquet", "test.parquet"):
        folder = write(tmp_path, {"dialogue_id": ["a", "a"], "utterance_id": ["a1", "a2"]}, name)
    found = read(tmp_path, folder).utterances
    assert [(u.dialogue_id, u.utterance_id, u.split) for u in found] == [
        (f"{name}_a", f"{name}_a{n}", part)
        for name, part in (("train", "train"), ("validation", "dev"), ("test", "test"))
        for n in (1, 2)
    ]
    chosen = read(tmp_path, folder, splits={"test": "dev", "train": None}).utterances
    assert [(u.dialogue_id, u.split) for u in chosen] == [("test_a", "dev")] * 2 + [("train_a", None)] * 2
    assert [u.utterance_id for u in read(tmp_path, folder, splits={"test": "test"}).utterances] == ["a1", "a2"]


def test_a_column_tells_the_split(tmp_path: Path) -> None:
    folder = write(tmp_path, {"dialogue_id": ["a", "b", "c"], "split": ["valid", "test", None]})
    assert [u.split for u in read(tmp_path, folder).utterances] == ["dev", "test", "train"]


@pytest.mark.parametrize("name", ["session1", "fold_train"])
def test_splits_of_other_names(tmp_path: Path, name: str) -> None:
    spans = {"train": {"dialogue_id": ["b"]}, name: {"dialogue_id": ["a"]}}
    folder = tmp_path / "dataset"
    datasets.DatasetDict({key: datasets.Dataset.from_dict(value) for key, value in spans.items()}).save_to_disk(folder)
    found = read(tmp_path, folder)
    assert [u.split for u in found.utterances] == ["train", None]
    assert f"splits {name} mean none of train, dev, test" in found.warnings[0]


def refused(tmp_path: Path, folder: Path, **options: Any) -> str:
    with pytest.raises(PipelineError) as caught:
        read(tmp_path, folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_and_splits_that_are_not_there(tmp_path: Path) -> None:
    folder = write(tmp_path, {"dialogue_id": ["a"], "emotion": ["x"], "start": ["now"]})
    assert f"{folder}: has no column 'emotoin' for label; did you mean 'emotion'?" in refused(
        tmp_path, folder, columns={"label": "emotoin"}
    )
    assert "has no column 'sound' for audio" in refused(tmp_path, folder, columns={"audio": "sound"})
    assert "has no column 'd' for dialogue_id" in refused(tmp_path, folder, columns={"dialogue_id": "d"})
    assert "has no split 'tran'; did you mean 'train'?; its splits are train" in refused(
        tmp_path, folder, splits={"tran": "train"}
    )
    assert f"{folder}, split train, row 0, column 'start': 'now' is not seconds" in refused(tmp_path, folder)
    write(tmp_path, {"text": ["hi"], "emotion": ["x"]})
    assert "its columns are text, emotion; map names" in refused(tmp_path, folder, columns={"label": "split_"})
    assert "did you mean" not in refused(tmp_path, folder, columns={"label": "dialogue_idd"})


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        ("../a.wav", "lies outside"),
        ("/etc/passwd", "lies outside"),
        ("https://example.org/a.wav", "lies outside"),
        ("zip://a.wav::/etc/a.zip", "lies outside"),
        ("https://example.org/a.wav::clips.zip", "is in no zip or tar archive"),
        ("zip://a.wav::clips.zip", "cannot be unpacked"),
        ([0.5, 0.25], "its audio is neither bytes nor a path"),
    ],
)
def test_audio_elsewhere(tmp_path: Path, sound: object, message: str) -> None:
    folder = write(tmp_path, {"dialogue_id": ["a", "a"], "audio": [None, sound]})
    told = refused(tmp_path, folder)
    assert f"{folder}, split train, row 1: " in told and message in told


def test_a_clip_that_cannot_be_read_is_told_by_its_row_and_leaves_the_others(tmp_path: Path) -> None:
    audio = [{"bytes": clip(0), "path": "a.wav"}, {"bytes": b"no sound", "path": None}, {"bytes": b"", "path": "x"}]
    folder = write(tmp_path, {"dialogue_id": ["a", "a", "a"], "audio": audio})
    found = read(tmp_path, folder)
    (warning,) = found.warnings
    assert "2 clips cannot be read: " in warning
    assert f"{folder}, split train, row 1: " in warning and "is not audio" in warning
    assert f"{folder}, split train, row 2: " in warning and "is empty" in warning
    plan = plan_audio(found.utterances, str(found.root), None)
    assert [one.utterance_id for one in plan.problems] == ["a_002", "a_003"]


def test_datasets_that_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    assert "no such folder" in refused(tmp_path, folder)
    folder.mkdir()
    assert f"{folder}: cannot be read as a dataset" in refused(tmp_path, folder)
    (folder / "train.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert f"{folder}" in refused(tmp_path, folder)
    (folder / "dataset.py").write_text("raise SystemExit('ran')")
    assert "is a script that loads a dataset (dataset.py), and no code of a dataset is run" in refused(tmp_path, folder)
    assert "local folder or the hub" in refused(tmp_path, "s3://bucket/x")  # type: ignore[arg-type]


def test_a_dataset_that_names_files_elsewhere(tmp_path: Path) -> None:
    other = write(tmp_path, {"dialogue_id": ["secret"]}).rename(tmp_path / "other")
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: a\n  data_files: {other}/train.parquet\n---\n")
    assert "outside" in refused(tmp_path, folder)
    (folder / "README.md").unlink()
    saved(folder / "x")
    for listed in ("../other.arrow", "/etc/passwd", 3, ""):
        (folder / "x" / "state.json").write_text(json.dumps({"_data_files": [{"filename": listed}]}))
        assert "is no name of a file beside it" in refused(tmp_path, folder / "x")
    (folder / "dataset_dict.json").write_text('{"splits": ["../other"]}')
    assert "is no name of a file beside it" in refused(tmp_path, folder)


def test_kinds_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "train.txt").write_text("a line\n")
    assert "is of the kind 'text'" in refused(tmp_path, tmp_path / "dataset")


def test_configurations(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    for name in ("en", "de"):
        (folder / name).mkdir(parents=True)
        datasets.Dataset.from_dict({"dialogue_id": [name]}).to_parquet(folder / name / "train.parquet")
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in ("en", "de"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert [u.dialogue_id for u in read(tmp_path, folder, config="de").utterances] == ["de"]
    told = refused(tmp_path, folder)
    assert "en" in told and "de" in told


def test_a_split_that_lacks_rows_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path, {"dialogue_id": ["a", "b"]})
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: dialogue_id\n    dtype: string\n  splits:\n  - name: train\n"
        "    num_bytes: 10\n    num_examples: 3\n---\n"
    )
    assert "split train: has 2 rows, but its card says 3" in read(tmp_path, folder).warnings[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 3}, "corpus.options.name"),
        ({"config": ""}, "corpus.options.config"),
        ({"revision": ["a"]}, "corpus.options.revision"),
        ({"audio": True}, "corpus.options.audio"),
        ({"files": "a"}, "corpus.options.files"),
        ({"splits": ["train"]}, "corpus.options.splits"),
        ({"splits": {"train": "training"}}, "corpus.options.splits.train"),
        ({"columns": ["a"]}, "corpus.options.columns"),
        ({"clip": "x"}, "has no option 'clip'"),
    ],
)
def test_options_of_other_kinds(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, tmp_path, **options)


COMMIT = "1" * 40


def in_hub_cache(home: Path, name: str = "owner/talks") -> Path:
    """A dataset as the hub's library keeps it."""
    kept = home / "hub" / f"datasets--{name.replace('/', '--')}"
    folder = kept / "snapshots" / COMMIT
    folder.parent.mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    return parquet(folder)


PROGRAM = """
import sys, json
from pathlib import Path
from lpgnet.pipeline.corpora import read_corpus, sources
from lpgnet.pipeline.errors import PipelineError
options = json.loads(sys.argv[3])
try:
    print(*sources("datasets", ".", name=sys.argv[1], **options))
    print(len(read_corpus("datasets", ".", clips=Path(sys.argv[2]), name=sys.argv[1], **options).utterances))
except PipelineError as error:
    print(error)
"""


def told(tmp_path: Path, name: str, options: dict[str, Any] | None = None, **environment: str) -> list[str]:
    """What a process of its own prints, whose home of the hub is `tmp_path`."""
    settings = {"HF_HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    given = json.dumps({"columns": COLUMNS, **(options or {})})
    command = [sys.executable, "-c", PROGRAM, name, str(tmp_path / "clips"), given]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_what_is_cached_needs_no_network(tmp_path: Path) -> None:
    folder = in_hub_cache(tmp_path)
    assert told(tmp_path, "owner/talks", HF_HUB_OFFLINE="1") == [str(folder), str(len(ROWS))]
    assert told(tmp_path, "owner/talks", HF_ENDPOINT="http://127.0.0.1:9") == [str(folder), str(len(ROWS))]
    (folder / "talks.py").write_text("raise SystemExit('ran')")
    (line,) = told(tmp_path, "owner/talks", HF_HUB_OFFLINE="1")
    assert line.startswith("owner/talks: is a script that loads a dataset") and "refs/convert/parquet" in line


class Hub(Answering):
    """Answers as the hub does for a dataset of one commit, whose files lie in `folder`."""

    folder: Path

    def do_GET(self) -> None:
        files = {path.relative_to(self.folder).as_posix(): path for path in self.folder.rglob("*") if path.is_file()}
        name = unquote(self.path.partition(f"/resolve/{COMMIT}/")[2] or self.path.partition("/resolve/main/")[2])
        if "missing" in self.path or ("/resolve/" in self.path and name not in files):
            self.answer(404, headers={"X-Error-Code": "EntryNotFound" if name else "RepoNotFound"})
        elif name:
            content = files[name].read_bytes()
            etag = hashlib.sha256(content).hexdigest()
            self.answer(
                200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            )
        elif "/tree/" in self.path:
            tree = [
                {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                for name, path in files.items()
            ]
            self.answer(200, json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": name} for name in files]
            self.answer(200, json.dumps({"id": "owner/talks", "sha": COMMIT, "siblings": siblings}).encode())


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    made = parquet(tmp_path / "made")
    (made / "README.md").write_text("A dataset.\n")
    (made / "big.bin").write_bytes(b"x")
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Made", (Hub,), {"folder": made})) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_dataset_is_fetched_once_at_its_commit(tmp_path: Path, hub: str) -> None:
    home = tmp_path / "home"
    settings, files = {"HF_ENDPOINT": hub, "HF_HUB_DISABLE_XET": "1"}, {"files": ["*.parquet"]}
    folder = home / "hub" / "datasets--owner--talks" / "snapshots" / COMMIT
    assert told(home, "owner/talks", files, **settings) == [str(folder), str(len(ROWS))]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "validation-00000-of-00001.parquet"]
    assert told(home, "owner/talks", files, HF_HUB_OFFLINE="1") == [str(folder), str(len(ROWS))]
    (line,) = told(home, "owner/missing", **settings)
    assert line.startswith("owner/missing: the hub has no such dataset (or it is private: log in")


PREPARE = """
import sys
from lpgnet.pipeline.config import Config, CorpusConfig, FeaturesConfig
from lpgnet.pipeline.prepare import prepare
corpus = CorpusConfig("datasets", follow_links=False, options={"name": "owner/talks", "columns": {"label": "emotion"}})
prepare(Config(name="talks", work=sys.argv[1], corpus=corpus, features=FeaturesConfig(store=sys.argv[1] + "/store")))
"""


def test_a_stage_asks_once_which_commit_a_branch_stands_at(tmp_path: Path) -> None:
    """The branch moves whenever it is asked for; every other question and every file is of the first answer."""
    asked: list[str] = []

    class Moving(Hub):
        folder = parquet(tmp_path / "made")

        def do_GET(self) -> None:
            asked.append(self.path)
            if "/revision/main" in self.path:
                moved = sum("/revision/main" in path for path in asked) > 1
                siblings = [{"rfilename": path.name} for path in self.folder.iterdir()]
                commit = "2" * 40 if moved else COMMIT
                self.answer(200, json.dumps({"id": "owner/talks", "sha": commit, "siblings": siblings}).encode())
            else:
                super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), Moving) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        settings |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", PREPARE, str(tmp_path / "work")]
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    lookups = [path for path in asked if "/api/datasets/" in path]
    assert sum("/revision/" in path for path in lookups) == 1, lookups
    assert len(lookups) == 2, "the commit, and its files"
    assert "2" * 40 not in " ".join(asked)


def test_a_hub_that_gives_nothing(tmp_path: Path) -> None:
    (line,) = told(tmp_path, "owner/other", HF_HUB_OFFLINE="1")
    assert line.startswith("owner/other: is not cached, and HF_HUB_OFFLINE forbids") and "local folder" in line
    (line,) = told(tmp_path, "owner/other", HF_ENDPOINT="http://127.0.0.1:9")
    assert line.startswith("owner/other: is not cached and the hub cannot be reached") and "local folder" in line
    (line,) = told(tmp_path, "no name/of/the hub", HF_HUB_OFFLINE="1")
    assert line.startswith("no name/of/the hub: the hub has no such dataset")


def test_a_damaged_table_of_arrow_is_refused_and_ends_nothing(tmp_path: Path) -> None:
    """Its text is said to be a gigabyte long, which nobody may look for in memory."""
    folder, length = tmp_path / "dataset", 77_777
    folder.mkdir()
    with pa.ipc.new_stream(folder / "train.arrow", pa.schema([("dialogue_id", pa.string())])) as stream:
        stream.write_batch(pa.record_batch([pa.array(["a" * length])], names=["dialogue_id"]))
    content = (folder / "train.arrow").read_bytes()
    assert content.count(length.to_bytes(4, "little")) >= 1
    damaged = content.replace(length.to_bytes(4, "little"), (10**9).to_bytes(4, "little"), 1)
    (folder / "train.arrow").write_bytes(damaged)
    assert f"{folder}, split train" in refused(tmp_path, folder)


ABANDON = """
import sys
from pathlib import Path
from lpgnet.pipeline.corpora import read_corpus
from lpgnet.pipeline.errors import PipelineError
try:
    read_corpus("datasets", sys.argv[1], clips=Path(sys.argv[2]))
except PipelineError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_process_that_refuses_a_row_ends_as_it_should(tmp_path: Path, form: str) -> None:
    """Threads of Arrow that still read a Python file ended one process in three by SIGABRT; so often is luck seen."""
    folder = tmp_path / "dataset"
    made = datasets.Dataset.from_dict({"dialogue_id": ["a", "a"], "audio": [None, "/etc/passwd"]})
    if form == "arrow":
        made.save_to_disk(folder)
    else:
        write(tmp_path, {"dialogue_id": ["a", "a"], "audio": [None, "/etc/passwd"]})
    command = [sys.executable, "-c", ABANDON, str(folder), str(tmp_path / "clips")]
    for _ in range(10 if form == "parquet" else 1):
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "row 1: its audio '/etc/passwd' lies outside" in done.stderr


def mixed(tmp_path: Path, path: str) -> Path:
    audio = [{"bytes": clip(0), "path": "a.wav"}, {"bytes": None, "path": path}]
    return write(tmp_path, {"dialogue_id": ["a", "a"], "audio": audio})


@pytest.mark.parametrize(
    ("kind", "reason"), [("link", "a link leads out of"), ("pipe", "a named pipe"), ("none", "No such file")]
)
def test_what_is_no_recording_of_the_dataset_is_told_and_not_copied(tmp_path: Path, kind: str, reason: str) -> None:
    folder, secret = mixed(tmp_path, "b.wav"), tmp_path / "secret"
    secret.write_bytes(clip(1))
    if kind == "link":
        (folder / "b.wav").symlink_to(secret)
    if kind == "pipe":
        os.mkfifo(folder / "b.wav")
    found = read(tmp_path, folder, follow_links=False)
    (warning,) = found.warnings
    assert f"1 clips cannot be read: {folder}, split train, row 1: " in warning and reason in warning
    assert [path.read_bytes() for path in (tmp_path / "clips").iterdir()] == [clip(0)]
    plan = plan_audio(found.utterances, str(found.root), None)
    assert [one.utterance_id for one in plan.problems] == ["a_002"]
    if kind == "link":
        assert len({path.read_bytes() for path in (tmp_path / "clips").iterdir()}) == 1
        assert read(tmp_path, folder).warnings == []


def test_pipes_in_the_place_of_files_of_a_dataset(tmp_path: Path) -> None:
    folder = write(tmp_path, {"dialogue_id": ["a"], "audio": ["zip://a.wav::a.zip"]})
    os.mkfifo(folder / "a.zip")
    assert "cannot be unpacked (" in refused(tmp_path, folder) and "a named pipe" in refused(tmp_path, folder)
    os.mkfifo(folder / "README.md")
    assert "README.md is no regular file" in refused(tmp_path, folder)


@pytest.mark.parametrize("bound", [100, 2**31])
def test_a_clip_that_unpacks_without_end(tmp_path: Path, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lpgnet.pipeline.corpora.clips.MAX_CLIP_BYTES", bound, raising=False)
    folder = write(tmp_path, {"dialogue_id": ["a"], "audio": ["zip://a.wav::a.zip"]})
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(200 * 2**20))
    tracemalloc.start()
    if bound == 100:
        told = refused(tmp_path, folder)
        assert f"{folder}, split train, row 0: " in told and "has more than 100 bytes" in told
        assert list((tmp_path / "clips").iterdir()) == []
    else:
        read(tmp_path, folder)
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    tracemalloc.stop()


def test_files_are_those_that_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    for name in ("train", "test"):
        (folder / name).mkdir(parents=True)
        datasets.Dataset.from_dict({"dialogue_id": [name]}).to_parquet(folder / name / "0.parquet")
    assert [u.dialogue_id for u in read(tmp_path, folder, files=["test/*"]).utterances] == ["test"]
    assert sources("datasets", str(folder), files=["test/*"]) == [folder / "test" / "0.parquet"]
    assert f"{folder}: none of its files is like dev/*" in refused(tmp_path, folder, files=["dev/*"])
    with pytest.raises(UsageError, match=r"corpus\.options\.revision: is of a dataset of the hub"):
        read(tmp_path, folder, revision="main")


def test_files_that_are_cached_but_not_asked_for_are_not_read(tmp_path: Path) -> None:
    folder = in_hub_cache(tmp_path)
    datasets.Dataset.from_dict({"dialogue_id": ["other"], "emotion": ["ang"], "who": ["x"]}).to_parquet(
        folder / "test-00000-of-00001.parquet"
    )
    for files, rows in (({}, len(ROWS) + 1), ({"files": ["validation*"]}, len(ROWS))):
        assert told(tmp_path, "owner/talks", files, HF_HUB_OFFLINE="1") == [str(folder), str(rows)]


WORDS = [("001", "None"), ("002", "nan"), ("003", "NA"), ("1e5", "null"), ("5", "")]


@pytest.mark.parametrize("form", ["csv", "tsv", "audiofolder"])
def test_words_and_ids_are_read_as_they_are_written(tmp_path: Path, form: str) -> None:
    """What `pandas` takes for nothing or for a number is a word or an id here, as in a table."""
    for folder in ("table", "dataset/train"):
        (tmp_path / folder).mkdir(parents=True)
    separator = "\t" if form == "tsv" else ","
    lines = [separator.join(("file_name", "dialogue_id", "text"))]
    for number, (dialogue, text) in enumerate(WORDS):
        (tmp_path / "dataset" / "train" / f"{number}.wav").write_bytes(clip(number))
        lines.append(separator.join((f"{number}.wav", dialogue, text)))
    content = "\n".join(lines) + "\n"
    (tmp_path / "table" / f"t.{'tsv' if form == 'tsv' else 'csv'}").write_text(content)
    folder = tmp_path / "dataset"
    if form == "audiofolder":
        (folder / "train" / "metadata.csv").write_text(content)
    else:
        shutil.rmtree(folder / "train")
        (folder / f"train.{form}").write_text(content)
    table = read_corpus("table", str(tmp_path / "table")).utterances
    assert [(u.dialogue_id, u.text) for u in table] == WORDS
    assert [(u.dialogue_id, u.text) for u in read(tmp_path, folder).utterances] == WORDS


def test_a_recording_of_the_hub_is_the_blob_that_its_snapshot_links_to(tmp_path: Path) -> None:
    kept = in_hub_cache(tmp_path).parent.parent
    folder = kept / "snapshots" / COMMIT
    shutil.rmtree(folder)
    parquet_of_paths(folder)
    (kept / "blobs").mkdir()
    for number, path in enumerate(path for path in [*folder.rglob("*")] if path.is_file()):
        path.rename(kept / "blobs" / f"{number}")
        path.symlink_to(os.path.relpath(kept / "blobs" / f"{number}", path.parent))
    config = config_of(tmp_path, "datasets", Path("none"), name="owner/talks")
    config = replace(config, corpus=replace(config.corpus, follow_links=False))
    program = "import sys; from lpgnet.pipeline.prepare import main; sys.exit(main(sys.argv[1:]))"
    written = tmp_path / "config.yaml"
    written.write_text(json.dumps(to_json(config)))
    settings = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program, "--config", str(written)]
    for _ in range(2):
        done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "up to date" in done.stderr
    manifest = read_manifest(config.folder)
    assert manifest.corpus.root == str(kept)
    assert not (config.folder / "audio").exists()
    plan = plan_audio(manifest.utterances, manifest.corpus.root, None, follow_links=False)
    assert len(plan.requests) == 4 and not plan.problems


@pytest.mark.parametrize("audio", [None, "elsewhere"])
def test_clips_that_are_gone_are_written_again(tmp_path: Path, audio: str | None) -> None:
    options = {"audio": str(tmp_path / audio)} if audio else {}
    config = config_of(tmp_path, "datasets", parquet(tmp_path / "dataset"), **options)
    prepare(config)
    clips = tmp_path / audio if audio else config.folder / "audio"
    shutil.rmtree(clips)
    prepare(config)
    assert len(list(clips.iterdir())) == 3


def test_a_missing_id_has_no_name_of_a_split(tmp_path: Path) -> None:
    for name in ("train.parquet", "test.parquet"):
        folder = write(tmp_path, {"dialogue_id": ["a", None]}, name)
    assert "dialogue_id" in refused(tmp_path, folder)
    for name in ("train.parquet", "test.parquet"):
        write(tmp_path, {"dialogue_id": ["a", "b"], "utterance_id": ["x", None]}, name)
    assert "row 1" in (told := refused(tmp_path, folder)) and "utterance_id" in told


def test_what_lies_in_the_folder_and_is_not_read_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = parquet(tmp_path / "dataset")
    config = config_of(tmp_path, "datasets", root)
    config = replace(config, work=str(root / "work"), features=replace(config.features, store=str(root / "store")))
    prepare(config)
    capsys.readouterr()
    prepare(config)
    assert "up to date" in capsys.readouterr().err
    dataset().to_parquet(root / "test.parquet")
    with pytest.raises(PipelineError, match="no column"):
        prepare(replace(config, corpus=replace(config.corpus, options={"columns": {"label": "gone"}})))


def test_configurations_that_are_not_there(tmp_path: Path) -> None:
    test_configurations(tmp_path)
    folder = tmp_path / "dataset"
    told = refused(tmp_path, folder, config="dee")
    assert f"{folder}: has no configuration 'dee'; did you mean 'de'? its configurations are" in told.replace("?;", "?")
    assert "name one in corpus.options.config" in told and "name one in corpus.options.config" in refused(
        tmp_path, folder
    )
    (tmp_path / "empty").mkdir()
    assert "it holds none of parquet, arrow, csv, json, audiofolder, videofolder" in refused(
        tmp_path, tmp_path / "empty"
    )
