"""Tokenize a whole corpus with any number of processes that do not communicate.

The plan is a pure function of corpus, model and options, so every process computes it itself and
encodes every n-th part. The file of a part is complete or missing; the process that finds all parts
finished joins them. So a kill at any moment loses at most the current part. The number of processes
may change between runs, and the output stays the same. Only a shared folder is needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from focalcodec.codec import FocalCodec
from focalcodec.coders.hub import HubCoder
from focalcodec.errors import UserError
from focalcodec.processes import Shard
from focalcodec.progress import ProgressBar
from focalcodec.tokenize.parts import EncodedClip, PartEncoder, read_part, write_part
from focalcodec.tokenize.plan import TokenizePlan
from focalcodec.tokenize.tokenizer import Tokenizer, as_tokenizer
from focalcodec.tokenize.workspace import Workspace, merge_parts

_WHOLE = Shard()


def tokenize_corpus(
    codec: FocalCodec | HubCoder | Tokenizer,
    plan: TokenizePlan,
    out: str | os.PathLike[str],
    shard: Shard = _WHOLE,
    read_threads: int = 4,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Encode a corpus, or the share of this process.

    Parameters
    ----------
    codec : FocalCodec, HubCoder or Tokenizer
        In eval mode, on its device.
    plan : TokenizePlan
        Corpus, model, options and vocabulary.
    out : str or path
        Output folder. A run of the same plan that was stopped in it is resumed.
    shard : Shard
        The share of this process.
    read_threads : int
        Threads that read audio.
    overwrite : bool
        Remove the output of another plan from `out`.

    Returns
    -------
    dict or None
        Content of `meta.json` if the whole corpus is finished; None while other processes have
        parts to encode. The last process joins all parts.

    Raises
    ------
    UserError
        `out` contains another plan or other files; the window is shorter than the model's context;
        the vocabulary has another size than the codec's.
    """
    tokenizer = as_tokenizer(codec)
    _check_fit(tokenizer, plan)
    workspace = Workspace(Path(out), plan)
    workspace.open(overwrite)
    with ThreadPoolExecutor(read_threads) as pool:
        encoder = PartEncoder(tokenizer, plan.source, plan.options, pool)
        if workspace.meta() is None:
            mine = list(plan.parts_of(shard))
            with HoursBar(sum(len(plan.clips(part)) for part in mine), shard) as bar:
                for number in mine:
                    bar.end_part(finished_part(encoder, workspace, number, bar.add_seconds))
        # The process that finds all parts finished joins them; a later process finds the result.
        with workspace.lock:
            if workspace.meta() is None and not workspace.parts_left():
                merge_parts(tokenizer, workspace, lambda n: finished_part(encoder, workspace, n))
            if workspace.meta() is not None:
                workspace.remove_parts()
            return workspace.meta()


def finished_part(
    encoder: PartEncoder,
    workspace: Workspace,
    number: int,
    on_seconds: Callable[[float], None] = lambda seconds: None,
) -> list[EncodedClip]:
    """Clips of a part: read from its file if it is intact, else encoded and stored."""
    plan, path = workspace.plan, workspace.part(number)
    clips = plan.clips(number)
    done = read_part(path, plan.digest, len(clips))
    if done is None:
        done = encoder.encode(clips, on_seconds)
        write_part(path, plan.digest, done)
    return done


def _check_fit(tokenizer: Tokenizer, plan: TokenizePlan) -> None:
    """Raise early an error that every clip would raise."""
    expected, found = tokenizer.codebook_size, plan.vocabulary.codebook_size
    if expected != found:
        raise UserError(
            f"vocabulary: codebook_size={found}, but the codec has {expected} tokens; make a"
            " vocabulary of this size"
        )
    if tokenizer.streams != plan.model.streams:
        raise UserError(
            f"model: streams={plan.model.streams}, but the codec has {tokenizer.streams}; give this"
            " number to ModelIdentity"
        )
    tokenizer.check(plan.options.window_seconds)


class HoursBar:
    """Progress bar of hours of audio in this process' share; only the first process shows it.

    The lengths of files are known only when they are read, so after each part the total is
    estimated as the mean length so far times the number of clips.
    """

    def __init__(self, num_clips: int, shard: Shard) -> None:
        self._num_clips, self._done_clips = num_clips, 0
        self._part_hours = 0.0
        what = "tokenize" if shard.count == 1 else f"tokenize, {shard.index} of {shard.count}"
        self._bar = ProgressBar(what=what, unit="hours", show=shard.index == 0)

    def __enter__(self) -> HoursBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def add_seconds(self, seconds: float) -> None:
        """Add audio that was encoded just now."""
        self._part_hours += seconds / 3600
        self._bar.update(seconds / 3600)

    def end_part(self, clips: Sequence[EncodedClip]) -> None:
        """Add a finished part; one from an earlier run does not change the speed."""
        if self._bar.disable:
            return
        hours = sum(clip.seconds for clip in clips) / 3600
        # Other parts come from an earlier run: they do not count for the speed.
        earlier, self._part_hours = hours - self._part_hours, 0.0
        self._done_clips += len(clips)
        self._bar.initial += earlier
        self._bar.n += earlier
        self._bar.total = self._bar.n / self._done_clips * self._num_clips
        self._bar.update(0)
