"""Whether a compiled kernel may take a plain path's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

__all__ = ["can_compile", "has_numba", "plain_only"]

_plain_only = False


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


def can_compile(*tensors: Tensor) -> bool:
    """Whether a kernel can run on these tensors.

    They must lie in a CPU's memory, contiguous, as float32 or integers; a graph that is traced,
    for torch.compile or torch.export, gets the plain path.
    """
    if _plain_only or not has_numba() or torch.compiler.is_compiling():
        return False
    for t in tensors:  # all of a step's tensors pass here: this costs a third of all(...)
        if not (t.is_cpu and t.is_contiguous()):
            return False
        if t.dtype is not torch.float32 and t.dtype.is_floating_point:
            return False
    return True
