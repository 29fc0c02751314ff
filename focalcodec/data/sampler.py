"""Which clips make which batch: a pure function of seed and epoch, on any number of processes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError

SORTINGS = ("random", "ascending", "descending", "bucketed")


class EpochBatchSampler(Sampler[list[int]]):
    """Batches of clip indices, for `DataLoader(batch_sampler=...)`.

    Global batches are formed first, from seed and epoch alone, and each is then dealt out to
    the ranks: the clips of all ranks at step k are those of batch k of a single process. Every
    rank needs a clip, so a last batch with fewer clips than ranks joins the one before it;
    `drop_last=True` makes batches the same for any number of processes.

    Parameters
    ----------
    durations : sequence of float
        Seconds of each clip.
    batch_size : int, optional
        Clips in a global batch.
    max_batch_seconds : float, optional
        Instead of `batch_size`: the seconds of a global batch, padding counted, are at most
        this.
    sorting : {"random", "ascending", "descending", "bucketed"}
        Order of the clips. "bucketed" puts clips of like duration (within a quarter of an
        octave) together, in random order.
    seed : int
        Of the run.
    world_size, rank : int
        Processes, and which of them this is.
    drop_last : bool
        Leave out the last batch of each epoch when it is not full (with `batch_size`).
    passes : int
        How often an epoch goes over all clips.

    Raises
    ------
    UserError
        No clips, fewer than a batch needs, options that do not fit together, or clips beyond
        `max_batch_seconds`.

    Example
    -------
    >>> sampler = EpochBatchSampler([1.0, 3.0, 2.0], batch_size=2, sorting="descending")
    >>> list(sampler), len(sampler)
    ([[1, 2], [0]], 2)
    """

    def __init__(
        self,
        durations: Sequence[float],
        batch_size: int | None = None,
        max_batch_seconds: float | None = None,
        sorting: str = "random",
        seed: int = 0,
        world_size: int = 1,
        rank: int = 0,
        drop_last: bool = False,
        passes: int = 1,
    ) -> None:
        self.durations = np.asarray(durations, dtype=np.float64)
        self.batch_size, self.max_batch_seconds = batch_size, max_batch_seconds
        self.sorting, self.seed, self.drop_last = sorting, seed, drop_last
        self.world_size, self.rank, self.passes = world_size, rank, passes
        self._check()
        self.epoch, self.position = 0, 0
        self._batches: list[list[int]] = []
        self._make_batches()

    def _check(self) -> None:
        if not len(self.durations):
            raise UserError("durations: no clips to sample from; check the manifest")
        if (self.batch_size is None) == (self.max_batch_seconds is None):
            raise UserError("batch_size and max_batch_seconds: give one of them")
        if self.sorting not in SORTINGS:
            raise UserError(f"sorting={self.sorting!r}: not one of {', '.join(SORTINGS)}")
        if not 0 <= self.rank < self.world_size:
            raise UserError(f"rank={self.rank}: must be in 0..{self.world_size - 1}")
        if self.batch_size is not None and self.batch_size < self.world_size:
            raise UserError(
                f"batch_size={self.batch_size}: fewer clips than the {self.world_size} processes;"
                " it counts the clips of all processes"
            )
        clips, least = len(self.durations) * self.passes, self.world_size
        if self.batch_size is not None and self.drop_last:
            least = self.batch_size
        if clips < least:
            raise UserError(
                f"{clips} clips are too few for batch_size={self.batch_size} on"
                f" {self.world_size} processes; lower one of them"
            )
        # Room for a clip of each process in every batch, whichever the clips.
        least_seconds = float(self.durations.max()) * self.world_size
        if self.max_batch_seconds is not None and least_seconds > self.max_batch_seconds:
            raise UserError(
                f"max_batch_seconds={self.max_batch_seconds}: the longest clip on each of"
                f" {self.world_size} processes is {least_seconds:.2f} s; raise it, or leave long"
                " clips out with max_seconds"
            )

    # -- order of the clips ----------------------------------------------------------------------

    def _make_batches(self) -> None:
        generator = torch.Generator().manual_seed(stable_seed(self.seed, "order", self.epoch))
        clips = len(self.durations)
        order = np.tile(np.arange(clips), self.passes)
        if self.sorting in ("random", "bucketed"):
            shuffles = [torch.randperm(clips, generator=generator) for _ in range(self.passes)]
            order = torch.cat(shuffles).numpy()
        if self.sorting != "random":
            keys = self.durations[order]
            if self.sorting == "bucketed":
                keys = np.floor(4 * np.log2(np.maximum(keys, 1e-3)))
            if self.sorting == "descending":
                keys = -keys
            order = order[np.argsort(keys, kind="stable")]
        batches = self._chunk(order.tolist())
        if len(batches) > 1 and len(batches[-1]) < self.world_size:
            short = batches.pop()
            batches[-1] = batches[-1] + short
        if self.sorting == "bucketed":
            places = torch.randperm(len(batches), generator=generator).tolist()
            batches = [batches[place] for place in places]
        self._batches = batches

    def _chunk(self, order: list[int]) -> list[list[int]]:
        if self.batch_size is not None:
            size = self.batch_size
            end = len(order) - len(order) % size if self.drop_last else len(order)
            return [order[k : k + size] for k in range(0, end, size)]
        assert self.max_batch_seconds is not None
        batches: list[list[int]] = []
        longest = math.inf
        for index in order:
            duration = float(self.durations[index])
            longest = max(longest, duration)
            if not batches or (len(batches[-1]) + 1) * longest > self.max_batch_seconds:
                batches.append([])
                longest = duration
            batches[-1].append(index)
        return batches

    # -- iteration and resume --------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches of the present epoch, those already done included."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of this rank that are not done yet."""
        for batch in self._batches[self.position :]:
            yield batch[self.rank :: self.world_size]

    def set_epoch(self, epoch: int) -> None:
        """Turn to an epoch. Turning to the present one keeps the position, as a resume needs.

        Parameters
        ----------
        epoch : int
            Epoch.
        """
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0
            self._make_batches()

    def advance(self, num_batches: int = 1) -> None:
        """Count batches as done: the next iteration begins behind them, without loading them.

        The trainer calls it after each step, since only it knows which of the batches that the
        loader's workers fetched ahead were used.

        Parameters
        ----------
        num_batches : int
            Batches done since the last call.
        """
        self.position += num_batches

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, and what the order depends on; plain numbers and strings."""
        return {"epoch": self.epoch, "position": self.position, "key": self._key()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where a state was taken.

        Parameters
        ----------
        state : dict
            From `state_dict`, of a run with any number of processes.

        Raises
        ------
        UserError
            Within an epoch, when the clips or an option that shapes its batches have changed.
        """
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._make_batches()
        changed = [name for name, value in self._key().items() if state["key"].get(name) != value]
        if self.position >= state["key"]["num_batches"]:
            self.position = len(self)
        elif changed and self.position > 0:
            name = changed[0]
            raise UserError(
                f"resume in the midst of epoch {self.epoch}: {name} was {state['key'].get(name)},"
                f" is {self._key()[name]}; set it back, or start from the end of an epoch"
            )

    def _key(self) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "max_batch_seconds": self.max_batch_seconds,
            "sorting": self.sorting,
            "seed": self.seed,
            "drop_last": self.drop_last,
            "passes": self.passes,
            "num_clips": len(self.durations),
            "durations_crc32": zlib.crc32(self.durations.tobytes()),
            "num_batches": len(self._batches),
        }
