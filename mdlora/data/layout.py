"""The names inside a prepared data folder."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "ORACLE_COLUMN",
    "SCHEMA_FILE",
    "SPLIT_NAMES",
    "SUMMARY_FILE",
    "SplitName",
    "split_file",
]

SplitName: TypeAlias = Literal["train", "validation", "test"]

SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
"""The splits; a split's code is its index here."""

SCHEMA_FILE = "schema.json"
SUMMARY_FILE = "summary.json"

ORACLE_COLUMN = "oracle_probability"
"""The true click probability of synthetic rows: stored beside them, never shown to a model."""


def split_file(name: str) -> str:
    """The file of the split called `name`."""
    return f"{name}.parquet"
