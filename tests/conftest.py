from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mdlora.config import (
    BackboneConfig,
    DataConfig,
    MoEMLoRA,
    PlanConfig,
    RunConfig,
    TrainingConfig,
)
from mdlora.data import Dataset
from mdlora.data.prepare.synthetic import synthetic_rows
from mdlora.data.prepare.synthetic_config import SyntheticConfig


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    """Each test starts from the same torch generator and leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


@pytest.fixture
def real_data() -> Path:
    """The folder with the real data sets; the test is skipped where there is none."""
    folder = os.environ.get("MDLORA_DATA")
    if not folder:
        pytest.skip("needs real data: set MDLORA_DATA to the folder that holds ml-1m.zip")
    return Path(folder)


def _build_data(**options: Any) -> Dataset:
    known: dict[str, Any] = {
        "rows": 1600,
        "domains": 3,
        "users": 25,
        "items": 20,
        "user_fields": 1,
        "item_fields": 1,
        "field_values": 4,
        "latent": 4,
        "rank": 2,
        "size_ratio": 3.0,
        "main_effects": 0.5,
        "clusters": 0,
        "noise": 0.0,
        "popularity": 0.8,
        "click_rate": 0.25,
        "shift": 1.0,
        "signal": 1.5,
        "seed": 1,
    }
    prepared = synthetic_rows(SyntheticConfig(**{**known, **options}))
    return Dataset(None, prepared.schema, prepared)


@pytest.fixture(scope="session")
def build_data() -> Callable[..., Dataset]:
    """Makes a synthetic data set in memory; keywords are those of SyntheticConfig."""
    return _build_data


@pytest.fixture(scope="session")
def tiny_data() -> Dataset:
    """1,600 rows of 3 domains, small vocabularies."""
    return _build_data()


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., RunConfig]:
    """Makes a RunConfig for tiny models; keywords are sections, as mappings of settings."""

    def make(method: str = "moe-mlora", seed: int = 1, **sections: dict[str, Any]) -> RunConfig:
        given = {name: sections.get(name, {}) for name in _TINY}
        return RunConfig(
            method=method,
            seed=seed,
            **{n: kind(**{**_TINY_VALUES[n], **given[n]}) for n, kind in _TINY.items()},
        )

    return make


_TINY = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "adapter": MoEMLoRA,
    "plan": PlanConfig,
    "training": TrainingConfig,
}
_TINY_VALUES: dict[str, dict[str, Any]] = {
    "data": {},
    "backbone": {"embed_dim": 4, "hidden": (8, 6)},
    "adapter": {"temperature": 4},
    "plan": {"max_epochs": 2, "extra_epochs": 1, "min_validation": 10},
    "training": {"batch_size": 128, "lr": 0.01, "device": "cpu"},
}


@pytest.fixture(scope="session")
def deepctr_layers() -> ModuleType:
    """deepctr_torch.layers as an oracle, imported without the network call that it makes."""
    offline = ModuleType("requests")
    before = sys.modules.get("requests")
    sys.modules["requests"] = offline
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("deepctr_torch.layers")
    finally:
        if before is None:
            del sys.modules["requests"]
        else:
            sys.modules["requests"] = before
