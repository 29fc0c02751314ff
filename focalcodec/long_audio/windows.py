"""Overlapping windows over a stream of any length: each frame is kept once, with its context."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.long_audio.receptive_field import Context


class WindowPlan(NamedTuple):
    """Frames of a window, and how many of them at its two ends are context only."""

    size: int
    left: int
    right: int


class Window(NamedTuple):
    """One window of a stream.

    `items` (n, ...) are its frames, `per_frame` items each; of the frames made of them, those from
    `start` to `stop` are kept (None: to the end).
    """

    items: Tensor
    start: int
    stop: int | None


def plan_windows(context: Context, frame_rate: float, window_seconds: float) -> WindowPlan:
    """Lay out windows whose frames see all that their context asks for.

    Parameters
    ----------
    context : Context
        In frames.
    frame_rate : float
        Frames a second.
    window_seconds : float
        Length of a window, context included.

    Returns
    -------
    WindowPlan
        All three are multiples of `context.align`.

    Raises
    ------
    UserError
        The window is not longer than the context on its two sides.

    Example
    -------
    >>> plan_windows(Context(30, 29, align=4), frame_rate=50.0, window_seconds=10.0)
    WindowPlan(size=500, left=32, right=32)
    """
    align = context.align
    left, right = (math.ceil(n / align) * align for n in (context.left, context.right))
    finite = 0 < window_seconds < float("inf")
    size = int(window_seconds * frame_rate) // align * align if finite else 0
    if size < left + right + align:
        raise UserError(
            f"window_seconds={window_seconds:g}: this model needs"
            f" {(left + right) / frame_rate:.1f} s of context; give"
            f" {math.ceil((left + right + align) / frame_rate)} or more"
        )
    return WindowPlan(size, left, right)


def cut_windows(blocks: Iterable[Tensor], plan: WindowPlan, per_frame: int = 1) -> Iterator[Window]:
    """Cut a stream into windows; what fits one window is one window.

    Parameters
    ----------
    blocks : iterable of Tensor
        (n, ...) each, of any length, on one device.
    plan : WindowPlan
        In frames.
    per_frame : int
        Items of `blocks` a frame.

    Yields
    ------
    Window
        In order. The kept frames of all windows follow each other without a gap.

    Example
    -------
    >>> for window in cut_windows([torch.arange(10)], WindowPlan(size=6, left=2, right=1)):
    ...     print(window.items.tolist(), window.items[window.start : window.stop].tolist())
    [0, 1, 2, 3, 4, 5] [0, 1, 2, 3, 4]
    [3, 4, 5, 6, 7, 8] [5, 6, 7]
    [6, 7, 8, 9] [8, 9]
    """
    size, stop = plan.size * per_frame, plan.size - plan.right
    step = (stop - plan.left) * per_frame
    start, waiting, count = 0, [], 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        # one item more than a window: the last window is never made of context alone
        while count > size:
            items = torch.cat(waiting)
            yield Window(items[:size], start, stop)
            waiting, count, start = [items[step:].clone()], count - step, plan.left
    if count:
        yield Window(torch.cat(waiting), start, None)
