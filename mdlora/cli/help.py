"""What `--help` says of an option: its type and default, in a reader's words."""

from __future__ import annotations

from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from jsonargparse import DefaultHelpFormatter

__all__ = ["Formatter"]


class Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """jsonargparse's help, with the description's own line breaks and plain words in brackets."""

    def _expand_help(self, action: Action) -> str:
        text = action.help or ""
        notes = ["required"] if action.required else []
        if kind := _type_words(action):
            notes.append(f"type: {kind}")
        if default := _default_words(action):
            notes.append(f"default: {default}")
        if not notes:
            return text
        if "(default: " in text and text.endswith(")"):
            return f"{text[:-1]}; {', '.join(notes)})"
        return f"{text} ({', '.join(notes)})"


def _type_words(action: Action) -> str:
    """Nothing for text, nor where the choices stand beside the option."""
    hint: Any = getattr(action, "_typehint", None) or action.type
    parts = [part for part in get_args(hint) if part is not NoneType]
    if get_origin(hint) is tuple:
        return f"list of {parts[0].__name__}"
    plain = parts[0] if NoneType in get_args(hint) else hint
    or_none = " or none" if plain is not hint and _is_setting(action) else ""
    if get_origin(plain) is Literal or plain in (None, bool, str):
        return f"text{or_none}" if or_none and plain is str else ""
    return f"{plain.__name__}{or_none}"


def _default_words(action: Action) -> str:
    """Nothing for switches and for what must be given, or where the text names the default."""
    value: Any = action.default
    if value is SUPPRESS or action.nargs == 0 or action.required:
        return ""
    if value is None:
        told = "default:" in (action.help or "").lower()
        return "none" if _is_setting(action) and not told else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value)


def _is_setting(action: Action) -> bool:
    """Whether it is an option --SECTION.KEY, whose "none" is a value that can be given."""
    return "." in action.dest
