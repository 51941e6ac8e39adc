"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["kernel"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile at the first call for each set of types, and keep the machine code on disk.

    Where no place for it can be written, each process compiles anew.
    """
    settings = {"nogil": True, "error_model": "numpy"}
    try:
        made: F = numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder for the cache
        made = numba.njit(**settings)(function)
    return made
