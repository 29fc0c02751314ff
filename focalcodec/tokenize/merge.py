"""From finished parts to what language models read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from focalcodec import __version__
from focalcodec.data.manifest import write_csv
from focalcodec.tokenize.parquet import write_parquet
from focalcodec.tokenize.part_encoder import EncodedClip
from focalcodec.tokenize.plan import Plan
from focalcodec.tokenize.sources import Clip
from focalcodec.tokenize.store import TokenizedClip, write_memmap
from focalcodec.tokenize.tokenizer import Tokenizer
from focalcodec.tokenize.workspace import FAILED_NAME, PARQUET_NAME, Workspace

ReadPart = Callable[[int], list[EncodedClip]]


def merge_parts(tokenizer: Tokenizer, workspace: Workspace, read_part: ReadPart) -> dict[str, Any]:
    """Join all parts in the order of the corpus, one part in memory at a time.

    The output is made beside the parts and then moved to its place.

    Parameters
    ----------
    tokenizer : Tokenizer
        Of the tokens.
    workspace : Workspace
        Output folder.
    read_part : callable
        Clips of a part by its number.

    Returns
    -------
    dict
        Content of `meta.json`.
    """
    plan = workspace.plan
    model = describe_model(tokenizer, plan)
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


def describe_model(tokenizer: Tokenizer, plan: Plan) -> dict[str, Any]:
    """What a user of the tokens must know of model and corpus, JSON-ready."""
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


def _encoded(plan: Plan, read_part: ReadPart) -> Iterator[tuple[Clip, EncodedClip]]:
    for number in range(plan.parts):
        yield from zip(plan.clips(number), read_part(number), strict=True)


def _tokenized(plan: Plan, read_part: ReadPart) -> Iterator[TokenizedClip]:
    for clip, encoded in _encoded(plan, read_part):
        if not encoded.reason:
            size = encoded.num_samples, encoded.sample_rate
            yield TokenizedClip(clip.id, encoded.toks, *size, clip.spk_id, clip.wrd)


def _count(plan: Plan, read_part: ReadPart) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Counts for `meta.json`, and the clips that failed."""
    tokens, seconds, failed = 0, 0.0, []
    for clip, encoded in _encoded(plan, read_part):
        tokens += len(encoded.toks)
        seconds += encoded.seconds
        if encoded.reason:
            failed.append({"id": clip.id, "path": clip.place, "reason": encoded.reason})
    clips = len(plan.source.clips) - len(failed)
    around = len(plan.vocabulary.before) + len(plan.vocabulary.after)
    return {
        "clips": clips,
        "failed": len(failed),
        "seconds": round(seconds, 6),
        "tokens": tokens,
        "ids": tokens + around * clips,
    }, failed
