"""Steps that have first derivatives only, and say so when more are asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

__all__ = ["PLAIN_PATH", "first_only"]

PLAIN_PATH = "set the environment variable MDLORA_NUMBA=0 before Python starts, for the plain path"
"""What compiled steps name instead."""

F = TypeVar("F", bound=Callable[..., Any])


def first_only(instead: str) -> Callable[[F], F]:
    """For the `backward` of a step: it refuses create_graph=True.

    Torch's `once_differentiable` refuses only what depends on the gradient that comes in, so
    that derivatives with respect to weights would silently be missing.

    Args:
        instead: what has second derivatives, for the message.
    """

    def decorate(backward: F) -> F:
        @wraps(backward)
        def run(ctx: Any, *grads: Any) -> Any:
            if torch.is_grad_enabled():
                raise RuntimeError(
                    "This step has first derivatives only, and create_graph=True asks for more: "
                    f"{instead}."
                )
            return backward(ctx, *grads)

        return cast("F", run)

    return decorate
