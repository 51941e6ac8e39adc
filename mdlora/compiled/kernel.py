"""How kernels are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["bare_kernel", "fast_sums", "kernel"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile at the first call for each set of types, and keep the machine code on disk.

    Where no place for it can be written, each process compiles anew.
    """
    return _compiled(function, fastmath=False)


def bare_kernel(function: F) -> F:
    """As `kernel`, for functions that make no arrays: time goes on no count of references."""
    return _compiled(function, fastmath=False, _nrt=False)


def fast_sums(function: F) -> F:
    """As `kernel`, but sums are taken in any order, products fused into them: so they vectorise."""
    return _compiled(function, fastmath={"reassoc", "contract"})


def _compiled(function: F, *, fastmath: bool | set[str], **more: Any) -> F:
    settings = {"nogil": True, "error_model": "numpy", "fastmath": fastmath, **more}
    try:
        made: F = numba.njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder for the cache
        made = numba.njit(**settings)(function)
    return made
