"""A backbone from its name and settings."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, get_args, get_type_hints

from mdlora.backbones.base import Backbone, Inputs
from mdlora.backbones.registry import BACKBONES
from mdlora.config import BackboneConfig, did_you_mean, unknown_name
from mdlora.errors import ConfigError

__all__ = [
    "build_backbone",
    "check_backbone",
    "get_backbone",
    "idle_settings",
    "options_of",
    "width_multiple",
]

_COMMON = ("self", "inputs", "hidden", "dropout")
_DEFAULTS = BackboneConfig()


def get_backbone(name: str) -> type[Backbone]:
    """The backbone called exactly `name`.

    Raises:
        ConfigError: no backbone has that name; the message suggests the nearest.
    """
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, BACKBONES))
    return BACKBONES[name]


def options_of(kind: type[Backbone]) -> dict[str, inspect.Parameter]:
    """The settings that a backbone has beside those that all have, with defaults and types."""
    parameters = inspect.signature(kind.__init__).parameters
    hints = get_type_hints(kind.__init__)
    return {
        name: parameter.replace(annotation=hints[name])
        for name, parameter in parameters.items()
        if name not in _COMMON
    }


def check_backbone(config: BackboneConfig) -> dict[str, Any]:
    """The options of a configuration, read as the types that the backbone wants.

    Raises:
        ConfigError: no such backbone, an option that it does not have, a value of another type, or
            `hidden` or `dropout` for a backbone without a tower.
    """
    options = _options(config)
    for name in idle_settings(config):
        given = getattr(config, name)
        if given not in (getattr(_DEFAULTS, name), 0):
            option = get_backbone(config.name).tower_option
            raise ConfigError(
                f"backbone.{name}={given!r} has no effect on {config.name!r} without a tower: "
                f"set {option} to true, or leave it out."
            )
    return options


def idle_settings(config: BackboneConfig) -> tuple[str, ...]:
    """Which of "hidden" and "dropout" have no effect on the configured backbone.

    Raises:
        ConfigError: no such backbone, or an option that it does not have or of another type.
    """
    return get_backbone(config.name).idle_settings(_all_options(config))


def width_multiple(config: BackboneConfig) -> int:
    """What the last of `hidden` must be a multiple of on the configured backbone.

    Raises:
        ConfigError: as in `idle_settings`.
    """
    return get_backbone(config.name).width_multiple(_all_options(config))


def _all_options(config: BackboneConfig) -> dict[str, Any]:
    """Those given, and the defaults of the others."""
    known = options_of(get_backbone(config.name))
    return {**{name: option.default for name, option in known.items()}, **_options(config)}


def _options(config: BackboneConfig) -> dict[str, Any]:
    known = options_of(get_backbone(config.name))
    for name in config.options:
        if name not in known:
            has = f"It has: {', '.join(known)}." if known else "It has none."
            raise ConfigError(
                f"backbone.options.{name}: backbone {config.name!r} has no option {name!r}."
                f"{did_you_mean(name, known)} {has}"
            )
    return {name: _read(name, value, known[name]) for name, value in config.options.items()}


def _read(name: str, value: Any, option: inspect.Parameter) -> Any:
    if value in (None, "none") and NoneType in get_args(option.annotation):
        return None
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=option.annotation, required=True)
    given = list(value) if isinstance(value, tuple) else value
    try:
        read = parser.parse_object({"value": given}).value
    except ArgumentError as error:
        raise _of_another_type(name, value, option) from error
    return tuple(read) if isinstance(read, list) else read


def _of_another_type(name: str, value: Any, option: inspect.Parameter) -> ConfigError:
    hint = inspect.formatannotation(option.annotation)
    return ConfigError(
        f"backbone.options.{name}={value!r} is not of type {hint}; its default is "
        f"{option.default!r}."
    )


def build_backbone(config: BackboneConfig, inputs: Inputs) -> Backbone:
    """The configured backbone, with weights drawn from torch's current generator.

    The width of the embeddings is that of `inputs`, not the configuration's.

    Raises:
        ConfigError: as in `check_backbone`; or the backbone needs what the inputs lack, or cannot
            have a value that was given.
    """
    options = check_backbone(config)
    kind: Any = get_backbone(config.name)
    backbone: Backbone = kind(inputs, hidden=config.hidden, dropout=config.dropout, **options)
    return backbone
