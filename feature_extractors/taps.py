"""Reading a model's layers while it runs: hooks that hand each layer on and stop above the highest wanted one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.feature_extractors.spec import Layers, check_layers

Sink = Callable[[int, Tensor], None]


class _Enough(Exception):
    """The highest layer that is wanted has been seen."""


class Taps:
    """Hooks on the transformer blocks of a model.

    Layer k is what enters block k + 1, the last layer what leaves the last block: thus whatever a model does
    between two blocks belongs to the layer. Blocks that are never reached are removed from the model.
    """

    def __init__(self, blocks: nn.ModuleList | None, layers: Layers, name: str) -> None:
        self.n_layers = 1
        self._sink: Sink | None = None
        self._reads_output = layers == "last"
        if self._reads_output:
            return
        if blocks is None:
            raise EncoderError(f"{name}: its transformer blocks cannot be told apart, use layers: last")
        check_layers(layers, len(blocks), name)
        self._install(blocks, layers if isinstance(layers, tuple) else tuple(range(len(blocks) + 1)))

    def run(self, forward: Callable[[], Tensor], sink: Sink) -> None:
        """Run `forward`, which returns the last hidden state, and give `sink` each layer's position and `(B, T, d)`."""
        self._sink = sink
        try:
            output = forward()
        except _Enough:
            return
        finally:
            self._sink = None
        if self._reads_output:
            sink(0, output)

    def _install(self, blocks: nn.ModuleList, indices: tuple[int, ...]) -> None:
        self.n_layers, highest = len(indices), max(indices)
        for position, index in enumerate(indices):
            if index == len(blocks):
                blocks[-1].register_forward_hook(lambda _, __, output, at=position: self._see(at, output))
                continue
            door = blocks[index]
            door.register_forward_pre_hook(
                lambda _, args, kwargs, at=position: self._see(at, args or kwargs["hidden_states"]), with_kwargs=True
            )
        if highest < len(blocks):
            # Registered last, so that it runs after the hook that reads this layer.
            blocks[highest].register_forward_pre_hook(self._stop)
            del blocks[highest + 1 :]

    def _see(self, position: int, states: Any) -> None:
        if self._sink is not None:
            self._sink(position, states if isinstance(states, Tensor) else states[0])

    @staticmethod
    def _stop(*_: Any) -> None:
        raise _Enough


def find_blocks(model: nn.Module, depth: int | None) -> nn.ModuleList | None:
    """The list of a model's transformer blocks: `depth` modules of attention, the largest such list."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    found = [blocks for blocks in lists if all(map(_attends, blocks))]
    return max(found, key=lambda blocks: sum(p.numel() for p in blocks.parameters()), default=None)


def _attends(block: nn.Module) -> bool:
    return any("attention" in type(module).__name__.lower() for module in block.modules())


def cast_products(model: nn.Module) -> None:
    """Keep the weights of matrix products in bfloat16, as autocast would cast them again in every call."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.to(torch.bfloat16)
