"""Any long table of rows, Parquet or CSV, to a data folder, without holding it in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mdlora.config.checks import counted
from mdlora.data.layout import SPLIT_NAMES
from mdlora.data.prepare.progress import PrepareProgress, silent
from mdlora.data.prepare.table_files import GROUP_ROWS, SplitFiles, parts_of, read_split
from mdlora.data.prepare.table_scan import columns_to_scan, scan_rows
from mdlora.data.prepare.table_source import TableSource
from mdlora.data.prepare.table_splits import (
    DEFAULT_RATIO,
    SplitRule,
    assign_splits,
    check_domains,
)
from mdlora.data.prepare.table_summary import (
    HashedValues,
    TableCounts,
    about_schema,
    find_leakage,
)
from mdlora.data.prepare.table_vectors import join_vectors
from mdlora.data.sources import CsvOptions
from mdlora.data.write import write_description
from mdlora.errors import DataError, SchemaError
from mdlora.files import atomic_directory, check_new_directory
from mdlora.schema import Column, Schema, SchemaFitter, columns_from_yaml

__all__ = ["prepare_table"]


def prepare_table(
    source: Any,
    columns: Sequence[Column] | str | Path,
    *,
    out: str | Path,
    split: str = "random",
    ratio: Sequence[float] = DEFAULT_RATIO,
    seed: int = 1,
    vectors: Mapping[str, Any] | None = None,
    drop_domains_without_training: bool = False,
    csv: CsvOptions | None = None,
    progress: PrepareProgress | None = None,
) -> dict[str, Any]:
    """Make a data folder of a table that may be larger than memory.

    The source is read twice: once for what the split needs, once to write each split and to fit
    the schema on the training rows. The rows written are then read to check and count them.
    Memory, beside the 0.3 GB of Python and its libraries, is at most 0.4 GB for chunks of rows
    (0.8 GB where rows are wider than 120 bytes), 50 bytes for each row, and 200 bytes for each
    different value of the columns that have vocabularies or roles.

    Args:
        source: a Parquet or CSV file, a folder or glob of them, a URL, or a table in memory.
        columns: the specs of the schema's columns, or a YAML file of them. Other columns are
            left out, except "oracle_probability" if there.
        out: the data folder to make, not there yet.
        split: "random" (stratified by label in each domain), "time" (the latest rows test),
            "user" (all rows of a user in one split), or "column:NAME", a column of 0, 1 and 2 or
            of "train", "validation" and "test".
        ratio: shares of training, validation and test: of rows, or by user of users.
        seed: of the splits "random" and "user".
        vectors: for each vector column with a key, by its name, a Parquet or CSV file or a
            table with the keys under the key's name and the vectors under the column's: lists, or
            texts of numbers with spaces or commas between.
        drop_domains_without_training: leave rows of such domains out, and count them, where
            they would be an error.
        csv: how CSV is written, where the files do not show it.
        progress: told what is being done and how much of it is, from 0 to 1.

    Returns:
        The summary, as in summary.json.

    Raises:
        ConfigError: the split, its ratio or its seed cannot be.
        DataError: the source cannot be read, a value is wrong (the message names file, row and
            column), a split is empty, or a domain has no training rows.
        RunError: `out` is there already, or cannot be written.
    """
    check_new_directory(out)
    joined, tables = join_vectors(_read_specs(columns), vectors or {})
    specs = _schema_of(joined, columns)
    rule = SplitRule.of(split, specs, ratio)
    rows = TableSource(source, specs, csv)
    told = progress or silent

    scanned = scan_rows(
        rows.batches(columns_to_scan(specs, by_time=rule.kind == "time", given=rule.column)),
        specs,
        by_time=rule.kind == "time",
        given=rule.column,
        told=lambda done: told(f"reading, {counted(done, 'row')}", 0.0),
        source=rows.name,
    )
    told("splitting", 0.3)
    splits = assign_splits(scanned, rule, ratio=ratio, seed=seed)
    domain = check_domains(splits, scanned.domain, specs.domain, drop=drop_domains_without_training)
    specs = Schema(tuple(domain if c is specs.domain else c for c in specs.columns))
    leakage = find_leakage(scanned, splits.codes, specs)
    counts = TableCounts(scanned, splits.codes)
    codes = splits.codes
    del scanned, splits.codes  # the codes of users and items are no longer needed

    with atomic_directory(out) as folder:
        schema, hashed = _write_splits(rows, codes, specs, folder, told)
        found = _check_splits(rows, schema, folder, told)
        summary = {
            "source": str(source) if isinstance(source, str | Path) else "a table in memory",
            "options": _options(rule, split, ratio, seed),
            **about_schema(schema, hashed),
            **counts.to_json(schema),
            **splits.about,
            "leakage": None if leakage is None else leakage.to_json(),
            "read_as_text": {column.name: column.to_json() for column in rows.mixed},
        }
        for name, more in found.items():
            summary["splits"][name] |= more
        write_description(folder, schema, summary, tables)
    return summary


def _read_specs(columns: Sequence[Column] | str | Path) -> tuple[Column, ...]:
    if not isinstance(columns, str | Path):
        return tuple(columns)
    try:
        text = Path(columns).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"Cannot read the schema {columns}: {cause}.") from error
    return columns_from_yaml(text, where=str(columns))


def _schema_of(joined: tuple[Column, ...], columns: Sequence[Column] | str | Path) -> Schema:
    """The specs as a schema; an error names the file that they were read from."""
    try:
        return Schema(joined)
    except SchemaError as error:
        where = f"{columns}: " if isinstance(columns, str | Path) else ""
        raise SchemaError(f"{where}{error}") from error


def _options(rule: SplitRule, split: str, ratio: Sequence[float], seed: int) -> dict[str, Any]:
    """What was chosen, as far as it matters."""
    options: dict[str, Any] = {"split": split}
    if rule.kind != "given":
        options["ratio"] = list(ratio)
    if rule.kind in ("random", "user"):
        options["seed"] = seed
    return options


def _write_splits(
    rows: TableSource,
    codes: npt.NDArray[np.int8],
    specs: Schema,
    folder: Path,
    told: PrepareProgress,
) -> tuple[Schema, HashedValues]:
    """Write each split's file; fit the schema, and count hashed values, on the training rows."""
    hashed = HashedValues(specs)
    fitter = SchemaFitter(specs.columns, source="train rows")
    start = 0
    group_rows = min(GROUP_ROWS, rows.chunk_rows)
    with SplitFiles.open(folder, SPLIT_NAMES, group_rows) as files:
        for table, source in rows.batches(rows.kept):
            own = codes[start : start + table.num_rows]
            start += table.num_rows
            if start > codes.size:
                break
            parts = parts_of(table, own, len(SPLIT_NAMES))
            files.add(parts)
            if 0 in parts:
                try:
                    fitter.add(parts[0], source=source)
                    hashed.add(parts[0])
                except DataError:  # its row number is that of the part: look in the whole chunk
                    SchemaFitter(specs.columns).add(table, source=source)
                    raise
            told("writing", 0.35 + 0.5 * start / codes.size)
    if start != codes.size:
        raise DataError(
            f"{rows.name} changed while it was read: {counted(codes.size, 'row')} at first, "
            f"{'more' if start > codes.size else start} the second time. Run again."
        )
    return fitter.finish(), hashed


def _check_splits(
    rows: TableSource, schema: Schema, folder: Path, told: PrepareProgress
) -> dict[str, dict[str, Any]]:
    """Encode what was written, chunk by chunk: counts of unseen, missing and cut values.

    Raises:
        DataError: a row cannot be encoded; the message names its place in the source.
    """
    found: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(SPLIT_NAMES):
        told("checking", 0.85 + 0.05 * place)
        try:
            found[name] = _count_split(schema, folder, name, rows.chunk_rows)
        except DataError:  # its row number is that of the new file: look in the source
            for table, source in rows.batches(rows.kept):
                schema.encode(table, source=source)
            raise
    return found


def _count_split(schema: Schema, folder: Path, name: str, chunk_rows: int) -> dict[str, Any]:
    """What the rows of one split lack, as `EncodedRows` counts it."""
    counts: dict[str, Counter[str]] = {key: Counter() for key in ("unseen", "missing", "cut")}
    for table in read_split(folder, name, schema.raw_columns(), chunk_rows):
        rows = schema.encode(table, source=f"{name} rows")
        for key, total in counts.items():
            total.update(getattr(rows, key))
    return {key: dict(total) for key, total in counts.items()}
