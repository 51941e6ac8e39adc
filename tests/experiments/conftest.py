"""A tiny data folder and settings under which a cell takes a moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdlora.config import RunConfig, config_from_dict
from mdlora.data.prepare import prepare_synthetic


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 rows of 3 domains."""
    out = tmp_path_factory.mktemp("data") / "small"
    prepare_synthetic(
        out,
        rows=1500,
        domains=3,
        users=40,
        items=30,
        user_fields=1,
        item_fields=1,
        field_values=4,
        size_ratio=2.0,
    )
    return out


@pytest.fixture(scope="session")
def small_config() -> RunConfig:
    """Rows held out, and a first layer whose rank is clipped: 32 outputs, temperature 1."""
    return config_from_dict(
        {
            "backbone": {"embed_dim": 4, "hidden": [32, 8]},
            "adapter": {"temperature": 1},
            "plan": {"max_epochs": 1, "min_validation": 5, "rows": "held_out:0.25"},
            "training": {"batch_size": 128, "lr": 0.01, "device": "cpu"},
        }
    )
