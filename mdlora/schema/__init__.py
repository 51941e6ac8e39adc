"""Typed columns, their vocabularies, and the fitted schema that turns raw values into ids."""

from mdlora.schema.columns import COLUMN_KINDS, Categorical, Column, Domain, Label, Role, Values
from mdlora.schema.schema import EncodedRows, Schema
from mdlora.schema.vocabulary import Vocabulary

__all__ = [
    "COLUMN_KINDS",
    "Categorical",
    "Column",
    "Domain",
    "EncodedRows",
    "Label",
    "Role",
    "Schema",
    "Values",
    "Vocabulary",
]
