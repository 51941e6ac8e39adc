"""The options that say how CSV is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mdlora.cli.parsing import split_list

if TYPE_CHECKING:
    from mdlora.data.sources import CsvOptions

__all__ = ["add_csv_settings", "read_csv_settings"]


def add_csv_settings(parser: Any) -> None:
    """--separator, --text and --empty."""
    parser.add_argument(
        "--separator",
        type=str,  # and not "or None", which would read "#" as YAML
        default=None,
        help="what stands between cells of CSV; 'tab' for a tab (default: found out)",
    )
    parser.add_argument(
        "--text", type=str | None, help="CSV columns to read as text, with commas between"
    )
    parser.add_argument(
        "--empty",
        type=str,  # and not "or None", which would read "-" as YAML
        default=None,
        help="cells of CSV that count as empty, with commas between: NA,-",
    )


def read_csv_settings(options: Any) -> CsvOptions:
    """What these options say."""
    from mdlora.data.sources import CsvOptions

    text = split_list(options.text, "--text") if options.text is not None else []
    nulls = split_list(options.empty, "--empty") if options.empty is not None else []
    return CsvOptions(
        separator="\t" if options.separator == "tab" else options.separator,
        types=dict.fromkeys(text, "text"),
        nulls=tuple(nulls),
    )
