"""The output folder of a tokenize run: its plan, its finished parts, and the joined output."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from focalcodec import __version__
from focalcodec.data.manifest import write_csv
from focalcodec.errors import UserError
from focalcodec.files import atomic_path
from focalcodec.locks import FolderLock
from focalcodec.tokenize.parts import EncodedClip
from focalcodec.tokenize.plan import TokenizePlan
from focalcodec.tokenize.sources import CorpusClip
from focalcodec.tokenize.store import (
    INDEX_NAME,
    META_NAME,
    ROWS_NAME,
    TOKS_NAME,
    TokenizedClip,
    write_memmap,
    write_parquet,
)
from focalcodec.tokenize.tokenizer import Tokenizer

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
        if not path.is_file():
            others = [x.name for x in self.out.iterdir() if not x.name.startswith(".")]
            if others:
                raise UserError(
                    f"{self.out}: not empty ({min(others)}), but without a {PLAN_NAME} of this"
                    " command; give another folder"
                )
            return ""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            names = [name for name, value in self.plan.key.items() if found.get(name) != value]
        except (ValueError, AttributeError):
            return f"a {PLAN_NAME} that can't be read"
        if not names:
            return ""
        name = names[0]
        return f"{name}={_short(found.get(name))}, not {_short(self.plan.key[name])}"

    def _clear(self) -> None:
        # The plan is removed last: after a kill before that, the folder still has the other plan.
        for name in (META_NAME, TOKS_NAME, INDEX_NAME, ROWS_NAME, FAILED_NAME):
            (self.out / name).unlink(missing_ok=True)
        for folder in (self.out / PARQUET_NAME, *self.out.glob(f"{_WORK}*")):
            shutil.rmtree(folder, ignore_errors=True)
        (self.out / PLAN_NAME).unlink()


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
        write_csv(folder / FAILED_NAME, ["id", "path", "reason"], failed)
        if "memmap" in plan.options.formats:
            write_memmap(folder, _tokenized(plan, read_part), plan.vocabulary)
        if "parquet" in plan.options.formats:
            (folder / PARQUET_NAME).mkdir()
            clips, codebook_size = _tokenized(plan, read_part), plan.vocabulary.codebook_size
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


def _encoded(plan: TokenizePlan, read_part: ReadPart) -> Iterator[tuple[CorpusClip, EncodedClip]]:
    for number in range(plan.parts):
        yield from zip(plan.clips(number), read_part(number), strict=True)


def _tokenized(plan: TokenizePlan, read_part: ReadPart) -> Iterator[TokenizedClip]:
    for clip, encoded in _encoded(plan, read_part):
        if not encoded.reason:
            size = encoded.num_samples, encoded.sample_rate
            yield TokenizedClip(clip.id, encoded.toks, *size, clip.spk_id, clip.wrd)


def _count(plan: TokenizePlan, read_part: ReadPart) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Counts for `meta.json`, and the clips that failed."""
    tokens, seconds, failed = 0, 0.0, []
    for clip, encoded in _encoded(plan, read_part):
        tokens += len(encoded.toks)
        seconds += encoded.seconds
        if encoded.reason:
            failed.append({"id": clip.id, "path": clip.location, "reason": encoded.reason})
    clips = len(plan.source.clips) - len(failed)
    around = len(plan.vocabulary.before) + len(plan.vocabulary.after)
    return {
        "clips": clips,
        "failed": len(failed),
        "seconds": round(seconds, 6),
        "tokens": tokens,
        "ids": tokens + around * clips,
    }, failed


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
