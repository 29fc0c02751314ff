"""The frames before a chunk of a stream, in rings whose owner writes only the new frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Past:
    """The last R frames of the input of a layer, for each row of a batch of streams.

    A layer takes it in the place of a tensor with its context. It reads the ring and sets `new`;
    who owns the ring writes `new` into it after the step.
    """

    ring: Tensor  # (B, R, ...), frame f of a stream is at f % R
    position: Tensor  # (B,) int64, number of frames before the chunk, 0 at the start of a stream
    new: Tensor | None = None  # (B, N, ...), the frames of the chunk
    # places that other rings of the same position and number of new frames read, by their size
    places: dict[tuple[int, bool], Tensor] = field(default_factory=dict)

    def frames(self) -> Tensor:
        """Number of the frame that each place of the ring has, (B, R) int64; below 0: none yet."""
        size = self.ring.shape[1]
        last = self.position[:, None] - 1  # (B, 1)
        place = torch.arange(size, device=self.ring.device)
        return last - (last - place) % max(1, size)

    def before(self, x: Tensor, repeat: bool) -> Tensor:
        """Put the R frames before x (B, N, C) in front of it, and take x as new: (B, R + N, C).

        Before the first frame of a stream are copies of it, or zeros if not `repeat`.
        """
        self.new = x
        # all are picked at once from the ring, the chunk, and a frame of zeros where it is needed
        parts = [self.ring.to(x.dtype), x] + ([] if repeat else [torch.zeros_like(x[:, :1])])
        source = torch.cat(parts, dim=1)
        (batch, size), count = self.ring.shape[:2], x.shape[1]
        key = size, repeat
        if key not in self.places:
            self.places[key] = self._places(size, count, repeat)
        picked = source.flatten(0, 1).index_select(0, self.places[key])
        return picked.unflatten(0, (batch, size + count))

    def _places(self, size: int, count: int, repeat: bool) -> Tensor:
        """Where `before` finds its frames, (B * (R + N),)."""
        steps = torch.arange(size + count, device=self.position.device)
        frame = self.position[:, None] - size + steps[:size]  # (B, R)
        place = frame.clamp(min=0) % max(1, size)
        if repeat:  # frame 0 stays in the ring as long as a frame before it is asked for
            place = torch.where(self.position[:, None] == 0, size, place)
        else:
            place = torch.where(frame < 0, size + count, place)
        index = torch.cat([place, steps[size:].expand(len(place), -1)], dim=1)
        row = torch.arange(len(place), device=steps.device)[:, None] * (size + count + (not repeat))
        return (index + row).flatten()


# The frames that a layer needs of the past: as many as it needs, or a ring
LeftContext = Tensor | Past


def pad_frames(x: Tensor, left: int, right: int = 0, repeat: bool = False) -> Tensor:
    """Add frames before and after x (B, N, C): zeros, or on the left copies of the first frame.

    Example
    -------
    >>> pad_frames(torch.tensor([[[2.0], [3.0]]]), left=1, right=1, repeat=True).flatten().tolist()
    [2.0, 2.0, 3.0, 0.0]
    """
    if repeat:
        x, left = torch.cat([x[:, :1].expand(-1, left, -1), x], dim=1), 0
    return F.pad(x, (0, 0, left, right))


def after_context(
    x: Tensor, context: LeftContext | None, left: int, repeat: bool = True
) -> tuple[Tensor, LeftContext]:
    """Put x (B, N, C) after its context (B, left, C), and give the context of what follows x.

    At the start the context is None: copies of the first frame, or zeros if not `repeat`, stand
    for it.

    Example
    -------
    >>> x, context = after_context(torch.tensor([[[2.0], [3.0]]]), torch.tensor([[[1.0]]]), left=1)
    >>> x.flatten().tolist(), context.flatten().tolist()
    ([1.0, 2.0, 3.0], [3.0])
    """
    if isinstance(context, Past):
        return context.before(x, repeat), context
    if context is None:
        x = pad_frames(x, left, repeat=repeat)
    else:
        x = torch.cat([context.to(x.dtype), x], dim=1)
    # a copy, so that it does not keep the other frames
    return x, x[:, x.shape[1] - left :].clone()
