"""Scores against raters' votes and ratings: in tables, on pages, in plots and in the model card."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lpgnet.model import EmotionConfig
from lpgnet.pipeline import crossval, evaluate
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.config import Config, CrossvalConfig, EvaluationConfig, TrainingConfig
from lpgnet.pipeline.corpora.ratings import DIMENSIONS, Ranges
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.analysis import Runs
from lpgnet.pipeline.evaluation.dimensions import DimensionScores
from lpgnet.pipeline.evaluation.predictions import Outcome
from lpgnet.pipeline.evaluation.run_results import RunResults, read_results
from lpgnet.pipeline.evaluation.table_results import TableResults, describe_table, read_runs
from lpgnet.pipeline.evaluation.tables import Job, Row
from lpgnet.pipeline.reports.card import write_card
from lpgnet.pipeline.reports.cells import with_interval
from lpgnet.pipeline.reports.crossval import caption, tables, to_html, to_latex, to_markdown
from lpgnet.pipeline.reports.plots import MOST_POINTS, plot_ratings, plot_training
from lpgnet.pipeline.reports.run import write_run_report
from lpgnet.pipeline.reports.score_tables import run_tables
from lpgnet.pipeline.reports.targets import (
    describe_calibration,
    describe_choice,
    describe_dimensions,
    describe_targets,
)
from lpgnet.pipeline.training.checkpoints import EpochLog
from lpgnet.pipeline.training.freshness import INPUTS_FILE
from lpgnet.pipeline.training.runs import recipe_of
from tests.pipeline.evaluation.test_crossval import HOSTILE, Page, write_made_up
from tests.pipeline.predicted import outcome

RANGES: Ranges = {"valence": (1, 5), "arousal": (-1, 1)}
VOTES, RATINGS = "Raters' votes", "Valence, arousal and dominance"
CALIBRATION = "Calibration (lower is better)"
CONFIG = Config(labels={"no": "no", "yes": "yes"}, evaluation=EvaluationConfig(bootstrap=50))


def rated(seed: int, fold: str, *, votes: bool = True, dimensions: bool = True) -> list[Outcome]:
    """Made-up predictions of a fold with votes and ratings; those of valence and arousal miss by a little."""
    rng = np.random.default_rng([seed, int(fold)])
    found = []
    for n in range(24):
        yes, missed = (n * 7 % 10) / 10, float(rng.normal(scale=0.1))
        known: dict[str, Any] = {"ratings": {"valence": 1 + 4 * yes, "arousal": 2 * yes - 1}}
        known |= {"shares": (1 - yes, yes)} if votes else {}
        known |= {"dimensions": {"valence": 1 + 3 * yes + missed, "arousal": yes - 0.5}} if dimensions else {}
        found.append(outcome(f"f{fold}d{n // 4}.{n}", int(yes > 0.5), int(rng.random() < yes), **known))
    return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[TableResults, dict[str, Runs]]:
    """A table of two rows that predict dimensions, one that predicts none, and one without votes; two seeds."""
    folder = tmp_path_factory.mktemp("rated")
    config = replace(CONFIG, crossval=CrossvalConfig(seeds=2))
    rows = [Row(name, config) for name in ("lpgnet", HOSTILE, "votes", "bare")]
    rows[2] = Row("votes", replace(config, training=TrainingConfig(target="distribution", unagreed="use")))
    jobs = []
    for index, row in enumerate(rows):
        for seed in range(2):
            job = Job(row.name, "1", replace(config, training=TrainingConfig(seed=seed)), folder / f"{index}{seed}")
            write_made_up(job, rated(seed + index, "1", votes=index < 3, dimensions=index < 2), ranges=RANGES)
            jobs.append(job)
    runs = {row.name: read_runs([job for job in jobs if job.row == row.name]) for row in rows}
    return describe_table(config, rows, jobs), runs


@pytest.fixture
def run(tmp_path: Path) -> RunResults:
    write_made_up(Job("a", "1", CONFIG, tmp_path), rated(0, "1"), ranges=RANGES)
    return read_results(tmp_path)


def test_a_row_for_each_model_and_dimension_that_has_scores(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, _ = measured
    scores, votes, ratings, _ = tables(results)
    assert len(scores.rows) == 4
    assert votes.columns == ["model", "JSD", "cross-entropy", "macro F1", "n", "Δ JSD vs lpgnet"]
    assert [row[0] for row in votes.rows] == ["lpgnet", HOSTILE, "votes"]
    lpgnet = results.rows[0]
    assert lpgnet.distribution
    assert votes.rows[0][1] == f"{lpgnet.distribution.jsd:.3f} ± {lpgnet.distribution.deviations['jsd']:.3f}"
    assert votes.rows[0][4:] == ["24", "-"]
    assert re.fullmatch(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]", votes.rows[1][5])
    assert ratings.columns[:4] == ["model: dimension", "CCC", "Pearson", "RMSE"]
    assert [row[0] for row in ratings.rows] == [f"{name}: {d}" for name in ("lpgnet", HOSTILE) for d in RANGES]
    assert [row[4:6] for row in ratings.rows[:2]] == [["24", "1 to 5"], ["24", "-1 to 1"]]
    gap = results.rows[1].differences["ccc.valence"]
    assert ratings.rows[2][6].startswith(f"{gap.value:+.3f} [{gap.interval[0]:+.3f}, ")


def test_no_tables_without_votes_and_dimensions(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, _ = measured
    bare = replace(results, rows=[row for row in results.rows if row.model == "bare"])
    assert [table.title for table in tables(bare)[1:]] == [CALIBRATION]
    page = Page(to_html(bare, {}))
    assert VOTES not in page.words and RATINGS not in page.words
    assert to_markdown(bare).count("| --- |") == 2
    one = replace(results, rows=results.rows[:1])
    assert [table.columns[-1] for table in tables(one)[1:3]] == ["n", "range"], "one row differs from nothing"


def test_calibration_is_shown_without_and_with_temperatures(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, runs = measured
    *_, table = tables(results)
    assert table.columns == ["model: probabilities", "ECE", "classwise ECE", "Brier", "NLL", "n", "temperature"]
    assert [row[0] for row in table.rows[:2]] == ["lpgnet: uncalibrated", "lpgnet: calibrated"]
    found = results.rows[0].calibration
    for row, side, temperature in zip(table.rows, (found.before, found.after), ("1", "1.50"), strict=False):
        assert row[3] == f"{side.brier:.3f} ± {side.deviations['brier']:.3f}"
        assert row[5:] == ["24", temperature]
    assert found.before.nll != found.after.nll
    low, high = found.after.intervals["nll"]
    words = Page(to_html(results, runs)).words
    assert f"{found.after.nll:.3f} [{low:.3f}, {high:.3f}]" in words and "expected calibration error" in words
    spread = replace(found, temperatures=[0.61, 1.0, 1.25])
    moved = replace(results, rows=[replace(results.rows[0], calibration=spread)])
    assert tables(moved)[-1].rows[1][-1] == "0.61 to 1.25"


def test_calibration_of_a_run_has_intervals(run: RunResults) -> None:
    *_, table = run_tables(run)
    assert [row[0] for row in table.rows] == ["uncalibrated", "calibrated"]
    low, high = run.calibration.after.intervals["ece"]
    assert table.rows[1][1] == f"{run.calibration.after.ece:.3f} [{low:.3f}, {high:.3f}]"


def test_scores_of_one_seed_have_intervals(tmp_path: Path) -> None:
    row = Row("lpgnet", replace(CONFIG, crossval=CrossvalConfig(seeds=1)))
    job = Job(row.name, "1", row.config, tmp_path)
    write_made_up(job, rated(0, "1"), ranges=RANGES)
    results = describe_table(row.config, [row], [job])
    scores, votes, ratings, _ = tables(results)
    lpgnet = results.rows[0]
    assert lpgnet.distribution
    assert scores.rows[0][3] == with_interval(lpgnet, "weighted_f1")
    assert votes.rows[0][1] == with_interval(lpgnet.distribution, "jsd")
    assert ratings.rows[0][1] == with_interval(lpgnet.dimensions["valence"], "ccc")
    assert "[" in scores.rows[0][3] and "±" not in to_markdown(results)
    assert "one seed; " in caption(results)
    assert caption(results).endswith("; 95% bootstrap intervals over dialogues in brackets.")


def test_the_caption_tells_of_intervals_where_there_are_some(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, _ = measured
    one = replace(results, protocol=replace(results.protocol, seeds=1))
    end = "; 95% bootstrap intervals over dialogues in brackets, paired for differences."
    assert caption(results).endswith(end)
    assert caption(one).endswith(end)
    assert caption(replace(one, rows=results.rows[:1])).endswith(
        "; 95% bootstrap intervals over dialogues in brackets."
    )
    assert "brackets" not in caption(replace(results, rows=results.rows[:1])), "one row has no differences"
    assert "brackets" not in caption(replace(one, protocol=replace(one.protocol, bootstrap=0)))


def learned(results: TableResults, *trainings: TrainingConfig) -> TableResults:
    """The first rows of a table as if they had been trained so."""
    rows = [replace(row, training=training) for row, training in zip(results.rows, trainings, strict=False)]
    return replace(results, rows=rows)


def test_a_table_tells_what_each_row_learned_and_chose_by(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, runs = measured
    labels, votes = TrainingConfig(), TrainingConfig(target="distribution", select="loss")
    alike, mixed = learned(results, votes, votes), learned(results, labels, votes)
    assert "; epoch chosen by loss on development dialogues only; " in caption(alike)
    assert f"Targets: {describe_targets(votes)}." in Page(to_html(alike, runs)).words
    chosen = (
        "; epoch chosen by weighted F1 on development dialogues only (lpgnet), "
        f"epoch chosen by loss on development dialogues only ({HOSTILE}); "
    )
    assert chosen in caption(mixed)
    words = Page(to_html(mixed, runs)).words
    assert f"Targets: the corpus's labels (lpgnet); {describe_targets(votes)} ({HOSTILE})." in words


def test_a_table_tells_what_it_developed_on_and_what_was_refitted(
    measured: tuple[TableResults, dict[str, Runs]],
) -> None:
    results, _ = measured
    first, second = results.rows[:2]
    splits = replace(results.protocol.splits, dev="session")
    mixed = replace(
        results, rows=[first, replace(second, refit=True)], protocol=replace(results.protocol, splits=splits)
    )
    chosen = "epoch chosen by weighted F1 on development dialogues of whole sessions only"
    assert f"; {chosen} (lpgnet), {chosen}, then trained anew for as many epochs on these too (refitted) (" in caption(
        mixed
    )


def test_rows_keep_how_they_were_trained(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, _ = measured
    votes = replace(CONFIG, training=TrainingConfig(target="distribution", unagreed="use"))
    assert [row.training for row in results.rows] == [TrainingConfig()] * 2 + [votes.training, TrainingConfig()]


def test_markdown_latex_and_the_screen_have_the_same_tables(
    measured: tuple[TableResults, dict[str, Runs]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, _ = measured
    results = replace(results, rows=[results.rows[0], replace(results.rows[1], model="lpgnet-votes")])
    crossval.print_table(results)
    shown, markdown, latex = capsys.readouterr().out, to_markdown(results), to_latex(results)
    for table in tables(results):
        assert table.title in shown and table.title in markdown
        for row in table.rows:
            assert all(cell in shown for cell in row)
            assert f"| {' | '.join(row)} |" in markdown
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{table}") == 4
    _, *lines = shown.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 120


def test_the_page_shows_votes_and_a_plot_for_each_dimension(measured: tuple[TableResults, dict[str, Runs]]) -> None:
    results, runs = measured
    text = to_html(results, runs)
    page = Page(text)
    assert not any("alert(1)" in script for script in page.scripts)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    plots = [name for name in page.alternatives if name and name.startswith("Predictions against ratings")]
    assert plots == [
        f"Predictions against ratings of {name}: {dimension}" for name in ("lpgnet", HOSTILE) for dimension in RANGES
    ]
    for words in (VOTES, RATINGS, "Jensen-Shannon divergence", "lower is better", "concordance correlation", "-1 to 1"):
        assert words in page.words
    low, high = results.rows[0].dimensions["arousal"].intervals["ccc"]
    assert f"{results.rows[0].dimensions['arousal'].ccc:.3f} [{low:.3f}, {high:.3f}]" in page.words


def test_a_run_is_told_with_its_intervals(run: RunResults, capsys: pytest.CaptureFixture[str]) -> None:
    votes, ratings, calibration = run_tables(run)
    assert run.distribution
    low, high = run.distribution.intervals["jsd"]
    assert votes.rows[0][:2] == ["fused", f"{run.distribution.jsd:.3f} [{low:.3f}, {high:.3f}]"]
    assert [row[0] for row in ratings.rows] == list(RANGES)
    evaluate.print_results(run, TrainingConfig(), title="here")
    shown = capsys.readouterr().out
    assert all(cell in shown for table in (votes, ratings, calibration) for row in table.rows for cell in row)
    bare = replace(run, distribution=None, dimensions={})
    assert run_tables(bare) == [calibration]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    """The figures that were drawn, as they are when they are closed."""
    figures: list[Figure] = []
    with monkeypatch.context() as patch:
        patch.setattr(plt, "close", figures.append)
        yield figures
    for figure in figures:
        plt.close(figure)


def draw(count: int, scores: DimensionScores) -> None:
    turns = [
        outcome(f"d.{n}", 0, 0, ratings={"arousal": n % 9 / 4 - 1}, dimensions={"arousal": n / count - 0.5})
        for n in range(count)
    ]
    unrated = [outcome("d.u", 0, 0, dimensions={"arousal": 0.0}), outcome("d.v", 0, 0, ratings={"arousal": 0.0})]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_ratings([*turns, *unrated], "arousal", scores, BytesIO())


def points_of(figure: Figure) -> list[tuple[float, float]]:
    axes: Axes = figure.axes[0]
    return [tuple(point) for point in np.asarray(axes.lines[0].get_xydata()).tolist()]


@pytest.mark.parametrize("count", [1, 50, MOST_POINTS])
def test_a_plot_shows_every_rated_utterance_in_the_units_of_the_corpus(count: int, drawn: list[Figure]) -> None:
    draw(count, DimensionScores(0.5, 0.6, 0.3, count, -1, 1, {}, {"ccc": (0.4, 0.6)}))
    axes = drawn[0].axes[0]
    assert points_of(drawn[0]) == [(n % 9 / 4 - 1, n / count - 0.5) for n in range(count)]
    assert np.asarray(axes.lines[1].get_xydata()).tolist() == [[-1, -1], [1, 1]]
    assert axes.get_title() == "arousal: CCC 0.500 [0.400, 0.600]"
    assert axes.get_xlim() == axes.get_ylim() == pytest.approx((-1.08, 1.08))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("arousal, rated", "arousal, predicted")


def test_of_many_points_the_same_sample_is_drawn_each_time(drawn: list[Figure]) -> None:
    for _ in range(2):
        draw(MOST_POINTS + 1000, DimensionScores(0.5, 0.6, 0.3, MOST_POINTS + 1000, -1, 1, {}, {}))
    one, again = map(points_of, drawn)
    assert one == again
    assert len(one) == MOST_POINTS
    assert len({guess for _, guess in one}) == MOST_POINTS, "no utterance twice"
    assert min(guess for _, guess in one) < -0.48 and max(guess for _, guess in one) > 0.48


def test_the_plot_of_training_shows_the_score_that_the_epoch_was_chosen_by(tmp_path: Path, drawn: list[Figure]) -> None:
    dev = {"weighted_f1": 0.5, "ua": 0.4, "ccc": -0.25, "loss": 3.0}
    log = [EpochLog(n, 1.0, dev | {"ccc": n - 1.25}, 0.001, 1.0) for n in (1, 2)]
    for chosen_by in ("weighted_f1", "ccc", "loss"):
        plot_training(log, tmp_path / "training.png", chosen_by=chosen_by, best_epoch=2)
    left, right = zip(*(figure.axes for figure in drawn), strict=True)
    assert [len(axes.lines) for axes in left] == [1, 1, 2]
    assert [line.get_label() for line in left[2].lines] == ["training, all heads", "development, fused head alone"]
    assert [axes.lines[-1].get_label() for axes in right] == ["chosen: epoch 2"] * 3
    assert [line.get_label() for line in right[1].lines][:3] == ["weighted f1", "ua", "ccc"]
    assert right[0].get_ylim() == right[2].get_ylim() == (0, 1)
    assert right[1].get_ylim() == (-0.25, 1)


def test_how_the_epoch_was_chosen_is_told() -> None:
    assert describe_choice(TrainingConfig()) == "epoch chosen by weighted F1 on development dialogues"
    assert describe_choice(TrainingConfig(), "session").endswith("on development dialogues of whole sessions")
    assert describe_choice(TrainingConfig(), "speaker").endswith("turns of speakers who are not in training")
    assert [describe_choice(TrainingConfig(select=name)) for name in get_args(get_type_hints(TrainingConfig)["select"])]  # type: ignore[arg-type]


def test_what_a_model_was_trained_to_predict_is_told() -> None:
    assert describe_targets(TrainingConfig()) == "the corpus's labels"
    smoothed = describe_targets(TrainingConfig(label_smoothing=0.1))
    assert smoothed == "the corpus's labels, of which 0.1 is spread over all classes (label smoothing)"
    votes = TrainingConfig(target="distribution", vote_smoothing=0.5, unagreed="use")
    assert describe_targets(votes) == (
        "the shares of the raters' votes among the classes (the label where nobody voted), "
        "with 0.5 votes added to each (vote smoothing), also where they do not agree"
    )
    assert "but not where" in describe_targets(TrainingConfig(target="distribution"))


def test_a_run_report_has_a_plot_for_each_dimension(run: RunResults, tmp_path: Path) -> None:
    write_run_report(run, tmp_path, CONFIG)
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        *("class-shares", "confusion", "reliability", "missing"),
        *RANGES,
    }


def trained(folder: Path, **settings: object) -> None:
    """Let a folder be of a run that was trained with these settings, as `runs.run_inputs` tells them."""
    (folder / "best").mkdir()
    write_json(folder / INPUTS_FILE, {"training": settings})


def test_the_card_tells_how_the_run_was_trained_not_how_it_is_evaluated(run: RunResults, tmp_path: Path) -> None:
    trained(tmp_path, seed=7, target="distribution", select="loss", vote_smoothing=0.5, older=1)
    write_card(tmp_path, EmotionConfig(id2label={0: "no", 1: "yes"}), CONFIG, run)
    words = " ".join((tmp_path / "best" / "README.md").read_text().split())
    assert "epoch chosen by loss on development dialogues, seed 7." in words
    assert "Trained to predict the shares of the raters' votes" in words
    assert "with 0.5 votes added to each (vote smoothing), but not where they do not agree." in words


def test_a_recipe_has_the_settings_that_inputs_leave_out(tmp_path: Path) -> None:
    trained(tmp_path, seed=3, epochs=2)
    assert recipe_of(tmp_path) == TrainingConfig(seed=3, epochs=2, layer_rate=1.0), "as before there was that setting"
    for broken in ("votes", 1, None):
        write_json(tmp_path / INPUTS_FILE, {"training": {"target": broken}})
        with pytest.raises(PipelineError, match=r"inputs\.json: key 'training'.*target"):
            recipe_of(tmp_path)


def test_a_calibration_error_is_told_to_be_of_labels_also_where_votes_were_learned(
    run: RunResults,
    measured: tuple[TableResults, dict[str, Runs]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    labels, votes = TrainingConfig(), TrainingConfig(target="distribution")
    of_votes = "against the labels; the temperature was fitted to the raters' votes"
    assert describe_calibration(votes) == of_votes
    assert describe_calibration(labels) == "against the labels, to which the temperature was fitted"
    evaluate.print_results(run, votes, title="here")
    assert f"at temperature 1.50 ({of_votes})" in " ".join(capsys.readouterr().out.split())
    trained(tmp_path, target="distribution")
    write_card(tmp_path, EmotionConfig(id2label={0: "no", 1: "yes"}), CONFIG, run)
    card = " ".join((tmp_path / "best" / "README.md").read_text().split())
    assert f"part of this model's configuration. The error is {of_votes}." in card
    results, runs = measured
    words = Page(to_html(learned(results, labels, votes), runs)).words
    assert f"{describe_calibration(labels)} (lpgnet); {of_votes} ({HOSTILE})." in words


def test_the_card_tells_targets_ranges_and_scores(run: RunResults, tmp_path: Path) -> None:
    ranges = {name: list(ends) for name, ends in RANGES.items()}
    classes = {0: "no", 1: "yes"}
    model = EmotionConfig(dimensions=list(RANGES), ranges=ranges, dimension_weight=0.25, id2label=classes)
    training = TrainingConfig(target="distribution", unagreed="use")
    trained(tmp_path, target="distribution", unagreed="use")
    write_card(tmp_path, model, CONFIG, run)
    card = (tmp_path / "best" / "README.md").read_text()
    for table in run_tables(run):
        assert f"### {table.title}" in card
        assert all(f"| {' | '.join(row)} |" in card for row in table.rows)
        assert all(line in card for line in table.about)
    words = " ".join(card.split())
    assert "from text and audio, and valence (1 to 5), arousal (-1 to 1), in the units of its corpus." in words
    assert f"Trained to predict {describe_targets(training)}, and valence and arousal by their" in words
    assert "concordance correlation (weight 0.25)." in words


def test_what_a_model_learned_of_ratings_is_told() -> None:
    ranges: dict[str, list[float]] = {name: [1, 5] for name in DIMENSIONS}
    one = EmotionConfig(dimensions=["arousal"], ranges=ranges)
    assert describe_dimensions(one) == "arousal by their concordance correlation (weight 0.5)"
    all_three = EmotionConfig(dimensions=list(DIMENSIONS), ranges=ranges, dimension_loss="mse")
    assert describe_dimensions(all_three).startswith("valence, arousal and dominance by their mean squared error")


def test_the_card_of_a_model_of_labels_is_as_short_as_before(run: RunResults, tmp_path: Path) -> None:
    trained(tmp_path)
    model = EmotionConfig(id2label={0: "no", 1: "yes"})
    write_card(tmp_path, model, CONFIG, replace(run, distribution=None, dimensions={}))
    card = (tmp_path / "best" / "README.md").read_text()
    assert "from text and audio.\n" in card
    assert "Trained to predict the corpus's labels.\n" in card
    assert card.count("###") == 1 and f"### {CALIBRATION}" in card and "\n\n\n\n" not in card
