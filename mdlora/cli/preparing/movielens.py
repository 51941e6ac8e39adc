"""mdlora prepare movielens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.cli.preparing.progress import prepare_progress

__all__ = ["run"]


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse, prepare, give the summary."""
    parser = make_parser(
        "prepare movielens",
        "--by gender|age|occupation --out DATA [options]",
        "Make a data folder of MovieLens-1M. Without --raw, GroupLens' zip is downloaded.",
        "mdlora prepare movielens --raw ml-1m.zip --by gender --out data/ml-gender",
    )
    parser.add_argument(
        "--raw", type=str | None, help="ml-1m.zip or its unpacked folder (default: download)"
    )
    parser.add_argument(
        "--by",
        type=Literal["gender", "age", "occupation"],
        required=True,
        help="what a row's domain is",
    )
    parser.add_argument("--out", type=str, required=True, help="the data folder to make")
    parser.add_argument(
        "--features",
        type=Literal["ids", "all"],
        default="ids",
        help="ids: user, movie and domain, as in the papers; all: also gender, age, occupation, "
        "zip prefix, year and genres",
    )
    parser.add_argument("--positive", type=int, default=5, help="stars that make a click, 1 to 5")
    parser.add_argument(
        "--splits",
        type=str | None,
        help="Parquet file of given splits by user_id and movie_id (default: 3:1:1 by --seed)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random split")
    add_json(parser)
    options = parse(parser, arguments)

    from mdlora.data.prepare import prepare_movielens

    with prepare_progress() as progress:
        summary = prepare_movielens(
            options.raw,
            by=options.by,
            out=Path(options.out),
            features=options.features,
            positive=options.positive,
            splits=options.splits,
            seed=options.seed,
            progress=progress,
        )
    write_json(options.json, summary)
    return summary
