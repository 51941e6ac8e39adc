"""Weights as safetensors: the backbone, one small file a domain, the gate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from mdlora.adapters import AdaptedModel
from mdlora.errors import AdapterError, RunError
from mdlora.files import atomic_write_bytes
from mdlora.model import CTRModel
from mdlora.training.frozen import digest

__all__ = [
    "adapter_file_name",
    "backbone_hash",
    "load_domain_adapter",
    "load_weights",
    "read_tensors",
    "save_weights",
    "write_tensors",
]

_BACKBONE = "backbone.safetensors"
_GATE = "gate.safetensors"
_ADAPTERS = "adapters"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON description in one atomic file."""
    from safetensors.torch import save

    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    atomic_write_bytes(path, save(plain, metadata={"about": json.dumps(dict(about))}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write_tensors` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except FileNotFoundError as error:
        raise RunError(f"{path} is not there: {error}.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); restore it or train again.") from error


def backbone_hash(model: CTRModel) -> str:
    """sha256 over embeddings and backbone: adapters fit the backbone that they learned on."""
    whole = hashlib.sha256()
    for name, tensor in sorted(_backbone_tensors(model).items()):
        whole.update(f"{name} {digest(tensor)}\n".encode())
    return whole.hexdigest()


def adapter_file_name(domain_id: int, name: str) -> str:
    """A file name for a domain: its id, and its name percent-encoded, so that none can escape."""
    safe = quote(name, safe="").replace(".", "%2E")[:80]
    return f"{domain_id:04d}-{safe}.safetensors"


def save_weights(model: CTRModel, folder: Path) -> None:
    """Write backbone, adapters and gate into a run folder."""
    whole = backbone_hash(model)
    about = {"backbone": whole, "schema": model.schema.fingerprint()}
    write_tensors(folder / _BACKBONE, _backbone_tensors(model), about)
    adapted = model.adapted
    if adapted is None:
        return
    for index, name in enumerate(model.schema.domain_names):
        tensors = {key: bank[own] for key, bank, own in _domain_slices(adapted, index)}
        path = folder / _ADAPTERS / adapter_file_name(index + 1, name)
        write_tensors(path, tensors, {"backbone": whole, "domain": name, "id": index + 1})
    if model.has_gate:
        gates = dict(adapted.gates.state_dict())
        write_tensors(folder / _GATE, gates, {"backbone": whole, "route": adapted.route_mode})


def load_weights(model: CTRModel, folder: Path) -> None:
    """Read what `save_weights` wrote into a model of the same schema and settings.

    Raises:
        RunError: a file is missing or damaged.
        AdapterError: adapters of another backbone.
    """
    if not (folder / _BACKBONE).exists():
        raise RunError(
            f"{folder} holds no finished weights ({_BACKBONE} is missing). If the run was "
            f"interrupted, go on with: mdlora train --resume {folder}"
        )
    tensors, about = read_tensors(folder / _BACKBONE)
    _fit(tensors, _backbone_tensors(model), folder / _BACKBONE)
    model.load_tensors(tensors)
    adapted = model.adapted
    if adapted is None:
        return
    own = backbone_hash(model)
    for index, name in enumerate(model.schema.domain_names):
        _load_domain(model, folder / _ADAPTERS / adapter_file_name(index + 1, name), own)
    adapted.route_mode = "own"
    if model.has_gate:
        gates, about = read_tensors(folder / _GATE)
        _same_backbone(folder / _GATE, about, own)
        _fit(gates, dict(adapted.gates.state_dict()), folder / _GATE)
        adapted.gates.load_state_dict(gates)
        adapted.route_mode = about["route"]


@torch.no_grad()
def load_domain_adapter(model: CTRModel, path: str | Path) -> str:
    """Load one domain's adapter file onto the backbone that it was trained on.

    Returns:
        The domain's name.

    Raises:
        AdapterError: the file belongs to another backbone, to an unknown domain, or to other
            layers or ranks.
        RunError: the file is missing or damaged.
    """
    return _load_domain(model, Path(path), backbone_hash(model))


def _same_backbone(path: Path, about: Mapping[str, Any], own: str) -> None:
    if about.get("backbone") != own:
        raise AdapterError(
            f"{path} was trained on backbone {str(about.get('backbone'))[:12]}, this model's is "
            f"{own[:12]}: it works only on its own backbone. Load the run it came from, or train "
            "adapters for this one."
        )


@torch.no_grad()
def _load_domain(model: CTRModel, path: Path, own: str) -> str:
    if model.adapted is None:
        raise AdapterError(f"The model has no adapters to load {path} into: build it with some.")
    tensors, about = read_tensors(path)
    _same_backbone(path, about, own)
    name = str(about.get("domain"))
    if name not in model.schema.domain_names:
        raise AdapterError(
            f"{path} is for domain {name!r}, which the schema lacks. "
            f"It has: {', '.join(model.schema.domain_names)}."
        )
    index = model.schema.domain_names.index(name)
    slices = {key: bank[o] for key, bank, o in _domain_slices(model.adapted, index)}
    _fit(tensors, slices, path)
    for key, bank, mine in _domain_slices(model.adapted, index):
        bank[mine] = tensors[key].to(bank)
    return name


def _backbone_tensors(model: CTRModel) -> dict[str, Tensor]:
    parts = ("embeddings.", "backbone.")
    names = set(model.state_dict())
    return {n: t for n, t in model.state().items() if n.startswith(parts) and n in names}


def _domain_slices(adapted: AdaptedModel, index: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, bank tensor and places of the experts of one domain, for each adapted layer."""
    own = torch.arange(index, adapted.num_experts, adapted.num_domains)
    for target, bank in zip(adapted.target_names, adapted.banks, strict=True):
        for name, tensor in bank.named_parameters():
            yield f"{target}.{name}", tensor.detach(), own.to(tensor.device)


def _fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    if set(found) != set(wanted):
        odd = sorted(set(found) ^ set(wanted))
        raise AdapterError(f"{path} holds other layers than the model: {', '.join(odd[:5])}.")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise AdapterError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the model's is "
                f"{tuple(wanted[name].shape)}. Build the model with the file's rank and domains."
            )
