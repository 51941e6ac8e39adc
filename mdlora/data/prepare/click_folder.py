"""Write clicks and their negatives as a data folder, without making all rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mdlora.data.layout import SPLIT_NAMES, split_file
from mdlora.data.prepare.click_counts import ImpressionCounts, find_leakage
from mdlora.data.prepare.given_vectors import VectorTable
from mdlora.data.prepare.impressions import Impressions, RowBlock
from mdlora.data.prepare.pieces import Codes
from mdlora.data.prepare.progress import PrepareProgress, silent
from mdlora.data.prepare.table_summary import HashedValues, about_schema
from mdlora.data.write import write_description
from mdlora.files import atomic_directory
from mdlora.schema import Categorical, Domain, Label, Role, Schema, Vector

if TYPE_CHECKING:
    import polars as pl

__all__ = ["LABEL", "IdColumn", "write_impressions"]

LABEL = "label"
"""The column that says which rows are clicks."""

_GROUP_ROWS = 1 << 20
_GROUP_BYTES = 1 << 27


@dataclass(frozen=True, eq=False)
class IdColumn:
    """The users or the items behind the codes."""

    role: Role

    values: pl.Series
    """(V,) what stands in the raw column, ascending; its name is the column's."""

    vectors: VectorTable | None = None
    """Vectors of some codes, which models are given in place of trained embeddings."""

    linear: bool = False
    """With vectors, whether a model's linear part has a weight for each id."""

    @property
    def name(self) -> str:
        """The field that a model sees."""
        return self.values.name if self.vectors is None else f"{self.role}_vector"

    def fitted(self, known: Codes) -> Categorical | Vector:
        """The schema's column, with the values behind the codes that are known."""
        values = tuple(self.values.gather(known).to_list())
        if self.vectors is None:
            return Categorical(self.name, values, role=self.role)
        return Vector(
            self.name,
            width=self.vectors.vectors.shape[1],
            key=self.values.name,
            values=values,
            linear=self.linear,
            role=self.role,
        )


def write_impressions(
    out: str | Path,
    rows: Impressions,
    user: IdColumn,
    item: IdColumn,
    domain: pl.Series,
    *,
    source: str,
    options: Mapping[str, Any],
    sampling: Mapping[str, Any],
    read_as_text: Mapping[str, Any] | None = None,
    progress: PrepareProgress | None = None,
) -> dict[str, Any]:
    """Write the data folder `out` and return its summary; after an error there is no folder.

    Its columns are those of `user`, `item` and `domain`, and `LABEL`. Beside the arguments, memory
    holds a row group, and 24 bytes and what stands in the schema for each user and item.

    Args:
        out: the folder to make.
        rows: as codes.
        user: what the codes of users stand for.
        item: what the codes of items stand for.
        domain: what the codes of domains stand for, named as their column.
        source: where the rows come from, for the summary.
        options: what was chosen when preparing them, for the summary.
        sampling: what became of the clicks and how many negatives there are, for the summary.
        read_as_text: columns that are text because of a few cells, for the summary; None where
            the source cannot have any.
        progress: told how much is written, from 0 to 1.

    Raises:
        DataError: a split is empty, or a domain has no training rows.
        RunError: `out` is there already, or cannot be written.
    """
    counts = ImpressionCounts(rows)
    counts.check(domain.to_list())
    sides = (user, item)
    known: dict[str, Codes] = {
        c.role: counts.trained(c.role) if c.vectors is None else c.vectors.ids for c in sides
    }
    domains = tuple(domain.gather(counts.domains()).to_list())
    schema = Schema(
        (*(c.fitted(known[c.role]) for c in sides), Domain(domain.name, domains), Label(LABEL))
    )
    names = {user.role: user.name, item.role: item.name, "domain": domain.name}
    keys = (user.values.name, item.values.name, domain.name)
    summary = {
        "source": source,
        "options": dict(options),
        **about_schema(schema, HashedValues(schema)),
        **counts.to_json(names, schema.domain_names, known),
        "leakage": find_leakage(rows, keys).to_json(),
        **({} if read_as_text is None else {"read_as_text": dict(read_as_text)}),
        "sampling": dict(sampling),
    }
    del counts, known
    told = progress or silent
    columns = (user.values, item.values, domain)
    with atomic_directory(out) as folder:
        for code, name in enumerate(SPLIT_NAMES):
            told("writing", code / len(SPLIT_NAMES))
            _write_split(folder / split_file(name), rows, code, columns)
        vectors = {c.name: c.vectors.vectors for c in sides if c.vectors is not None}
        write_description(folder, schema, summary, vectors)
    told("writing", 1.0)
    return summary


def _write_split(path: Path, rows: Impressions, code: int, columns: tuple[pl.Series, ...]) -> None:
    """One file; a row group has a million rows (2^20), or fewer where they are wide."""
    group_rows = min(_GROUP_ROWS, max(int(_GROUP_BYTES / sum(map(_width, columns))), 1))
    writer: pq.ParquetWriter | None = None
    try:
        for block in _in_groups(rows, code, group_rows):
            table = _table(block, columns)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=group_rows)
    finally:
        if writer is not None:
            writer.close()


def _width(column: pl.Series) -> float:
    """Bytes of a value, on average over the different ones."""
    import polars as pl

    if column.dtype != pl.String:
        return 8.0
    return 8.0 + float(column.str.len_bytes().sum()) / len(column)


def _in_groups(rows: Impressions, code: int, group_rows: int) -> Iterator[RowBlock]:
    """The rows of a split in blocks of `group_rows`, the last one excepted."""
    held: list[RowBlock] = []
    num = 0
    for block in rows.blocks():
        held.append(block.pick(block.split == code))
        num += held[-1].label.size
        while num >= group_rows:
            whole = RowBlock._make(map(np.concatenate, zip(*held, strict=True)))
            yield whole.pick(slice(group_rows))
            held = [whole.pick(slice(group_rows, None))]
            num -= group_rows
    if num:
        yield RowBlock._make(map(np.concatenate, zip(*held, strict=True)))


def _table(block: RowBlock, columns: tuple[pl.Series, ...]) -> pa.Table:
    """The rows as they stood in the source, with their label."""
    import polars as pl

    codes = (block.user, block.item, block.domain)
    values = [column.gather(index) for column, index in zip(columns, codes, strict=True)]
    return pl.DataFrame([*values, pl.Series(LABEL, block.label)]).to_arrow()
