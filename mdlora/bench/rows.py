"""The rows that a benchmark trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mdlora.data import Dataset, prepare_rows, stratified_split, write_dataset
from mdlora.errors import ConfigError
from mdlora.schema import Categorical, Domain, Label
from mdlora.training.batches import PhaseRows

__all__ = ["MOVIES", "USERS", "sample_rows", "write_synthetic"]

USERS, MOVIES = 6040, 3706
"""Of MovieLens-1M."""
_ROWS = 1_000_209
_WOMEN, _CLICKS = 0.28, 0.58


def write_synthetic(out: Path, *, rows: int | None = None) -> None:
    """Write a data folder of MovieLens-1M's shape: users, movies, two genders; random clicks.

    Args:
        out: the folder, not there yet.
        rows: of all three splits together; default: as many as MovieLens-1M has.
    """
    num = _ROWS if rows is None else rows
    rng = np.random.default_rng(1)
    gender = np.where(rng.random(USERS) < _WOMEN, "F", "M")
    user = rng.integers(0, USERS, num)
    # A few movies have most of the rows, as in a real log.
    movie = (MOVIES * rng.random(num) ** 2.5).astype(np.int64)
    label = (rng.random(num) < _CLICKS).astype(np.int64)
    table = pa.table(
        {"user_id": user, "movie_id": movie, "gender": pa.array(gender[user]), "label": label}
    )
    columns = (
        Categorical(name="user_id", role="user"),
        Categorical(name="movie_id", role="item"),
        Domain(name="gender"),
        Label(name="label"),
    )
    codes = stratified_split(gender[user] == "F", label, ratio=(3, 1, 1), seed=1)
    prepared = prepare_rows(table, codes, columns, source="random rows of MovieLens-1M's shape")
    write_dataset(out, prepared)


def sample_rows(data: Dataset, rows: int) -> PhaseRows:
    """`rows` training rows, the same ones each time; all, where there are no more.

    Raises:
        ConfigError: fewer than one row is asked for.
    """
    if rows < 1:
        raise ConfigError(f"rows={rows} leaves nothing to train on; give 1 or more.")
    train = data.split("train")
    whole = PhaseRows.with_expert(train)
    if rows >= len(train):
        return whole
    generator = torch.Generator().manual_seed(1)
    return whole.pick(torch.randperm(len(train), generator=generator)[:rows])
