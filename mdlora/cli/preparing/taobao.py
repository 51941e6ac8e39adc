"""mdlora prepare taobao."""

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
    """Parse, prepare, give the summary."""
    parser = make_parser(
        "prepare taobao",
        "RAW --out DATA [options]",
        "Make a data folder of Taobao's Cloud Theme Click data, with negatives sampled as in the "
        "papers and the given vectors of users and items attached. RAW is the folder with "
        "theme_click_log.csv, user_embedding.csv and item_embedding.csv.",
        "mdlora prepare taobao cloud-theme --themes 10 --out data/taobao-10",
    )
    parser.add_argument("raw", metavar="RAW", help="the folder of the files, plain or .gz")
    parser.add_argument("--out", type=str, required=True, help="the data folder to make")
    parser.add_argument("--themes", type=int, default=10, help="how many themes (domains)")
    parser.add_argument(
        "--pick",
        type=Literal["first", "random"],
        default="first",
        help="first: the first themes of the log; random: drawn by --seed",
    )
    add_sampling(parser)
    parser.add_argument(
        "--vector-linear",
        type=bool | None,
        help="true: the linear part of a model has a weight for each user and item (default: true "
        "for the split rule paper, false for released)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of themes, negatives and split")
    add_json(parser)
    options = parse(parser, arguments)

    from mdlora.data.prepare import prepare_taobao

    with prepare_progress() as progress:
        summary = prepare_taobao(
            options.raw,
            out=Path(options.out),
            themes=options.themes,
            pick=options.pick,
            **read_sampling(options),
            linear=options.vector_linear,
            seed=options.seed,
            progress=progress,
        )
    write_json(options.json, summary)
    _show(summary["sampling"], options.themes)
    return summary


def _show(about: Mapping[str, Any], themes: int) -> None:
    others = counted(about["of_other_themes"], "is of another theme", "are of other themes")
    print(
        f"{counted(about['log_clicks'], 'click')} in the log. {about['without_vectors']:,} dropped "
        f"for want of a vector (of the user: {about['without_user_vector']:,}, of the item: "
        f"{about['without_item_vector']:,}); {others}."
    )
    print(
        f"{counted(about['log_themes'], 'theme')} in the log, {about['empty_themes']:,} of them "
        f"without a click that has vectors; {themes:,} chosen."
    )
    print(
        f"{counted(about['clicks'], 'click')} in these, {about['repeated_clicks']:,} of them "
        f"repeated and dropped; {counted(about['negatives'], 'negative')} drawn, "
        f"{about['shortfall']:,} fewer than asked for."
    )
    for side, again in about["vectors_given_again"].items():
        if again:
            lines = counted(again, "line gives", "lines give")
            print(f"{lines} vectors of {side} again; the last one counts.")
