"""Training on a large table; its memory: `python -m mdlora.bench.tables_apart WAY USERS`."""

from __future__ import annotations

import json
import sys

import torch

from mdlora.bench.apart import run_apart
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.memory import held_gigabytes, peak_gigabytes
from mdlora.bench.ours import OurTraining
from mdlora.bench.rows import MOVIES
from mdlora.bench.sweep import our_way
from mdlora.schema import Schema
from mdlora.training.batches import PhaseRows

__all__ = ["BATCH", "table_memory", "table_rows", "table_training"]

BATCH = 4096
_STEPS = 5


def table_rows(users: int, steps: int) -> tuple[Schema, PhaseRows]:
    """Users, movies and two domains, all values equally likely, for so many steps."""
    schema = make_schema([users, MOVIES], domains=2)
    return schema, make_rows(schema, steps * BATCH, skewed=False)


def table_training(way: str, users: int, steps: int) -> OurTraining:
    """Ours, by its name in `WAYS`, in the memory that it has after long training."""
    training = our_way(way, *table_rows(users, steps), BATCH)
    training.touch_state()
    return training


def table_memory(way: str, users: int) -> dict[str, float]:
    """Train a few steps in a fresh process.

    Returns:
        "megabytes" (10^6 bytes): peak memory above that after imports; "needed_megabytes": all
        weights and the optimizer's state.

    Raises:
        RunError: the process failed.
    """
    what = f"Training with {users:,} users by {way}"
    return run_apart("mdlora.bench.tables_apart", way, str(users), what=what)


def _run(way: str, users: str) -> None:
    torch.set_num_threads(1)
    before = held_gigabytes()
    training = table_training(way, int(users), _STEPS)
    training.epoch.run()
    runner = training.runner
    held = [*runner.model.parameters(), *runner.optimizer.tensors().values()]
    result = {
        "megabytes": 1000 * (peak_gigabytes() - before),
        "needed_megabytes": sum(t.numel() * t.element_size() for t in held) / 1e6,
    }
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    _run(*sys.argv[1:])
