"""Other libraries, kept quiet."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import torch

__all__ = ["silenced"]


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keep a library's messages, warnings and seeds to itself."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
        torch.random.fork_rng(devices=[]),
    ):
        warnings.simplefilter("ignore")
        yield
