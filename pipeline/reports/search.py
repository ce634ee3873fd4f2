"""The report of a search: what was tried, what it scored on development data, and whether the test data were seen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from lpgnet.pipeline.common.files import write_atomically
from lpgnet.pipeline.errors import counted
from lpgnet.pipeline.evaluation.metrics import NAMES
from lpgnet.pipeline.reports.cells import with_spread
from lpgnet.pipeline.reports.crossval import image_of
from lpgnet.pipeline.reports.plots import plot_fields, plot_trials
from lpgnet.pipeline.reports.score_tables import Table
from lpgnet.pipeline.reports.templates import templates
from lpgnet.pipeline.searching.space import describe_space, shown_value
from lpgnet.pipeline.searching.study import Study
from lpgnet.pipeline.searching.trials import Look, SearchResults, Trial, chance, spread

TEMPLATE = "search.html"
SCORES = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "uar": "UA", "ccc": "mean CCC", "loss": "loss"}
# Marks what was chosen when the test data had been looked at.
AFTER_TEST = "†"


def write_search_report(study: Study) -> None:
    """Write `report.html` to the study's folder, one page that makes no requests to any address."""
    study.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(study.folder / "report.html", to_html(study))


def to_html(study: Study) -> str:
    """Format the whole report."""
    results = study.results
    label = f"development {score_label(results)}"
    draw = results.best is not None
    return (
        templates()
        .get_template(TEMPLATE)
        .render(
            results=results,
            caption=caption(results),
            trials=trials_table(results),
            compared=compared(results),
            test=about_test(results),
            cautions=list(cautions(results)),
            space=dict(describe_space(study.space)),
            protocol=study.config,
            folds=study.folds,
            history=image_of(partial(plot_trials, results, score=label)) if draw else None,
            fields=image_of(partial(plot_fields, results, study.space, score=label)) if draw else None,
        )
    )


def score_label(results: SearchResults) -> str:
    """Name the score that trials are compared by, and say where lower is better."""
    return SCORES[results.select] + (" (lower is better)" if results.lower_is_better else "")


def caption(results: SearchResults) -> str:
    """Say in one sentence what was tried and how it was compared."""
    inputs = results.inputs
    folds, seeds = len(inputs["fold"]), inputs["seeds"]
    runs = f"{counted(folds, 'fold')} x {counted(seeds, 'seed')}"
    failed = sum(trial.score is None for trial in results.trials)
    beside = f", of which {failed} failed" if failed else ""
    label = score_label(results)
    return f"{results.name}: {counted(len(results.trials), 'trial')}{beside}; development {label}, mean of {runs}."


def trials_table(results: SearchResults) -> Table:
    """Return a row for each trial, the best first and those that failed last."""
    failed = [trial for trial in results.trials if trial.score is None]
    keys = list(results.inputs["space"])
    rows = [_row(trial, keys, results) for trial in (*results.ranked(), *failed)]
    columns = ["trial", *map(_short(keys), keys), score_label(results), "min", "note"]
    return Table(caption(results), columns, rows, tuple(cautions(results)))


def _row(trial: Trial, keys: list[str], results: SearchResults) -> list[str]:
    number = f"{trial.number}{' ' + AFTER_TEST if results.knows_test(trial) else ''}"
    settings = [shown_value(trial.settings[key]) for key in keys]
    return [number, *settings, score_cell(trial), f"{trial.seconds / 60:.1f}", note(trial, results)]


def _short(keys: list[str]) -> partial[str]:
    """Name a field without its section where no other has that name."""
    names = [key.partition(".")[2] for key in keys]
    return partial(lambda key: key.partition(".")[2] if names.count(key.partition(".")[2]) == 1 else key)


def score_cell(trial: Trial) -> str:
    """Format a score and its deviation over the trial's runs, as in `0.812 ± 0.010`, or `-` without one."""
    if trial.score is None:
        return "-"
    deviation = spread(trial.scores)
    return f"{trial.score:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def note(trial: Trial, results: SearchResults) -> str:
    """Say what is to be known of a trial: as configured, as an earlier one, why it failed."""
    found = [
        "as configured" if trial.number == results.configured else "",
        "" if trial.same_as is None else f"trains as trial {trial.same_as}",
        f"failed: {trial.reason}" if trial.reason else "",
    ]
    return "; ".join(filter(None, found))


def compared(results: SearchResults) -> Table | None:
    """Return the settings of the best trial beside the configuration's own, or None where all trials failed."""
    if (best := results.best) is None:
        return None
    shown = [best]
    if results.configured is not None and best.number != results.configured:
        shown.append(results.trials[results.configured])
    columns = ["field", f"best (trial {best.number})", *(["as configured"] if len(shown) > 1 else [])]
    rows = [[key, *(shown_value(trial.settings[key]) for trial in shown)] for key in best.settings]
    rows.append([f"development {score_label(results)}", *map(score_cell, shown)])
    return Table("The best", columns, rows)


def cautions(results: SearchResults) -> Iterator[str]:
    """Say what the scores do not tell."""
    tried = [trial for trial in results.ranked() if trial.same_as is None]
    if len(tried) > 1:
        yield (
            f"The best of {len(tried)} development scores is biased upward: it was chosen because it is high, and on "
            "data that also chose the epochs. Expect less on other data."
        )
    if luck := chance(tried):
        yield (
            f"Runs of one trial differ by {luck.deviation:.3f} between seeds. If all {len(tried)} trials were equally "
            f"good, the best would still come out about {luck.gain:.3f} better by the seeds alone."
        )
    if len(results.inputs["fold"]) > 1:
        yield (
            "The test dialogues of one fold are training or development dialogues of the others, so no fold's test "
            "score is untouched by this search; with search.folds one it is."
        )
    if any(results.knows_test(trial) for trial in results.trials):
        yield f"{AFTER_TEST} chosen when the test data had been looked at."


def about_test(results: SearchResults) -> str:
    """Say whether the test data were looked at, when, and what was seen."""
    look = results.test
    if look is None:
        return "The test data were not looked at."
    when = look.when.replace("T", " ")
    seen = f"The test data were looked at once, on {when}, after {counted(look.trials, 'trial')}"
    if look.scores is None:
        return f"{seen}; the scores of trial {look.trial} are not there yet."
    known = f"{score_label(results)} {score_cell(results.trials[look.trial])} on development"
    scores = ", ".join(f"{words} {with_spread(look.scores, name)}" for name, words in NAMES.items())
    tested = f"has {scores} on {look.scores.n} labelled test utterances"
    return f"{seen}: trial {look.trial} ({known}) {tested}.{_later(results, look)}"


def _later(results: SearchResults, look: Look) -> str:
    """Say what became of a study after it looked at the test data."""
    later, best = len(results.trials) - look.trials, results.best
    if not later:
        return ""
    are = "1 later trial was" if later == 1 else f"{later} later trials were"
    newer = best if best and best.number != look.trial else None
    now = f" The best is now trial {newer.number}, whose test score is not shown." if newer else ""
    return f" {are} chosen with that knowledge ({AFTER_TEST}).{now}"
