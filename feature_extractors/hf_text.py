"""Text models of Hugging Face: tokens of an utterance with its context, windows of long ones, token-budget batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lpgnet.feature_extractors.checkpoint import Checkpoint
from lpgnet.feature_extractors.devices import send, text_budget
from lpgnet.feature_extractors.errors import EncoderError, ItemError
from lpgnet.feature_extractors.items import Item, TextItem, checked_texts
from lpgnet.feature_extractors.layer_hooks import LayerHooks, find_blocks
from lpgnet.feature_extractors.spec import EncoderSpec
from lpgnet.feature_extractors.torch_encoder import Piece, Pieces, TorchEncoder, last_hidden_state
from lpgnet.feature_extractors.weights import load_model, load_preprocessor
from lpgnet.feature_extractors.windows import cut

# Architectures whose padded batches are proved exact by tests; any other runs one text at a time.
BATCHED_TYPES = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "deberta",
        "deberta-v2",
        "distilbert",
        "electra",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    }
)
# For a model that names no limit of its own.
DEFAULT_TOKENS = 512
# Tokenizers without a limit say so by a number of thirty digits.
NO_LIMIT = 1_000_000


@dataclass(frozen=True)
class Tokens:
    """A piece's input: token ids and their types (0 or 1, the segment)."""

    ids: list[int]
    token_types: list[int]


@dataclass(frozen=True)
class Template:
    """How a tokenizer puts one text, or a context and a text, between its special tokens.

    `between` is None for a tokenizer that knows no pairs; `own_token_type` is the segment of a pair's second text.
    """

    head: list[int]
    tail: list[int]
    between: list[int] | None
    separator: list[int]
    own_token_type: int

    def wrap(self, own: list[int], context: list[int]) -> tuple[Tokens, int]:
        """Return input ids, and where the utterance's own tokens begin."""
        if not context:
            ids = [*self.head, *own, *self.tail]
            return Tokens(ids, [0] * len(ids)), len(self.head)
        before = [*self.head, *context, *(self.between or [])]
        after = [*own, *self.tail]
        return Tokens(before + after, [0] * len(before) + [self.own_token_type] * len(after)), len(before)

    def room(self, limit: int, *, pair: bool = False) -> int:
        """Count the tokens of text that fit beside the special ones."""
        return limit - len(self.head) - len(self.tail) - (len(self.between or []) if pair else 0)


class TextEncoder(TorchEncoder):
    """Embeds utterances; an utterance's own tokens are pooled, its context and special tokens are only seen."""

    def __init__(
        self,
        spec: EncoderSpec,
        model: PreTrainedModel,
        hooks: LayerHooks,
        tokenizer: PreTrainedTokenizerBase,
        *,
        limit: int,
        width: int,
        device: str,
    ) -> None:
        config = model.config
        budget = text_budget(torch.device(device)) if config.model_type in BATCHED_TYPES else None
        super().__init__(spec, model, hooks, width=width, budget=budget, device=device)
        self.tokenizer, self.limit, self.template = tokenizer, limit, read_template(tokenizer)
        self.padding_id = next(i for i in (tokenizer.pad_token_id, config.pad_token_id, 0) if i is not None)
        self.takes_token_types = "token_type_ids" in tokenizer.model_input_names
        if self.template.room(limit) < 1:
            raise EncoderError(f"{spec.name}: its limit of {limit} tokens leaves no room for text")

    def lengths(self, items: Sequence[Item]) -> list[int]:
        """Count the tokens of each text with its context and special tokens, before it is cut to the model's limit."""
        tokens = self._tokens(checked_texts(items))
        return [len(self.template.wrap(own, context)[0].ids) for own, context in tokens]

    def _cut(self, items: Sequence[Item]) -> list[Pieces]:
        tokens = self._tokens(checked_texts(items))
        empty = {index: "the text gives no tokens" for index, (own, _) in enumerate(tokens) if not own}
        if empty:
            raise ItemError(empty)
        return [self._cut_one(index, own, context) for index, (own, context) in enumerate(tokens)]

    def _cut_one(self, index: int, own: list[int], context: list[int]) -> Pieces:
        room = self.template.room(self.limit)
        if len(own) > room:
            windows = cut(len(own), room, room // 4)
            pieces = [
                self._piece(index, own[w.start : w.stop], [], w.first - w.start, w.end - w.start) for w in windows
            ]
            return Pieces(pieces, frozenset({"windowed"}))
        left = max(self.template.room(self.limit, pair=True) - len(own), 0)
        # The turns nearest to the utterance matter most, so the oldest words go first.
        return Pieces([self._piece(index, own, context[max(len(context) - left, 0) :], 0, len(own))], frozenset())

    def _piece(self, index: int, own: list[int], context: list[int], first: int, end: int) -> Piece:
        tokens, offset = self.template.wrap(own, context)
        count = len(tokens.ids)
        return Piece(index, count, count, tokens, offset + first, offset + end)

    def _tokens(self, texts: Sequence[TextItem]) -> list[tuple[list[int], list[int]]]:
        """Own tokens and context tokens of each text, without special tokens at the ends."""
        flat = [turn for text in texts for turn in (text.text, *text.context)]
        ids = iter(_plain_ids(self.tokenizer, flat))
        tokens = []
        for text in texts:
            own = next(ids)
            turns = [next(ids) for _ in text.context]
            context = [token for turn in turns for token in (*turn, *self.template.separator)]
            tokens.append((own, context[: len(context) - len(self.template.separator)]))
        return tokens

    def _forward(self, contents: Sequence[Tokens]) -> Tensor:
        longest = max(len(tokens.ids) for tokens in contents)
        values = np.full((3, len(contents), longest), 0, dtype=np.int64)
        values[0] = self.padding_id
        for row, tokens in enumerate(contents):
            count = len(tokens.ids)
            values[:, row, :count] = tokens.ids, [1] * count, tokens.token_types
        ids, mask, token_types = send(torch.from_numpy(values), self.device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return last_hidden_state(
            self.model, **inputs, **({"token_type_ids": token_types} if self.takes_token_types else {})
        )


def load_text(checkpoint: Checkpoint, spec: EncoderSpec, device: str) -> TextEncoder:
    """Load the encoder of a text checkpoint."""
    tokenizer: PreTrainedTokenizerBase = load_preprocessor(AutoTokenizer, checkpoint, spec, "tokenizer")
    model = load_model(checkpoint, trust_remote_code=spec.trust_remote_code)
    config = model.config
    blocks = find_blocks(model, getattr(config, "num_hidden_layers", None))
    return TextEncoder(
        spec,
        model,
        LayerHooks(blocks, spec.layers, spec.name),
        tokenizer,
        limit=token_limit(model, tokenizer),
        width=config.hidden_size,
        device=device,
    )


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the most tokens of one input, special ones included."""
    positions = getattr(model.config, "max_position_embeddings", None) or DEFAULT_TOKENS
    for module in model.modules():
        # RoBERTa and its relatives count positions from the padding's on, so 514 positions hold 512 tokens.
        if isinstance(module, nn.Embedding) and module.num_embeddings == positions and module.padding_idx is not None:
            positions -= module.padding_idx + 1
            break
    return min(positions, tokenizer.model_max_length if tokenizer.model_max_length < NO_LIMIT else positions)


def read_template(tokenizer: PreTrainedTokenizerBase) -> Template:
    """Read the tokenizer's own arrangement of one text and of two, read off an example of each."""
    first, second = _plain_ids(tokenizer, ["a", "b"])
    single = tokenizer("a")["input_ids"]
    index = _find(single, first, 0)
    pair = tokenizer("a", "b", return_token_type_ids=True)
    begin = _find(pair["input_ids"], first, 0) + len(first)
    own = _find(pair["input_ids"], second, begin)
    separator = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    return Template(
        head=single[:index],
        tail=single[index + len(first) :],
        between=pair["input_ids"][begin:own],
        separator=separator,
        own_token_type=pair["token_type_ids"][own] if "token_type_ids" in pair else 0,
    )


def _plain_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _find(ids: list[int], part: list[int], start: int) -> int:
    return next(index for index in range(start, len(ids)) if ids[index : index + len(part)] == part)
