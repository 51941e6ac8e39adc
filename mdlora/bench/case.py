"""What makes a benchmark: one object `CASE` in a module of the case's name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from mdlora.reports import Table

__all__ = ["BenchCase", "Setting", "load_case"]


@dataclass(frozen=True)
class Setting:
    """A keyword of a case's `run` that its command offers."""

    kind: Any
    """Its type, as annotated."""
    default: Any
    help: str


@dataclass(frozen=True, kw_only=True)
class BenchCase:
    """A benchmark: how it is run, shown and told of.

    Its module `mdlora.bench.NAME` holds it as `CASE`, and `mdlora.cli.bench.CASES` names it.
    """

    about: str
    """What its help says, in a sentence or two."""
    example: str
    """A command line."""
    run: Callable[..., dict[str, Any]]
    """Measures. It takes the options as keywords, and `progress`; its result has "cases", which
    `make_case` made, and what `describe_run` gives."""
    table: Callable[[Mapping[str, Any]], Table]
    """Shows a result."""
    options: Mapping[str, str]
    """Keywords of `run` that the command offers, and what their help says; types and defaults are
    those of `run`. Types: int, str, str | None, int | None, tuple[int, ...]."""
    lines: tuple[Mapping[str, Any], ...] = ({},)
    """What `mdlora bench all` runs it with, one after another."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """Sizes at which it takes a second or two, and whose figures say nothing."""

    def settings(self) -> dict[str, Setting]:
        """The options by name, in order."""
        hints = get_type_hints(self.run)
        given = inspect.signature(self.run).parameters
        return {
            name: Setting(hints[name], given[name].default, text)
            for name, text in self.options.items()
        }


def load_case(name: str) -> BenchCase:
    """The case of a module of this package."""
    case: BenchCase = importlib.import_module(f"mdlora.bench.{name}").CASE
    return case
