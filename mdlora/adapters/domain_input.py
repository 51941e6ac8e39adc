"""Domain ids that come with a module's own inputs."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mdlora.adapters.checks import can_look, check_later, is_whole
from mdlora.errors import AdapterError

__all__ = ["DomainInput"]


class DomainInput:
    """Where the inputs of a module say the domain of each row.

    The name is looked for among the arguments, then among the entries of dict arguments, then,
    for models that take one matrix and have a `feature_index` (DeepCTR-Torch), among its columns.

    Args:
        module: whose inputs they are.
        name: of the input.
        num_domains: D.
        ids: for each raw value its id, 1..D or 0 for unknown; other values are unknown too.
            Without it, the input holds ids.

    Raises:
        AdapterError: the ids do not fit, or the module has a `feature_index` without that column.
    """

    def __init__(
        self, module: nn.Module, name: str, num_domains: int, ids: Mapping[int, int] | None
    ) -> None:
        self.name = name
        self.num_domains = num_domains
        known = list(inspect.signature(module.forward).parameters.values())
        places = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        by_keyword = [p.name for p in known if p.kind is p.KEYWORD_ONLY]
        self.is_argument = name in (*places, *by_keyword)
        self._place = places.index(name) if name in places else None
        self._model = type(module).__name__
        self._column = None if self.is_argument else self._find_column(module)
        whole = None if ids is None else self._whole(ids)
        self._tables = None if whole is None else _make_tables(whole)
        self._largest = max([num_domains, *(abs(key) for key in whole or ())])
        self._unknown = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def unknown_rows(self) -> int:
        """Rows on the CPU, outside compiled graphs, whose raw value has no id."""
        return self._unknown

    def ids(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The ids (B,) of a call's rows, int64.

        Raises:
            AdapterError: the input is not there, or is not one whole number for each row.
        """
        values = self._find(args, kwargs)
        if not isinstance(values, Tensor):
            raise AdapterError(
                f"Domain input {self.name!r} is a {type(values).__name__}; give a tensor of one "
                "whole number for each row."
            )
        if values.dim() == 2 and values.shape[1] == 1:
            values = values.squeeze(1)
        if values.dim() != 1 or values.dtype == torch.bool or values.is_complex():
            raise AdapterError(
                f"Domain input {self.name!r} has shape {tuple(values.shape)} and type "
                f"{values.dtype}; give one whole number for each row, (B,) or (B, 1)."
            )
        if values.is_floating_point():
            self._check_whole(values)
        return self._translate(values.long())

    def _find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if self.name in kwargs:
            return kwargs[self.name]
        if self._place is not None and self._place < len(args):
            return args[self._place]
        given = [*args, *kwargs.values()]
        dicts = [x for x in given if isinstance(x, Mapping)]
        having = [x for x in dicts if self.name in x]
        if len(having) == 1:
            return having[0][self.name]
        matrices = [x for x in given if isinstance(x, Tensor) and x.dim() == 2]
        if self._column is not None and matrices:
            return matrices[0][:, self._column]
        if having:
            raise AdapterError(
                f"{len(having)} of the dicts that {self._model} was called with have an entry "
                f"{self.name!r}: name one that only one of them has."
            )
        otherwise = "or give the ids outright: `with adapted.routing(ids)`."
        if self.is_argument:
            raise AdapterError(
                f"{self._model} was called without its argument {self.name!r}, the domain input: "
                f"give it, {otherwise}"
            )
        entries = ", ".join(str(key) for x in dicts for key in x)
        has = f"; its dict has: {entries}" if dicts else f", and no dict among {len(given)} inputs"
        raise AdapterError(
            f"{self._model} was called without the domain input {self.name!r}: it has no argument "
            f"of that name{has}. Add it to the inputs, {otherwise}"
        )

    def _find_column(self, module: nn.Module) -> int | None:
        columns = getattr(module, "feature_index", None)
        if not isinstance(columns, Mapping):
            return None
        if self.name not in columns:
            raise AdapterError(
                f"domain_input={self.name!r} is not a column of {self._model}, which has: "
                f"{', '.join(columns)}. Make it one of the model's feature columns."
            )
        start, end = columns[self.name]
        if end - start != 1:
            raise AdapterError(
                f"domain_input={self.name!r} is {end - start} columns wide in {self._model}; a "
                "row has one domain: name an input of one column."
            )
        return int(start)

    def _whole(self, ids: Mapping[int, int]) -> dict[int, int]:
        """The same map in Python's own numbers, checked."""
        for value, index in ids.items():
            if not (is_whole(value) and is_whole(index)) or not 0 <= index <= self.num_domains:
                raise AdapterError(
                    f"domain_ids maps {value!r} to {index!r}; map whole numbers to ids, 1 to "
                    f"{self.num_domains}, or 0 for unknown."
                )
        if not any(ids.values()):
            raise AdapterError("domain_ids maps no value to a domain: map some to 1 or more.")
        return {int(value): int(index) for value, index in ids.items()}

    def _check_whole(self, values: Tensor) -> None:
        exact = int(2 / torch.finfo(values.dtype).eps)
        if self._largest > exact:
            raise AdapterError(
                f"Domain input {self.name!r} comes as {values.dtype}, which cannot tell whole "
                f"numbers above {exact} apart, but there are {self._largest}: give it as int64, "
                "or number the domains from 1."
            )
        message = (
            f"Domain input {self.name!r} has values that are not whole numbers: give one domain "
            "for each row."
        )
        if not can_look(values):
            check_later(values == values.round(), message)
        elif not torch.equal(values, values.round()):
            raise AdapterError(message)

    def _translate(self, values: Tensor) -> Tensor:
        if self._tables is None:
            return values
        keys, ids = (table.to(values.device) for table in self._tables)
        place = torch.searchsorted(keys, values).clamp(max=len(keys) - 1)
        known = keys[place] == values
        if can_look(values):
            with self._lock:
                self._unknown += len(values) - int(known.sum())
        return torch.where(known, ids[place], 0)


def _make_tables(ids: Mapping[int, int]) -> tuple[Tensor, Tensor]:
    ordered = sorted(ids.items())
    return torch.tensor([key for key, _ in ordered]), torch.tensor([i for _, i in ordered])
