"""The report of a search: names are printed as they are, and what was seen of the test data is told."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lpgnet.pipeline.config import Config
from lpgnet.pipeline.evaluation.analysis import score
from lpgnet.pipeline.reports.search import about_test, cautions, note, to_html, trials_table
from lpgnet.pipeline.searching.space import parse_space
from lpgnet.pipeline.searching.study import Study
from lpgnet.pipeline.searching.trials import Look, SearchResults, Trial
from tests.pipeline.predicted import outcome

HOSTILE = "a&b_<script>alert(1)</script>"
GIVEN = {
    "training.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "model.dropout": {"low": 0, "high": 0.5},
    "model.hidden_size": [8, 16, None],
    "model.modalities": [["text"], ["text", "audio"]],
}
CONFIG = Config(labels={"a": "no", "b": "yes"})


def trial(number: int, *scores: float, **more: Any) -> Trial:
    sizes = (8, 16, None)
    settings = {
        "model.dropout": 0.1 * (number % 5),
        "model.hidden_size": sizes[number % 3],
        "model.modalities": [["text"], ["text", "audio"]][number % 2],
        "training.learning_rate": 1e-3 * (1 + number),
    }
    return Trial(number, settings, {"1": list(scores)} if scores else {}, 60.0, **more)


def study(*trials: Trial, test: Look | None = None, folds: tuple[str, ...] = ("1",), select: str = "uar") -> Study:
    inputs = {"space": GIVEN, "fold": list(folds), "seeds": 2, "seed": 0, "at_once": 4}
    found = SearchResults(HOSTILE, "default", select, "TPE", inputs, 0, list(trials), test)
    shown = SimpleNamespace(results=found, space=parse_space(GIVEN, select), config=CONFIG, folds=list(folds))
    return cast(Study, shown)


def looked(trials: int, trial: int) -> Look:
    runs = [[outcome(f"d{n}.1", n % 2, (n + seed) % 2) for n in range(8)] for seed in (0, 0)]
    return Look("2026-01-02T03:04+00:00", trials, trial, score(runs, CONFIG.classes, CONFIG.evaluation))


TRIALS = (
    trial(0, 0.5, 0.6),
    trial(1, 0.7, 0.9),
    trial(2, reason=f"{HOSTILE}: diverged"),
    trial(3, 0.7, 0.9, same_as=1),
)


def test_a_row_for_each_trial_the_best_first() -> None:
    table = trials_table(study(*TRIALS).results)
    assert table.columns == ["trial", "learning_rate", "dropout", "hidden_size", "modalities", "UA", "min", "note"]
    assert [row[0] for row in table.rows] == ["1", "3", "0", "2"]
    assert table.rows[0][1:7] == ["0.002", "0.1", "16", "[text, audio]", "0.800 ± 0.141", "1.0"]
    assert [row[-1] for row in table.rows] == ["", "trains as trial 1", "as configured", f"failed: {HOSTILE}: diverged"]
    assert table.rows[3][5] == "-"


def test_names_are_printed_as_they_are() -> None:
    page = to_html(study(*TRIALS))
    assert HOSTILE not in page and "a&amp;b_&lt;script&gt;" in page
    assert page.count("data:image/png") == 2
    assert "http://" not in page and "https://" not in page


def test_a_search_without_a_score_has_a_report_too() -> None:
    page = to_html(study(trial(0, reason="no")))
    assert "failed: no" in page and "data:image/png" not in page


def test_the_best_of_many_is_said_to_be_too_high() -> None:
    said = " ".join(cautions(study(*TRIALS).results))
    assert "The best of 2 development scores is biased upward" in said
    assert "between seeds" in said
    assert "no fold's test score is untouched" not in said
    assert "no fold's test score is untouched" in " ".join(cautions(study(*TRIALS, folds=("1", "2")).results))
    assert "(lower is better)" in trials_table(study(*TRIALS, select="loss").results).columns[5]


def test_whether_the_test_data_were_looked_at_is_told() -> None:
    assert about_test(study(*TRIALS).results) == "The test data were not looked at."
    assert "not looked at" in to_html(study(*TRIALS))
    seen = about_test(study(*TRIALS, test=looked(4, 1)).results)
    assert (
        "looked at once, on 2026-01-02 03:04+00:00, after 4 trials: trial 1 (UA 0.800 ± 0.141 on development)" in seen
    )
    assert "weighted F1 1.000" in seen and "later" not in seen
    begun = about_test(study(*TRIALS, test=replace(looked(4, 1), scores=None)).results)
    assert "the scores of trial 1 are not there yet" in begun


@pytest.mark.parametrize(
    ("scores", "now"), [((0.1, 0.1), ""), ((0.95, 0.95), " The best is now trial 4, whose test score is not shown.")]
)
def test_what_was_tried_after_it_is_marked(scores: tuple[float, float], now: str) -> None:
    found = study(*TRIALS, trial(4, *scores), test=looked(4, 1))
    seen = about_test(found.results)
    assert seen.endswith(f" 1 later trial was chosen with that knowledge (†).{now}")
    numbers = [row[0] for row in trials_table(found.results).rows]
    assert "4 †" in numbers and "1" in numbers
    assert "† chosen when the test data had been looked at." in to_html(found)
    assert note(found.results.trials[4], found.results) == ""
