"""A corpus as it is described: its turns, what embeds them and under which keys, of which nothing is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lpgnet.pipeline.config import Config
from lpgnet.pipeline.corpora.manifest import MANIFEST_FILE, Manifest, read_manifest
from lpgnet.pipeline.corpora.ratings import Ranges
from lpgnet.pipeline.embeddings.plan import Plan
from lpgnet.pipeline.embeddings.prepared import Prepared, encoded_modalities, prepare_modality, skipped_utterances
from lpgnet.pipeline.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from lpgnet.feature_extractors import EncoderSpec


@dataclass(frozen=True)
class DescribedCorpus:
    """What decides what a corpus is once it is loaded.

    Attributes:
        prepared: by modality, without the utterances that the user chose to leave out.
        digest: of what goes in.
    """

    manifest: Manifest
    prepared: dict[str, Prepared]
    digest: str

    @property
    def specs(self) -> dict[str, EncoderSpec]:
        """The encoders, by modality."""
        return {modality: one.spec for modality, one in self.prepared.items()}

    @property
    def ranges(self) -> Ranges:
        """The lowest and the highest rating of each dimension that its raters rated."""
        return self.manifest.corpus.ranges


def describe_corpus(config: Config) -> DescribedCorpus:
    """Describe an experiment's corpus; neither torch nor the embeddings are needed.

    Raises:
        PipelineError: the manifest is missing or damaged, or an utterance cannot be used.
        UsageError: fewer than two classes are named.
    """
    if len(config.classes) < 2:
        raise UsageError(
            "key 'labels': map the corpus's codes to at least two classes, such as {ang: angry, neu: neutral}"
        )
    manifest = read_manifest(config.folder)
    digest = hashlib.sha256((config.folder / MANIFEST_FILE).read_bytes())
    prepared = {modality: _prepare(config, manifest, modality) for modality in encoded_modalities(config.encoders)}
    for one in prepared.values():
        digest.update(b"".join(request.key for request in one.plan.requests))
    return DescribedCorpus(manifest, prepared, digest.hexdigest())


def _prepare(config: Config, manifest: Manifest, modality: str) -> Prepared:
    prepared = prepare_modality(config, manifest, modality)
    skipped = skipped_utterances(config, modality)
    _refuse_problems(prepared.plan, skipped, modality)
    return replace(prepared, plan=prepared.plan.without(skipped))


def _refuse_problems(plan: Plan, skipped: set[str], modality: str) -> None:
    """Refuse utterances whose file is gone: nobody chose to leave them out."""
    if problems := [problem for problem in plan.problems if problem.utterance_id not in skipped]:
        raise PipelineError(
            f"the {modality} of {len(problems)} utterances cannot be used, such as {problems[0].utterance_id}: "
            f"{problems[0].message}; run the features stage, which lists them and can skip them"
        )


@contextmanager
def about_manifest(config: Config) -> Iterator[None]:
    """Name the manifest in what is wrong with it."""
    try:
        yield
    except PipelineError as error:
        raise PipelineError(f"{config.folder / MANIFEST_FILE}: {error}") from None
