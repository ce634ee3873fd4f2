"""Functions that `torch.compile` leaves as they are, marked without importing what compiles.

`torch.compiler.disable` imports torch._dynamo, which takes as long as half of torch, at the moment that it marks a
function; most programs compile nothing.
"""

import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import torch

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# Made once for a function.
_disabled = cache(torch.compiler.disable)


def uncompiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Mark a function as `torch.compiler.disable` does, once there is anything that could compile it."""

    @wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        marked: Callable[Arguments, Result] = _disabled(function) if "torch._dynamo" in sys.modules else function
        return marked(*args, **kwargs)

    # So that a compiler that meets it neither looks into it nor warns of the cache.
    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call
