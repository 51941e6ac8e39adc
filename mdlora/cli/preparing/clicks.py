"""mdlora prepare clicks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mdlora.cli.parsing import add_json, make_parser, parse, write_json
from mdlora.cli.preparing.negatives import add_sampling, read_sampling
from mdlora.cli.preparing.progress import prepare_progress
from mdlora.config import counted

__all__ = ["run"]


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse, prepare, say what was read as text and what was sampled, give the summary."""
    parser = make_parser(
        "prepare clicks",
        "CLICKS --out DATA [options]",
        "Make a data folder of a table of clicks, with a user, an item and a domain in each row. "
        "Items that a user did not click are sampled as negatives, as in the papers' Taobao and "
        "Amazon data.",
        "mdlora prepare clicks clicks.csv.gz --out data/clicks --vectors svd:64",
    )
    parser.add_argument(
        "clicks",
        type=str,
        metavar="CLICKS",
        help="Parquet or CSV (gzipped or not): a file, a folder, a glob or a URL",
    )
    parser.add_argument("--out", type=str, required=True, help="the data folder to make")
    parser.add_argument("--user", type=str, default="user_id", help="the column of users")
    parser.add_argument("--item", type=str, default="item_id", help="the column of items")
    parser.add_argument("--domain", type=str, default="domain", help="the column of domains")
    add_sampling(parser)
    parser.add_argument("--seed", type=int, default=1, help="of all that is drawn")
    parser.add_argument(
        "--vectors",
        type=str | None,
        help="svd:WIDTH: give models vectors of users and items, made of a share of the training "
        "clicks, which is then left out of training (default: train embeddings of ids)",
    )
    parser.add_argument(
        "--vector-share", type=float, default=0.5, help="that share, between 0 and 1"
    )
    parser.add_argument(
        "--without-vector",
        type=Literal["zero", "drop"],
        default="zero",
        help="rows whose user or item has no vector: zero vectors, or drop the rows",
    )
    parser.add_argument(
        "--vector-linear",
        type=bool,
        default=False,
        help="true: the linear part of a model has a weight for each user and item",
    )
    add_json(parser)
    options = parse(parser, arguments)

    from mdlora.data.prepare import prepare_clicks

    with prepare_progress() as progress:
        summary = prepare_clicks(
            options.clicks,
            out=Path(options.out),
            user=options.user,
            item=options.item,
            domain=options.domain,
            **read_sampling(options),
            seed=options.seed,
            vectors=options.vectors,
            vector_share=options.vector_share,
            without_vector=options.without_vector,
            linear=options.vector_linear,
            progress=progress,
        )
    write_json(options.json, summary)
    texts = _texts(summary["read_as_text"])
    for line in (*texts, *_lines(summary["sampling"], options.without_vector)):
        print(line)
    return summary


def _texts(cells: Mapping[str, Any]) -> list[str]:
    """The columns that are text because of a few cells, with the first of these."""
    from mdlora.data.sources import MixedColumn

    advice = "Correct it, unless the column is meant to be text."
    mixed = [MixedColumn(name, **cell) for name, cell in cells.items()]
    return [column.describe("its cells", advice) for column in mixed]


def _lines(about: Mapping[str, Any], without_vector: str) -> list[str]:
    """What was sampled, dropped and missing, in words."""
    lines = [
        f"{counted(about['clicks'], 'click')}, {about['repeated_clicks']:,} of them repeated and "
        f"dropped; {counted(about['negatives'], 'negative')} drawn, {about['shortfall']:,} fewer "
        "than asked for.",
    ]
    if "vectors" in about:
        made = about["vectors"]
        lines.append(
            f"Vectors {made['width']} wide of {counted(made['users'], 'user')} and "
            f"{counted(made['items'], 'item')}, made of "
            f"{counted(made['clicks_used'], 'training click')}, which left the training rows with "
            f"{counted(made['negatives_left_out'], 'negative')}."
        )
        counts = ", ".join(f"{name} {n['either']:,}" for name, n in made["rows_without"].items())
        end = "dropped" if without_vector == "drop" else "kept with zeros"
        lines.append(f"Rows whose user or item has no vector, {end}: {counts}.")
    return lines
