"""mdlora train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mdlora.cli.parsing import add_json, make_parser, parse, switch, write_json
from mdlora.cli.settings import add_sections, read_sections
from mdlora.errors import ConfigError

__all__ = ["run"]


def run(arguments: Sequence[str]) -> None:
    """Parse, train or resume, print."""
    parser = make_parser(
        "train",
        "DATA --out RUN [options], or --resume RUN",
        "Train one model on a data folder (or on 'synthetic'), phase by phase.",
        "mdlora train DATA --backbone wdl --method moe-mlora --seed 1 --out runs/first",
    )
    parser.add_argument(
        "data_folder", nargs="?", metavar="DATA", help="a data folder, or synthetic"
    )
    parser.add_argument("--out", type=str | None, help="the run folder, new or empty")
    parser.add_argument("--resume", type=str | None, help="go on with this interrupted run")
    switch(parser, "--inexact", "resume even with another torch or numba, device or processor")
    switch(parser, "--quiet", "no progress bars")
    parser.add_argument(
        "--method",
        type=str | None,
        help="base, mlora, moe-mlora, mlora-joint, moe-mlora-joint, full-finetuned, separate, "
        "base-extra, base-wide or base-finetuned (default: moe-mlora)",
    )
    parser.add_argument("--seed", type=int | None, help="of weights, order, dropout (default: 1)")
    add_json(parser)
    options = parse(parser, add_sections(parser, arguments))
    if options.resume is not None:
        _refuse_beside_resume(arguments, options.data_folder)
    elif options.out is None:
        raise ConfigError("Give DATA and --out, or --resume RUN.")

    from mdlora.cli.showing import progress_bars, show_evaluation
    from mdlora.data import load_dataset
    from mdlora.reports import report_run
    from mdlora.training import resume, train_config

    run_folder = options.resume or options.out
    with _interruptible(run_folder), progress_bars(options.quiet) as progress:
        if options.resume is not None:
            done = resume(options.resume, progress=progress, inexact=options.inexact)
            data = done.data()
        else:
            config = read_sections(
                options, method=options.method, seed=options.seed, path=options.data_folder
            )
            if config.data.path is None:
                raise ConfigError("Give DATA, or data.path in the file of --config.")
            data = load_dataset(config.data.path, domain=config.data.domain)
            done = train_config(config, data, options.out, progress=progress)
    result = done.evaluate("test", data)
    report_run(done, data, result)
    title = f"{done.config.method} on {done.config.backbone.name}, test split"
    show_evaluation(result, title, data.split("test"), done.model.schema)
    print(f"Run folder: {done.path}  (report: {done.path / 'report.html'})")
    write_json(options.json, result.to_json())


@contextmanager
def _interruptible(run_folder: str) -> Iterator[None]:
    """Let Ctrl-C say how to go on, if the run had begun."""
    try:
        yield
    except KeyboardInterrupt as stop:
        begun = (Path(run_folder) / "env.json").exists()
        how = f"Go on with: mdlora train --resume {run_folder}" if begun else ""
        raise KeyboardInterrupt(how) from stop


def _refuse_beside_resume(arguments: Sequence[str], data_folder: str | None) -> None:
    """A resumed run takes everything from its folder."""
    allowed = {"--resume", "--inexact", "--quiet", "--json"}
    extra = [a for a in arguments if a.startswith("--") and a.split("=")[0] not in allowed]
    if extra or data_folder is not None:
        raise ConfigError(
            f"--resume takes every setting from the run folder; leave out {' '.join(extra)}."
            if extra
            else "--resume takes the data from the run folder; leave out DATA."
        )
