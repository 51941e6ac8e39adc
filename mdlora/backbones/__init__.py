"""Backbones by exact name: `Embedded` in, logits out; no devices, files or optimizers."""

from mdlora.backbones.deepfm import DeepFM
from mdlora.backbones.mlp import MLPBackbone
from mdlora.backbones.wdl import WDL
from mdlora.config import DEFAULT_EMBED_DIM, BackboneConfig, unknown_name
from mdlora.errors import ConfigError

__all__ = ["BACKBONES", "WDL", "DeepFM", "MLPBackbone", "build_backbone", "get_backbone"]

BACKBONES: dict[str, type[MLPBackbone]] = {"deepfm": DeepFM, "mlp": MLPBackbone, "wdl": WDL}


def get_backbone(name: str) -> type[MLPBackbone]:
    """The backbone called exactly `name`.

    Raises:
        ConfigError: no backbone has that name; the message suggests the nearest.
    """
    if name not in BACKBONES:
        raise ConfigError(unknown_name("backbone", name, BACKBONES))
    return BACKBONES[name]


def build_backbone(config: BackboneConfig, *, num_fields: int, num_dense: int = 0) -> MLPBackbone:
    """The configured backbone, with weights drawn from torch's current generator.

    An embedding width that the configuration leaves open is the usual one here; whoever knows the
    schema says it (`mdlora.embeddings.embed_dim_of`).
    """
    return get_backbone(config.name)(
        num_fields,
        config.embed_dim or DEFAULT_EMBED_DIM,
        num_dense=num_dense,
        hidden=config.hidden,
        dropout=config.dropout,
    )
