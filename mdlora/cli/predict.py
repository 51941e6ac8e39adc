"""mdlora predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mdlora.cli.parsing import make_parser, parse

__all__ = ["run"]


def run(arguments: Sequence[str]) -> None:
    """Parse, score, write."""
    parser = make_parser(
        "predict",
        "RUN ROWS.parquet --out SCORES.parquet [options]",
        "Add a column `score`, the click probability, to the rows of a Parquet file. Rows and "
        "columns keep their order.",
        "mdlora predict runs/first rows.parquet --out scores.parquet",
    )
    parser.add_argument("run_folder", metavar="RUN", help="a finished run folder")
    parser.add_argument("rows", metavar="ROWS.parquet", help="rows with the schema's columns")
    parser.add_argument("--out", type=str, required=True, help="the Parquet file to write")
    parser.add_argument(
        "--which",
        type=Literal["best", "last"],
        default="best",
        help="weights that validation chose, or those of the last step (default: best)",
    )
    options = parse(parser, arguments)

    from mdlora.training import load_run

    summary = load_run(options.run_folder, options.which).predict_file(options.rows, options.out)
    print(f"{summary['rows']:,} rows scored: {options.out}")
    for field, count in summary["unseen"].items():
        if count:
            print(f"{count:,} rows have a {field} that training never saw.")
