"""Prepared data: reading a data folder as tensors, splitting rows, writing a data folder."""

from mdlora.data.counting import RowCounts
from mdlora.data.dataset import SYNTHETIC, Dataset, load_dataset
from mdlora.data.layout import ORACLE_COLUMN, SPLIT_NAMES, SplitName, is_data_folder
from mdlora.data.reading import CHUNK_ROWS, open_rows, read_rows
from mdlora.data.rows import Rows, concatenate
from mdlora.data.split import Split, read_split
from mdlora.data.splits import stratified_split
from mdlora.data.summary import domain_rows, split_rows
from mdlora.data.write import PreparedRows, prepare_rows, write_dataset

__all__ = [
    "CHUNK_ROWS",
    "ORACLE_COLUMN",
    "SPLIT_NAMES",
    "SYNTHETIC",
    "Dataset",
    "PreparedRows",
    "RowCounts",
    "Rows",
    "Split",
    "SplitName",
    "concatenate",
    "domain_rows",
    "is_data_folder",
    "load_dataset",
    "open_rows",
    "prepare_rows",
    "read_rows",
    "read_split",
    "split_rows",
    "stratified_split",
    "write_dataset",
]
