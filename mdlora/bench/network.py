"""The model that all competitors train, in their own ways."""

from __future__ import annotations

from dataclasses import dataclass

from mdlora.config import BackboneConfig
from mdlora.embeddings import embed_dim_of
from mdlora.schema import Schema

__all__ = ["Network"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A backbone with the protocol's tower (256-128-64, dropout 0.5) on a schema's columns.

    The schema has ids, scaled numbers and a domain, which is an id like others to competitors.
    """

    schema: Schema
    backbone: str
    """Either "deepfm" or "wdl"."""
    batch_size: int = 1024

    @property
    def config(self) -> BackboneConfig:
        """The protocol's settings."""
        return BackboneConfig(name=self.backbone)

    @property
    def embed_dim(self) -> int:
        """The width of a field's embedding."""
        return embed_dim_of(self.schema, None)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the scaled numbers."""
        return tuple(column.name for column in self.schema.dense)
