"""mdlora evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.config import check_number

__all__ = ["run"]


def run(arguments: Sequence[str]) -> None:
    """Parse, score, print."""
    parser = make_parser(
        "evaluate",
        "RUN [options]",
        "AUC by domain, WAUC, log loss and calibration, with 95 % intervals by bootstrap over "
        "users (rows, without a user column).",
        "mdlora evaluate runs/first --split test",
    )
    parser.add_argument("run_folder", metavar="RUN", help="a finished run folder")
    parser.add_argument(
        "--split",
        type=Literal["train", "validation", "test"],
        default="test",
        help="rows to score (default: test)",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        help="another data folder, or one Parquet file (default: the run's own data)",
    )
    parser.add_argument(
        "--which",
        type=Literal["best", "last"],
        default="best",
        help="weights that validation chose, or those of the last step (default: best)",
    )
    parser.add_argument(
        "--replicates", type=int, default=200, help="bootstrap draws; 0: none (default: 200)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    add_json(parser)
    options = parse(parser, arguments)

    from mdlora.cli.showing import show_evaluation
    from mdlora.data import load_dataset, read_split
    from mdlora.training import load_run

    check_number("--replicates", options.replicates, low=0)
    done = load_run(options.run_folder, options.which)
    schema = done.model.schema
    if options.data is not None and Path(options.data).is_file():
        rows = read_split(options.data, schema)
    else:
        data = done.data() if options.data is None else load_dataset(options.data)
        rows = data.encoded_by(schema).split(options.split)
    result, intervals = done.evaluate_rows(rows, replicates=options.replicates, seed=options.seed)
    plain = result.to_json()
    shown = None if intervals is None else intervals.to_json()
    title = f"{done.path}: {options.which} weights, {rows.name} rows"
    show_evaluation(result, title, shown)
    write_json(options.json, {**plain, "which": options.which, "intervals": shown})
