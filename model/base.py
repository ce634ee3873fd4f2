"""What the models share: inputs, outputs, loss, and a checkpoint that loads in full or not at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from torch import Tensor, nn

from lpgnet.model.configuration import EmotionConfig, read_config, write_config
from lpgnet.model.distillation import IGNORED_LABEL, LossTerms, loss_counts, self_distillation
from lpgnet.model.errors import ModelError
from lpgnet.model.layers import InputMix
from lpgnet.model.packing import Layout, lay_out
from lpgnet.model.ratings import RatingTerms, normalize_ratings, rating_terms, restore_units
from lpgnet.model.weights import read_weights, write_weights

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# Embeddings by modality: (B, L, K_m, D_m), or of each of the B dialogues its own, (L_b, K_m, D_m), without padding.
Inputs = Mapping[str, Tensor | Sequence[Tensor]]
# Of `lay_out`, by type of device, where it was measured; elsewhere all dialogues are one group, as in a padded batch.
# More groups are more calls, which take a GPU longer than a CPU.
SPARE = {"cpu": 0.1, "cuda": 0.3}


@dataclass(kw_only=True)
class EmotionOutput:
    """What a model gives for a batch of dialogues.

    Attributes:
        logits: (B, L, C) of the head that predicts. What stands at padding means nothing.
        branch_logits: (B, L, C) by modality, of the heads that serve training; empty without such heads.
        modality_weights: (B, L) by modality, the mean of gate 2 over the dimensions; empty without gates.
        dimensions: (B, L) by dimension, in the units of the corpus that the model was trained on; empty without heads
            for them.
        loss: scalar, the terms normalized by this batch's own counts; only with targets.
        loss_terms: the loss's sums and counts; only with targets.
        modality_gates: gate 2, (B, L, d) by modality; only on request.
        path_gates: gate 1, (B, L, d) by path, as in "text<-audio"; only on request.
    """

    logits: Tensor
    branch_logits: dict[str, Tensor] = field(default_factory=dict)
    modality_weights: dict[str, Tensor] = field(default_factory=dict)
    dimensions: dict[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None
    loss_terms: LossTerms | None = None
    modality_gates: dict[str, Tensor] | None = None
    path_gates: dict[str, Tensor] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "EmotionOutput":
        """Apply a change to what is given for every utterance."""

        def all_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(values) for name, values in tensors.items()}

        return replace(
            self,
            logits=change(self.logits),
            branch_logits=all_of(self.branch_logits),
            modality_weights=all_of(self.modality_weights),
            dimensions=all_of(self.dimensions),
            modality_gates=None if self.modality_gates is None else all_of(self.modality_gates),
            path_gates=None if self.path_gates is None else all_of(self.path_gates),
        )


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What the utterances of a batch are to be taken for; each of it may be missing, of an utterance or of all.

    Attributes:
        labels: (B, L) class numbers, -100 where there is none.
        votes: (B, L, C) shares of the raters' votes that sum to 1, zeros where there are none. They are learned
            instead of the label.
        ratings: (B, L) by dimension, in the units of the model's `ranges`, NaN where there is none.
    """

    labels: Tensor | None = None
    votes: Tensor | None = None
    ratings: Mapping[str, Tensor] | None = None

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self.labels is not None or self.votes is not None or bool(self.ratings)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Targets":
        """Apply a change to every tensor."""
        return Targets(
            labels=None if self.labels is None else change(self.labels),
            votes=None if self.votes is None else change(self.votes),
            ratings={name: change(values) for name, values in (self.ratings or {}).items()},
        )

    def known(self) -> Tensor:
        """Which utterances have any, (B, L) bool; there must be targets."""
        known = [] if self.labels is None else [self.labels != IGNORED_LABEL]
        known += [] if self.votes is None else [self.votes.sum(-1) > 0]
        return torch.stack([*known, *(values.isfinite() for values in (self.ratings or {}).values())]).any(0)

    def named(self) -> dict[str, Tensor | None]:
        """Every tensor by name, None where there is none."""
        return {"labels": self.labels, "votes": self.votes, **(self.ratings or {})}


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A batch of dialogues as the models compute on it: T turns in one row.

    Attributes:
        layout: where its turns lie in the row.
        inputs: (1, T, D_m) by modality, standardized and mixed, zero where an utterance lacks it.
        present: (1, T) bool by modality, true where the utterance has it.
        mask: (1, T) bool, true for a real utterance.
        targets: (1, T, ...), what is learned.
    """

    layout: Layout
    inputs: dict[str, Tensor]
    present: dict[str, Tensor]
    mask: Tensor
    targets: Targets

    @property
    def real(self) -> Tensor:
        """`present` of all modalities, (M, 1, T)."""
        return torch.stack(list(self.present.values()))

    def learned(self) -> Tensor | None:
        """The turns that have a target, (K,) of the row; None where all or none have, and nothing is to be gained."""
        if not self.targets:
            return None
        found = (self.targets.known() & self.mask)[0].nonzero()[:, 0]
        return found if 0 < len(found) < len(self.layout) else None

    def only(self, rows: Tensor | None) -> "Packed":
        """Some turns of the row, by their numbers (K,), without their inputs; all for None."""
        if rows is None:
            return self

        def some(x: Tensor) -> Tensor:
            return x.index_select(1, rows)

        return Packed(
            layout=self.layout.only(rows),
            inputs={},
            present={name: some(real) for name, real in self.present.items()},
            mask=some(self.mask),
            targets=self.targets.map(some),
        )


class EmotionModel(nn.Module, PyTorchModelHubMixin):
    """Base of the models: one call, one loss, one checkpoint layout.

    `save_pretrained`, `from_pretrained` and `push_to_hub` are those of huggingface_hub, but for two things: nothing
    but the configuration and the weights is written, and loading leaves no weight random and unpickles nothing.
    """

    config_class: type[EmotionConfig]
    config: EmotionConfig
    mixes: nn.ModuleDict
    # Of `lay_out`; None: what is fastest on the device. For tests and benchmarks, 1 is padding.
    spare: float | None = None

    def __init__(self, config: EmotionConfig | None = None) -> None:
        super().__init__()
        self.config = self.config_class() if config is None else config
        for name in self.config.modality_names:
            if hasattr(nn.ModuleDict(), name):
                raise ModelError(f"modality '{name}' cannot name a part of a model: choose another name")
        sizes = self.config.input_sizes
        self.mixes = nn.ModuleDict({name: InputMix(*sizes[name]) for name in self.config.modality_names})

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def branch_names(self) -> list[str]:
        """The modalities that have a branch head."""
        return self.config.modality_names

    def num_parameters(self) -> int:
        """How many numbers the model has, those that never learn included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def standardize_(self, modality: str, mean: Tensor, std: Tensor) -> None:
        """Set the statistics that a modality's embeddings are standardized with.

        Args:
            modality: one of the model's modalities.
            mean: (K, D), over the training utterances that have the modality.
            std: (K, D); a dimension that never varies (0) is centered and not scaled.

        Raises:
            ModelError: the statistics are not finite or their shapes not those of the modality.
        """
        if modality not in self.mixes:
            raise ModelError(f"the model has no modality '{modality}' to standardize")
        mix = self._mix(modality)
        if mean.shape != mix.mean.shape or std.shape != mix.std.shape:
            sizes = f"{tuple(mean.shape)} and {tuple(std.shape)}"
            raise ModelError(f"{modality}: statistics of shapes {sizes} do not fit inputs of {tuple(mix.mean.shape)}")
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise ModelError(f"{modality}: statistics that are not finite: does any training utterance have it?")
        mix.mean.copy_(mean)
        # The deviation of a constant is rounding noise, not always 0.
        mix.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0))

    def statistics(self, modality: str) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation (K, D) that a modality's embeddings are standardized with, on the CPU."""
        mix = self._mix(modality)
        return mix.mean.cpu(), mix.std.cpu()

    def distances(self, modality: str, values: Tensor) -> Tensor:
        """How far embeddings lie from those that `standardize_` was given the statistics of.

        A Mahalanobis distance on the diagonal: (x - mean)^2 / std^2, averaged over layers and dimensions, where each of
        them counts 25 at most. The utterances behind the statistics have about 1.

        Args:
            modality: one of the model's modalities.
            values: (N, K, D), on any device.

        Returns:
            (N,), on the CPU.
        """
        with torch.no_grad():
            return self._mix(modality).distances(values.to(self.device)).cpu()

    def loss_counts(
        self, labels: Tensor, mask: Tensor, masks: Mapping[str, Tensor], votes: Tensor | None = None
    ) -> Tensor:
        """Count what each loss term of a batch is divided by, (terms,), without running the model."""
        return loss_counts(labels, mask, masks, self.branch_names, self.config, votes=votes)

    @property
    def reach(self) -> int:
        """How many turns before or after a turn its local encoding looks at; attention looks at all."""
        return 0

    def pack(
        self,
        inputs: Inputs,
        masks: Mapping[str, Tensor],
        mask: Tensor,
        targets: Targets,
        speakers: Tensor | None = None,
    ) -> Packed:
        """Step 0, and the dialogues end to end in one row.

        Args:
            inputs, masks, mask: as the models take them.
            targets: what is learned.
            speakers: as the models take them, to see that they fit; they are not packed.

        Raises:
            ModelError: the batch is empty, or its tensors are not of the same dialogues and utterances.
        """
        used = {f"the mask of {m}": masks[m] for m in self.config.modality_names if m in inputs}
        _check_batch(mask, {**used, **targets.named(), "speakers": speakers})
        spare = SPARE.get(mask.device.type, 1.0) if self.spare is None else self.spare
        layout = lay_out(mask, gap=self.reach, spare=spare)
        present = {name: layout.pack(real) & layout.filled for name, real in self.present(inputs, masks, mask).items()}
        return Packed(
            layout=layout,
            inputs=self.mix_inputs(inputs, present, layout),
            present=present,
            mask=layout.pack(mask) & layout.filled,
            targets=targets.map(layout.pack),
        )

    def present(self, inputs: Inputs, masks: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Which utterances have which modality of the model, (B, L) bool; none if the batch lacks it."""
        nowhere = torch.zeros_like(mask)
        return {m: masks[m] & mask if m in inputs else nowhere for m in self.config.modality_names}

    def mix_inputs(self, inputs: Inputs, present: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
        """Step 0 for every modality: (1, T, D_m), zero where the utterance lacks it."""
        mixed = {}
        for name, real in present.items():
            values = inputs[name] if name in inputs else self._absent(name, layout)
            self._check_shape(name, values, layout)
            mix = self._mix(name)
            rows = mix(values.flatten(0, 1), layout.sources) if isinstance(values, Tensor) else mix(values, layout)
            mixed[name] = rows[None].masked_fill(~real[..., None], 0.0)
        return mixed

    def output(
        self,
        packed: Packed,
        logits: Tensor,
        branch_logits: dict[str, Tensor],
        rated: Tensor | None,
        *,
        hidden: Tensor,
        **gates: dict[str, Tensor],
    ) -> EmotionOutput:
        """Collect the output, with the loss when there are targets.

        Args:
            packed: what `pack` made.
            logits, branch_logits: (1, T, C) of the fused head and of the branch heads.
            rated: (H, 1, T, R), of the heads for the dimensions.
            hidden: (1, T, d), what the fused head is given.
            gates: further fields of the output, in the row too.
        """
        row = EmotionOutput(logits=logits, branch_logits=branch_logits, **gates)  # type: ignore[arg-type]
        if rated is not None:
            row.dimensions = restore_units(rated[0], self.config.rated)
        output = row.map(packed.layout.unpack)
        if packed.targets:
            output.loss_terms = self._loss_terms(row, hidden, rated, packed.targets, packed.mask, packed.present)
            output.loss = output.loss_terms.normalize()
        return output

    def _loss_terms(
        self,
        output: EmotionOutput,
        hidden: Tensor,
        rated: Tensor | None,
        targets: Targets,
        mask: Tensor,
        present: Mapping[str, Tensor],
    ) -> LossTerms:
        labels = targets.labels
        if labels is None:
            labels = torch.full_like(mask, IGNORED_LABEL, dtype=torch.long)
        ratings = None if rated is None else self._rating_terms(rated, targets.ratings or {}, mask, present)
        further: dict[str, Any] = {"votes": targets.votes, "ratings": ratings, "hidden": hidden}
        return self_distillation(output.logits, output.branch_logits, labels, mask, present, self.config, **further)

    def _rating_terms(
        self, rated: Tensor, ratings: Mapping[str, Tensor], mask: Tensor, present: Mapping[str, Tensor]
    ) -> RatingTerms:
        config, branches = self.config, self.branch_names
        weights = [config.fused_weight] + [config.branch_weight] * len(branches)
        return rating_terms(
            rated,
            normalize_ratings(ratings, config.rated, rated[0]),
            torch.stack([mask, *(present[name] for name in branches)]),
            config.dimension_weight * rated.new_tensor(weights, dtype=torch.float32),
            config.dimension_loss,
        )

    def save_pretrained(
        self, save_directory: str | Path, *, push_to_hub: bool = False, repo_id: str | None = None, **settings: Any
    ) -> str | None:
        """Write `config.json` and `model.safetensors`; the card is for those to write who have measured the model.

        Args:
            save_directory: the folder, made where there is none.
            push_to_hub: whether to upload both too.
            repo_id: where to; named like the folder by default.
            settings: of `push_to_hub`.

        Raises:
            ModelError: a weight is not finite, or the folder cannot be written to.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder / WEIGHTS_FILE, self.state_dict())
        write_config(folder / CONFIG_FILE, self.config)
        return self.push_to_hub(repo_id or folder.name, **settings) if push_to_hub else None

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: str | Path, *, map_location: str | torch.device = "cpu", **download: Any
    ) -> Self:
        """Load a model in evaluation mode; what the checkpoint lacks is never initialized.

        Args:
            source: a folder, or the name of a model on the hub.
            map_location: the device to load it on.
            download: of `huggingface_hub.hf_hub_download`, as revision, token, cache_dir or local_files_only.

        Raises:
            ModelError: the weights are missing, damaged, not finite, or not those of the configuration.
        """
        config = read_config(_fetch(source, CONFIG_FILE, download))
        if not isinstance(config, cls.config_class):
            raise ModelError(f"{source}: is a {config.model_type} model, not a {cls.config_class.model_type} model")
        model = cls._restore(config, _fetch(source, WEIGHTS_FILE, download))
        return model.to(map_location).eval()

    @classmethod
    def sketch(cls, config: EmotionConfig) -> Self:
        """Make a model that has shapes but no numbers, and takes no memory."""
        with torch.device("meta"):
            return cls(config)

    @classmethod
    def _restore(cls, config: EmotionConfig, path: Path) -> Self:
        weights = read_weights(path).tensors
        # So that a configuration takes no more memory than the file of its weights.
        _load(cls.sketch(config), weights, path, assign=True)
        with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are all replaced
            model = cls(config)
        _load(model, weights, path)
        return model

    def _mix(self, name: str) -> InputMix:
        return cast(InputMix, self.mixes[name])

    def _absent(self, name: str, layout: Layout) -> Tensor:
        """Zeros (B, L, K_m, D_m), which take no memory."""
        return self._mix(name).mean.new_zeros(1).expand(*layout.places.shape, *self.config.input_sizes[name])

    def _check_shape(self, name: str, values: Tensor | Sequence[Tensor], layout: Layout) -> None:
        if not isinstance(values, Tensor):
            self._check_dialogues(name, values, layout)
            return
        expected = (*layout.places.shape, *self.config.input_sizes[name])
        if values.shape != expected:
            found = f"{name}: inputs of shape {tuple(values.shape)}"
            raise ModelError(f"{found}, but with this mask the model takes (B, L, K, D) = {expected}")

    def _check_dialogues(self, name: str, values: Sequence[Tensor], layout: Layout) -> None:
        expected = [(turns, *self.config.input_sizes[name]) for _, turns in layout.spans]
        if (found := [tuple(own.shape) for own in values]) != expected:
            raise ModelError(f"{name}: dialogues of shapes {found}, but with this mask the model takes {expected}")


def _check_batch(mask: Tensor, tensors: Mapping[str, Tensor | None]) -> None:
    """Refuse an empty batch, and a tensor of other dialogues or utterances than the mask: of wrong ones, no number."""
    if mask.dim() != 2 or 0 in mask.shape:
        raise ModelError(f"a mask of shape {tuple(mask.shape)}: it is (B, L), a dialogue of one utterance at least")
    for name, values in tensors.items():
        if values is not None and values.shape[:2] != mask.shape:
            raise ModelError(f"{name} of shape {tuple(values.shape)} does not fit the mask, {tuple(mask.shape)}")


def by_name(names: list[str], stacked: Tensor) -> dict[str, Tensor]:
    """Name the rows of a stack of modalities or paths."""
    return dict(zip(names, stacked, strict=True))


def describe_gates(
    names: list[str], paths: list[tuple[int, int]], alpha: Tensor, path_gates: Tensor, in_full: bool
) -> dict[str, dict[str, Tensor]]:
    """The output's fields on the gates.

    Args:
        names: the modalities.
        paths: (query, source) numbers of modalities.
        alpha: gate 2, (M, B, L, d).
        path_gates: gate 1, (P, B, L, d).
        in_full: whether both gates are given beside the means of gate 2.
    """
    described = {"modality_weights": by_name(names, alpha.detach().mean(-1))}
    if in_full:
        described["modality_gates"] = by_name(names, alpha)
        described["path_gates"] = by_name([f"{names[query]}<-{names[source]}" for query, source in paths], path_gates)
    return described


def _load(model: EmotionModel, weights: dict[str, Tensor], path: Path, *, assign: bool = False) -> None:
    """Give a model all of its weights, or raise an error that names those that do not fit."""
    try:
        report = model.load_state_dict(weights, strict=False, assign=assign)
    except RuntimeError as error:
        raise ModelError(f"{path}: the weights do not fit {CONFIG_FILE}: {_one_line(error)}") from error
    for problem, keys in zip(("missing_keys", "unexpected_keys"), report, strict=True):
        if keys:
            raise ModelError(f"{path}: the weights do not fit {CONFIG_FILE} ({problem}: {', '.join(keys[:3])})")


def _fetch(source: str | Path, name: str, download: dict[str, Any]) -> Path:
    """A file of a folder, or of a model on the hub."""
    if Path(source).is_dir():
        return Path(source) / name
    try:
        return Path(hf_hub_download(str(source), name, **download))
    # Gated models, too: the hub's library calls them not found.
    except (RepositoryNotFoundError, HFValidationError) as error:
        hint = "or a private one: log in with `hf auth login`"
        raise ModelError(f"{source}: no folder, and no model of the hub ({hint})") from error
    except Exception as error:
        raise ModelError(f"{source}: no folder, and no model of the hub: {_one_line(error)[:150]}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
