"""Tuning an encoder: adapters and heads learn, the epoch is chosen on development data, the adapters are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from lpgnet.feature_extractors import digest_file, load_encoder
from lpgnet.feature_extractors.adapters import ADAPTER_FILES, RECORD_FILE, is_tuned
from lpgnet.feature_extractors.checkpoint import find_checkpoint
from lpgnet.feature_extractors.spec import digest_json
from lpgnet.feature_extractors.torch_encoder import TorchEncoder
from lpgnet.model import EmotionModel
from lpgnet.pipeline.common.console import quiet_transformers, say, say_once
from lpgnet.pipeline.common.files import write_json
from lpgnet.pipeline.common.shared_names import portable
from lpgnet.pipeline.common.threads import place, threads_for
from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.manifest import read_manifest
from lpgnet.pipeline.embeddings.plan import Request
from lpgnet.pipeline.embeddings.prepared import encoder_config, prepare_modality
from lpgnet.pipeline.errors import UsageError
from lpgnet.pipeline.model_config import ModelConfig
from lpgnet.pipeline.training.dialogues import Dialogue
from lpgnet.pipeline.training.freshness import BEST_FOLDER, is_done, run_inputs
from lpgnet.pipeline.training.labels import NO_LABEL
from lpgnet.pipeline.training.runs import LoadedCorpus, make_model, open_run, read_log
from lpgnet.pipeline.training.selection import check_selection
from lpgnet.pipeline.training.splits import Split
from lpgnet.pipeline.training.targets import check_targets, is_learned
from lpgnet.pipeline.training.trainer import Measure, Trainer, drop_left, end_run, locked
from lpgnet.pipeline.training.tuned import Base, Content, Seen, TunedRecord, TuningScore, contents_of
from lpgnet.pipeline.tuning.lora import add_adapters, checkpoint_blocks
from lpgnet.pipeline.tuning.model import TuningModel, read_item

if TYPE_CHECKING:
    from accelerate import Accelerator

TUNED_FOLDER = "tuned"
# They change nothing in what is learned, or are in other inputs of the run.
NO_INPUTS = ("modality", "micro_batches", "checkpointing")


def tuned_folder(config: Config, modality: str, fold: str | None = None) -> Path:
    """Return the folder of an experiment's tuned encoder; each fold of a table has one of its own.

    None lies in another, since a folder is set aside as a whole when its encoder is tuned otherwise.
    """
    folder = config.folder / TUNED_FOLDER
    return folder / modality if fold is None else folder / "folds" / fold / modality


def tuning_config(config: Config) -> Config:
    """Return the configuration of the run that tunes an encoder: heads on its embeddings alone, by its own recipe.

    Raises:
        UsageError: the encoder cannot be tuned.
    """
    tune, encoders = config.tune, config.encoders
    _check_tunable(str(encoder_config(encoders, tune.modality).name), tune.modality)
    others = {"audio": replace(encoders, text=replace(encoders.text, name=None))}
    others["text"] = replace(encoders, audio=replace(encoders.audio, name=None))
    settings = replace(config.model, type="concat").settings() | {"dropout": tune.dropout}
    # The encoder learns, so that no statistics of a session or a speaker hold for longer than a step.
    settings["standardise"] = "corpus"
    recipe = replace(
        config.training,
        epochs=tune.epochs,
        patience=None,
        batch_size=tune.batch_size,
        micro_batches=tune.micro_batches,
        learning_rate=tune.learning_rate,
        weight_decay=tune.weight_decay,
        mixed_precision=tune.mixed_precision,
        # A moving average would be of the whole encoder.
        ema_decay=0.0,
        modality_dropout=0.0,
        compile=False,
    )
    model = ModelConfig(type="concat", modalities=[tune.modality], **settings)
    return replace(config, run=TUNED_FOLDER, encoders=others[tune.modality], model=model, training=recipe)


def _check_tunable(name: str, modality: str) -> None:
    family, _, model = name.partition(":")
    if family != "hf":
        raise UsageError(
            f"key 'encoders.{modality}.name': {name} has no layers that can be adapted; name one of the family hf"
        )
    if is_tuned(Path(model).expanduser()):
        raise UsageError(
            f"key 'encoders.{modality}.name': {name} is tuned already; name the encoder that it was made of"
        )


def tune_encoder(
    config: Config, corpus: LoadedCorpus, split: Split, folder: Path, accelerator: Accelerator, measure: Measure
) -> None:
    """Tune an encoder to the end, from where it stopped; do nothing if it is done.

    Args:
        config: of `tuning_config`.
        corpus: embedded by the encoder as it is.
        split: whose training utterances are learned.
        folder: becomes that of the tuned encoder.
        accelerator: of this launch.
        measure: scores the heads.

    Raises:
        UsageError: the configuration does not fit the corpus or the encoder.
        NotFiniteError: the training diverged.
        PipelineError: another process trains in the folder.
    """
    inputs = tuning_inputs(config, corpus, split)
    if is_done(folder, inputs) and _is_published(folder):
        if accelerator.is_main_process:
            say(f"tune: up to date ({folder})")
            drop_left(folder, config, also=ADAPTER_FILES)
        return
    check_targets(config, corpus.ranges, split.train)
    check_selection(config.training.select, config.dimensions, split.dev)
    with locked(folder, accelerator):
        # First, since it refuses what cannot be tuned: another tuning in the folder is then left where it is.
        material = Material.of(config, corpus, split)
        model = make_tuning_model(config, corpus, split, material, accelerator)
        with threads_for(model):
            # Here, since it notes in how many threads the run is made.
            if accelerator.is_main_process:
                _open(folder, inputs, config)
            accelerator.wait_for_everyone()
            tuner = Tuner(config, material, folder, accelerator, model, measure)
            if not is_done(folder, inputs):
                if accelerator.is_main_process:
                    say_once(f"tune: {place(str(accelerator.device), model)}")
                tuner.fit()
        tuner.publish(corpus.name)
        if accelerator.is_main_process:
            end_run(folder, inputs, config, also=ADAPTER_FILES)
        accelerator.wait_for_everyone()


def tuning_inputs(config: Config, corpus: LoadedCorpus, split: Split) -> dict[str, object]:
    """Return all that decides a tuning's outcome, as `run_inputs` does for a run."""
    whole = replace(config, training=replace(config.training, micro_batches=1))
    settings = {name: value for name, value in asdict(config.tune).items() if name not in NO_INPUTS}
    return run_inputs(whole, corpus, split.name) | {"tune": settings}


def _open(folder: Path, inputs: dict[str, object], config: Config) -> None:
    if is_done(folder, inputs):
        say(f"tune: {folder} was done, but since then a part of it went away; it is written again")
    else:
        open_run(folder, inputs, config)


def _is_published(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ADAPTER_FILES)


@dataclass(frozen=True)
class Material:
    """What an encoder is tuned on: each utterance as a dialogue of its own, whose input is its place in `requests`.

    Attributes:
        requests: of every utterance that can be embedded.
        split: the utterances.
        contents: what each of them is, by id.
    """

    requests: tuple[Request, ...]
    split: Split
    contents: dict[str, Content]

    @classmethod
    def of(cls, config: Config, corpus: LoadedCorpus, split: Split) -> Material:
        """Cut the dialogues of a split into utterances, of those that are learned or scored."""
        manifest = read_manifest(config.folder)
        requests = prepare_modality(config, manifest, config.tune.modality).plan.requests
        places = {request.utterance_id: place for place, request in enumerate(requests)}
        dimensions = config.dimensions
        train = [_cut(one, places, is_learned(one, config.training, dimensions)) for one in split.train]
        dev = [_cut(one, places, one.judged) for one in split.dev]
        parts = {"train": tuple(chain(*train)), "dev": tuple(chain(*dev)), "test": ()}
        return cls(requests, Split(split.name, **parts), contents_of(config, manifest))


def _cut(dialogue: Dialogue, places: Mapping[str, int], chosen: Tensor) -> list[Dialogue]:
    """Cut a dialogue into dialogues of one utterance each, those that are chosen and can be embedded."""
    ((modality, present),) = dialogue.present.items()
    found = []
    for row in (chosen & present).nonzero().flatten().tolist():
        utterance = dialogue.utterances[row]
        place = torch.tensor([[[float(places[utterance.utterance_id])]]])
        found.append(
            replace(
                dialogue,
                dialogue_id=utterance.utterance_id,
                utterances=(utterance,),
                inputs={modality: place},
                present={modality: torch.tensor([True])},
                labels=dialogue.labels[row : row + 1],
                speakers=torch.zeros(1, dtype=torch.long),
                votes=dialogue.votes[row : row + 1],
                ratings={name: values[row : row + 1] for name, values in dialogue.ratings.items()},
            )
        )
    return found


def make_tuning_model(
    config: Config, corpus: LoadedCorpus, split: Split, material: Material, accelerator: Accelerator
) -> TuningModel:
    """Load the encoder that is tuned, put adapters into it, and heads behind it."""
    quiet_transformers()
    head = make_model(config, corpus, split)
    spec = corpus.specs[config.tune.modality]
    pooling = "mean" if spec.pooling == "none" else spec.pooling
    settings = asdict(replace(spec.settings, precision="fp32", pooling=pooling))
    device = str(accelerator.device)
    encoder = cast(TorchEncoder, load_encoder(spec.name, device=device, **settings))
    first = material.split.train[0].inputs[config.tune.modality]
    request = material.requests[int(first.item())]
    adapters = add_adapters(encoder, config.tune, read_item(request, encoder.sampling_rate))
    if config.tune.checkpointing:
        checkpoint_blocks(encoder)
    return TuningModel(encoder, adapters, head, material.requests)


class Tuner(Trainer):
    """The loop of one tuning: that of a run, but for what a checkpoint holds and what is left at the end."""

    def __init__(
        self,
        config: Config,
        material: Material,
        folder: Path,
        accelerator: Accelerator,
        model: TuningModel,
        measure: Measure,
    ) -> None:
        super().__init__(config, material.split, folder, accelerator, cast(EmotionModel, model), measure)
        self.material, self.tuned = material, model
        # Without the encoder, of which nothing but the adapters changes.
        self.state = replace(self.state, model=model.parts)

    def publish(self, corpus: str) -> None:
        """Make the folder that of a tuned encoder, with what it has seen and scores there; the record is written last.

        Args:
            corpus: its name.
        """
        self.tuned.restore(self.folder / BEST_FOLDER)
        training, development = self._seen(self.split.train), self._seen(self.split.dev)
        if not self.accelerator.is_main_process:
            return
        self.tuned.save_adapter(self.folder)
        spec = self.tuned.encoder.spec
        record = TunedRecord(
            base=Base(
                portable(spec.name),
                digest_json(find_checkpoint(spec.name.removeprefix("hf:"), spec.name).content(digest_file)),
            ),
            modality=self.tuned.modality,
            corpus=corpus,
            fold=self.split.name,
            settings=asdict(self.config.tune),
            epoch=self.selection.best(read_log(self.folder)).epoch,
            training=training,
            development=development,
        )
        write_json(self.folder / RECORD_FILE, record)

    def _seen(self, utterances: Sequence[Dialogue]) -> Seen:
        scores = self.measure(self.evaluated, utterances, self.config.classes, self.recipe, self.accelerator).scores
        contents = [self.material.contents[utterance.dialogue_id] for utterance in utterances]
        labelled = sum(int((utterance.labels != NO_LABEL).sum()) for utterance in utterances)
        return Seen(contents, TuningScore(scores["weighted_f1"], scores["ua"], labelled))
