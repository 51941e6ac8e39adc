"""A comparison's folder belongs to one comparison: its data, its settings, its versions."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import Any

from mdlora.config import RunConfig, config_to_yaml
from mdlora.data import Dataset
from mdlora.errors import RunError
from mdlora.files import atomic_write_text
from mdlora.training.environment import describe_environment, pick_device

__all__ = ["claim", "source_commit"]


def claim(folder: Path, config: RunConfig, data: Dataset) -> dict[str, Any]:
    """Start a comparison's folder, or check that it is of the same comparison.

    Returns:
        What the comparison is made with: versions, machine, "data" (fingerprint), "commit" of the
        library's sources, and "config", the settings that all cells share, as YAML.

    Raises:
        RunError: the folder is something else, or was begun with other data, settings, versions or
            on another kind of device.
    """
    about = describe_environment(config.training.threads, pick_device(config.training.device))
    about["data"] = data.fingerprint()
    about["commit"] = source_commit(Path(__file__).parents[2])
    neutral = dataclasses.replace(
        config,
        method="base",
        seed=0,
        data=dataclasses.replace(config.data, path=None),  # its fingerprint says which data
        backbone=dataclasses.replace(config.backbone, name="wdl"),
    )
    text = config_to_yaml(neutral)
    about["config"] = _shared(text)
    made_with = {name: about[name] for name in ("mdlora", "torch", "device")}
    wanted = {"data": about["data"], "config": text, **made_with}
    path = folder / "comparison.json"
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(f"{folder} is there and is no comparison. Choose another --out.")
        atomic_write_text(path, json.dumps(wanted, indent=1) + "\n")
        return about
    found = _read(path)
    if found.get("data") != wanted["data"]:
        raise RunError(f"The data changed since {folder} was begun. Choose another --out.")
    if found.get("config") != text or not found.keys() >= made_with.keys():
        raise RunError(
            f"{folder} was begun with other settings (see {path}). Give the same, or choose "
            "another --out."
        )
    for name, now in made_with.items():
        if found[name] != now:
            raise RunError(
                f"{folder} was begun with {name} {found[name]}, this is {now}: choose another "
                "--out, or go on with the former."
            )
    return about


def source_commit(root: Path) -> str | None:
    """The git commit of a source tree; None if it is no git checkout, or there is no git."""
    if not (root / ".git").exists():  # git itself would also look in the folders above
        return None
    try:
        told = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}. Choose another --out.") from error
    if not isinstance(found, dict):
        raise RunError(f"{path} is damaged: no JSON object. Choose another --out.")
    return found


def _shared(text: str) -> str:
    """A configuration's YAML without method, seed and backbone name, which each cell has itself."""
    own = ("method:", "seed:", "  name:")
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(own))
