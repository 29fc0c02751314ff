"""A small store of tokens, as `focalcodec tokenize` writes one."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from focalcodec.tokenize.store import TokenizedClip, TokenStore, TokenVocabulary, write_memmap


def write_store(folder: Path, codebook_size: int = 16) -> TokenStore:
    """Ten clips of two speakers, with texts of a and b."""
    vocabulary, clips = TokenVocabulary(codebook_size), []
    generator = torch.Generator().manual_seed(0)
    for clip in range(10):
        toks = torch.randint(codebook_size, (3 + clip % 4,), generator=generator)
        text = "ab a"[: 1 + clip % 4]
        clips.append(TokenizedClip(f"c{clip}", toks, 320 * len(toks), 16000, f"s{clip % 2}", text))
    write_memmap(folder, clips, vocabulary)
    ids = sum(len(clip.toks) + 2 for clip in clips)
    meta = {
        "ids": ids,
        "vocabulary": vocabulary.config,
        "model": "tiny",
        "weights_sha256": "0" * 64,
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    return TokenStore(folder)
