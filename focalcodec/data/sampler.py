"""The batches of an epoch: a pure function of seed and epoch, for any number of processes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from focalcodec.data.balance import cyclic_draws, group_codes, group_quotas, spread
from focalcodec.data.randomness import stable_seed
from focalcodec.errors import UserError

SORTINGS = ("random", "ascending", "descending", "bucketed")


class EpochBatchSampler(Sampler[list[Any]]):
    """Batches of clip indices, for `DataLoader(batch_sampler=...)`.

    Global batches are formed first, from seed and epoch only, and each is then divided among the
    ranks: the clips of all ranks at step k are those of batch k of a single process. Every rank
    needs a clip, so a last batch with fewer clips than ranks joins the one before it; with
    `drop_last=True` batches are the same for any number of processes. Raises `UserError` for no
    clips, fewer than a batch needs, options that exclude each other, or a clip longer than
    `max_batch_seconds`.

    Parameters
    ----------
    durations : sequence of float
        Seconds of each clip.
    batch_size : int, optional
        Clips in a global batch.
    max_batch_seconds : float, optional
        Instead of `batch_size`: limit of the seconds of a global batch, padding included.
    sorting : {"random", "ascending", "descending", "bucketed"}
        Order of the clips. "bucketed" puts clips of similar duration (within a quarter of an
        octave) together, in random order.
    seed : int
        Seed of the run.
    world_size, rank : int
        Number of processes, and the number of this one.
    drop_last : bool
        Leave out the last batch of each epoch if it is not full (with `batch_size`).
    passes : int
        Passes over all clips in an epoch.
    groups : sequence of str, optional
        Group of each clip, e.g. its language. In random and bucketed order each batch of
        `batch_size` clips has each group's share of the epoch (in a bucket: of the bucket), as
        nearly as whole clips allow; with `max_batch_seconds` on average.
    temperature : float
        1 keeps the groups' shares of the corpus; higher values give more to small groups, until
        all are equal at infinity. The epoch keeps its length: two clips of a group differ by
        at most one in their number of draws, and clips left out come first in the next epoch.
    pure : bool
        No batch has clips of two groups.
    with_draws : bool
        Batches hold (index, how often the clip was drawn before) instead of the index. Both
        depend on seed, epoch and place only, so a resumed run draws the same.

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
        groups: Sequence[str] | None = None,
        temperature: float = 1.0,
        pure: bool = False,
        with_draws: bool = False,
    ) -> None:
        self.durations = np.asarray(durations, dtype=np.float64)
        self.batch_size, self.max_batch_seconds = batch_size, max_batch_seconds
        self.sorting, self.seed, self.drop_last = sorting, seed, drop_last
        self.world_size, self.rank, self.passes = world_size, rank, passes
        self.temperature, self.pure, self.with_draws = temperature, pure, with_draws
        self._group_names: list[str] = []
        self._codes: np.ndarray | None = None
        if groups is not None:
            self._group_names, self._codes = group_codes(groups)
        self._check()
        self._check_groups()
        self.epoch, self.position = 0, 0
        self._make_batches()

    def _check(self) -> None:
        if not len(self.durations):
            raise UserError("durations: no clips to sample from; check the manifest")
        if (self.batch_size is None) == (self.max_batch_seconds is None):
            raise UserError("batch_size and max_batch_seconds: give one of them")
        for name in ("batch_size", "passes"):
            if not isinstance(getattr(self, name), (int, type(None))):
                raise UserError(f"{name}={getattr(self, name)}: give a whole number")
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
        # Any batch must have room for one clip of each process.
        least_seconds = float(self.durations.max()) * self.world_size
        if self.max_batch_seconds is not None and least_seconds > self.max_batch_seconds:
            raise UserError(
                f"max_batch_seconds={self.max_batch_seconds}: the longest clip on each of"
                f" {self.world_size} processes is {least_seconds:.2f} s; raise it, or leave long"
                " clips out with max_seconds"
            )

    def _check_groups(self) -> None:
        if not self.temperature >= 1:
            raise UserError(f"temperature={self.temperature}: give 1 or more")
        if self._codes is None:
            if self.temperature != 1:
                raise UserError(
                    f"temperature={self.temperature}: there are no groups to balance; name their"
                    " column in group_by, or set it to 1"
                )
            return
        if len(self._codes) != len(self.durations):
            raise UserError(
                f"groups: {len(self._codes)} of {len(self.durations)} clips have one; give all"
            )
        if not self.pure:
            return
        if self.drop_last:
            raise UserError("pure: drop_last would leave out whole groups; set one of them")
        quotas = self._quotas()
        least = int(np.argmin(quotas))
        if quotas[least] < self.world_size:
            raise UserError(
                f"group {self._group_names[least]!r} has {quotas[least]} clips, fewer than the"
                f" {self.world_size} processes, each of which needs one; use fewer, or leave it out"
            )

    # -- order of the clips ----------------------------------------------------------------------

    def _make_batches(self) -> None:
        generator = torch.Generator().manual_seed(stable_seed(self.seed, "order", self.epoch))
        order, draws = self._draw(generator)  # (clips,) int64 both
        keys = self._sort_keys(order)  # (clips,)
        place = np.argsort(keys, kind="stable")
        codes = None if self._codes is None else self._codes[order]
        # Batches do not cross the borders of a section: the whole epoch, or one pure group.
        sections = np.array([0, len(order)])
        if codes is not None and self.pure:
            place = place[np.argsort(codes[place], kind="stable")]
            sections = np.concatenate([[0], np.cumsum(np.bincount(codes))])
        elif codes is not None and self._shuffled:
            place = place[self._spread(codes[place], keys[place], order[place], generator)]
        self._order, self._draws = order[place], draws[place]
        ends = zip(sections[:-1].tolist(), sections[1:].tolist(), strict=True)
        self._bounds = np.concatenate(
            [self._chunk(begin, end) for begin, end in ends if begin < end]
        )  # (batches, 2)
        if self.sorting == "bucketed" or (self.sorting == "random" and len(sections) > 2):
            shuffled = torch.randperm(len(self._bounds), generator=generator).numpy()
            self._bounds = self._bounds[shuffled]

    @property
    def _shuffled(self) -> bool:
        return self.sorting in ("random", "bucketed")

    def _quotas(self) -> np.ndarray:
        assert self._codes is not None
        total = len(self.durations) * self.passes
        return group_quotas(np.bincount(self._codes), total, self.temperature)

    def _draw(self, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Clips of the epoch, and how often each was drawn before: (clips,) int64 both."""
        clips = len(self.durations)
        if self._codes is None:
            order = np.tile(np.arange(clips), self.passes)
            if self._shuffled:
                shuffles = [torch.randperm(clips, generator=generator) for _ in range(self.passes)]
                order = torch.cat(shuffles).numpy()
            return order, self.epoch * self.passes + np.arange(len(order)) // clips
        members = np.split(
            np.argsort(self._codes, kind="stable"), np.cumsum(np.bincount(self._codes))[:-1]
        )
        parts = [
            cyclic_draws(
                *(group, int(quota), self.epoch, stable_seed(self.seed, "group", name)),
                generator if self._shuffled else None,
            )
            for name, group, quota in zip(self._group_names, members, self._quotas(), strict=True)
        ]
        order, draws = (np.concatenate(part) for part in zip(*parts, strict=True))
        return order, draws

    def _sort_keys(self, order: np.ndarray) -> np.ndarray:
        if self.sorting == "random":
            return np.zeros(len(order), np.int8)
        keys = self.durations[order]
        if self.sorting == "bucketed":
            return np.floor(4 * np.log2(np.maximum(keys, 1e-3)))  # quarters of an octave
        return -keys if self.sorting == "descending" else keys

    def _spread(
        self, codes: np.ndarray, keys: np.ndarray, order: np.ndarray, generator: torch.Generator
    ) -> np.ndarray:
        """Places of the clips with the groups spread evenly in each bucket."""
        starts = np.concatenate([[0], np.flatnonzero(np.diff(keys)) + 1, [len(keys)]]).tolist()
        parts = []
        for begin, end in zip(starts[:-1], starts[1:], strict=True):
            if self.batch_size is not None:
                size, head = self.batch_size, min(-begin % self.batch_size, end - begin)
            else:
                assert self.max_batch_seconds is not None
                longest = float(self.durations[order[begin:end]].max())
                size, head = max(1, int(self.max_batch_seconds / longest)), 0
            # If a bucket ends within a batch, clips of the next bucket fill it up.
            whole, tail = divmod(end - begin - head, size)
            sizes = [n for n in (head, *[size] * whole, tail) if n]
            parts.append(begin + spread(codes[begin:end], sizes, generator))
        return np.concatenate(parts)

    def _chunk(self, begin: int, end: int) -> np.ndarray:
        """Begin and end of each batch of a part of the order, (batches, 2)."""
        if self.batch_size is not None:
            size = self.batch_size
            last = end - (end - begin) % size if self.drop_last else end
            starts = list(range(begin, last, size))
        else:
            starts, last = self._seconds_starts(begin, end), end
        if len(starts) > 1 and last - starts[-1] < self.world_size:
            del starts[-1]  # every rank needs a clip: the last batch joins the one before
        return np.stack([starts, [*starts[1:], last]], axis=1)

    def _seconds_starts(self, begin: int, end: int) -> list[int]:
        assert self.max_batch_seconds is not None
        starts: list[int] = []
        longest = math.inf
        for place, duration in enumerate(self.durations[self._order[begin:end]].tolist(), begin):
            longest = max(longest, duration)
            if not starts or (place - starts[-1] + 1) * longest > self.max_batch_seconds:
                starts.append(place)
                longest = duration
        return starts

    # -- iteration and resume --------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches of the current epoch, including those already done."""
        return len(self._bounds)

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield the batches of this rank that are not done yet."""
        order, draws = self._order, self._draws
        for begin, end in self._bounds[self.position :].tolist():
            own = slice(begin + self.rank, end, self.world_size)
            batch = order[own].tolist()
            yield list(zip(batch, draws[own].tolist(), strict=True)) if self.with_draws else batch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; the current epoch keeps its position, as a resume needs."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0
            self._make_batches()

    def advance(self, num_batches: int = 1) -> None:
        """Count batches as done: the next iteration begins after them, without loading them.

        The training loop calls it after each step, because the loader's workers read batches in
        advance, and only the loop has the number of batches that were used.
        """
        self.position += num_batches

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position, and all options that change the order; plain numbers and strings."""
        return {"epoch": self.epoch, "position": self.position, "key": self._key()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to the position of a `state_dict`, of a run with any number of processes.

        Raises `UserError` in the middle of an epoch if its clips, or options that change batches,
        are different.
        """
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._make_batches()
        before, now = state["key"], self._key()
        changed = [name for name in {**now, **before} if before.get(name) != now.get(name)]
        if self.position >= before["num_batches"]:  # at the end of an epoch anything may change
            self.position = len(self)
        elif changed and self.position > 0:
            name = changed[0]
            raise UserError(
                f"resume in the middle of epoch {self.epoch}: {name} was {before.get(name)},"
                f" is {now.get(name)}; set it back, or start from the end of an epoch"
            )

    def _key(self) -> dict[str, Any]:
        groups = {}
        if self._codes is not None:
            names = "\0".join(self._group_names).encode("utf-8", "surrogateescape")
            groups = {
                "temperature": self.temperature,
                "pure": self.pure,
                "groups_crc32": zlib.crc32(self._codes.tobytes(), zlib.crc32(names)),
            }
        return {
            "batch_size": self.batch_size,
            "max_batch_seconds": self.max_batch_seconds,
            "sorting": self.sorting,
            "seed": self.seed,
            "drop_last": self.drop_last,
            "passes": self.passes,
            "num_clips": len(self.durations),
            "durations_crc32": zlib.crc32(self.durations.tobytes()),
            "num_batches": len(self._bounds),
            **groups,
        }
