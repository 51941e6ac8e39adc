"""One file for each data set that can be prepared."""

from mdlora.data.prepare.amazon import category_files, prepare_amazon
from mdlora.data.prepare.clicks import prepare_clicks
from mdlora.data.prepare.movielens import prepare_movielens
from mdlora.data.prepare.negatives import sample_negatives
from mdlora.data.prepare.synthetic import (
    DEMO_CONFIG,
    SyntheticLog,
    generate_synthetic,
    prepare_synthetic,
)
from mdlora.data.prepare.synthetic_config import SyntheticConfig
from mdlora.data.prepare.table import prepare_table
from mdlora.data.prepare.taobao import prepare_taobao

__all__ = [
    "DEMO_CONFIG",
    "SyntheticConfig",
    "SyntheticLog",
    "category_files",
    "generate_synthetic",
    "prepare_amazon",
    "prepare_clicks",
    "prepare_movielens",
    "prepare_synthetic",
    "prepare_table",
    "prepare_taobao",
    "sample_negatives",
]
