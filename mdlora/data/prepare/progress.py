"""How preparing a data set tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["PrepareProgress", "silent"]

PrepareProgress: TypeAlias = Callable[[str, float], None]
"""Called with what is being done and how much of that is done, 0 to 1."""


def silent(message: str, share: float) -> None:
    """No progress is shown."""
