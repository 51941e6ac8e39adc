"""Layers whose buffers follow the rows of training passes."""

from __future__ import annotations

from torch import nn

__all__ = ["RunningState"]


class RunningState(nn.Module):
    """A layer that notes something of the rows it sees in training mode, in buffers.

        state <- update(state, rows) while training; output = f(rows, state)

    In evaluation mode it only reads them. While a backbone is frozen, such layers of it are held
    in evaluation mode, as torch's own layers with running statistics are.

    Shapes: those of the layer; state is any number of buffers, none of which grows with the rows.
    """
