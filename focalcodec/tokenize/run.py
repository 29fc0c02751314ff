"""A whole corpus to tokens, by any number of processes that know nothing of each other.

The plan is a pure function of corpus, model and options, so every process makes it for itself and
does every n-th part. A part is a file that is whole or not there; whoever finishes and finds all
parts done joins them. So a kill at any moment costs the part in work, the number of processes may
change between runs, and the output is the same in the end. Nothing is needed but a shared folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from focalcodec.codec import FocalCodec
from focalcodec.coders.hub import HubCoder
from focalcodec.errors import UserError
from focalcodec.tokenize.merge import merge_parts
from focalcodec.tokenize.part_encoder import EncodedClip, PartEncoder
from focalcodec.tokenize.part_files import read_part, write_part
from focalcodec.tokenize.plan import Plan, Shard
from focalcodec.tokenize.progress import HoursBar
from focalcodec.tokenize.tokenizer import Tokenizer, as_tokenizer
from focalcodec.tokenize.workspace import Workspace

_WHOLE = Shard()


def tokenize_corpus(
    codec: FocalCodec | HubCoder | Tokenizer,
    plan: Plan,
    out: str | os.PathLike[str],
    shard: Shard = _WHOLE,
    read_threads: int = 4,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Encode a corpus, or this process' share of it.

    Parameters
    ----------
    codec : FocalCodec, HubCoder or Tokenizer
        In eval mode, on its device.
    plan : Plan
        Corpus, model, options and vocabulary.
    out : str or path
        Folder to write; what the same plan left there, if it was cut off, is gone on with.
    shard : Shard
        Which share.
    read_threads : int
        Threads that read audio.
    overwrite : bool
        Remove what is in `out` of another plan.

    Returns
    -------
    dict or None
        Content of `meta.json` when the whole corpus is done; None while other processes have parts
        to do, of which the last joins all.

    Raises
    ------
    UserError
        `out` is of another plan or of something else; a window shorter than the model's context;
        a vocabulary of another codec.
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
    """Clips of a part: from its file where there is a sound one, else encoded and kept.

    Parameters
    ----------
    encoder : PartEncoder
        Who encodes.
    workspace : Workspace
        Where the file is.
    number : int
        Which part.
    on_seconds : callable
        Told of audio as it is encoded.

    Returns
    -------
    list of EncodedClip
        One for each clip, in the order of the plan.
    """
    plan, path = workspace.plan, workspace.part(number)
    clips = plan.clips(number)
    done = read_part(path, plan.digest, len(clips))
    if done is None:
        done = encoder.encode(clips, on_seconds)
        write_part(path, plan.digest, done)
    return done


def _check_fit(tokenizer: Tokenizer, plan: Plan) -> None:
    """Refuse at once what would be the fault of every clip."""
    expected, found = tokenizer.codebook_size, plan.vocabulary.codebook_size
    if expected != found:
        raise UserError(
            f"vocabulary: codebook_size={found}, and the codec has {expected} tokens; make it for"
            " this codec"
        )
    if tokenizer.streams != plan.model.streams:
        raise UserError(
            f"model: streams={plan.model.streams}, and the codec has {tokenizer.streams}; say so in"
            " ModelIdentity"
        )
    tokenizer.check(plan.options.window_seconds)
