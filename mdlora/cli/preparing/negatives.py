"""The options of data whose negatives are sampled."""

from __future__ import annotations

from typing import Any, Literal

from mdlora.cli.parsing import split_list

__all__ = ["add_sampling", "read_sampling"]


def add_sampling(parser: Any) -> None:
    """--ratio and --split-rule."""
    parser.add_argument(
        "--ratio",
        type=str,
        default="0.2,0.5",
        help="range of a domain's clicks over its negatives; each domain draws its own",
    )
    parser.add_argument(
        "--split-rule",
        type=Literal["paper", "released"],
        default="paper",
        help="paper: once, stratified by domain and label; released: as the papers' authors "
        "published it, with more negatives in the test split",
    )


def read_sampling(options: Any) -> dict[str, Any]:
    """What these options say, as arguments of a preparation."""
    return {
        "ratio": split_list(options.ratio, "--ratio", float),
        "split_rule": options.split_rule,
    }
