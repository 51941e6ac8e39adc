"""What verbs share: parsers, the typed sections of a run, lists, JSON files."""

from __future__ import annotations

import json
import re
import textwrap
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import (
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_parsing_settings,
)

from mdlora.config import (
    BackboneConfig,
    DataConfig,
    MoEMLoRA,
    PlanConfig,
    RunConfig,
    TrainingConfig,
    config_from_dict,
    load_config,
)
from mdlora.errors import ConfigError
from mdlora.files import atomic_write_text

__all__ = [
    "add_json",
    "add_sections",
    "make_parser",
    "parse",
    "read_sections",
    "split_list",
    "switch",
    "write_json",
]

set_parsing_settings(docstring_parse_attribute_docstrings=True)

_SECTIONS = {
    "data": DataConfig,
    "backbone": BackboneConfig,
    "adapter": MoEMLoRA,
    "plan": PlanConfig,
    "training": TrainingConfig,
}
_NOT_ARGUMENTS = {"data": {"path"}, "plan": {"phases"}, "adapter": {"num_domains"}}

_SHORT = {
    "--backbone": "--backbone.name",
    "--device": "--training.device",
    "--threads": "--training.threads",
}


class _Formatter(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """jsonargparse's help, with the description's own line breaks."""


def make_parser(verb: str, usage: str, description: str, example: str) -> ArgumentParser:
    """A parser whose help says what the verb does, with an example."""
    text = "\n".join(textwrap.wrap(description, 80))
    return ArgumentParser(
        prog=f"mdlora {verb}",
        usage=f"mdlora {verb} {usage}",
        description=f"{text}\n\nExample:\n  {example}",
        formatter_class=_Formatter,
        exit_on_error=False,
        default_env=False,
    )


def switch(parser: ArgumentParser, name: str, help_text: str) -> None:
    """A flag that is off unless given."""
    parser.add_argument(name, action="store_true", help=help_text)


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse, with ConfigError (and a suggestion) in place of argparse's exit.

    Raises:
        ConfigError: unknown option, missing argument or a value of another type.
    """
    from jsonargparse import ArgumentError

    shown = [action for action in parser._actions if action.help != SUPPRESS]
    known = [option for action in shown for option in action.option_strings]
    for argument in arguments:
        option = argument.split("=", 1)[0]
        if option.startswith("--") and option != "--" and option not in known:
            close = _nearest(option, known)
            raise ConfigError(f"No option {option!r}.{close}")
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise ConfigError(_in_plain_words(error)) from error


def _in_plain_words(error: Exception) -> str:
    """A parser's message on one line, without names of Python types."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    text = re.sub(r'Parser key "([\w.]+)"', r"--\1", text)
    text = re.sub(r"<class '(\w+)'>", r"\1", text)
    text = re.sub(r"typing\.Literal\[([^]]*)\]", r"one of \1", text)
    text = re.sub(
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*), NoneType\] "
        r".* Given value: ",
        r"Expected \1 or null. Got value: ",
        text,
    )
    return text.replace("Expected a ", "Expected ")


def _nearest(option: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(option, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def add_sections(parser: ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Add --config and all settings of a run; returns the arguments with short forms spelt out.

    Defaults shown and used are those of the file given by --config, if any.
    """
    spelt = [_spell(argument) for argument in arguments]
    parser.add_argument(
        "--config", type=str | None, default=None, help="YAML file of settings; options win over it"
    )
    for name, kind in _SECTIONS.items():
        parser.add_class_arguments(kind, name, skip=_NOT_ARGUMENTS.get(name, set()))
    for action in parser._actions:  # jsonargparse's own --backbone FILE and so on: not offered
        if action.option_strings and action.option_strings[0][2:] in _SECTIONS:
            action.help = SUPPRESS
    parser.epilog = "Short forms: " + ", ".join(f"{a} for {b}" for a, b in _SHORT.items()) + "."
    file = _value_of(spelt, "--config")
    if file is not None:
        config = load_config(file)
        parser.set_defaults(_flat(config))
    return spelt


def _spell(argument: str) -> str:
    """--backbone X is short for --backbone.name X, and so on."""
    option, equals, value = argument.partition("=")
    return _SHORT.get(option, option) + equals + value


def _value_of(arguments: Sequence[str], option: str) -> str | None:
    for place, argument in enumerate(arguments):
        if argument == option and place + 1 < len(arguments):
            return arguments[place + 1]
        if argument.startswith(option + "="):
            return argument.partition("=")[2]
    return None


def _flat(config: RunConfig) -> dict[str, Any]:
    flat = {}
    for name, kind in _SECTIONS.items():
        section = getattr(config, name)
        for field in fields(kind):
            if field.name not in _NOT_ARGUMENTS.get(name, set()):
                value = getattr(section, field.name)
                flat[f"{name}.{field.name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def read_sections(options: Namespace, **top: Any) -> RunConfig:
    """The configuration of parsed options; `top` gives method, seed and data path."""
    base = load_config(options.config) if options.config else RunConfig()
    plain: dict[str, Any] = {
        name: vars(options[name]) if options[name] is not None else {} for name in _SECTIONS
    }
    for name, fields_of_file in _NOT_ARGUMENTS.items():
        section = getattr(base, name)
        kept = {field: getattr(section, field) for field in fields_of_file}
        plain[name] = {**plain[name], **kept}
    path = top.pop("path", None)
    if path is not None:
        plain["data"]["path"] = path
    plain.update({name: value for name, value in top.items() if value is not None})
    for name in ("method", "seed"):
        plain.setdefault(name, getattr(base, name))
    return config_from_dict(plain)


def split_list(text: str, what: str, convert: Callable[[str], Any] = str) -> list[Any]:
    """A comma-separated list.

    Raises:
        ConfigError: an item is empty or cannot be converted.
    """
    items = [item.strip() for item in text.split(",")]
    try:
        if not all(items):
            raise ValueError
        return [convert(item) for item in items]
    except ValueError:
        kind = "whole numbers" if convert is int else "names"
        raise ConfigError(f"{what}={text!r} is not a list of {kind} with commas between.") from None


def add_json(parser: ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument(
        "--json", type=str | None, default=None, help="also write the figures to this file"
    )


def write_json(path: str | None, plain: Any) -> None:
    """Write figures where --json says, if it does."""
    if path is not None:
        atomic_write_text(Path(path), json.dumps(plain, indent=1) + "\n")
