"""mdlora prepare amazon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mdlora.cli.parsing import add_json, make_parser, parse, switch, write_json
from mdlora.cli.preparing.negatives import add_sampling, read_sampling
from mdlora.cli.preparing.progress import prepare_progress
from mdlora.config import counted

__all__ = ["run"]


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse, prepare, give the summary."""
    parser = make_parser(
        "prepare amazon",
        "FILE|NAME=FILE ... --out DATA [options]",
        "Make a data folder of Amazon's reviews, a domain for each category, with negatives "
        "sampled as in the papers. Each file holds one category, as JSON lines or as ratings in "
        "CSV, plain or .gz; without NAME= the category is told from the file's name.",
        "mdlora prepare amazon Musical_Instruments_5.json.gz Video_Games_5.json.gz --out data/am-2",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="FILE, or NAME=FILE")
    parser.add_argument("--out", type=str, required=True, help="the data folder to make")
    add_sampling(parser)
    parser.add_argument(
        "--csv-order",
        type=Literal["auto", "user-item", "item-user"],
        default="auto",
        help="what ratings without a header begin with; auto: told from the ids",
    )
    switch(parser, "--skip-bad-lines", "leave out lines that are no review, and count them")
    parser.add_argument("--seed", type=int, default=1, help="of the negatives and the split")
    add_json(parser)
    options = parse(parser, arguments)

    from mdlora.data.prepare import category_files, prepare_amazon

    with prepare_progress() as progress:
        summary = prepare_amazon(
            category_files(options.files),
            out=Path(options.out),
            **read_sampling(options),
            csv_order=options.csv_order,
            skip_bad_lines=options.skip_bad_lines,
            seed=options.seed,
            progress=progress,
        )
    write_json(options.json, summary)
    _show(summary["sampling"])
    return summary


def _show(about: Mapping[str, Any]) -> None:
    for name, of in about["domains"].items():
        bad = f"{counted(of['bad_lines'], 'bad line')} left out, " if of["bad_lines"] else ""
        print(
            f"{name}: {bad}{counted(of['clicks'], 'review')}, {of['repeated_clicks']:,} of them "
            f"repeated and dropped; {counted(of['negatives'], 'negative')} drawn, "
            f"{of['shortfall']:,} fewer than asked for."
        )
