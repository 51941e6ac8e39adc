"""A run's configuration as YAML, there and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from mdlora.config.checks import unknown_name
from mdlora.config.plan import Phase, PlanConfig
from mdlora.config.sections import SECTIONS, RunConfig
from mdlora.errors import ConfigError

__all__ = ["config_from_dict", "config_to_yaml", "load_config"]


def config_to_yaml(config: RunConfig) -> str:
    """The whole configuration, every default written out."""
    import yaml

    return str(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def load_config(path: str | Path) -> RunConfig:
    """Read what `config_to_yaml` wrote, or a part of it; what is missing has its default.

    Raises:
        ConfigError: no such file, not YAML, an unknown key (the nearest is suggested), or a
            value out of range.
    """
    import yaml

    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error}.") from error
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if plain is None:
        plain = {}
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} must hold a mapping of settings, not a {type(plain).__name__}.")
    return config_from_dict(plain, where=f"{path}: ")


def config_from_dict(plain: Mapping[str, Any], where: str = "") -> RunConfig:
    """A configuration from nested mappings.

    Raises:
        ConfigError: an unknown key, a value of another type than asked for, or out of range.
    """
    parts: dict[str, Any] = dict(plain)
    for name, kind in SECTIONS.items():
        if name in parts:
            parts[name] = _build(kind, parts[name], f"{where}{name}.")
    return _build(RunConfig, parts, where)  # type: ignore[no-any-return]


def _build(kind: type, values: Any, where: str) -> Any:
    if isinstance(values, kind):
        return values
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{where.rstrip('.')} is {values!r}; give a mapping of its settings, "
            f"{', '.join(f.name for f in fields(kind))}."
        )
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            place, _, section = where.rpartition(" ")
            what = f"setting of {section.rstrip('.')}" if section else "setting"
            raise ConfigError(f"{place} {unknown_name(what, str(key), known)}".strip())
    given = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    if kind is PlanConfig and given.get("phases") is not None:
        given["phases"] = tuple(_build(Phase, p, f"{where}phases: ") for p in given["phases"])
    from jsonargparse import ArgumentError, ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    hints = get_type_hints(kind)
    for name, value in given.items():
        if is_dataclass(value) or name == "phases":
            continue
        parser.add_argument(f"--{name}", type=hints[name])
    simple = {n: v for n, v in given.items() if not is_dataclass(v) and n != "phases"}
    try:
        checked = parser.parse_object(_plain(simple)) if simple else {}
    except ArgumentError as error:
        raise ConfigError(f"{where}{_last_words(error)}") from error
    return kind(**{**given, **dict(vars(checked) if simple else {})})


def _last_words(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
