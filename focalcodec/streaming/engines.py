"""How the items of streams, samples or tokens, go through a codec: in exact steps or in windows.

Both engines keep a queue of each row, on the CPU. `run` takes new items and gives what is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from focalcodec.streaming.steps import DecoderStep, EncoderStep, write_rings

State = dict[str, Tensor]


class StepEngine:
    """Rows of streams through a causal codec, a chunk at a time: the result is that of the whole.

    `chunk` is the number of items of a step, `like` a tensor on the codec's device with the dtype
    of the rings, and `nothing` an output of no items.
    """

    def __init__(
        self,
        step: EncoderStep | DecoderStep,
        chunk: int,
        like: Tensor,
        nothing: Tensor,
        batch_size: int,
    ) -> None:
        self._step, self.chunk, self._nothing = step, chunk, nothing
        self.latency = chunk
        self._rings = [like.new_zeros(batch_size, *shape) for shape in step.shapes]
        self._chunks = torch.zeros(batch_size, dtype=torch.int64, device=like.device)
        self._queues: list[Tensor] = [torch.zeros(0)] * batch_size

    def reset(self, rows: Sequence[int]) -> None:
        """Begin new streams in these rows. A ring is not read where it was not written."""
        for row in rows:
            self._queues[row] = torch.zeros(0)
            self._chunks[row] = 0

    @torch.inference_mode()
    def run(self, items: Sequence[Tensor], last: Sequence[bool]) -> list[Tensor]:
        """Output of each row after new items (n,); where `last`, also of an incomplete chunk."""
        queues = [
            torch.cat([queue.to(new), new]) for queue, new in zip(self._queues, items, strict=True)
        ]
        outputs = [[self._nothing] for _ in queues]
        while ready := [row for row, queue in enumerate(queues) if len(queue) >= self.chunk]:
            for row, output in zip(ready, self._whole(queues, ready), strict=True):
                outputs[row].append(output)
                queues[row] = queues[row][self.chunk :]
        # incomplete chunks, those of one length together
        ends = [row for row, queue in enumerate(queues) if last[row] and len(queue)]
        for size in {len(queues[row]) for row in ends}:
            rows = [row for row in ends if len(queues[row]) == size]
            for row, output in zip(rows, self._rest(queues, rows), strict=True):
                outputs[row].append(output)
                queues[row] = queues[row][:0]
        self._queues = [queue.clone() for queue in queues]
        return [torch.cat(parts) for parts in outputs]

    def _whole(self, queues: Sequence[Tensor], ready: list[int]) -> Sequence[Tensor]:
        """Outputs of a chunk of the rows that are ready; the others go along and change nothing."""
        first = queues[ready[0]][: self.chunk]
        chunk = torch.stack(
            [queue[: self.chunk] if len(queue) >= self.chunk else first for queue in queues]
        )
        mask = torch.tensor([len(queue) >= self.chunk for queue in queues])
        y, new = self._step(chunk.to(self._chunks.device), self._chunks, self._rings)
        mask = mask.to(self._chunks.device)
        write_rings(self._rings, new, self._step.counts, self._chunks, mask)
        self._chunks += mask
        return (y if len(ready) == len(queues) else y[mask]).cpu().unbind()

    def _rest(self, queues: Sequence[Tensor], rows: list[int]) -> Sequence[Tensor]:
        """Outputs of the last items of rows that end."""
        items = torch.stack([queues[row] for row in rows]).to(self._chunks.device)
        y, _ = self._step(items, self._chunks[rows], [ring[rows] for ring in self._rings])
        return y.cpu().unbind()

    def state(self) -> State:
        """Everything that the next outputs depend on, not copied."""
        tensors = {f"ring{number}": ring for number, ring in enumerate(self._rings)}
        tensors |= {f"queue{row}": queue for row, queue in enumerate(self._queues)}
        return tensors | {"chunks": self._chunks}

    def load_state(self, state: State) -> None:
        """Continue where `state` was taken."""
        for number, ring in enumerate(self._rings):
            ring.copy_(state[f"ring{number}"])
        self._queues = [state[f"queue{row}"].clone() for row in range(len(self._queues))]
        self._chunks.copy_(state["chunks"])


class Window(NamedTuple):
    """Items of a window of a codec that is not causal: context, new ones, context."""

    left: int
    new: int
    right: int


class WindowEngine:
    """Rows of streams through a codec that is not causal, in windows with context on both sides.

    `apply` maps the items of one window (n,) to its output, `per_item` outputs an item. Only what
    belongs to the new items is given; `fade` outputs at a border are a mixture of both windows.
    """

    def __init__(
        self,
        apply: Callable[[Tensor], Tensor],
        window: Window,
        per_item: Callable[[int], int],
        nothing: Tensor,
        batch_size: int,
        fade: int = 0,
    ) -> None:
        self._apply, self._window, self._per_item = apply, window, per_item
        self._nothing, self._fade = nothing, fade
        self.chunk = window.new
        self.latency = window.new + window.right
        self._queues: list[Tensor] = [torch.zeros(0)] * batch_size
        self._lefts = torch.zeros(batch_size, dtype=torch.int64)  # context in each queue
        self._tails: list[Tensor] = [nothing] * batch_size  # of the window before

    def reset(self, rows: Sequence[int]) -> None:
        """Begin new streams in these rows."""
        for row in rows:
            self._queues[row], self._tails[row] = torch.zeros(0), self._nothing
            self._lefts[row] = 0

    @torch.no_grad()
    def run(self, items: Sequence[Tensor], last: Sequence[bool]) -> list[Tensor]:
        """Output of each row after new items (n,); where `last`, all of it."""
        return [self._row(row, new, last[row]) for row, new in enumerate(items)]

    def _row(self, row: int, new: Tensor, last: bool) -> Tensor:
        queue = torch.cat([self._queues[row].to(new), new])
        left, outputs = int(self._lefts[row]), [self._nothing]
        while len(queue) >= left + self._window.new + self._window.right:
            size = left + self._window.new
            outputs.append(self._output(row, queue[: size + self._window.right], left, size))
            kept = min(size, self._window.left)
            queue, left = queue[size - kept :], kept
        if last and len(queue) > left:
            outputs.append(self._output(row, queue, left, None))
            queue, left = queue[:0], 0
        self._queues[row], self._lefts[row] = queue.clone(), left
        return torch.cat(outputs)

    def _output(self, row: int, items: Tensor, left: int, end: int | None) -> Tensor:
        """Output of items left..end of a window, up to its end if None."""
        whole, start = self._apply(items), self._per_item(left)
        stop = len(whole) if end is None else self._per_item(end)
        output, tail = whole[start:stop].clone(), self._tails[row]
        size = min(len(tail), len(output))
        if size:
            weight = torch.linspace(0.0, 1.0, size + 2)[1:-1]
            output[:size] = torch.lerp(tail[:size], output[:size], weight)
        self._tails[row] = whole[stop : stop + self._fade].clone()
        return output

    def state(self) -> State:
        """Everything that the next outputs depend on, not copied."""
        tensors = {f"queue{row}": queue for row, queue in enumerate(self._queues)}
        tensors |= {f"tail{row}": tail for row, tail in enumerate(self._tails)}
        return tensors | {"lefts": self._lefts}

    def load_state(self, state: State) -> None:
        """Continue where `state` was taken."""
        for row in range(len(self._queues)):
            self._queues[row] = state[f"queue{row}"].clone()
            self._tails[row] = state[f"tail{row}"].clone()
        self._lefts = state["lefts"].clone()
