"""Models in float64, where rounding decides no test: a batch norm over two turns makes a thousand times more of it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from lpgnet.model import distillation

CLOSE: dict[str, float] = {"atol": 1e-10, "rtol": 1e-10}


@contextmanager
def double_precision() -> Iterator[None]:
    """Let models compute in float64 what they compute in float32 at least."""
    single, weights = torch.get_default_dtype(), distillation._class_weights

    def in_double(*arguments: Any) -> Tensor | None:
        return None if (found := weights(*arguments)) is None else found.double()

    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(Tensor, "float", Tensor.double), patch.object(distillation, "_class_weights", in_double):
            yield
    finally:
        torch.set_default_dtype(single)


def doubled(inputs: Mapping[str, Tensor | Sequence[Tensor]]) -> dict[str, Any]:
    """Embeddings in float64, those of padded dialogues or of each by itself."""
    return {
        name: values.double() if isinstance(values, Tensor) else [own.double() for own in values]
        for name, values in inputs.items()
    }
