"""The table of a cross-validation: its rows, what it sums up, and reports that print any name as it is."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpgnet.pipeline.common.files import from_json, to_json
from lpgnet.pipeline.common.side_by_side import run_side_by_side
from lpgnet.pipeline.config import (
    Config,
    CorpusConfig,
    CrossvalConfig,
    EvaluationConfig,
    SearchConfig,
    SplitsConfig,
    TuneConfig,
    parse_config,
)
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.crossval import how_far, tell_rows
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.evaluation.missing import MissingPoint
from lpgnet.pipeline.evaluation.predictions import Outcome
from lpgnet.pipeline.evaluation.run_results import (
    METRICS_FILE,
    MeasuredModel,
    measure_run,
    read_results,
    write_results,
)
from lpgnet.pipeline.evaluation.table_results import TableResults, describe_table, read_runs
from lpgnet.pipeline.evaluation.tables import Job, Row, corpus_of, forget_corpora, make_rows, table_folder
from lpgnet.pipeline.presets import preset_file
from lpgnet.pipeline.reports.crossval import escape_latex, to_html, to_latex, to_markdown
from lpgnet.pipeline.training.freshness import run_inputs
from lpgnet.pipeline.training.runs import TrainingCost, open_run
from lpgnet.pipeline.training.splits import Split
from tests.pipeline.predicted import outcome
from tests.pipeline.tensors import make_corpus
from tests.pipeline.work import fail_on_two, take, write_taken

HOSTILE = "a&b_<script>alert(1)</script>"
CHOSEN = ChosenEpoch(epoch=2, trained=3, score="weighted_f1", development=0.95, test=0.75)


def write_overlay(folder: Path, name: str, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)
    return str(folder)


def test_a_row_a_model_and_a_row_an_overlay(tmp_path: Path) -> None:
    folder = write_overlay(tmp_path / "o", "no-gate", "model: {path_gate: false, kernel_size: 5}\n")
    write_overlay(tmp_path / "o", "a-faster", "training: {learning_rate: 0.01}\n")
    arguments = ["--labels", "{a: a, b: b}", "--model.kernel_size", "1", "--model.hidden_size", "8"]
    config = Config(crossval=CrossvalConfig(models=["lpgnet", "concat"], overlays=[folder]))
    rows = make_rows(config, arguments)
    assert [row.name for row in rows] == ["lpgnet", "concat", "a-faster", "no-gate"]
    assert [row.config.model.type for row in rows] == ["lpgnet", "concat", "lpgnet", "lpgnet"]
    assert rows[2].config.training.learning_rate == 0.01
    assert rows[2].config.model.kernel_size == 1
    laid_over = rows[3].config.model
    assert (laid_over.path_gate, laid_over.kernel_size, laid_over.hidden_size) == (False, 5, 8)


def rows_of(*arguments: str) -> dict[str, Config]:
    config = parse_config("crossval", arguments, Config)
    return {row.name: row.config for row in make_rows(config, arguments)}


def test_the_preset_of_a_configuration_is_a_row_beside_models_and_overlays(tmp_path: Path) -> None:
    folder = write_overlay(tmp_path / "o", "faster", "training: {learning_rate: 0.01}\n")
    write_overlay(tmp_path / "o", "narrow-plus", "preset: lpgnet-plus\nmodel: {hidden_size: 8}\n")
    given = ("--crossval.models", "[lpgnet, sdt]", f"--crossval.overlays=[{folder}]", "--training.epochs", "3")
    plain, rows = rows_of(*given), rows_of("--preset", "lpgnet-plus", *given)
    assert list(rows) == ["lpgnet", "sdt", "lpgnet-plus", "faster", "narrow-plus"]
    assert {name: rows[name] for name in plain} == plain, "all other rows are as without the preset"
    plus = rows["lpgnet-plus"]
    assert (plus.model, plus.training.epochs) == (parse_config("train", ["--preset", "lpgnet-plus"], Config).model, 3)
    narrow = rows["narrow-plus"].model
    assert (narrow.hidden_size, narrow.distance_bias) == (8, plus.model.distance_bias)  # type: ignore[attr-defined]


def test_rows_of_presets_are_named_or_left_out() -> None:
    assert list(rows_of("--crossval.presets", "[lpgnet-plus]")) == ["lpgnet", "lpgnet-plus"]
    assert list(rows_of("--crossval.presets", "[lpgnet-plus]", "--crossval.models", "[]")) == ["lpgnet-plus"]
    assert list(rows_of("--preset", "lpgnet-plus", "--crossval.presets", "[]")) == ["lpgnet"]
    with pytest.raises(UsageError, match="no preset is called 'lpgnet-pus'; did you mean 'lpgnet-plus'"):
        rows_of("--crossval.presets", "[lpgnet-pus]")
    with pytest.raises(UsageError, match=r"^key 'crossval\.presets': no preset is called 'null'"):
        rows_of("--crossval.presets", '["null"]')


def test_rows_that_differ_in_what_is_searched_share_a_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[Config] = []
    monkeypatch.setattr("lpgnet.pipeline.evaluation.tables.load_corpus", loaded.append)
    forget_corpora()
    for config in (Config(), Config(search=SearchConfig(trials=5)), Config(tune=TuneConfig(rank=2))):
        corpus_of(config)
    forget_corpora()
    assert len(loaded) == 1


def test_the_row_of_a_preset_is_its_network_by_the_users_recipe(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("preset: lpgnet-plus\nmodel: {type: concat, kernel_size: 1}\ntraining: {batch_size: 64}\n")
    assert parse_config("train", ["--config", str(path)], Config).model.type == "concat", "the user's choice"
    rows = rows_of("--config", str(path))
    models = {name: (row.model.type, row.model.kernel_size) for name, row in rows.items()}  # type: ignore[attr-defined]
    assert models == {"lpgnet": ("lpgnet", 1), "lpgnet-plus": ("lpgnet", 1)}
    assert {row.training.batch_size for row in rows.values()} == {64}


def test_the_same_values_are_the_same_run_whatever_they_are_called(tmp_path: Path) -> None:
    corpus, split = make_corpus("text", dialogues=1), Split("1", (), (), ())
    spelled_out = tmp_path / "spelled-out.yaml"
    shutil.copy(preset_file("lpgnet-plus"), spelled_out)
    ways = (["--preset", "lpgnet-plus"], ["--config", str(spelled_out)])
    named, spelled = (run_inputs(parse_config("train", way, Config), corpus, split.name) for way in ways)
    assert named == spelled


def test_the_dump_of_a_run_is_whole_without_its_preset(tmp_path: Path) -> None:
    config = parse_config("train", ["--preset", "lpgnet-plus"], Config)
    open_run(tmp_path / "run", {}, config)
    kept = tmp_path / "run" / "config.yaml"
    assert parse_config("evaluate", ["--config", str(kept)], Config) == replace(config, preset=None)


def test_a_baseline_that_is_no_row_is_refused_before_anything_runs() -> None:
    given = ("--crossval.models", "[lpgnet, sdt]", "--crossval.baseline")
    assert list(rows_of(*given, "sdt")) == ["lpgnet", "sdt"]
    with pytest.raises(UsageError, match=r"key 'crossval\.baseline': the table has no row 'sd'; did you mean 'sdt'"):
        rows_of(*given, "sd")
    with pytest.raises(UsageError, match=r"no row 'text'; its rows are lpgnet, sdt"):
        rows_of(*given, "text")


def test_rows_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    folder = write_overlay(tmp_path / "o", "sdt", "model: {type: sdt}\n")
    config = Config(crossval=CrossvalConfig(models=["sdt"], overlays=[folder]))
    with pytest.raises(UsageError, match="two rows of the table are called sdt"):
        make_rows(config, [])
    for key, names in (("models", "[sdt, lpgnet, sdt]"), ("presets", "[lpgnet-plus, lpgnet-plus]")):
        with pytest.raises(UsageError, match=rf"key 'crossval\.{key}': names (sdt|lpgnet-plus) twice"):
            rows_of(f"--crossval.{key}", names)
    folder = write_overlay(tmp_path / "p", "x", "model: {tpye: sdt}\n")
    with pytest.raises(UsageError, match="did you mean 'type'"):
        make_rows(Config(crossval=CrossvalConfig(overlays=[folder])), [])
    with pytest.raises(UsageError, match=r"evaluation\.modalities is for the evaluate stage"):
        make_rows(Config(evaluation=EvaluationConfig(modalities=["text"])), [])


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ".."])
def test_a_table_stays_in_its_experiment(name: str) -> None:
    with pytest.raises(UsageError, match=r"crossval\.table"):
        table_folder(Config(crossval=CrossvalConfig(table=name)))


def runs(seed: int, fold: str, accuracy: float) -> list[Outcome]:
    rng = np.random.default_rng([seed, int(fold)])
    truth = np.random.default_rng(int(fold)).integers(0, 2, 24)
    guess = np.where(rng.random(24) < accuracy, truth, 1 - truth)
    return [
        outcome(
            f"s{fold}d{n // 4}.{n}",
            int(truth[n]),
            int(guess[n]),
            speaker=f"{fold}{'FM'[n % 2]}",
            condition=kind,
            text_seen=n < 6,
        )
        for n in range(24)
        for kind in ["scripted" if n < 12 else "improvised"]
    ]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> TableResults:
    """A table of two rows, two folds and two seeds, of runs whose predictions are made up."""
    return make_results(tmp_path_factory.mktemp("table"))


def make_results(folder: Path, *, baseline: str | None = None) -> TableResults:
    config = Config(
        name="iemo_cap",
        labels={"no": "no", "yes": "<i>&_"},
        corpus=CorpusConfig(reader="iemocap"),
        splits=SplitsConfig(scheme="session"),
        evaluation=EvaluationConfig(bootstrap=200),
        crossval=CrossvalConfig(seeds=2, baseline=baseline),
    )
    rows = [Row("lpgnet", config), Row(HOSTILE, config)]
    jobs = []
    for index, row in enumerate(rows):
        for fold in ("1", "2"):
            for seed in range(2):
                run = Config(**{**vars(config), "training": type(config.training)(seed=seed)})
                job = Job(row.name, fold, run, folder / str(index) / fold / f"seed{seed}")
                write_made_up(job, runs(seed, fold, 0.9 - 0.3 * index))
                jobs.append(job)
    assert [len(run) for run in read_runs(jobs[:4])] == [48, 48]
    described = describe_table(config, rows, jobs)
    assert from_json(json.loads(json.dumps(to_json(described))), TableResults, where="here") == described
    return described


def write_made_up(job: Job, outcomes: list[Outcome], ranges: Ranges | None = None) -> None:
    curve = [MissingPoint(1.0, [[6, 6], [6, 6]])]
    model = MeasuredModel(
        modalities=["text", "audio"],
        temperature=1.5,
        parameters=1234,
        training=TrainingCost(3, 0.5, "cpu", 1, 1),
        missing={"text": curve, "audio": curve},
        ranges=ranges or {},
        chosen=CHOSEN,
        dropout=0.3,
    )
    split = Split(job.fold, (), (), ())
    measured = measure_run(model, split, outcomes, job.config.classes, job.config.evaluation)
    write_results(measured, outcomes, job.folder)


def test_the_sum_of_folds_and_the_mean_of_seeds(results: TableResults) -> None:
    row = results.rows[0]
    assert row.n == 48
    assert np.sum(row.confusion) == 96
    assert row.wa == pytest.approx(np.trace(row.confusion) / 96)
    assert row.wa == pytest.approx(np.mean([fold.wa for fold in row.folds.values()]))
    assert row.intervals["wa"][0] < row.wa < row.intervals["wa"][1]
    assert list(row.speakers) == ["1F", "1M", "2F", "2M"]
    assert list(row.conditions) == ["improvised", "scripted"]
    assert sum(row.calibration.after.counts) == 96
    assert row.calibration.temperatures == [1.5] * 4
    assert row.missing["text"][0].confusion == [[24, 24], [24, 24]]
    assert [(run.fold, run.seed, run.chosen) for run in row.runs] == [
        (fold, seed, CHOSEN) for fold in "12" for seed in range(2)
    ]
    assert row.dropout == 0.3
    true, predicted = np.sum(row.confusion, 1) / 96, np.sum(row.confusion, 0) / 96
    assert [share.true for share in row.class_shares.values()] == pytest.approx(list(true))
    assert [share.predicted for share in row.class_shares.values()] == pytest.approx(list(predicted))
    for name, share in row.class_shares.items():
        folds = [fold.class_shares[name] for fold in row.folds.values()]
        assert share.predicted == pytest.approx(np.mean([fold.predicted for fold in folds]))
        assert all(fold.interval is not None for fold in folds)
    assert row.text_gap is not None and row.text_gap.seen.n + row.text_gap.unseen.n == 48
    assert row.differences == {}
    gap = results.rows[1].differences["wa"]
    assert gap.value == pytest.approx(results.rows[1].wa - row.wa)
    assert gap.interval[1] < 0


def test_any_row_may_be_the_baseline(results: TableResults, tmp_path: Path) -> None:
    turned = make_results(tmp_path, baseline=HOSTILE)
    assert (results.baseline, turned.baseline) == ("lpgnet", HOSTILE)
    assert turned.rows[1].differences == {}
    assert turned.rows[0].differences["wa"].value == -results.rows[1].differences["wa"].value
    assert f"| Δ weighted F1 vs {HOSTILE} |" in to_markdown(turned)
    words = Page(to_html(turned, {})).words
    assert f"Differences from {HOSTILE}" in words and "Differences from lpgnet" not in words


def test_a_row_is_told_when_its_last_run_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(labels={"no": "no", "yes": "yes"})
    rows = [Row("lpgnet", config), Row(HOSTILE, config)]
    jobs = [
        Job(row.name, fold, seeded(config, seed), tmp_path / str(number) / fold / f"seed{seed}")
        for number, row in enumerate(rows)
        for fold in ("1", "2")
        for seed in range(2)
    ]
    told: list[str] = []

    def measured() -> Iterator[Job]:
        for job in [*jobs[:3], *jobs[4:], jobs[3]]:
            write_made_up(job, runs(job.config.training.seed, job.fold, 0.8))
            yield job
            told.append(capsys.readouterr().err)

    tell_rows(rows, jobs, measured())
    assert told[:6] == [""] * 6
    assert told[6].startswith(f"{HOSTILE}: WA 0.") and "± 0." in told[6] and told[6].endswith(" (4 runs)\n")
    assert told[7].startswith("lpgnet: WA 0.") and told[7].count("\n") == 1


def seeded(config: Config, seed: int) -> Config:
    return replace(config, training=replace(config.training, seed=seed))


def test_what_runs_is_told_with_its_row_fold_seed_and_epoch(tmp_path: Path) -> None:
    job = Job("sdt", "Ses03", seeded(Config(), 2), tmp_path)
    epochs = job.config.training.epochs
    assert how_far(job) == f"sdt Ses03 seed 2, epoch 1 of {epochs}"
    (tmp_path / "metrics.jsonl").write_text("{}\n" * 4)
    assert how_far(job) == f"sdt Ses03 seed 2, epoch 5 of {epochs}"
    (tmp_path / "metrics.jsonl").write_text("{}\n" * epochs)
    assert how_far(job) == f"sdt Ses03 seed 2, epoch {epochs} of {epochs}"


def test_of_a_refitted_run_it_is_told_in_which_of_both_it_is(tmp_path: Path) -> None:
    job = Job("sdt", "Ses03", seeded(Config(), 2), tmp_path / "seed2-refit")
    for folder in (tmp_path / "seed2", job.folder):
        folder.mkdir()
    (tmp_path / "seed2" / "metrics.jsonl").write_text("{}\n" * 4)
    assert how_far(job) == f"sdt Ses03 seed 2, epoch 5 of {job.config.training.epochs}"
    (tmp_path / "seed2" / "done.json").touch()
    (job.folder / "metrics.jsonl").write_text("{}\n" * 2)
    assert how_far(job) == "sdt Ses03 seed 2 refitted, epoch 3"


def rated_runs(seed: int, fold: str, *, votes: bool, dimensions: bool) -> list[Outcome]:
    rng = np.random.default_rng([seed, int(fold)])
    rated: list[dict[str, Any]] = []
    for number in range(8):
        guesses = {"valence": 3 + rng.normal()} if dimensions else {}
        shares = (number / 8, 1 - number / 8) if votes else ()
        rated.append({"shares": shares, "dimensions": guesses, "ratings": {"valence": 1.0 + number / 2}})
    return [outcome(f"f{fold}d{n // 4}.{n}", -100 if n % 4 else 1, 1, **values) for n, values in enumerate(rated)]


def test_a_table_of_rows_with_and_without_dimensions(tmp_path: Path) -> None:
    config = Config(
        labels={"no": "no", "yes": "yes"},
        evaluation=EvaluationConfig(bootstrap=50),
        crossval=CrossvalConfig(seeds=2),
    )
    rows = [Row(name, config) for name in ("both", "also", "votes", "neither")]
    jobs = []
    for row, votes, dimensions in zip(rows, (1, 1, 1, 0), (1, 1, 0, 0), strict=True):
        for fold in ("1", "2"):
            for seed in range(2):
                run = Config(**{**vars(config), "training": type(config.training)(seed=seed)})
                jobs.append(Job(row.name, fold, run, tmp_path / row.name / fold / f"seed{seed}"))
                outcomes = rated_runs(seed, fold, votes=bool(votes), dimensions=bool(dimensions))
                write_made_up(jobs[-1], outcomes, ranges={"valence": (1.0, 5.0)})
    described = describe_table(config, rows, jobs)
    both, also, votes_only, neither = described.rows
    assert both.distribution is not None
    assert (both.distribution.n, both.n) == (16, 4)
    assert both.dimensions["valence"].n == 16
    assert (both.dimensions["valence"].low, both.dimensions["valence"].high) == (1, 5)
    assert both.distribution.deviations["jsd"] == 0
    assert both.dimensions["valence"].deviations["ccc"] > 0
    low, high = both.dimensions["valence"].intervals["rmse"]
    assert low < both.dimensions["valence"].rmse < high
    assert {"jsd.votes", "ccc.valence"} <= also.differences.keys()
    assert also.differences["ccc.valence"].value == 0
    assert votes_only.dimensions == {}
    assert "ccc.valence" not in votes_only.differences
    assert votes_only.differences["jsd.votes"].value == 0
    assert (neither.distribution, neither.dimensions) == (None, {})
    assert list(neither.differences) == list(NAMES)
    assert from_json(json.loads(json.dumps(to_json(described))), TableResults, where="here") == described


def test_results_of_earlier_versions_are_read(tmp_path: Path) -> None:
    job = Job("a", "1", Config(labels={"no": "no", "yes": "yes"}), tmp_path / "seed0")
    write_made_up(job, runs(0, "1", 0.9))
    file = job.folder / METRICS_FILE
    values = json.loads(file.read_text())
    assert (values.pop("distribution"), values.pop("dimensions")) == (None, {})
    for name in ("chosen", "dropout", "class_shares", "text_gap"):
        assert values.pop(name)
    file.write_text(json.dumps(values))
    found = read_results(job.folder)
    assert (found.distribution, found.dimensions) == (None, {})
    assert (found.chosen, found.dropout, found.class_shares, found.text_gap) == (None, None, {}, None)


def test_markdown_and_latex_print_names_as_they_are(results: TableResults) -> None:
    lines = to_markdown(results).splitlines()
    assert lines[0].startswith("| model | WA | UA | weighted F1 | macro F1 | Δ weighted F1 vs lpgnet | parameters |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "±" in lines[2]
    latex = to_latex(results)
    assert r"a\&b\_\textless{}script\textgreater{}" in latex
    assert r"iemo\_cap" in latex
    assert r"$\pm$" in latex
    assert escape_latex("50 % \\ $x^2$ ~ #1 {a}") == (
        r"50 \% \textbackslash{} \$x\textasciicircum{}2\$ \textasciitilde{} \#1 \{a\}"
    )


class Page(HTMLParser):
    """What a page asks for and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.addresses: list[str] = []
        self.alternatives: list[str | None] = []
        self.words = ""
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value for name in ("src", "href") if (value := values.get(name))]
        self.alternatives += [values.get("alt")] if tag == "img" else []
        self._in_script = tag == "script"

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.scripts.append(data)
        self.words += data


def test_the_page_asks_for_nothing_and_runs_nothing_of_a_name(results: TableResults) -> None:
    page = Page(to_html(results, {}))
    assert not any("alert(1)" in script for script in page.scripts)
    assert HOSTILE in page.words
    assert page.addresses
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert all(page.alternatives)
    assert len(page.alternatives) == 3 * 2 + 2
    for heading in (
        "Scores",
        "Differences from lpgnet",
        "F1 per class",
        "True and predicted shares of the classes",
        "Folds",
        "Best epochs, and development beside test",
        "Verbatim turns",
        "Conditions",
        "Speakers",
        "Calibration",
    ):
        assert heading in page.words
    assert "Published scores: comparable only under the same protocol" in page.words
    assert "87" in page.words


def test_published_figures_are_for_iemocap_alone(results: TableResults) -> None:
    other = replace(results, protocol=replace(results.protocol, corpus=CorpusConfig(reader="meld")))
    assert "Published scores" not in Page(to_html(other, {})).words


def test_processes_stay_for_the_next_item_and_are_given_what_all_need(tmp_path: Path) -> None:
    seen: list[list[Path]] = []
    items = [tmp_path] * 5
    work = run_side_by_side(
        write_taken, items, workers=2, take=take, given="this", meanwhile=lambda now: seen.append([*now])
    )
    assert list(work) == items
    written = [file.read_text() for file in tmp_path.iterdir()]
    assert written == ["1 this"] * len(written) and 1 <= len(written) <= 2
    assert seen[-1] == [] and sorted(map(len, seen), reverse=True) == [*map(len, seen)]


def test_an_error_of_one_process_is_raised_as_it_is() -> None:
    with pytest.raises(UsageError, match="number 2 cannot be done"):
        list(run_side_by_side(fail_on_two, [1, 2, 3], workers=2))
