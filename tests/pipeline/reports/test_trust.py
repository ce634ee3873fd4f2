"""What tells how far scores can be trusted: epochs, class shares, verbatim turns and recipes, in tables and pages."""

from dataclasses import replace
from pathlib import Path

import pytest

from lpgnet.model import EmotionConfig
from lpgnet.pipeline import evaluate
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.config import Config, EvaluationConfig, TrainingConfig
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.evaluation.analysis import text_gap
from lpgnet.pipeline.evaluation.chosen_epochs import ChosenEpoch
from lpgnet.pipeline.evaluation.class_shares import ClassShare
from lpgnet.pipeline.evaluation.predictions import Outcome
from lpgnet.pipeline.evaluation.run_results import RunResults, read_results
from lpgnet.pipeline.evaluation.table_results import TableResults, describe_table
from lpgnet.pipeline.evaluation.tables import Job, Row
from lpgnet.pipeline.reports.card import write_card
from lpgnet.pipeline.reports.crossval import to_html
from lpgnet.pipeline.reports.run import write_run_report
from lpgnet.pipeline.reports.score_tables import described_tables, epochs_table, shares_table, verbatim_table
from lpgnet.pipeline.reports.targets import describe_recipe
from lpgnet.pipeline.training.freshness import INPUTS_FILE
from tests.pipeline.evaluation.test_crossval import CHOSEN, HOSTILE, Page, write_made_up
from tests.pipeline.predicted import CLASSES, outcome

CONFIG = Config(labels={"no": "no", "yes": "yes"}, evaluation=EvaluationConfig(bootstrap=50))
TITLES = ["Best epochs, and development beside test", "True and predicted shares of the classes", "Conditions"]
TITLES += ["Verbatim turns"]


def misled(fold: str) -> list[Outcome]:
    """Half of the turns are yes, and one in five is predicted to be, in fold 2; the first of each dialogue is known."""
    guessed = (1, 0, 0, 0, 0) if fold == "2" else (1, 1, 1, 0, 0)
    return [
        outcome(
            f"f{fold}d{n // 10}.{n}",
            int(n % 2 == 0),
            guessed[n // 2 % 5] if n % 2 == 0 else int(fold == "1" and n % 10 == 1),
            condition=("scripted", "improvised", "read")[n // 10 % 3],
            text_seen=n % 10 == 0,
        )
        for n in range(120)
    ]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> TableResults:
    folder, rows = tmp_path_factory.mktemp("misled"), [Row("lpgnet", CONFIG), Row(HOSTILE, CONFIG)]
    jobs = [Job(row.name, fold, CONFIG, folder / f"{n}{fold}") for n, row in enumerate(rows) for fold in "12"]
    for job in jobs:
        write_made_up(job, misled(job.fold))
    return describe_table(CONFIG, rows, jobs)


@pytest.fixture
def run(tmp_path: Path) -> RunResults:
    ranges: Ranges = {}
    write_made_up(Job("a", "2", CONFIG, tmp_path), misled("2"), ranges=ranges)
    return replace(read_results(tmp_path), recipe=TrainingConfig(seed=7, batch_size=3))


def test_epochs_of_one_run_and_of_several() -> None:
    first = ChosenEpoch(7, 23, "weighted_f1", 0.794, 0.698)
    runs = {"one": [first], "two": [first, replace(first, epoch=9, development=0.7)], "none": []}
    runs["unlabelled"] = [replace(first, score="ua", test=None)]
    table = epochs_table(runs, of="model")
    assert table.rows == [
        ["one", "7", "23", "weighted F1", "0.794", "0.698", "+0.096"],
        ["two", "7 to 9", "23", "weighted F1", "0.747", "0.698", "+0.049"],
        ["unlabelled", "7", "23", "UA", "0.794", "-", "-"],
    ]


def test_far_shares_are_marked_with_where_they_lie() -> None:
    interval = (0.01, 0.02)
    shares = {"low": ClassShare(0.35, 0.15, interval), "high": ClassShare(0.1, 0.3, interval)}
    table = shares_table({"5": {**shares, "near": ClassShare(0.3, 0.25, interval)}, "6": {}}, of="fold")
    assert table.columns == ["fold", "low", "high", "near"]
    assert table.rows == [["5", "35.0% → 15.0% ▼", "10.0% → 30.0% ▲", "30.0% → 25.0%"]]


def test_verbatim_turns_have_lines_with_n_and_intervals() -> None:
    gap = text_gap([misled("2")], CLASSES, CONFIG.evaluation)
    assert gap is not None
    verbatim, other, difference = verbatim_table({"a": gap, "b": None}, of="model").rows
    assert (verbatim[:3], other[:3]) == (["a", "verbatim", "12"], ["a", "other", "108"])
    low, high = gap.seen.intervals["weighted_f1"]
    assert verbatim[4] == f"{gap.seen.weighted_f1:.3f} [{low:.3f}, {high:.3f}]"
    assert difference[4].startswith(f"{gap.differences['weighted_f1'].value:+.3f} [")
    without = text_gap([misled("2")], CLASSES, EvaluationConfig(bootstrap=0))
    assert len(verbatim_table({"a": without}, of="model").rows) == 2


def test_a_page_of_a_table_shows_them_of_rows_folds_and_runs(results: TableResults) -> None:
    text = to_html(results, {})
    page = Page(text)
    assert not any("alert(1)" in script for script in page.scripts)
    words = " ".join(page.words.split())
    for title in TITLES:
        assert title in words
    assert results.rows[0].folds["2"].class_shares["yes"].is_far
    assert not results.rows[0].folds["1"].class_shares["yes"].is_far
    far = ["lpgnet: 2", "50.0% → 90.0% ▲", "50.0% → 10.0% ▼"]
    chosen = ["lpgnet 2 seed 0", str(CHOSEN.epoch), str(CHOSEN.trained), "weighted F1", "0.950", "0.750", "+0.200"]
    for name, *cells in (far, chosen):
        line = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        assert f'<th scope="row">{name}</th>{line}' in text
    assert "<details open><summary>By fold" in text
    for condition in ("improvised", "read", "scripted"):
        assert condition in words
    assert f"Training: {describe_recipe(TrainingConfig(), 0.3)}." in words


def test_a_run_has_a_page_of_its_own(run: RunResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run_report(run, tmp_path, CONFIG)
    page = Page((tmp_path / "report.html").read_text())
    words = " ".join(page.words.split())
    for title in (*TITLES, "Scores", "Missing modalities", "How it was trained"):
        assert title in words
    assert f"Recipe: {describe_recipe(TrainingConfig(batch_size=3), 0.3)}, seed 7." in words
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert len(page.addresses) == len(list(tmp_path.glob("*.png"))) == 4 and all(page.alternatives)
    sdt = replace(run, model_type="sdt", standardise="session")
    write_run_report(sdt, tmp_path, CONFIG)
    words = " ".join(Page((tmp_path / "report.html").read_text()).words.split())
    assert f"{CONFIG.name}: sdt, test split 2" in words and "The model is transductive" in words
    evaluate.print_results(sdt, TrainingConfig(), title="here")
    assert "the model is transductive: " in capsys.readouterr().out
    bare = replace(run, chosen=None, recipe=None, class_shares={}, text_gap=None, conditions={})
    write_run_report(bare, tmp_path, CONFIG)
    assert not any(title in (tmp_path / "report.html").read_text() for title in TITLES)


def test_the_card_and_the_screen_have_the_same_tables(
    run: RunResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = described_tables(run)
    assert [table.title for table in tables] == TITLES
    (tmp_path / "best").mkdir()
    write_json(tmp_path / INPUTS_FILE, {"training": {"weight_decay": 0.25, "schedule": "constant", "patience": 5}})
    write_card(tmp_path, EmotionConfig(id2label={0: "no", 1: "yes"}), CONFIG, run)
    card = (tmp_path / "best" / "README.md").read_text()
    evaluate.print_results(run, TrainingConfig(), title="here")
    shown = capsys.readouterr().out
    for table in tables:
        assert f"**{table.title}**" in card and table.title in shown
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in card
            assert all(cell in shown for cell in row)
        for said in table.about:
            assert f"\n\n{said}\n\n" in card, "each is a paragraph of its own"
    assert "stopped after 5 without a better development score" in card and "weight decay 0.25" in card
    assert "\n\n\n\n" not in card


def test_a_recipe_in_words() -> None:
    recipe = TrainingConfig(epochs=30, patience=None, batch_size=4, learning_rate=0.002, weight_decay=0.05)
    assert describe_recipe(recipe, 0.4) == (
        "30 epochs, no early stop, 4 dialogues per step, learning rate 0.002 (one_cycle), dropout 0.4, "
        "weight decay 0.05, moving average of the weights with decay 0.98"
    )
    early = describe_recipe(replace(recipe, patience=5, schedule="constant", ema_decay=0.0), None)
    assert early.startswith("at most 30 epochs, stopped after 5 without a better development score, ")
    assert early.endswith("(constant), weight decay 0.05, no moving average of the weights")
    assert "warm-up" not in early and "contrast" not in early
    further = replace(
        recipe, warmup_share=0.2, layer_rate=5, class_weights="inverse", modality_dropout=0.25, contrast=0.5
    )
    assert (
        "(one_cycle), warm-up in 0.2 of the steps, 5 times that for the weights of an encoder's layers, "
        "classes weighted by their inverse frequency, modality dropout 0.25, supervised contrast with weight 0.5"
    ) in describe_recipe(further, 0.4)
    assert "no early stop" in describe_recipe(replace(recipe, patience=30), None), "it never comes to that"
