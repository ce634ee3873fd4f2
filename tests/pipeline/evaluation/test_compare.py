"""Comparing runs: by hand, against a plain loop, and never on different utterances."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpgnet.pipeline import cli
from lpgnet.pipeline.common.stamps import write_stamp
from lpgnet.pipeline.config import EvaluationConfig
from lpgnet.pipeline.errors import PipelineError
from lpgnet.pipeline.evaluation.analysis import title
from lpgnet.pipeline.evaluation.comparison import (
    McNemar,
    both_scores,
    check_comparable,
    differences,
    mcnemar,
    read_measured,
)
from lpgnet.pipeline.evaluation.distributions import DistributionScores, score_distribution
from lpgnet.pipeline.evaluation.metrics import NAMES, bootstrap_differences, bootstrap_intervals, scores
from lpgnet.pipeline.evaluation.predictions import Outcome
from lpgnet.pipeline.evaluation.tables import MEASURED_FILE
from lpgnet.pipeline.reports.cells import with_interval
from lpgnet.pipeline.reports.score_tables import votes_table
from tests.pipeline.predicted import outcome, write_run


def run_of(guesses: str, truths: str) -> list[Outcome]:
    """Utterances in dialogues of two."""
    return [outcome(f"d{n // 2}.{n}", int(t), int(g)) for n, (g, t) in enumerate(zip(guesses, truths, strict=True))]


def test_mcnemar_by_hand() -> None:
    truths = "11111111" + "00"
    first, second = run_of("11111110" + "00", truths), run_of("00000111" + "00", truths)
    # The first alone is right on 5, the second alone on 1: 2 * (C(6, 0) + C(6, 1)) / 2^6.
    assert mcnemar(first, second) == McNemar(5, 1, pytest.approx(14 / 64))
    assert mcnemar(second, first) == McNemar(1, 5, pytest.approx(14 / 64))
    assert mcnemar(first, first) == McNemar(0, 0, 1.0)


def test_unlabelled_utterances_decide_nothing() -> None:
    first, second = run_of("11", "11"), run_of("10", "11")
    context = outcome("d9.0", -100, 1)
    assert mcnemar([*first, context], second) == mcnemar(first, second)


def test_the_paired_bootstrap_is_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 6, size=(3, 9, 2, 2)) for _ in range(2))
    found = bootstrap_differences(first, second, resamples=200, confidence=0.9, seed=4)["ua"]
    drawn = np.random.default_rng(4).multinomial(9, np.full(9, 1 / 9), size=200)

    def mean_ua(side: np.ndarray, weights: np.ndarray) -> float:
        return float(np.mean([scores(sum(w * d for w, d in zip(weights, run, strict=True)))["ua"] for run in side]))

    gaps = [mean_ua(first, weights) - mean_ua(second, weights) for weights in drawn]
    assert found.interval == pytest.approx(tuple(np.quantile(gaps, [0.05, 0.95])))
    assert found.value == pytest.approx(mean_ua(first, np.ones(9)) - mean_ua(second, np.ones(9)))


def test_what_both_find_hard_does_not_widen_a_paired_interval() -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(40) < 0.5
    second = np.stack([np.diag([5, 5]) if easy else np.array([[1, 4], [4, 1]]) for easy in ~hard])
    first = second + np.array([[1, 0], [0, 1]])
    paired = bootstrap_differences(first[None], second[None], resamples=500, confidence=0.95)["wa"]
    alone = bootstrap_intervals(first[None], resamples=500, confidence=0.95)["wa"]
    assert paired.interval[0] > 0
    assert paired.p < 0.01
    assert paired.interval[1] - paired.interval[0] < (alone[1] - alone[0]) / 3


def test_a_run_is_as_good_as_itself(tmp_path: Path) -> None:
    side = read_measured(write_run(tmp_path / "a", run_of("0110", "0101")))
    for gap in differences(side, side, resamples=50, confidence=0.95).values():
        assert gap.value == 0
        assert gap.interval == (0, 0)
        assert gap.p == 1


def rated_run(*valences: float, shares: tuple[float, ...] = (0.25, 0.75), **others: Any) -> list[Outcome]:
    """Utterances in dialogues of two that were rated 1, 2, 3, ...; only every other one has a majority."""
    return [
        outcome(
            f"d{n // 2}.{n}",
            -100 if n % 2 else 1,
            1,
            **{"shares": shares, "ratings": {"valence": n + 1.0}, "dimensions": {"valence": valence}} | others,
        )
        for n, valence in enumerate(valences)
    ]


RATED_SCORES = ["ccc.valence", "pearson.valence", "rmse.valence"]
VOTED_SCORES = ["jsd.votes", "cross_entropy.votes", "macro_f1.votes"]


def test_a_score_has_one_title_in_tables_and_comparisons() -> None:
    measured = score_distribution([[one.prediction for one in rated_run(1, 2)]], EvaluationConfig(bootstrap=0))
    assert measured
    votes = votes_table({"fused": measured}, with_interval, of="head")
    assert [title(name) for name in VOTED_SCORES] == [f"{name} of votes" for name in votes.columns[1:-1]]
    assert {name.partition(".")[0] for name in VOTED_SCORES} <= {entry.name for entry in fields(DistributionScores)}
    assert title("rmse.valence") == "RMSE of valence"
    assert title("ua") == NAMES["ua"]


def test_the_page_of_measures_calls_them_as_results_do() -> None:
    page = (Path(__file__).parents[3] / "docs" / "own-corpus.md").read_text()
    measures = page.split("## Measures")[1].split("\n## ")[0]
    assert all(f"| {title(name)} | " in measures and f"`{name}`" in measures for name in VOTED_SCORES)
    assert measures.count("not calibrated") == 1
    assert "calibration error is measured against the labels" in " ".join(measures.split())


def test_runs_are_compared_on_votes_and_ratings_where_both_have_them(tmp_path: Path) -> None:
    first = read_measured(write_run(tmp_path / "a", rated_run(1, 2, 3, 4)))
    second = read_measured(write_run(tmp_path / "b", rated_run(2, 1, 2, 3)))
    check_comparable(first, second)
    gaps = differences(first, second, resamples=50, confidence=0.95)
    assert list(gaps) == [*NAMES, *VOTED_SCORES, *RATED_SCORES]
    values = both_scores(first, second)
    assert list(values) == list(gaps)
    assert all(gaps[name].value == pytest.approx(ours - theirs) for name, (ours, theirs) in values.items())
    assert gaps["rmse.valence"].value == pytest.approx(-1)
    assert values["ccc.valence"][0] == pytest.approx(1)
    assert gaps["jsd.votes"].value == 0
    without = read_measured(write_run(tmp_path / "c", rated_run(1, 2, 3, 4, dimensions={}, shares=())))
    check_comparable(first, without)
    assert list(differences(first, without, resamples=50, confidence=0.95)) == list(NAMES)


def test_only_utterances_count_that_both_sides_have(tmp_path: Path) -> None:
    first = read_measured(write_run(tmp_path / "a", rated_run(1, 2, 3, 4)))
    unlabelled_dropped = [one for one in rated_run(2, 2, 4, 4) if one.prediction.label >= 0]
    second = read_measured(write_run(tmp_path / "b", unlabelled_dropped))
    check_comparable(first, second)
    assert both_scores(first, second)["rmse.valence"] == pytest.approx((0, 1))


def test_other_votes_and_ratings_are_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", rated_run(1, 2))
    refused(
        first, write_run(tmp_path / "b", rated_run(1, 2, shares=(0.5, 0.5))), "d0.0 has different votes or ratings;"
    )
    refused(first, write_run(tmp_path / "c", rated_run(1, 2, ratings={"valence": 9.0})), "different votes or ratings")


def test_utterances_in_other_dialogues_are_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", run_of("01", "01"))
    moved = [replace(one, prediction=replace(one.prediction, dialogue_id="e")) for one in run_of("01", "01")[:1]]
    refused(
        first,
        write_run(tmp_path / "b", [*moved, *run_of("01", "01")[1:]]),
        "d0.0 is in the dialogue d0 and in e; compare",
    )


def write_row(folder: Path, *, seeds: int = 2) -> Path:
    for fold in ("1", "2"):
        for seed in range(seeds):
            run = write_run(
                folder / fold / f"seed{seed}", [outcome(f"f{fold}.0", 0, seed), outcome(f"f{fold}.1", 1, 1)]
            )
            write_stamp(run / MEASURED_FILE, {"fold": fold, "training": {"seed": seed, "epochs": 3}})
    return folder


def test_a_row_is_read_with_its_folds_together(tmp_path: Path) -> None:
    row = read_measured(write_row(tmp_path / "lpgnet"))
    assert list(row.runs) == ["seed0", "seed1"]
    assert [one.prediction.utterance_id for one in row.runs["seed1"]] == ["f1.0", "f1.1", "f2.0", "f2.1"]
    other = read_measured(write_row(tmp_path / "sdt"))
    check_comparable(row, other)


def test_of_a_row_that_was_refitted_too_the_refitted_runs_are_read(tmp_path: Path) -> None:
    row = write_row(tmp_path / "lpgnet")
    for fold in ("1", "2"):
        run = write_run(row / fold / "seed0-refit", [outcome(f"f{fold}.9", 0, 1)])
        write_stamp(run / MEASURED_FILE, {"fold": fold, "training": {"seed": 0}, "refit": True})
    found = read_measured(row)
    assert list(found.runs) == ["seed0"], "compared with the same seed of a row that is not refitted"
    assert [one.prediction.utterance_id for one in found.runs["seed0"]] == ["f1.9", "f2.9"]


def test_a_row_of_several_configurations_is_refused(tmp_path: Path) -> None:
    row = write_row(tmp_path / "lpgnet")
    write_stamp(row / "1" / "seed0" / MEASURED_FILE, {"fold": "1", "training": {"seed": 0, "epochs": 9}})
    with pytest.raises(PipelineError, match=r"seed0: has a different configuration than .*seed1; run the table"):
        read_measured(row)


def test_a_run_that_was_moved_aside_is_left_out(tmp_path: Path) -> None:
    row = write_row(tmp_path / "lpgnet")
    (row / "1" / "seed1").rename(row / "1" / "seed1~1")
    assert len(read_measured(row).runs["seed1"]) == 2


def refused(first: Path, second: Path, match: str) -> None:
    with pytest.raises(PipelineError, match=match) as caught:
        check_comparable(read_measured(first), read_measured(second))
    assert "\n" not in str(caught.value)


def test_other_test_utterances_are_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", run_of("0110", "0101"))
    second = write_run(tmp_path / "b", run_of("01", "01"))
    refused(first, second, r"2 are on one side only, such as d1.2, d1.3 \(d1.2 is in .*a, not in .*b\)")
    refused(second, first, r"d1.2 is in .*a, not in .*b")


def test_other_labels_classes_and_seeds_are_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", run_of("01", "01"))
    refused(first, write_run(tmp_path / "b", run_of("01", "00")), "different labels in .* such as those of d0.1")
    refused(first, write_run(tmp_path / "c", run_of("01", "01"), ["no", "maybe"]), "has the classes no, yes, .* maybe")
    refused(write_row(tmp_path / "d", seeds=2), write_row(tmp_path / "e", seeds=3), "has 2 seeds, .* has 3")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write_run(tmp_path / "a", run_of("0101" * 5, "0101" * 5))
    second = write_run(tmp_path / "b", run_of("0111" * 5, "0101" * 5))
    assert cli.main(["compare", str(first), str(second), "--resamples", "100"]) == 0
    out = capsys.readouterr().out
    assert "+0.250 [" in out
    assert "only A right" in out
    assert "better when lower" not in out
    rated = write_run(tmp_path / "c", rated_run(1, 2, 2, 4))
    assert cli.main(["compare", str(rated), str(rated), "--resamples", "9"]) == 0
    out = capsys.readouterr().out
    assert "JSD, cross-entropy and RMSE are better when lower" in out
    assert all(word in out for word in ("JSD", "CCC of valence", "RMSE of valence"))
    assert cli.main(["compare", str(first), str(tmp_path / "none")]) == 1
    assert "has no predictions; evaluate the run first" in capsys.readouterr().err


def test_a_file_that_holds_something_else_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", run_of("01", "01"))
    (folder / "predictions.jsonl").write_text('{"utterance_id": "x"}\n')
    with pytest.raises(
        PipelineError, match=r"predictions.jsonl, line 1: is not a prediction: it lacks .*; evaluate the run again"
    ):
        read_measured(folder)
