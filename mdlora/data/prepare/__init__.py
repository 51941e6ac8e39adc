"""One file for each data set that can be prepared."""

from mdlora.data.prepare.movielens import prepare_movielens
from mdlora.data.prepare.synthetic import (
    DEMO_CONFIG,
    SyntheticLog,
    generate_synthetic,
    prepare_synthetic,
)
from mdlora.data.prepare.synthetic_config import SyntheticConfig

__all__ = [
    "DEMO_CONFIG",
    "SyntheticConfig",
    "SyntheticLog",
    "generate_synthetic",
    "prepare_movielens",
    "prepare_synthetic",
]
