"""mdlora prepare movielens | synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.config import unknown_name
from mdlora.errors import ConfigError

__all__ = ["run"]

KINDS = {
    "movielens": "MovieLens-1M, by gender, age or occupation",
    "synthetic": "impressions with known click probabilities",
}


def run(arguments: Sequence[str]) -> None:
    """Parse, prepare, print the summary."""
    given = list(arguments)
    if not given or given[0] in ("-h", "--help"):
        lines = [f"  {kind:<10} {what}" for kind, what in KINDS.items()]
        print("usage: mdlora prepare KIND ... --out DATA\n\nkinds:\n" + "\n".join(lines))
        print("\nDetails of a kind: mdlora prepare KIND --help")
        if not given:
            raise ConfigError("Say what to prepare.")
        return
    kind, rest = given[0], given[1:]
    if kind not in KINDS:
        raise ConfigError(unknown_name("kind of data", kind, KINDS))
    summary = _movielens(rest) if kind == "movielens" else _synthetic(rest)

    from mdlora.cli.showing import show_table
    from mdlora.data import domain_rows, split_rows
    from mdlora.reports import Table

    for caption, rows in (("Splits", split_rows(summary)), ("Domains", domain_rows(summary))):
        show_table(Table(caption=caption, columns=rows[0], rows=tuple(rows[1:])))


def _movielens(arguments: Sequence[str]) -> dict[str, Any]:
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
        "zip prefix and year",
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

    from rich.console import Console
    from rich.progress import Progress

    from mdlora.data.prepare import prepare_movielens

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("reading", total=1.0)
        summary = prepare_movielens(
            options.raw,
            by=options.by,
            out=Path(options.out),
            features=options.features,
            positive=options.positive,
            splits=options.splits,
            seed=options.seed,
            progress=lambda text, share: bars.update(task, description=text, completed=share),
        )
    write_json(options.json, summary)
    return summary


def _synthetic(arguments: Sequence[str]) -> dict[str, Any]:
    from mdlora.data.prepare import SyntheticConfig, prepare_synthetic

    parser = make_parser(
        "prepare synthetic",
        "--out DATA [options]",
        "Draw a click log whose true click probabilities are known.",
        "mdlora prepare synthetic --rows 1000000 --domains 20 --shift 1.0 --seed 1 --out DATA",
    )
    parser.add_argument("--out", type=str, required=True, help="the data folder to make")
    parser.add_class_arguments(SyntheticConfig, as_group=False)
    add_json(parser)
    options = parse(parser, arguments)
    knobs = {name: options[name] for name in SyntheticConfig.__dataclass_fields__}
    summary = prepare_synthetic(Path(options.out), **knobs)
    write_json(options.json, summary)
    return summary
