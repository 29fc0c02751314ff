"""Tokenize a whole corpus with any number of processes that do not communicate.

The plan is a pure function of corpus, model and options, so every process computes it itself and
encodes every n-th part. The file of a part is complete or missing; the process that finds all parts
finished joins them. So a kill at any moment loses at most the current part. The number of processes
may change between runs, and the output stays the same. Only a shared folder is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from focalcodec import __version__
from focalcodec.codec import FocalCodec
from focalcodec.coders.hub import HubCoder
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.processes import FolderLock, Shard
from focalcodec.progress import ProgressBar
from focalcodec.tokenize.parquet import UrlOutput, write_parquet
from focalcodec.tokenize.parts import (
    EncodedClip,
    PartEncoder,
    Tokenizer,
    as_tokenizer,
    failed_row,
    read_part,
    tokenized,
    write_part,
)
from focalcodec.tokenize.plan import TokenizePlan
from focalcodec.tokenize.store import (
    FAILED_COLUMNS,
    INDEX_NAME,
    META_NAME,
    ROWS_NAME,
    TOKS_NAME,
    write_memmap,
)
from focalcodec.tokenize.tars import TarSource
from focalcodec.tokenize.urls import is_url

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
        Output folder, or URL for Parquet. A run of the same plan that was stopped in it is resumed.
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
    out = os.fspath(out).removeprefix("file://")
    if is_url(out):
        output = UrlOutput(out, plan, describe_model(tokenizer, plan))
        return _tokenize_to_url(tokenizer, output, shard, read_threads, overwrite)
    workspace = Workspace(Path(out), plan)
    workspace.open(overwrite)
    with ThreadPoolExecutor(read_threads) as pool:
        encoder = PartEncoder(tokenizer, plan.source, plan.options, pool)
        if workspace.meta() is None:
            mine = list(plan.parts_of(shard))
            with HoursBar(sum(len(plan.clips(part)) for part in mine), shard) as bar:
                for number in mine:
                    done = finished_part(encoder, workspace, number, bar.add_seconds)
                    bar.end_part(done, len(plan.clips(number)))
        # The process that finds all parts finished joins them; a later process finds the result.
        with workspace.lock:
            if workspace.meta() is None and not workspace.parts_left():
                merge_parts(tokenizer, workspace, lambda n: finished_part(encoder, workspace, n))
            if workspace.meta() is not None:
                workspace.remove_parts()
            return workspace.meta()


def _tokenize_to_url(
    tokenizer: Tokenizer, output: UrlOutput, shard: Shard, read_threads: int, overwrite: bool
) -> dict[str, Any] | None:
    plan, names = output.plan, output.names()
    difference = plan_difference(plan, output.read(PLAN_NAME), names, output.url)
    if difference and not overwrite:
        raise UserError(
            f"{output.url}: made with {difference}; give another folder, or --overwrite"
        )
    if difference:
        output.clear(keep=PLAN_NAME)
    if difference or PLAN_NAME not in names:
        output.write(PLAN_NAME, (json.dumps(plan.key, indent=2) + "\n").encode())
    with ThreadPoolExecutor(read_threads) as pool:
        encoder = PartEncoder(tokenizer, plan.source, plan.options, pool)
        left = set(output.parts_left())
        mine = [number for number in plan.parts_of(shard) if number in left]
        with HoursBar(sum(len(plan.clips(part)) for part in mine), shard) as bar:
            for number in mine:
                done = encoder.encode_part(plan.clips(number), bar.add_seconds)
                output.write_part(number, done)
                bar.end_part(done, len(plan.clips(number)))
        if output.parts_left():
            return None
        found = output.read(META_NAME)
        return json.loads(found) if found else output.finish(pool)


def finished_part(
    encoder: PartEncoder,
    workspace: Workspace,
    number: int,
    on_seconds: Callable[[float], None] = lambda seconds: None,
) -> list[EncodedClip]:
    """Clips of a part: read from its file if it is intact, else encoded and stored."""
    plan, path = workspace.plan, workspace.part(number)
    clips = plan.clips(number)
    done = read_part(path, plan.digest, clips)
    if done is None:
        done = encoder.encode_part(clips, on_seconds)
        write_part(path, plan.digest, done, isinstance(plan.source, TarSource))
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

    def end_part(self, clips: Sequence[EncodedClip], listed: int) -> None:
        """Add a finished part with as many clips, or tar files, of the source."""
        if self._bar.disable:
            return
        hours = sum(clip.seconds for clip in clips) / 3600
        # Other parts come from an earlier run: they do not count for the speed.
        earlier, self._part_hours = hours - self._part_hours, 0.0
        self._done_clips += listed
        self._bar.initial += earlier
        self._bar.n += earlier
        self._bar.total = self._bar.n / self._done_clips * self._num_clips
        self._bar.update(0)


# -- the folder ------------------------------------------------------------------------------------


PLAN_NAME, FAILED_NAME, PARQUET_NAME = "plan.json", "failed.csv", "parquet"
_WORK = ".parts-"  # followed by the plan's digest, so plans can't mix their parts
ReadPart = Callable[[int], list[EncodedClip]]


class Workspace:
    """Output folder of one plan, shared by all processes of the run."""

    def __init__(self, out: Path, plan: TokenizePlan) -> None:
        self.out, self.plan = out, plan
        self.work = out / f"{_WORK}{plan.digest[:16]}"

    @property
    def lock(self) -> FolderLock:
        """Lock of one process at a time; a killed process releases it."""
        return FolderLock(self.out)

    def open(self, overwrite: bool) -> None:
        """Make the folder, or resume in it.

        With `overwrite` the output of another plan is removed; the output of this plan always
        stays. `UserError`: the folder has another plan, or other files and no plan.
        """
        with self.lock:
            difference = self._difference()
            if difference and not overwrite:
                raise UserError(
                    f"{self.out}: made with {difference}; give another folder, or --overwrite"
                )
            if difference:
                self._clear()
            # The plan is written first, so that even an empty run belongs to it.
            if not (self.out / PLAN_NAME).is_file():
                with atomic_path(self.out / PLAN_NAME) as temporary:
                    temporary.write_text(json.dumps(self.plan.key, indent=2) + "\n")

    def part(self, number: int) -> Path:
        """File of a finished part."""
        return self.work / f"{number:06d}.part"

    def parts_left(self) -> int:
        """Number of parts that have no file yet."""
        done = {path.name for path in self.work.glob("[0-9]*.part")}
        return sum(self.part(number).name not in done for number in range(self.plan.parts))

    def meta(self) -> dict[str, Any] | None:
        """Content of `meta.json`; None while the run is not finished."""
        path = self.out / META_NAME
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def publish(self, folder: Path, meta: dict[str, Any]) -> None:
        """Move the joined output into place; `meta.json` comes last and marks it as complete."""
        for path in sorted(folder.iterdir()):
            place = self.out / path.name
            if place.is_dir():  # of a run that was killed here
                shutil.rmtree(place)
            os.replace(path, place)
        with atomic_path(self.out / META_NAME) as temporary:
            temporary.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")

    def remove_parts(self) -> None:
        """Remove the parts after they are joined."""
        shutil.rmtree(self.work, ignore_errors=True)

    def _difference(self) -> str:
        """First difference to the plan of the folder; empty if it is new or of this plan."""
        path = self.out / PLAN_NAME
        names = [path.name for path in self.out.iterdir()]
        content = path.read_bytes() if path.is_file() else None
        return plan_difference(self.plan, content, names, str(self.out))

    def _clear(self) -> None:
        # The plan is removed last: after a kill before that, the folder still has the other plan.
        for name in (META_NAME, TOKS_NAME, INDEX_NAME, ROWS_NAME, FAILED_NAME):
            (self.out / name).unlink(missing_ok=True)
        for folder in (self.out / PARQUET_NAME, *self.out.glob(f"{_WORK}*")):
            shutil.rmtree(folder, ignore_errors=True)
        (self.out / PLAN_NAME).unlink()


def plan_difference(
    plan: TokenizePlan, content: bytes | None, names: Sequence[str], where: str
) -> str:
    """First difference of a plan to the `plan.json` of an output; "" if there is none.

    `UserError` if the output has other files and no plan.
    """
    if content is None:
        others = [name for name in names if not name.startswith(".")]
        if others:
            raise UserError(
                f"{where}: not empty ({min(others)}), but without a {PLAN_NAME} of this"
                " command; give another folder"
            )
        return ""
    try:
        found = json.loads(content.decode("utf-8"))
        changed = [name for name, value in plan.key.items() if found.get(name) != value]
    except (ValueError, AttributeError):
        return f"a {PLAN_NAME} that can't be read"
    if not changed:
        return ""
    name = changed[0]
    return f"{name}={_short(found.get(name))}, not {_short(plan.key[name])}"


def merge_parts(tokenizer: Tokenizer, workspace: Workspace, read_part: ReadPart) -> dict[str, Any]:
    """Join all parts in the order of the corpus, with one part in memory at a time.

    The output is written to a temporary folder, then moved into place. Returns `meta.json`.
    """
    plan = workspace.plan
    model = describe_model(tokenizer, plan)
    # Each output is one pass over the parts, so that only one part is in memory.
    with tempfile.TemporaryDirectory(dir=workspace.work) as temporary:
        folder = Path(temporary)
        counts, failed = _count(plan, read_part)
        write_csv(folder / FAILED_NAME, FAILED_COLUMNS, failed)
        if "memmap" in plan.options.formats:
            write_memmap(folder, tokenized(_encoded(plan, read_part)), plan.vocabulary)
        if "parquet" in plan.options.formats:
            (folder / PARQUET_NAME).mkdir()
            clips, codebook_size = (
                tokenized(_encoded(plan, read_part)),
                plan.vocabulary.codebook_size,
            )
            write_parquet(folder / PARQUET_NAME, clips, codebook_size, model)
        meta = {**model, **counts}
        workspace.publish(folder, meta)
    return meta


def describe_model(tokenizer: Tokenizer, plan: TokenizePlan) -> dict[str, Any]:
    """Information about model and corpus for users of the tokens, ready for JSON."""
    return {
        "model": plan.model.name,
        "weights_sha256": plan.model.weights_sha256,
        "precision": plan.model.precision,
        "streams": tokenizer.streams,
        "token_rate": tokenizer.token_rate,
        "sample_rate_input": tokenizer.sample_rate_input,
        "sample_rate_output": tokenizer.sample_rate_output,
        "vocabulary": plan.vocabulary.config,
        "dtype": plan.vocabulary.dtype.name,
        "source_sha256": plan.source.digest,
        "focalcodec_version": __version__,
    }


def _encoded(plan: TokenizePlan, read_part: ReadPart) -> Iterator[EncodedClip]:
    for number in range(plan.parts):
        yield from read_part(number)


def _count(plan: TokenizePlan, read_part: ReadPart) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Counts for `meta.json`, and the clips that failed."""
    clips, tokens, seconds, failed = 0, 0, 0.0, []
    for encoded in _encoded(plan, read_part):
        clips += 1
        tokens += len(encoded.toks)
        seconds += encoded.seconds
        if encoded.reason:
            failed.append(failed_row(encoded))
    around = len(plan.vocabulary.before) + len(plan.vocabulary.after)
    return {
        "clips": clips - len(failed),
        "failed": len(failed),
        "seconds": round(seconds, 6),
        "tokens": tokens,
        "ids": tokens + around * (clips - len(failed)),
    }, failed


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
