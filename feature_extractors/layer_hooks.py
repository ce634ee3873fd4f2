"""Reading a model's layers while it runs: hooks that hand each layer on and stop above the highest wanted one."""

from collections.abc import Callable

from torch import Tensor, nn

from lpgnet.feature_extractors.errors import EncoderError
from lpgnet.feature_extractors.spec import Layers, check_layers

LayerCallback = Callable[[int, Tensor], None]


class _StopForward(Exception):
    """The highest layer that is wanted has been seen."""


class LayerHooks:
    """Hooks on the transformer blocks of a model.

    Layer k is what enters block k + 1, the last layer what leaves the last block: thus whatever a model does
    between two blocks belongs to the layer. Blocks that are never reached are removed from the model. `blocks` are
    those that it has, None where they cannot be told apart.
    """

    def __init__(self, blocks: nn.ModuleList | None, layers: Layers, name: str) -> None:
        self.n_layers, self.blocks = 1, blocks
        self._on_layer: LayerCallback | None = None
        self._reads_output = layers == "last"
        if self._reads_output:
            return
        if blocks is None:
            raise EncoderError(f"{name}: its transformer blocks cannot be told apart, use layers: last")
        check_layers(layers, len(blocks), name)
        self._install(blocks, layers if isinstance(layers, tuple) else tuple(range(len(blocks) + 1)))

    def run(self, forward: Callable[[], Tensor], on_layer: LayerCallback) -> None:
        """Run a forward pass and hand each wanted layer on.

        Args:
            forward: runs the model and returns its last hidden state `(B, T, d)`.
            on_layer: called with each layer's index among the wanted ones and its states `(B, T, d)`.
        """
        self._on_layer = on_layer
        try:
            output = forward()
        except _StopForward:
            return
        finally:
            self._on_layer = None
        if self._reads_output:
            on_layer(0, output)

    def _install(self, blocks: nn.ModuleList, indices: tuple[int, ...]) -> None:
        self.n_layers, highest = len(indices), max(indices)
        for index, layer in enumerate(indices):
            if layer == len(blocks):
                blocks[-1].register_forward_hook(lambda _, __, output, index=index: self._read(index, output))
                continue
            block = blocks[layer]
            block.register_forward_pre_hook(
                lambda _, args, kwargs, index=index: self._read(index, args or kwargs["hidden_states"]),
                with_kwargs=True,
            )
        if highest < len(blocks):
            # Registered last, so that it runs after the hook that reads this layer.
            blocks[highest].register_forward_pre_hook(self._stop)
            del blocks[highest + 1 :]

    def _read(self, index: int, states: Tensor | tuple[Tensor, ...]) -> None:
        if self._on_layer is not None:
            self._on_layer(index, states if isinstance(states, Tensor) else states[0])

    @staticmethod
    def _stop(*_: object) -> None:
        raise _StopForward


def find_blocks(model: nn.Module, depth: int | None) -> nn.ModuleList | None:
    """Find the list of a model's transformer blocks: `depth` modules of attention, the largest such list."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    found = [blocks for blocks in lists if all(map(_has_attention, blocks))]
    return max(found, key=lambda blocks: sum(p.numel() for p in blocks.parameters()), default=None)


def _has_attention(block: nn.Module) -> bool:
    return any("attention" in type(module).__name__.lower() for module in block.modules())
