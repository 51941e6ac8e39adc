"""A backbone's settings in a reader's words: the signature says which, the docstring what."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mdlora.backbones.base import Backbone
from mdlora.backbones.build import options_of
from mdlora.config import BackboneConfig

__all__ = ["Setting", "settings_of", "value_words"]

_OF_ALL = ("hidden", "dropout")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a backbone."""

    key: str
    """As it is given: "backbone.hidden", "backbone.options.cross_layers"."""

    type: str
    """What it takes, in words."""

    default: Any
    """Its value unless given."""

    text: str
    """What the docstring's section Args says of it."""


def settings_of(kind: type[Backbone]) -> tuple[Setting, ...]:
    """`hidden`, `dropout` and the options of a backbone; an empty text where Args lacks one."""
    text = _described(kind)
    hints, plain = get_type_hints(BackboneConfig), BackboneConfig()
    common = [
        Setting(
            key=f"backbone.{name}",
            type=_type_words(hints[name]),
            default=getattr(plain, name),
            text=text.get(name, ""),
        )
        for name in _OF_ALL
    ]
    own = [
        Setting(
            key=f"backbone.options.{name}",
            type=_type_words(option.annotation),
            default=option.default,
            text=text.get(name, ""),
        )
        for name, option in options_of(kind).items()
    ]
    return (*common, *own)


def value_words(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _described(kind: type[Backbone]) -> dict[str, str]:
    """What Args sections say, a class's own before those of the classes that it extends."""
    found: dict[str, str] = {}
    for each in kind.__mro__:
        for name, text in _arguments(each.__doc__ or "").items():
            found.setdefault(name, text)
    return found


def _arguments(docstring: str) -> dict[str, str]:
    """The section Args of a docstring: names, and their text on one line."""
    _, _, section = inspect.cleandoc(docstring).partition("\nArgs:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith(" "):  # the next section, or the end of this one
            break
        if not line.startswith(" " * 5):
            name, _, line = line.strip().partition(":")
            found[name] = ""
        found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _type_words(hint: Any) -> str:
    parts = [part for part in get_args(hint) if part is not NoneType]
    if NoneType in get_args(hint):
        return f"{' or '.join(map(_type_words, parts))} or none"
    if get_origin(hint) is Literal:
        *others, last = map(str, parts)
        return f"{', '.join(others)} or {last}" if others else last
    if get_origin(hint) is tuple:
        return f"list of {_type_words(parts[0])}"
    if get_origin(hint) is dict:
        return "settings by name"
    words: dict[Any, str] = {bool: "true or false", str: "text"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))
