"""Vectors whose numbers are kept or not by what was drawn: a byte each, of which a mask counts.

A number is kept where (byte & mask) >= least.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from mdlora.compiled.vectors import LANES, ZEROS, address, intrinsic, spread_number, vector

__all__ = ["keep_lanes", "pass_lanes"]

_BYTE = ir.IntType(8)
_BYTES = ir.VectorType(_BYTE, LANES)
_ONES = ir.Constant(_BYTES, [-1] * LANES)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.bitcast(address(context, builder, kind, array, at), _BYTES.as_pointer())


def _kept(builder: Any, drawn: Any, mask: Any, least: Any) -> Any:
    return builder.icmp_unsigned(">=", builder.and_(drawn, mask), spread_number(builder, least))


@intrinsic
def keep_lanes(typing: Any, x: Any, scale: Any, drawn: Any, at: Any, mask: Any, least: Any) -> Any:
    """Of x, relu(x * scale) where kept, else 0; those at zero lose their bits of the mask."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, scale, array, at, mask, least = arguments
        place = _place(context, builder, drawn, array, at)
        found = builder.load(place, align=1)
        mask = spread_number(builder, mask)
        value = builder.fmul(x, spread_number(builder, scale))
        above = builder.fcmp_unordered(">", value, ZEROS)  # no number stays no number
        alive = builder.and_(_kept(builder, found, mask, least), above)
        lost = builder.and_(found, builder.xor(mask, _ONES))
        builder.store(builder.select(alive, found, lost), place, align=1)
        return builder.select(alive, value, ZEROS)

    return vector(vector, types.float32, drawn, types.intp, types.uint8, types.uint8), generate


@intrinsic
def pass_lanes(typing: Any, x: Any, scale: Any, drawn: Any, at: Any, mask: Any, least: Any) -> Any:
    """Of x, x * scale where kept, else 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, scale, array, at, mask, least = arguments
        found = builder.load(_place(context, builder, drawn, array, at), align=1)
        kept = _kept(builder, found, spread_number(builder, mask), least)
        value = builder.fmul(x, spread_number(builder, scale))
        return builder.select(kept, value, ZEROS)

    return vector(vector, types.float32, drawn, types.intp, types.uint8, types.uint8), generate
