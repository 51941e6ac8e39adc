"""Ways back that compute in the types of their ways there."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

__all__ = ["without_autocast"]

F = TypeVar("F", bound=Callable[..., Any])


def without_autocast(backward: F) -> F:
    """The `backward` of a step that ran outside autocast: it stays outside where it is called."""

    @wraps(backward)
    def run(ctx: Any, grad: torch.Tensor) -> Any:
        if torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return backward(ctx, grad)
        return backward(ctx, grad)

    return cast("F", run)
