"""Whether a compiled kernel may take a plain path's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn

__all__ = ["can_compile", "has_numba", "is_array", "plain_only"]

_plain_only = False
_PLAIN = (Tensor, nn.Parameter)


@cache
def has_numba() -> bool:
    """Whether numba is installed, and the environment variable MDLORA_NUMBA is not 0."""
    return os.environ.get("MDLORA_NUMBA", "1") != "0" and find_spec("numba") is not None


@contextmanager
def plain_only() -> Iterator[None]:
    """Take the plain paths inside, in all threads: to compare with, in tests and benchmarks."""
    global _plain_only
    before, _plain_only = _plain_only, True
    try:
        yield
    finally:
        _plain_only = before


def _is_watched() -> bool:
    """Whether somebody traces or transforms what is computed now."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def can_compile(*tensors: Tensor) -> bool:
    """Whether a kernel can run on these tensors.

    They must lie in a CPU's memory, contiguous, as float32 or integers; a graph that is traced,
    for torch.compile, torch.export or torch.jit, gets the plain path, and so do torch.func,
    forward-mode derivatives and subclasses of Tensor.
    """
    if _plain_only or _is_watched() or not has_numba():
        return False
    return all(map(is_array, tensors))


def is_array(t: Tensor) -> bool:
    """Whether a tensor is one that kernels can read, as `can_compile` says."""
    return (
        type(t) in _PLAIN
        and t.is_cpu
        and t.is_contiguous()
        and (t.dtype is torch.float32 or not t.dtype.is_floating_point)
    )
