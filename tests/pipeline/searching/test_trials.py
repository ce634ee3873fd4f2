"""What a search keeps of its trials: which is best, what chance makes of scores, and files that no search wrote."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lpgnet.pipeline.common.files import from_json, read_json, to_json, write_json
from lpgnet.pipeline.config import Config, CrossvalConfig, SearchConfig
from lpgnet.pipeline.errors import PipelineError, UsageError
from lpgnet.pipeline.searching.space import parse_space
from lpgnet.pipeline.searching.study import Plan, Study, study_folder
from lpgnet.pipeline.searching.trials import Look, SearchResults, Trial, chance, check_trials, spread

SPACE = parse_space({"training.epochs": [1, 2, 3]}, "weighted_f1")


def trial(number: int, *scores: float, reason: str | None = None, same_as: int | None = None) -> Trial:
    by_fold = {"1": list(scores)} if scores else {}
    return Trial(number, {"training.epochs": 1 + number % 3}, by_fold, 60.0, same_as, reason)


def results(*trials: Trial, select: str = "weighted_f1", test: Look | None = None) -> SearchResults:
    inputs = {"space": {"training.epochs": [1, 2, 3]}, "fold": ["1"], "seeds": 2, "seed": 0, "at_once": 4}
    return SearchResults("demo", "default", select, "TPE", inputs, None, list(trials), test)


def test_the_best_is_the_first_with_the_highest_mean() -> None:
    found = results(trial(0, 0.5, 0.5), trial(1, reason="no"), trial(2, 0.75, 0.5), trial(3, 0.5, 0.75))
    assert [one.number for one in found.ranked()] == [2, 3, 0]
    assert found.best is not None and found.best.score == 0.625
    lower = results(*found.trials, select="loss")
    assert [one.number for one in lower.ranked()] == [0, 2, 3]
    assert results(trial(0, reason="no")).best is None


def test_what_chance_makes_of_scores_by_hand() -> None:
    """Two seeds: the variance of (0.4, 0.6) is 0.02, of (0.5, 0.5) 0, their mean 0.01.

    The error of a mean of two is 0.1 / sqrt(2); of two deviates, the larger is 0.589 on average by Blom (exactly
    1 / sqrt(pi) = 0.564).
    """
    found = chance([trial(0, 0.4, 0.6), trial(1, 0.5, 0.5), trial(2, 0.9, 0.9, same_as=1), trial(3, reason="no")])
    assert found is not None
    assert found.deviation == pytest.approx(0.1)
    assert found.gain == pytest.approx(0.1 / math.sqrt(2) * 0.589, abs=1e-4)
    assert chance([trial(0, 0.5), trial(1, 0.6)]) is None
    assert spread(trial(0, 0.4, 0.6).scores) == pytest.approx(math.sqrt(0.02))


def test_what_chance_makes_of_scores_by_drawing() -> None:
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(200):
        drawn = [trial(number, *rng.normal(0.5, 0.03, 3)) for number in range(20)]
        gains.append(max(one.score or 0 for one in drawn) - 0.5)
    found = chance(drawn)
    assert found is not None and found.gain == pytest.approx(np.mean(gains), rel=0.25)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found = results(trial(0, 0.5, 0.6), trial(1, reason="no"), test=Look("2026-01-01", 2, 0))
    write_json(tmp_path / "results.json", found)
    assert read_json(tmp_path / "results.json", SearchResults) == found
    check_trials(found, SPACE, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["trials"][0].update(number=3), "number is 3"),
        (lambda v: v["trials"][0]["settings"].update({"training.epochs": 7}), "settings.training.epochs"),
        (lambda v: v["trials"][0]["settings"].update({"training.epochs": True}), "settings.training.epochs"),
        (lambda v: v["trials"][0]["settings"].clear(), "settings.training.epochs"),
        (lambda v: v["trials"][0]["settings"].update(x=1), "a field that is not searched"),
        (lambda v: v["trials"][0]["scores"].update({"1": [math.nan]}), "not finite"),
        (lambda v: v["trials"][0]["scores"].update({"1": []}), "not finite"),
        (lambda v: v["trials"][0]["scores"].clear(), "reason"),
        (lambda v: v["trials"][0].update(reason="x"), "reason"),
        (lambda v: v["trials"][1].update(same_as=1), "same_as is 1"),
        (lambda v: v.update(configured=5), "configured is 5"),
        (lambda v: v["test"].update(trial=2), "test: trial 2"),
        (lambda v: v["test"].update(trials=9), "test: trial 0 of 9"),
        (lambda v: v["trials"].__setitem__(0, v["trials"][0] | {"scores": {}, "reason": "x"}), "test: trial 0"),
    ],
)
def test_what_no_search_has_written_is_refused(change: Any, words: str) -> None:
    found = results(trial(0, 0.5, 0.6), trial(1, 0.4, 0.3), test=Look("2026-01-01", 2, 0))
    values = json.loads(json.dumps(to_json(found)))
    change(values)
    with pytest.raises(PipelineError, match=words) as refused:
        check_trials(from_json(values, SearchResults, where="here"), SPACE, Path("x/results.json"))
    assert "x/results.json: " in str(refused.value)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "..", "."])
def test_a_study_stays_in_its_experiment(name: str) -> None:
    with pytest.raises(UsageError, match=r"search\.study"):
        study_folder(replace(Config(), search=SearchConfig(study=name)))


@pytest.mark.parametrize(("trials", "known", "total"), [(2, 0, 2), (9, 0, 3), (9, 2, 3), (2, 3, 3), (9, 4, 4)])
def test_there_are_no_more_trials_than_combinations(trials: int, known: int, total: int) -> None:
    config = Config(search=SearchConfig(trials=trials))
    assert Plan(config, SPACE, [trial(number) for number in range(known)]).total == total


def test_a_refitted_model_is_not_searched_for() -> None:
    config = Config(crossval=CrossvalConfig(refit=True), search=SearchConfig(space={"training.epochs": [1, 2]}))
    with pytest.raises(UsageError, match=r"key 'crossval\.refit': .*; search with --crossval\.refit false"):
        Study(config)
