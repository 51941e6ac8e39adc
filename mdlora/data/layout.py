"""The names inside a prepared data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from mdlora.errors import DataError

__all__ = [
    "ORACLE_COLUMN",
    "SCHEMA_FILE",
    "SPLIT_NAMES",
    "SUMMARY_FILE",
    "VECTORS_FILE",
    "SplitName",
    "is_data_folder",
    "split_file",
    "split_paths",
]

SplitName: TypeAlias = Literal["train", "validation", "test"]

SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")
"""The splits; a split's code is its index here."""

SCHEMA_FILE = "schema.json"
SUMMARY_FILE = "summary.json"

VECTORS_FILE = "vectors.safetensors"
"""The side tables of vector columns with a key: one float32 tensor (n, width) for each."""

ORACLE_COLUMN = "oracle_probability"
"""The true click probability of synthetic rows: stored beside them, never shown to a model."""


def is_data_folder(path: str | Path) -> bool:
    """Whether a path is a prepared data folder, even one whose schema or training rows are gone."""
    folder = Path(path)
    known = (SCHEMA_FILE, split_file("train"), "train")
    return any((folder / name).exists() for name in known)


def split_file(name: str) -> str:
    """The file of the split called `name`."""
    return f"{name}.parquet"


def split_paths(folder: Path, name: str) -> list[Path]:
    """The Parquet files of a split: one file, or those of a folder of its name, by file name.

    Raises:
        DataError: there is neither, or both, or the folder holds no Parquet file.
    """
    file, parts = folder / split_file(name), folder / name
    if file.is_file() and parts.is_dir():
        raise DataError(
            f"{folder} has both {file.name} and a folder {name}. Keep the one that holds the rows."
        )
    if file.is_file():
        return [file]
    if not parts.is_dir():
        raise DataError(
            f"{folder} has no {file.name}: a data folder holds "
            f"{', '.join(map(split_file, SPLIT_NAMES))} and {SCHEMA_FILE}. Prepare it again."
        )
    found = sorted(path for path in parts.glob("*.parquet") if not path.name.startswith("."))
    if not found:
        raise DataError(f"{parts} holds no Parquet file. Prepare the data again.")
    return found
