"""A small corpus with some broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import soundfile
import torch

from focalcodec import FocalCodec
from focalcodec.audio import write_audio
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.tokenize import TokenVocabulary
from focalcodec.tokenize.plan import ModelIdentity, TokenizeOptions, TokenizePlan
from focalcodec.tokenize.sources import open_corpus

SECONDS = {"a": 0.8, "b": 0.3, "long": 3.4, "c": 1.1, "d": 0.31, "e": 0.02, "f": 0.9, "g": 2.0}
BROKEN = {"h": "empty, 0 bytes", "i": "not audio", "j": "truncated", "k": "NaN"}


def write_corpus(folder: Path) -> Path:
    """Eight valid clips at several sample rates, one in stereo, and four broken ones."""
    generator = torch.Generator().manual_seed(0)
    for place, (name, seconds) in enumerate(SECONDS.items()):
        rate = (16000, 24000, 8000)[place % 3]
        sig = 0.1 * torch.randn(round(seconds * rate), generator=generator)
        write_audio(folder / f"{name}.flac", sig, rate)
    stereo = 0.1 * torch.randn(9000, 2, generator=generator)
    soundfile.write(folder / "c.flac", stereo.numpy(), 8000)
    (folder / "h.wav").touch()
    (folder / "i.wav").write_bytes(b"noise")
    write_audio(folder / "j.wav", torch.zeros(8000), 8000)
    (folder / "j.wav").write_bytes((folder / "j.wav").read_bytes()[:5000])
    samples = torch.zeros(8000)
    samples[100] = torch.nan
    soundfile.write(folder / "k.wav", samples.numpy(), 8000, subtype="FLOAT")
    return folder


def plan_for(
    codec: FocalCodec, source: Path | str, data_folder: str | None = None, **options: Any
) -> TokenizePlan:
    """Plan for a folder, windows of two seconds, parts of three clips."""
    model = ModelIdentity("small", weights_sha256(codec))
    chosen = TokenizeOptions(**{"window_seconds": 2.5, "part_clips": 3, **options})
    return TokenizePlan(
        open_corpus(str(source), data_folder),
        model,
        chosen,
        TokenVocabulary(len(codec.codebook)),
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of all files except the lock and hidden folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).as_posix().startswith(".")
    }
