"""A prepared data set, and its splits as tensors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mdlora.data.layout import (
    ORACLE_COLUMN,
    SCHEMA_FILE,
    SPLIT_NAMES,
    SUMMARY_FILE,
    split_file,
)
from mdlora.data.prepare.synthetic import DEMO_CONFIG, synthetic_rows
from mdlora.data.reading import check_parquet, read_table, split_columns
from mdlora.data.write import PreparedRows
from mdlora.errors import DataError
from mdlora.schema import Schema

__all__ = ["SYNTHETIC", "Dataset", "Split", "load_dataset", "read_split"]

SYNTHETIC = "synthetic"
"""The name of the built-in synthetic log."""


@dataclass(frozen=True, eq=False)
class Split:
    """The encoded rows of one split (N rows, F categorical fields), on the CPU."""

    name: str
    """"train", "validation" or "test"."""

    categories: Tensor
    """(N, F) int64 ids, the domain's field last; 0 is out of vocabulary."""

    domain: Tensor
    """(N,) int64, 1 to D, 0 for an unknown domain."""

    label: Tensor
    """(N,) float32, 0 or 1."""

    oracle: Tensor | None
    """(N,) float64, the true click probability, or None where it is not known."""

    unseen: dict[str, int]
    """For each field, how many rows have a value that training rows did not have."""

    def __len__(self) -> int:
        return self.label.shape[0]


class Dataset:
    """A data folder (or the built-in log) with its schema; splits are read when asked for.

    Use `load_dataset` to get one.
    """

    def __init__(self, path: Path | None, schema: Schema, prepared: PreparedRows | None) -> None:
        self.path = path
        """The data folder, or None for the built-in log."""
        self.schema = schema
        self._prepared = prepared
        self._splits: dict[str, Split] = {}

    def __repr__(self) -> str:
        return f"Dataset({str(self.path) if self.path else SYNTHETIC!r})"

    def split(self, name: str) -> Split:
        """The rows of "train", "validation" or "test"; read once, then kept.

        Raises:
            DataError: no such split, or its file is damaged or does not fit the schema; or a
                domain of the schema has no training rows.
        """
        if name not in SPLIT_NAMES:
            raise DataError(f"There is no split {name!r}. Splits: {', '.join(SPLIT_NAMES)}.")
        if name not in self._splits:
            self._splits[name] = self._encode(name)
        return self._splits[name]

    def encoded_by(self, schema: Schema) -> Dataset:
        """The same rows by another schema, such as that of a model trained on other data."""
        if schema.fingerprint() == self.schema.fingerprint():
            return self
        return Dataset(self.path, schema, self._prepared)

    @property
    def oracle_available(self) -> bool:
        """Whether the true click probability of the test rows is known."""
        if self._prepared is not None:
            return ORACLE_COLUMN in self._prepared.tables["test"].column_names
        assert self.path is not None
        return ORACLE_COLUMN in check_parquet(self.path / split_file("test"), ())[1]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What `prepare` wrote about the data; empty for a folder without summary.json.

        Raises:
            DataError: summary.json is not a JSON object.
        """
        if self._prepared is not None:
            return self._prepared.summary
        assert self.path is not None
        path = self.path / SUMMARY_FILE
        if not path.exists():
            return {}
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not readable JSON: {error}. Prepare it again.") from error
        if not isinstance(plain, dict):
            raise DataError(f"{path} must hold a JSON object. Prepare the data again.")
        return plain

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the schema and the bytes of the split files.

        For the built-in log, over the schema and its encoded rows.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.schema.fingerprint().encode())
        for name in SPLIT_NAMES:
            digest.update(name.encode())
            if self.path is not None:
                with (self.path / split_file(name)).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                split = self.split(name)
                for tensor in (split.categories, split.label):
                    digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def _encode(self, name: str) -> Split:
        table, source = self._table(name)
        split = _split(name, table, source, self.schema)
        if name == "train":
            seen = split.domain.bincount(minlength=self.schema.num_domains + 1)[1:].numpy()
            if not seen.all():
                missing = self.schema.domain_names[int(np.argmin(seen > 0))]
                raise DataError(
                    f"{source}: domain {missing!r} of the schema has no training rows. "
                    "Prepare the data again, with rows of that domain or without it."
                )
        return split

    def _table(self, name: str) -> tuple[pa.Table, str]:
        if self._prepared is not None:
            return self._prepared.tables[name], f"{SYNTHETIC} {name} rows"
        assert self.path is not None
        path = self.path / split_file(name)
        there = check_parquet(path, ())[1]
        return read_table(path, split_columns(self.schema, there)), str(path)


def read_split(path: str | Path, schema: Schema) -> Split:
    """The labelled rows of one Parquet file, by an existing schema.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a column or the label, or does not
            fit the schema.
    """
    file = Path(path)
    num_rows, there = check_parquet(file, [*schema.field_names, schema.label.name])
    if not num_rows:
        raise DataError(f"{file} has no rows. Give a file with rows to score.")
    return _split(file.name, read_table(file, split_columns(schema, there)), str(file), schema)


def load_dataset(path: str | Path) -> Dataset:
    """Open a prepared data folder, or the built-in log with `load_dataset("synthetic")`.

    The schema and the files' footers are checked at once; rows are read by `Dataset.split`.
    (A folder that is called synthetic is opened as "./synthetic".)

    Raises:
        DataError: the folder or a file in it is missing, is no Parquet file, is empty, is cut
            short, or lacks a column of the schema.
    """
    if path == SYNTHETIC:
        return _synthetic()
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise DataError(
            f"The data folder {folder} {what}. Give a folder made by `mdlora prepare`, "
            f'or "{SYNTHETIC}" for the built-in log.'
        )
    if not (folder / SCHEMA_FILE).is_file():
        raise DataError(
            f"{folder} has no {SCHEMA_FILE}, so it is not a prepared data folder. "
            "Make one with `mdlora prepare`."
        )
    schema = Schema.load(folder / SCHEMA_FILE)
    for name in SPLIT_NAMES:
        file = folder / split_file(name)
        if not file.is_file():
            raise DataError(
                f"{folder} has no {file.name}: a data folder holds "
                f"{', '.join(map(split_file, SPLIT_NAMES))} and {SCHEMA_FILE}. Prepare it again."
            )
        if not check_parquet(file, [*schema.field_names, schema.label.name])[0]:
            raise DataError(f"{file} has no rows. Each split needs rows: prepare the data again.")
    return Dataset(folder, schema, None)


@lru_cache(maxsize=1)
def _synthetic() -> Dataset:
    prepared = synthetic_rows(DEMO_CONFIG)
    return Dataset(None, prepared.schema, prepared)


def _split(name: str, table: pa.Table, source: str, schema: Schema) -> Split:
    rows = schema.encode(table, source=source)
    assert rows.label is not None
    return Split(
        name,
        torch.from_numpy(rows.categories),
        torch.from_numpy(rows.domain),
        torch.from_numpy(np.array(rows.label)),
        _oracle(table, source),
        rows.unseen,
    )


def _oracle(table: pa.Table, source: str) -> Tensor | None:
    if ORACLE_COLUMN not in table.column_names:
        return None
    column = table.column(ORACLE_COLUMN)
    if not pa.types.is_floating(column.type):
        raise DataError(f"{source}: column {ORACLE_COLUMN!r} must be float, is {column.type}.")
    values = np.array(column.to_numpy(), dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        row = int(np.argmin((values >= 0) & (values <= 1)))
        raise DataError(
            f"{source}: column {ORACLE_COLUMN!r} is {values[row]} in row {row} (counted from 0); "
            "a probability lies in [0, 1]."
        )
    return torch.from_numpy(values)
