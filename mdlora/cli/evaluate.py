"""mdlora evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mdlora.cli.csv_settings import add_csv_settings, read_csv_settings
from mdlora.cli.parsing import add_json, make_parser, parse, value_of, write_json
from mdlora.cli.scoring import add_scoring, load_scoring_run
from mdlora.config import check_count
from mdlora.errors import ConfigError

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
        help="rows to score",
    )
    parser.add_argument(
        "--data",
        type=str | None,
        help="another data folder, or labelled rows: a Parquet or CSV file, a folder, a glob or a "
        "URL (default: the run's own data)",
    )
    add_scoring(parser)
    parser.add_argument(
        "--replicates", type=int, default=200, help="bootstrap draws; 0: no intervals"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    add_csv_settings(parser)
    add_json(parser)
    options = parse(parser, arguments)
    check_count("--replicates", options.replicates, low=0)
    if options.replicates == 1:
        raise ConfigError("--replicates=1 gives no interval; give 0 for none, or at least 2.")
    check_count("--seed", options.seed, low=0)
    csv = read_csv_settings(options)

    from mdlora.cli.showing import show_evaluation
    from mdlora.data import SYNTHETIC, is_data_folder, load_dataset, read_split

    rows_alone = options.data not in (None, SYNTHETIC) and not is_data_folder(options.data)
    if rows_alone and value_of(arguments, "--split") is not None:
        what = "one file" if Path(options.data).is_file() else "no data folder"
        raise ConfigError(
            f"--data {options.data} is {what}, so all its rows are scored; leave out --split, "
            "or give --data a data folder."
        )

    done = load_scoring_run(options)
    schema = done.model.schema
    if rows_alone:
        rows = read_split(options.data, schema, unknown_domain=options.unknown_domain, csv=csv)
    else:
        data = done.data() if options.data is None else load_dataset(options.data)
        rows = data.encoded_by(schema).split(options.split)
    result, intervals = done.evaluate_rows(
        rows,
        replicates=options.replicates,
        seed=options.seed,
        unknown_domain=options.unknown_domain,
    )
    shown = None if intervals is None else intervals.to_json()
    title = f"{done.path}: {options.which} weights, {rows.name} rows"
    show_evaluation(result, title, rows, schema, shown)
    counts = {"unseen": rows.unseen, "missing": rows.missing, "cut": rows.cut}
    about = {"which": options.which, "intervals": shown, **counts}
    write_json(options.json, {**result.to_json(), **about})
