"""Small corpora made of tensors, whose labels follow from the embeddings by a known rule, and training on them."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from lpgnet.feature_extractors import EncoderSpec
from lpgnet.pipeline.common.processes import make_accelerator
from lpgnet.pipeline.config import Config, EvaluationConfig, ModelConfig, TrainingConfig
from lpgnet.pipeline.corpora.manifest import Utterance
from lpgnet.pipeline.embeddings.plan import Embeddings
from lpgnet.pipeline.evaluation.development import measure_development
from lpgnet.pipeline.evaluation.run_results import RunResults, evaluate_run
from lpgnet.pipeline.training.dialogues import Dialogue, make_dialogue
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import LoadedCorpus
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.trainer import train_run

TURNS = 8
RANGES = {"valence": (1.0, 5.0), "arousal": (1.0, 5.0)}
# Settings by which a model learns from all that raters said.
RATED_MODEL = {"dimensions": list(RANGES)}
RATED_RECIPE = {"target": "distribution", "vote_smoothing": 0.1, "unagreed": "use", "label_smoothing": 0.1}
Rule = Literal["text", "random", "previous", "xor"]


def make_corpus(rule: Rule, dialogues: int = 96, seed: int = 0) -> LoadedCorpus:
    """Dialogues of 8 turns; each turn has a random cue of two values in its text and another in its audio."""
    rng = np.random.default_rng(seed)
    made = [_dialogue(f"d{number:03d}", rule, rng) for number in range(dialogues)]
    specs = {
        name: EncoderSpec(name, name, "all", "mean", "fp32", None, None, False, name) for name in ("text", "audio")
    }
    return LoadedCorpus(tuple(made), specs, f"{rule}, {dialogues} dialogues, seed {seed}", ranges=RANGES)


def _dialogue(name: str, rule: Rule, rng: np.random.Generator) -> Dialogue:
    text, audio, chance = rng.integers(0, 2, (3, TURNS))
    labels = {"text": text, "random": chance, "previous": np.roll(text, 1), "xor": text ^ audio}[rule]
    if rule == "previous":
        labels[0] = NO_LABEL
    utterances = [Utterance(name, f"{name}.{turn}", speaker="AB"[turn % 2]) for turn in range(TURNS)]
    rows = {utterance.utterance_id: row for row, utterance in enumerate(utterances)}
    sources = {"text": Embeddings(_cued(text, (1, 4), rng), rows), "audio": Embeddings(_cued(audio, (2, 4), rng), rows)}
    votes, ratings = _judged(labels, np.random.default_rng([*name.encode()]))
    return make_dialogue(name, utterances, labels.tolist(), sources, votes=votes, ratings=ratings)


def _judged(labels: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Three raters' votes, most of them for the label, and ratings that follow from it; some turns lack either."""
    votes = rng.multinomial(3, np.where(labels[:, None] == [0, 1], 0.8, 0.2))
    votes[rng.random(TURNS) < 0.3] = 0
    ratings = {name: 3 + labels.clip(0) + rng.uniform(-0.5, 0.5, TURNS) for name in RANGES}
    ratings["valence"][rng.random(TURNS) < 0.3] = np.nan
    return torch.tensor(votes).float(), {name: torch.tensor(values).float() for name, values in ratings.items()}


def _cued(cues: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    values = 0.3 * rng.standard_normal((len(cues), *shape))
    values[..., 0] += 2.0 * cues[:, None] - 1.0
    return values.astype(np.float32)


def make_split(corpus: LoadedCorpus) -> Split:
    """The last third of the dialogues tests, an eighth of the others chooses the epoch."""
    cut, dev = len(corpus.dialogues) * 2 // 3, max(1, len(corpus.dialogues) // 12)
    return Split("end", corpus.dialogues[dev:cut], corpus.dialogues[:dev], corpus.dialogues[cut:])


def make_config(kind: str = "lpgnet", *, model: dict[str, Any] | None = None, **training: Any) -> Config:
    """A configuration for two classes and a small model."""
    recipe = {"epochs": 20, "batch_size": 8, "learning_rate": 5e-3, "ema_decay": 0.9}
    return Config(
        labels={"no": "no", "yes": "yes"},
        model=ModelConfig(**({"type": kind, "hidden_size": 16, "dropout": 0.1} | (model or {}))),  # type: ignore[arg-type]
        training=TrainingConfig(**(recipe | {"device": "cpu", "tracker": "none"} | training)),  # type: ignore[arg-type]
        evaluation=EvaluationConfig(bootstrap=2000, confidence=0.999, missing_shares=[0.5, 1.0]),
    )


def train(corpus: LoadedCorpus, config: Config, folder: Path, *, split: Split | None = None) -> None:
    """Train a run into the folder."""
    recipe = config.training
    accelerator = make_accelerator(recipe.device, recipe.mixed_precision)
    train_run(config, corpus, split or make_split(corpus), folder, accelerator, measure_development)


def train_and_test(corpus: LoadedCorpus, config: Config, folder: Path, *, split: Split | None = None) -> RunResults:
    """Train a run and measure it on the test dialogues."""
    train(corpus, config, folder, split=split)
    return evaluate_run(config, corpus, split or make_split(corpus), folder, make_accelerator("cpu"))[0]
