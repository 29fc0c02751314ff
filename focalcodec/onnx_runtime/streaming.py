"""Streams on onnxruntime: audio to tokens and tokens to audio while they arrive.

The sessions have the methods and shapes of `focalcodec.streaming`, with NumPy arrays, at the rates
of the codec, for causal codecs. docs/streaming.md explains states and latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from focalcodec.errors import UserError
from focalcodec.onnx_runtime.bundle import Array
from focalcodec.onnx_runtime.codec import OnnxCodec

State = dict[str, Array]


class _Session:
    """Rows of streams through a step of a causal codec, a chunk at a time."""

    _graph: str
    _unit: str  # of what is pushed
    _nothing: Array  # an output of no items

    def __init__(self, codec: OnnxCodec, batch_size: int = 1) -> None:
        if not isinstance(codec, OnnxCodec):
            raise UserError(f"codec: {type(codec).__name__}; give an OnnxCodec")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size: {batch_size!r}; give a number of streams, at least 1")
        graph = codec.bundle.graph(self._graph)
        self.codec, self.batch_size = codec, batch_size
        self._input: str = graph["inputs"][0][0]
        self.chunk: int = graph["chunk"]  # items of a step
        self._plan: list[dict[str, Any]] = graph["rings"]
        self._rings = [
            np.zeros((batch_size, *ring["shape"]), dtype=np.float32) for ring in self._plan
        ]
        self._chunks = np.zeros(batch_size, dtype=np.int64)
        self._taken, self._ended = np.zeros((2, batch_size), dtype=np.int64)
        self._queues: list[Array] = [np.zeros(0)] * batch_size

    def reset(self, rows: Sequence[bool] | Array | None = None) -> None:
        """Begin new streams in all rows, or where `rows` (batch,) bool is True."""
        chosen = self._mask(rows)
        self._chunks[chosen] = self._taken[chosen] = self._ended[chosen] = 0
        for row in np.flatnonzero(chosen):
            self._queues[row] = np.zeros(0)

    def state_dict(self) -> State:
        """Copy of the state, with a hash of the codec: for a file, or another machine."""
        state = {f"ring{number}": ring.copy() for number, ring in enumerate(self._rings)}
        state |= {f"queue{row}": queue.copy() for row, queue in enumerate(self._queues)}
        rows = np.stack([self._chunks, self._taken, self._ended])
        return state | {"rows": rows, "session": self._identity()}

    def load_state_dict(self, state: State) -> None:
        """Continue where `state_dict` was called: the outputs are equal.

        Raises a `UserError` for the state of another model, batch size or kind of session; the
        session is unchanged then.
        """
        present = self.state_dict()
        same = "make the session in the same way"
        if not np.array_equal(state.get("session", np.zeros(0)), present["session"]):
            raise UserError(f"state: not of a {type(self).__name__} of this model; {same}")
        shapes = {key: present[key].shape for key in present if not key.startswith("queue")}
        if set(state) != set(present) or any(state[key].shape != shapes[key] for key in shapes):
            raise UserError(f"state: not of {self.batch_size} rows; {same}")
        for number, ring in enumerate(self._rings):
            ring[:] = state[f"ring{number}"]
        self._queues = [state[f"queue{row}"].copy() for row in range(self.batch_size)]
        self._chunks, self._taken, self._ended = state["rows"].copy()

    def _identity(self) -> Array:
        text = f"{type(self).__name__} {self.codec.weights_sha256} {self.batch_size}"
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def _mask(self, rows: Sequence[bool] | Array | None) -> Array:
        if rows is None:
            return np.ones(self.batch_size, dtype=bool)
        mask = np.asarray(rows)
        if mask.dtype != np.bool_ or mask.shape != (self.batch_size,):
            raise UserError(
                f"rows: {mask.dtype} {mask.shape}; give a bool for each of the {self.batch_size}"
                " rows"
            )
        return mask

    def _new(self, x: Array, lengths: Any) -> list[Array]:
        """New items of each row of x (B, T); a `UserError` if they are not such a batch."""
        if x.ndim != 2 or len(x) != self.batch_size:
            raise UserError(
                f"{self._unit}: shape {x.shape}; give (batch, time) with {self.batch_size} rows"
            )
        if lengths is None:
            self._check_together()
            lengths = [x.shape[1]] * self.batch_size
        sizes = np.asarray(lengths)
        if sizes.shape != (self.batch_size,) or sizes.dtype.kind not in "iu":
            raise UserError(f"lengths: {sizes.dtype} {sizes.shape}; give ({self.batch_size},)")
        if (sizes < 0).any() or (sizes > x.shape[1]).any():
            raise UserError(f"lengths: {sizes.tolist()}; each must be in 0..{x.shape[1]}")
        ended = np.flatnonzero((sizes > 0) & (self._ended > 0))
        if len(ended):
            raise UserError(
                f"push: row {ended[0]} was flushed; call reset(), or reset(rows), to begin a new"
                " stream"
            )
        return [row[:size] for row, size in zip(x, sizes, strict=True)]

    def _check_together(self) -> None:
        if len(set(self._taken.tolist())) > 1:
            raise UserError(
                f"rows: they have {self._taken.tolist()} {self._unit} so far, so they give"
                " different numbers; push with lengths=, flush with rows="
            )

    def _ending(self, rows: Sequence[bool] | Array | None) -> Array:
        """Rows that `flush(rows)` ends: those that did not end before."""
        if rows is None:
            self._check_together()
        return self._mask(rows) & (self._ended == 0)

    def _run(self, new: list[Array], ends: Array | None = None) -> list[Array]:
        """Output of each row after new items; where it ends, also of an incomplete chunk."""
        queues = [
            np.concatenate([queue.astype(items.dtype), items])
            for queue, items in zip(self._queues, new, strict=True)
        ]
        outputs = [[self._nothing] for _ in queues]
        while ready := [row for row, queue in enumerate(queues) if len(queue) >= self.chunk]:
            y = self._step(np.stack([queues[row][: self.chunk] for row in ready]), ready)
            for row, output in zip(ready, y, strict=True):
                outputs[row].append(output)
                queues[row] = queues[row][self.chunk :]
        for row in [] if ends is None else np.flatnonzero(ends).tolist():
            if len(queues[row]):
                outputs[row].append(self._step(queues[row][None], [row])[0])
                queues[row] = queues[row][:0]
        self._queues = [queue.copy() for queue in queues]
        self._taken += [len(items) for items in new]
        if ends is not None:
            self._ended[ends] = 1
        return [np.concatenate(parts) for parts in outputs]

    def _step(self, items: Array, rows: list[int]) -> Array:
        """Outputs of the next items (n, T) of some rows, and their new frames into the rings."""
        every = len(rows) == self.batch_size
        inputs = {self._input: items, "chunks": self._chunks[rows]}
        for ring, plan in zip(self._rings, self._plan, strict=True):
            inputs[plan["ring"]] = ring if every else ring[rows]
        y, *news = self.codec.bundle.run(self._graph, inputs)
        if items.shape[1] < self.chunk:  # nothing follows
            return y
        for ring, frames, plan in zip(self._rings, news, self._plan, strict=True):
            size, count = ring.shape[1], plan["frames"]
            kept = np.arange(count - min(size, count), count)  # new frames that fit
            place = (self._chunks[rows][:, None] * count + kept) % size
            ring[np.array(rows)[:, None], place] = frames[:, kept]
        self._chunks[rows] += 1
        return y

    def _result(self, outputs: list[Array], ragged: bool) -> Any:
        """One array (B, N), and the lengths (B,) where rows may differ."""
        lengths = np.array([len(output) for output in outputs])
        x = np.zeros((len(outputs), lengths.max()), dtype=self._nothing.dtype)
        for row, output in zip(x, outputs, strict=True):
            row[: len(output)] = output
        return (x, lengths) if ragged else x


class EncoderSession(_Session):
    """Audio to tokens while it arrives, `batch_size` streams at a time.

    `codec` is causal; sig is at `codec.sample_rate_input`.
    """

    _graph, _unit, _nothing = "encoder_step", "samples", np.zeros(0, dtype=np.int64)

    def push(self, sig: Any, lengths: Any = None) -> Any:
        """Toks (B, N) that are complete after the samples sig (B, T); N and T may be 0.

        `lengths` (B,) are the new samples of each row, 0 for a row that waits; then the result is
        toks, padded with 0, and their lengths (B,). Raises a `UserError` for another shape or type,
        NaN, and a row that was flushed; the session is unchanged then.
        """
        given = np.asarray(sig)
        if given.dtype.kind != "f":
            raise UserError(f"sig: {given.dtype}; give floats in [-1, 1], e.g. int16 / 32768")
        new = self._new(given.astype(np.float32), lengths)
        for row, clip in enumerate(new):
            if not np.isfinite(clip).all():
                raise UserError(f"sig: NaN or infinite samples in row {row}; remove or repair them")
        return self._result(self._run(new), lengths is not None)

    def flush(self, rows: Sequence[bool] | Array | None = None) -> Any:
        """Toks (B, N) of the samples that are left, at the end of all streams.

        If only some end, `rows` (B,) bool are these; the result is toks and their lengths then.
        """
        ends, nothing = self._ending(rows), [np.zeros(0, dtype=np.float32)] * self.batch_size
        return self._result(self._run(nothing, ends), rows is not None)


class DecoderSession(_Session):
    """Tokens to audio while they arrive, `batch_size` streams at a time.

    `codec` is causal; the audio is at `codec.sample_rate_output`.
    """

    _graph, _unit, _nothing = "decoder_step", "toks", np.zeros(0, dtype=np.float32)

    def __init__(self, codec: OnnxCodec, batch_size: int = 1) -> None:
        super().__init__(codec, batch_size)
        self._hop = codec.bundle.about["decoder_hop"] * codec.bundle.about["factor"]

    def push(self, toks: Any, lengths: Any = None) -> Any:
        """Audio (B, T) that is complete after toks (B, N); N and T may be 0.

        `lengths` (B,) are the new toks of each row, as in `EncoderSession.push`; toks out of range
        are a `UserError` too.
        """
        return self._result(self._run(self._checked(toks, lengths)), lengths is not None)

    def flush(
        self,
        num_samples: int | None = None,
        toks: Any = None,
        rows: Sequence[bool] | Array | None = None,
    ) -> Any:
        """Audio (B, T) of the toks that are left, at the end of all streams, or of `rows` (B,).

        `toks` (B, N) are the last ones, if they were not pushed. With `num_samples`, the audio of a
        whole stream has so many: its end is cut, or filled with zeros. A `UserError`, and the
        session is unchanged, if more samples were given before.
        """
        ends = self._ending(rows)
        if num_samples is not None and not isinstance(num_samples, int):
            raise UserError(f"num_samples: {num_samples!r}; give a whole number of samples")
        given = self._chunks * self.chunk * self._hop
        if num_samples is not None and (ends & (given > num_samples)).any():
            raise UserError(
                f"num_samples: {num_samples}, but {given.max()} were given before; flush without"
                " it, or leave the last toks to flush(num_samples, toks=...)"
            )
        last = np.zeros((self.batch_size, 0), dtype=np.int64) if toks is None else np.asarray(toks)
        new = self._checked(last, None if rows is None else last.shape[1] * ends)
        outputs = self._run(new, ends)
        for row in np.flatnonzero(ends) if num_samples is not None else ():
            wanted = num_samples - given[row]
            padded = np.zeros(wanted, dtype=np.float32)
            padded[: len(outputs[row])] = outputs[row][:wanted]
            outputs[row] = padded
        return self._result(outputs, rows is not None)

    def _checked(self, toks: Any, lengths: Any) -> list[Array]:
        """New toks of each row."""
        given = np.asarray(toks)
        new = self._new(given, lengths)
        if given.dtype.kind not in "iu":
            raise UserError(f"toks: {given.dtype}; give integers")
        for row in new:
            if len(row) and not 0 <= row.min() <= row.max() < self.codec.codebook_size:
                raise UserError(
                    f"toks: {row.min()}..{row.max()}; this codec's are in"
                    f" [0, {self.codec.codebook_size})"
                )
        return [row.astype(np.int64) for row in new]
