"""Independent random streams from one seed and a few names."""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names`; other names give unrelated streams.

    A stream depends on nothing but its seed and names, so an epoch's order can be made again
    without replaying what came before.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
