"""Made-up corpora with raters: votes from known distributions, and labels that follow from valence and arousal."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.model import load_model
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.manifest import Corpus, Manifest, Utterance
from lpgnet.pipeline.corpora.ratings import DIMENSIONS, Ranges
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.evaluation.distributions import dialogue_distributions, distribution_scores
from lpgnet.pipeline.evaluation.inference import Prediction, predict_dialogues, temperature_of
from lpgnet.pipeline.evaluation.metrics import (
    Difference,
    Scoring,
    bootstrap_differences,
    dialogue_confusions,
    mean_scores,
    overall_scores,
)
from lpgnet.pipeline.training.dialogues import make_dialogues
from lpgnet.pipeline.training.freshness import BEST_FOLDER
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import LoadedCorpus
from lpgnet.pipeline.training.splits import Split
from tests.pipeline.tensors import make_config, make_split, train

CODES = ("ang", "hap", "neu", "sad")
LABELS: dict[str, str | None] = {code: code for code in CODES}
TURNS, WIDTH = 8, 12
RATERS = 5
RANGES: Ranges = dict.fromkeys(DIMENSIONS, (1.0, 5.0))
KNOWN = "known"  # where `extra` has the distribution that an utterance's votes were drawn from


def make_voted_corpus(seed: int, *, dialogues: int = 96) -> LoadedCorpus:
    """Make a corpus whose five raters vote by a distribution that follows from text and audio together.

    An utterance has the label of most votes, none where two have as many, and the distribution in `extra`. Its
    dimensions follow from what follows from text (valence), from audio (arousal) and from both (dominance).
    """
    rng = np.random.default_rng(seed)
    text, audio = rng.standard_normal((2, dialogues * TURNS, WIDTH))
    rules = rng.standard_normal((2, WIDTH, len(CODES))) * 1.5 / WIDTH**0.5
    known = _softmax(text @ rules[0] + audio @ rules[1])
    ratings = 3 + np.stack([text[:, 0], audio[:, 0], text[:, 1] + audio[:, 1]], axis=-1)
    utterances = []
    for turn, distribution in enumerate(known):
        votes = Counter(rng.choice(CODES, RATERS, p=distribution).tolist())
        rated = _rated(ratings[turn], rng, spread=0.3)
        extra = {KNOWN: distribution.tolist()}
        utterances.append(_utterance(turn, votes=dict(votes), label=most_votes(votes), extra=extra, **rated))
    return _corpus(utterances, text, audio, f"votes {dialogues} {seed}")


def make_rated_corpus(seed: int, *, dialogues: int = 96) -> LoadedCorpus:
    """Make a corpus of which every turn is rated, and has a label that follows from its valence and arousal.

    Valence follows from the text and arousal from the audio; the label says on which side of the middle each lies.
    """
    rng = np.random.default_rng(seed)
    text, audio = rng.standard_normal((2, dialogues * TURNS, WIDTH))
    rules = rng.standard_normal((2, WIDTH)) / WIDTH**0.5
    ratings = np.stack([3 + text @ rules[0], 3 + audio @ rules[1], np.full(len(text), np.nan)], axis=-1)
    utterances = []
    for turn, (valence, arousal, _) in enumerate(ratings):
        label = CODES[2 * (valence < 3) + (arousal < 3)]
        utterances.append(_utterance(turn, label=label, **_rated(ratings[turn], rng, spread=0.3)))
    return _corpus(utterances, text, audio, f"ratings {dialogues} {seed}")


def remove_labels(split: Split, share: float, *, seed: int = 0) -> Split:
    """Return the split with a share of its training labels gone, drawn at random; votes and ratings stay."""
    rng = np.random.default_rng(seed)
    train = [
        replace(one, labels=one.labels.masked_fill(torch.from_numpy(rng.random(len(one)) < share), NO_LABEL))
        for one in split.train
    ]
    return replace(split, train=tuple(train))


def make_rater_config(kind: str = "lpgnet", *, model: dict[str, Any] | None = None, **training: Any) -> Config:
    """Make a configuration for a small model of the four classes; turns are independent of each other."""
    own = {"kernel_size": 1} if kind in ("lpgnet", "text", "audio") else {}
    return replace(make_config(kind, model=own | (model or {}), **training), labels=LABELS)


def most_votes(votes: Counter[str]) -> str | None:
    """The code that more raters named than any other, or None."""
    (first, most), *others = votes.most_common(2)
    return None if others and others[0][1] == most else first


def _softmax(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(values / values.sum(-1, keepdims=True))


def _rated(true: np.ndarray, rng: np.random.Generator, *, spread: float) -> dict[str, float]:
    """Rate each dimension that is not NaN, with normal noise."""
    said = np.clip(true + rng.normal(0, spread, len(true)), 1, 5)
    return {name: float(value) for name, value in zip(DIMENSIONS, said, strict=True) if not np.isnan(value)}


def _utterance(turn: int, **fields: object) -> Utterance:
    dialogue = f"d{turn // TURNS:03d}"
    return Utterance(dialogue, f"{dialogue}.{turn % TURNS}", speaker="AB"[turn % 2], **fields)  # type: ignore[arg-type]


def _corpus(utterances: Sequence[Utterance], text: np.ndarray, audio: np.ndarray, digest: str) -> LoadedCorpus:
    rows = {utterance.utterance_id: row for row, utterance in enumerate(utterances)}
    layers = {"text": text[:, None], "audio": np.repeat(audio[:, None], 2, axis=1)}
    embeddings = {name: Embeddings(values.astype(np.float32), rows) for name, values in layers.items()}
    manifest = Manifest(Corpus("made up", "", "table", 1, ranges=RANGES), tuple(utterances))
    dialogues = make_dialogues(manifest, embeddings, LABELS, drop_unlabelled=False)
    specs = {name: EncoderSpec(name, name, "all", "mean", "fp32", None, None, False, name) for name in layers}
    return LoadedCorpus(tuple(dialogues), specs, digest, ranges=RANGES)


@dataclass(frozen=True)
class Gain:
    """What learning from raters is worth on test dialogues.

    Attributes:
        without, learned: the score without and with it.
        difference: the second minus the first, by a paired bootstrap over the dialogues of all corpora.
    """

    without: float
    learned: float
    difference: Difference


def gain_of_distributions(
    folder: Path, config: Config, *, seeds: int, unagreed: Literal["drop", "use"] = "use", dialogues: int = 96
) -> Gain:
    """Measure how much nearer to the known distributions (Jensen-Shannon divergence) learning the votes comes.

    Args:
        folder: for the runs; those that are there already are not trained again.
        config: by which the majority is learned.
        seeds: number of corpora, each learned once with each target.
        unagreed: what becomes of utterances without a majority where votes are learned.
        dialogues: in a corpus.
    """
    recipes = {"majority": config.training}
    recipes[f"votes, {unagreed}"] = replace(config.training, target="distribution", unagreed=unagreed)
    sides: list[list[np.ndarray]] = [[], []]
    for seed in range(seeds):
        corpus = make_voted_corpus(seed, dialogues=dialogues)
        split = make_split(corpus)
        known = {u.utterance_id: u.extra[KNOWN] for dialogue in split.test for u in dialogue.utterances}
        for side, (name, recipe) in zip(sides, recipes.items(), strict=True):
            found = predict_after(replace(config, training=recipe), corpus, split, folder / f"{name} {seed}")
            side.append(dialogue_distributions([replace(one, shares=known[one.utterance_id]) for one in found]))
    return _gain(sides, config, "jsd", distribution_scores)


def gain_of_ratings(folder: Path, config: Config, *, seeds: int, removed: float = 0.9, dialogues: int = 96) -> Gain:
    """Measure how much learning valence and arousal raises weighted F1 where most training labels are gone.

    Args:
        folder: for the runs; those that are there already are not trained again.
        config: by which labels alone are learned, with the dimensions' loss and weight.
        seeds: number of corpora, each learned once with and once without ratings.
        removed: share of the training labels that are gone.
        dialogues: in a corpus.
    """
    loss = getattr(config.model, "dimension_loss", None)
    models = {"labels": replace(config.model, dimension_loss=None)}  # type: ignore[call-arg]
    models[f"ratings, {loss}"] = replace(config.model, dimensions=["valence", "arousal"])  # type: ignore[call-arg]
    sides: list[list[np.ndarray]] = [[], []]
    for seed in range(seeds):
        corpus = make_rated_corpus(seed, dialogues=dialogues)
        split = remove_labels(make_split(corpus), removed, seed=seed)
        for side, (name, model) in zip(sides, models.items(), strict=True):
            found = predict_after(replace(config, model=model), corpus, split, folder / f"{name} {seed}")
            side.append(dialogue_confusions(found, CODES))
    return _gain(sides, config, "weighted_f1", overall_scores)


def predict_after(config: Config, corpus: LoadedCorpus, split: Split, folder: Path) -> list[Prediction]:
    """Train a run, and predict the test dialogues with its best model."""
    train(corpus, config, folder, split=split)
    model = load_model(folder / BEST_FOLDER)
    return predict_dialogues(model, split.test, temperature=temperature_of(model))


def _gain(sides: Sequence[Sequence[np.ndarray]], config: Config, name: str, scoring: Scoring) -> Gain:
    """Compare sums by dialogue, of each side one array a corpus."""
    without, learned = (np.concatenate(side)[None] for side in sides)
    settings = config.evaluation
    differences = bootstrap_differences(
        learned, without, resamples=settings.bootstrap, confidence=settings.confidence, scoring=scoring
    )
    scores = [float(mean_scores(side.sum(1), scoring=scoring)[name][0]) for side in (without, learned)]
    return Gain(*scores, differences[name])
