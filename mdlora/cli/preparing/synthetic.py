"""mdlora prepare synthetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdlora.cli.parsing import add_json, make_parser, parse, write_json

__all__ = ["run"]


def run(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse, prepare, give the summary."""
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
