"""Prepared data: reading a data folder as tensors, splitting rows, writing a data folder."""

from mdlora.data.dataset import SYNTHETIC, Dataset, load_dataset
from mdlora.data.layout import ORACLE_COLUMN, SPLIT_NAMES, SplitName
from mdlora.data.reading import read_rows
from mdlora.data.rows import Rows, concatenate
from mdlora.data.split import Split, read_split
from mdlora.data.splits import stratified_split
from mdlora.data.summary import domain_rows, split_rows
from mdlora.data.write import PreparedRows, prepare_rows, write_dataset

__all__ = [
    "ORACLE_COLUMN",
    "SPLIT_NAMES",
    "SYNTHETIC",
    "Dataset",
    "PreparedRows",
    "Rows",
    "Split",
    "SplitName",
    "concatenate",
    "domain_rows",
    "load_dataset",
    "prepare_rows",
    "read_rows",
    "read_split",
    "split_rows",
    "stratified_split",
    "write_dataset",
]
