"""The settings of a run as options: --config FILE, --SECTION.KEY VALUE and short forms."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from argparse import SUPPRESS
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from mdlora.cli.parsing import value_of
from mdlora.config import SECTIONS, RunConfig, config_from_dict, load_config
from mdlora.errors import ConfigError

__all__ = ["add_sections", "add_some", "read_sections"]

_NOT_ARGUMENTS = {"data": {"path"}, "plan": {"phases"}, "adapter": {"num_domains"}}

_OPTIONS = "--backbone.options."

_SHORT = {
    "--backbone": "--backbone.name",
    "--device": "--training.device",
    "--threads": "--training.threads",
}


def add_sections(parser: ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Add --config and all settings of a run; returns the arguments with short forms spelt out.

    Defaults shown and used are those of the file given by --config, if any.
    """
    spelt = _spell(_with_options(arguments))
    parser.add_argument(
        "--config", type=str | None, default=None, help="YAML file of settings; options win over it"
    )
    for name in SECTIONS:
        _add(parser, name, skip=_NOT_ARGUMENTS.get(name, set()))
    _show_short_forms(parser)
    file = value_of(spelt, "--config")
    if file is not None:
        parser.set_defaults(_flat(load_config(file)))
    return spelt


def add_some(
    parser: ArgumentParser, arguments: Sequence[str], keys: Mapping[str, Collection[str]]
) -> list[str]:
    """Add these settings of these sections; returns the arguments as the parser reads them."""
    for name, kept in keys.items():
        skip = {field.name for field in dataclasses.fields(SECTIONS[name])} - set(kept)
        _add(parser, name, skip)
    return _spell(_with_options(arguments), short={})


def _add(parser: ArgumentParser, section: str, skip: set[str]) -> None:
    kind = SECTIONS[section]
    parser.add_class_arguments(kind, section, skip=skip)
    group = (parser.groups or {})[section]
    group.title, group.description = section, inspect.getdoc(kind)
    for action in parser._actions:
        if f"--{section}" in action.option_strings:  # jsonargparse's own, a file: not offered
            action.help = SUPPRESS


def _show_short_forms(parser: ArgumentParser) -> None:
    """List them among the options; `_spell` has replaced them before anything is parsed."""
    for action in list(parser._actions):
        option = (action.option_strings or [""])[0]
        if option == "--backbone":
            action.help, action.metavar = "short for --backbone.name", "NAME"
            for group in (parser.groups or {}).values():
                if action in group._group_actions:
                    group._group_actions.remove(action)
            parser._optionals._group_actions.append(action)
    parser.add_argument(
        "--device", metavar="{auto,cpu,cuda}", help=f"short for {_SHORT['--device']}"
    )
    parser.add_argument("--threads", metavar="THREADS", help=f"short for {_SHORT['--threads']}")


def _with_options(arguments: Sequence[str]) -> list[str]:
    """All --backbone.options.KEY VALUE as one --backbone.options, over those of --config.

    A KEY with dots, host.cross_layers, is one setting of the option that is before the dot.
    """
    import yaml

    rest: list[str] = []
    given: list[tuple[str, Any]] = []
    words = iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if not option.startswith(_OPTIONS):
            rest.append(word)
            continue
        text = value if equals else next(words, None)
        if text is None:
            raise ConfigError(f"{option} has no value; give one.")
        is_list = "," in text and text[0] not in "[{'\""
        read = yaml.safe_load(f"[{text}]" if is_list else text)
        given.append((option.removeprefix(_OPTIONS), read))
    if not given:
        return rest
    file = value_of(rest, "--config")
    options = copy.deepcopy(load_config(file).backbone.options) if file is not None else {}
    for key, value in given:
        *outer, last = key.split(".")
        inner = options
        for name in outer:
            if not isinstance(inner.get(name), dict):
                inner[name] = {}
            inner = inner[name]
        inner[last] = value
    return [*rest, f"{_OPTIONS[:-1]}={json.dumps(options)}"]


def _spell(arguments: Sequence[str], short: Mapping[str, str] = _SHORT) -> list[str]:
    """--backbone X becomes --backbone.name X; values are written as the parser reads them."""
    hints = {
        f"--{section}.{name}": hint
        for section, kind in SECTIONS.items()
        for name, hint in get_type_hints(kind).items()
    }
    spelt, option = [], ""
    for argument in arguments:
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            option = short.get(option, option)
            spelt.append(option + equals + (_value(value, hints.get(option)) if equals else ""))
        else:
            spelt.append(_value(argument, hints.get(option)))
            option = ""
    return spelt


def _value(text: str, hint: Any) -> str:
    """64,32 is a list where a list is meant, and "none" is no value where that is allowed."""
    if get_origin(hint) is tuple:
        return f"[{text.strip('[]() ')}]"
    return "null" if text == "none" and NoneType in get_args(hint) else text


def _flat(config: RunConfig) -> dict[str, Any]:
    flat = {}
    for name, kind in SECTIONS.items():
        section = getattr(config, name)
        for field in dataclasses.fields(kind):
            if field.name not in _NOT_ARGUMENTS.get(name, set()):
                value = getattr(section, field.name)
                flat[f"{name}.{field.name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def read_sections(options: Namespace, **top: Any) -> RunConfig:
    """The configuration of parsed options; `top` gives method, seed and data path.

    The path of a data folder is made absolute, so that the run finds its data from anywhere.
    """
    base = load_config(options.config) if options.config else RunConfig()
    plain: dict[str, Any] = {
        name: vars(options[name]) if options[name] is not None else {} for name in SECTIONS
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
    config = config_from_dict(plain)

    from mdlora.data import SYNTHETIC  # not earlier: it loads torch

    if config.data.path in (None, SYNTHETIC):
        return config
    data = dataclasses.replace(config.data, path=str(Path(config.data.path).resolve()))
    return dataclasses.replace(config, data=data)
