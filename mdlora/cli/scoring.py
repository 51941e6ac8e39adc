"""What evaluate and predict share: which weights of a run, and where to score."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from mdlora.config import check_count

if TYPE_CHECKING:
    from mdlora.training import Run

__all__ = ["add_scoring", "load_scoring_run"]


def add_scoring(parser: ArgumentParser) -> None:
    """Add --unknown-domain, --which, --device and --threads."""
    parser.add_argument(
        "--unknown-domain",
        type=Literal["backbone", "error"],
        default="backbone",
        help="rows of domains that training never saw: let the backbone alone score them, or stop",
    )
    parser.add_argument(
        "--which",
        type=Literal["best", "last"],
        default="best",
        help="weights that validation chose, or those of the last step",
    )
    parser.add_argument(
        "--device",
        type=Literal["auto", "cpu", "cuda"] | None,
        metavar="{auto,cpu,cuda}",
        help="where to score (default: as trained)",
    )
    parser.add_argument("--threads", type=int | None, help="CPU threads (default: as trained)")


def load_scoring_run(options: Namespace) -> Run:
    """The run of RUN, on the device and threads asked for."""
    from mdlora.training import load_run

    check_count("--threads", options.threads, low=1, optional=True)
    done = load_run(options.run_folder, options.which, device=options.device)
    if options.threads is not None:
        training = dataclasses.replace(done.config.training, threads=options.threads)
        done.config = dataclasses.replace(done.config, training=training)
    return done
