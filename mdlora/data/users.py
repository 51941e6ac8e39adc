"""Who each row's user is, training or not: a number for each raw value of the user's column."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mdlora.schema import Role, Schema, raw_names
from mdlora.schema.arrow import get_column, plain_column

__all__ = ["UserCodes", "raw_name"]


class UserCodes:
    """Numbers the users of rows that come in parts.

    Ids of fields would not do: all users that training never saw have id 0, and so has a user
    without a vector.
    """

    def __init__(self, schema: Schema) -> None:
        self._name = raw_name(schema, "user")
        self._parts: list[pa.Array] = []

    def add(self, table: pa.Table, where: str = "") -> None:
        """The users of the next rows; `where` opens an error message.

        Raises:
            SchemaError: the user's column is missing, null, or of a type that cannot be a category.
        """
        if self._name is not None:
            column = get_column(table, self._name, where)
            if len(column):  # of any type else
                self._parts += plain_column(column, self._name, where).dictionary_encode().chunks

    def codes(self) -> Tensor | None:
        """(N,) int64 for all rows so far, equal for equal users; None without a user column."""
        if self._name is None:
            return None
        if not self._parts:
            return torch.empty(0, dtype=torch.int64)
        chunks = pa.chunked_array(self._parts).unify_dictionaries().chunks
        codes = np.concatenate([chunk.indices.to_numpy() for chunk in chunks])
        return torch.from_numpy(codes.astype(np.int64))


def raw_name(schema: Schema, role: Role) -> str | None:
    """The raw column behind the field with this role: a vector's is the key."""
    name = schema.field_of(role)
    return next((raw_names(column)[0] for column in schema.fields if column.name == name), None)
