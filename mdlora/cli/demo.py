"""mdlora demo."""

from __future__ import annotations

from collections.abc import Sequence

from mdlora.cli.compare import interruptible, pick_jobs
from mdlora.cli.parsing import add_json, make_parser, parse, split_list, write_json
from mdlora.config import RunConfig

__all__ = ["run"]


def run(arguments: Sequence[str]) -> None:
    """Parse, compare on the built-in log, print."""
    parser = make_parser(
        "demo",
        "[options]",
        "Train and compare Base, its control with extra epochs, MLoRA and MoE-MLoRA on a built-in "
        "synthetic log, whose true click probabilities are known. About two minutes on two cores.",
        "mdlora demo --out demo",
    )
    parser.add_argument("--out", type=str, default="demo", help="folder of the comparison")
    parser.add_argument("--seeds", type=str, default="1,2,3,4,5", help="commas between")
    parser.add_argument("--jobs", type=int | None, help="processes (default: one a core)")
    add_json(parser)
    options = parse(parser, arguments)
    seeds = split_list(options.seeds, "--seeds", int)
    jobs = pick_jobs(options.jobs, threads=1)
    methods = ["base", "base-extra", "mlora", "moe-mlora"]

    from mdlora.cli.showing import JobBars, show_comparison
    from mdlora.experiments import compare

    with interruptible(), JobBars(len(seeds) * len(methods)) as bars:
        result = compare(
            "synthetic",
            out=options.out,
            config=RunConfig(method="base"),
            backbones=["wdl"],
            methods=methods,
            seeds=seeds,
            processes=jobs,
            progress=bars,
            title="mdlora demo: Base, MLoRA and MoE-MLoRA on the built-in synthetic log",
        )
    show_comparison(result)
    print(f"Report with pictures: {options.out}/report.html")
    write_json(options.json, result)
