"""A broken value in any field of a configuration, or of a file that the project reads, gets one line that names it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from lpgnet.pipeline import cli
from lpgnet.pipeline.config import Config, ExportConfig, PredictionConfig, ServeConfig
from tests.e2e.conftest import extracted, tiny_encoders  # noqa: F401 (fixtures)
from tests.e2e.workplace import DEMO, Workplace
from tests.hostile import texts
from tests.hostile.broken import (
    HALF_A_CHARACTER,
    WHATEVER,
    at,
    config_fields,
    impossible,
    is_of_another_type,
    nested,
    places,
    replaced,
)
from tests.hostile.budget import cases

SECTIONS = {"train": Config, "predict": PredictionConfig, "serve": ServeConfig, "export": ExportConfig}
CONFIG_CASES = [
    (stage, key, value)
    for stage, section in SECTIONS.items()
    for key, kind in config_fields(section)
    for value in impossible(kind)
]


def drawn(every: list[Any], share: float) -> list[Any]:
    """The same cases each time, all of them where the budget allows."""
    return Random(0).sample(every, min(len(every), cases(share)))


def one_line(code: int, error: str) -> str:
    """What a command says that fails: one line, for people."""
    assert code in (1, 2), error
    assert "Traceback" not in error and "unexpected" not in error
    (line,) = [line for line in error.splitlines() if "error:" in line]
    assert error.splitlines()[-1] == line and line.startswith("lpgnet: error: ")
    return line


@pytest.mark.parametrize(("stage", "key", "value"), drawn(CONFIG_CASES, 0.3))
def test_a_broken_value_in_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, key: str, value: Any
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(nested(key.split("."), value)))
    line = one_line(cli.main([stage, "--config", str(path)]), capsys.readouterr().err)
    assert "x.yaml" in line and key in line


RECORDING = str(DEMO / "recording" / "recording.flac")
RUN = "work/small/runs/default"
ROW_RUN = "work/small/crossval/concat/3/seed0"


@dataclass(frozen=True)
class Kept:
    """A file that the project wrote or was given, and what reads it.

    Attributes:
        path: in the workplace; the first line is broken where there are several.
        reads: the stages that read it, with their options.
        is_record: whether every field has a type, so that a value of another one must be refused.
        stale: what must not be there, since it would be kept instead of reading the file.
    """

    path: str
    reads: tuple[Callable[[Workplace], list[str]], ...]
    is_record: bool = True
    stale: str = "nothing"


def stage(name: str, *options: str) -> Callable[[Workplace], list[str]]:
    return lambda place: place.arguments(name, *options)


def predict(place: Workplace) -> list[str]:
    return ["predict", RECORDING, "--model", str(place.folder / RUN), "--out", str(place.folder / "out")]


def export(place: Workplace) -> list[str]:
    model, out = str(place.folder / RUN), str(place.folder / "exported")
    return ["export", "--model", model, "--out", out, "--bundle_encoders", "true"]


def compare(place: Workplace) -> list[str]:
    return ["compare", *[str(place.folder / "work/small/crossval/concat")] * 2]


def cache_info(place: Workplace) -> list[str]:
    return ["cache", "info", "--store", str(place.folder / "work/store")]


TABLE = ("--crossval.models", "[concat]", "--crossval.seeds", "1", "--crossval.folds", "one", "--crossval.workers", "1")
SEARCH = ("--search.space", "{training.epochs: [2]}", "--search.seeds", "1", "--search.workers", "1")


def label_studio(place: Workplace) -> list[str]:
    options = {"name": "studio", "corpus.reader": "label_studio", "corpus.root": place.folder / "studio"}
    return place.arguments("prepare", *(f"--{key}={value}" for key, value in options.items()), "--corpus.options={}")


KEPT = {
    "manifest": Kept("work/small/manifest.jsonl", (stage("features"), stage("train"))),
    "corpus": Kept("work/small/corpus.json", (stage("features"), stage("train"))),
    "summaries": Kept("work/small/features.json", (stage("features"), stage("train")), is_record=False),
    "silence": Kept("work/small/speech.json", (stage("features"), stage("train")), is_record=False),
    "made": Kept("work/small/prepare.json", (stage("prepare"),), is_record=False),
    "inputs": Kept(f"{RUN}/inputs.json", (stage("evaluate"), stage("train")), is_record=False),
    "done": Kept(f"{RUN}/done.json", (stage("train"), stage("evaluate")), is_record=False),
    "log": Kept(f"{RUN}/metrics.jsonl", (stage("train"),), is_record=False, stale=f"{RUN}/training.png"),
    "environment": Kept(f"{RUN}/environment.json", (stage("evaluate"),), is_record=False),
    "model": Kept(f"{RUN}/best/config.json", (stage("evaluate"), predict, export), is_record=False),
    "metrics": Kept(f"{ROW_RUN}/metrics.json", (stage("crossval", *TABLE),)),
    "predictions": Kept(f"{ROW_RUN}/predictions.jsonl", (stage("crossval", *TABLE), compare)),
    "measured": Kept(f"{ROW_RUN}/measured.json", (stage("crossval", *TABLE), compare), is_record=False),
    "search": Kept("work/small/search/default/results.json", (stage("search", *SEARCH),), is_record=False),
    "timeline": Kept("out/.made-from/recording.jsonl.json", (predict,), is_record=False),
    "label studio": Kept("studio/project.json", (label_studio,), is_record=False),
    "encoder": Kept("work/store/*/encoder.json", (cache_info, stage("features")), is_record=False),
    "speech model": Kept("audio/config.json", (stage("features"), predict), is_record=False),
    "speech": Kept("audio/preprocessor_config.json", (stage("features"), predict), is_record=False),
    "tokens": Kept("text/tokenizer.json", (stage("features"), predict), is_record=False),
}
# Half a character is no text, and a number of 401 digits none that is read.
HOSTILE = [*WHATEVER, HALF_A_CHARACTER]


@pytest.fixture(scope="module")
def finished(extracted: Workplace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:  # noqa: F811
    """A workplace where every stage has run, and a copy to put it back from."""
    for name, *options in (["train"], ["evaluate"], ["crossval", *TABLE], ["search", *SEARCH]):
        assert cli.main(extracted.arguments(name, *options)) == 0
    assert cli.main(predict(extracted)) == 0
    (extracted.folder / "studio").mkdir()
    (extracted.folder / "studio" / "a.wav").write_bytes(b"")
    (extracted.folder / "studio" / "project.json").write_text(texts.LABEL_STUDIO)
    whole = tmp_path_factory.mktemp("whole") / "copy"
    shutil.copytree(extracted.folder, whole)
    return extracted, whole


def broken_lines(line: str, name: str) -> list[tuple[str, Any, bool]]:
    """The drawn ways to break one value of a JSON object: the line, the key, and whether it must be refused."""
    values, kept = json.loads(line), KEPT[name]
    every = [(place, value) for place in places(values) for value in HOSTILE]
    return [
        (
            json.dumps(replaced(values, place, value)),
            place[-1] if place and value != 10**400 else "",
            kept.is_record and is_of_another_type(value, at(values, place)) and "extra" not in place,
        )
        for place, value in drawn(every, 0.4 / len(KEPT))
    ]


@pytest.mark.parametrize("name", KEPT)
def test_a_broken_value_in_a_file(
    finished: tuple[Workplace, Path],
    tiny_encoders: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (workplace, whole), kept = finished, KEPT[name]
    root = tiny_encoders if name in ("speech model", "speech", "tokens") else workplace.folder
    path = next(root.glob(kept.path))
    content = path.read_text(encoding="utf-8")
    first, *rest = content.splitlines() if path.suffix == ".jsonl" else [content]
    for line, key, must_fail in broken_lines(first, name):
        for read in kept.reads:
            path.write_text("\n".join([line, *rest]) + "\n", encoding="utf-8")
            (workplace.folder / kept.stale).unlink(missing_ok=True)
            capsys.readouterr()
            code, error = cli.main(read(workplace)), capsys.readouterr().err
            assert code in ((1, 2) if must_fail else (0, 1, 2)), line
            if code:
                told = one_line(code, error)
                # A value of the right type may be right there, and what it leads to is told: audio that is missing.
                leads_on = kept.is_record and not must_fail
                assert leads_on or path.name in told or str(root) in told, (line, told)
                assert not must_fail or key in ("", 0) or str(key) in told, (line, told)
            path.write_text(content, encoding="utf-8")
            shutil.rmtree(workplace.folder)
            shutil.copytree(whole, workplace.folder)
