"""Sizes of token files: packed, by the file's own frequencies, and by a table of a corpus.

    python benchmarks/token_files.py results/quickstart/codec

Encodes the embedded corpus (or `--audio`), makes a table of frequencies from `--table_from`, and
prints bits a token, of whole files, for the clips of `--measure` one by one and for longer
recordings made of their tokens. Then the time that an hour of tokens takes to write and read.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.data.corpus import embedded_corpus
from focalcodec.fct import TokenHeader, TokenTable, header_for, read_toks, write_toks
from focalcodec.hub.fingerprint import weights_sha256

SUFFIXES = (".flac", ".ogg", ".wav")


def clips_of(
    codec: FocalCodec, folders: list[Path], weights: str
) -> list[tuple[TokenHeader, Tensor]]:
    """Header and tokens of each clip below some folders, in the order of their paths."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    clips = []
    for path in tqdm([path for path in paths if path.suffix in SUFFIXES], unit="clip"):
        sig = read_audio(path, codec.sample_rate_input, channels="mix")
        toks, _ = codec.encode(sig, codec.sample_rate_input)
        header = header_for(
            codec,
            "lucadellalib/focalcodec_50hz",
            weights,
            codec.sample_rate_input,
            len(sig),
            id=path.stem,
        )
        clips.append((header, toks[0]))
    return clips


def joined(
    clips: list[tuple[TokenHeader, Tensor]], num_tokens: int
) -> list[tuple[TokenHeader, Tensor]]:
    """Recordings of this many tokens, from clips one after the other."""
    toks = torch.cat([toks for _, toks in clips])
    return [(clips[0][0], part) for part in toks.split(num_tokens) if len(part) == num_tokens]


def sizes(clips: list[tuple[TokenHeader, Tensor]], table: TokenTable) -> str:
    """One line of the table: bits a token of each body, header and CRCs included."""
    num_tokens = sum(len(toks) for _, toks in clips)
    packed = own = smallest = 0
    for header, toks in clips:
        packed += write_toks(io.BytesIO(), toks, header)
        own += write_toks(io.BytesIO(), toks, header, "smallest")
        smallest += write_toks(io.BytesIO(), toks, header, "smallest", table)
    cells = [f"{8 * size / num_tokens:8.2f}" for size in (packed, own, smallest)]
    return f"| {len(clips):5} | {num_tokens / len(clips):8.0f} | {' | '.join(cells)} |"


def main() -> None:
    """Print sizes and times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("codec", help="folder of an exported codec, or a hub name")
    parser.add_argument("--audio", type=Path, default=embedded_corpus("LibriSpeech"))
    parser.add_argument("--table_from", nargs="+", default=["train-mini"], metavar="FOLDER")
    parser.add_argument("--measure", nargs="+", default=["dev-mini", "test-mini", "test-real"])
    args = parser.parse_args()

    codec = FocalCodec.from_pretrained(args.codec)
    weights = weights_sha256(codec)
    corpus = clips_of(codec, [args.audio / name for name in args.table_from], weights)
    clips = clips_of(codec, [args.audio / name for name in args.measure], weights)
    table = TokenTable.from_toks((toks for _, toks in corpus), codec.bits_per_token)

    print("| files | tokens each | packed | smallest, own | smallest, own or table |")
    print("|---|---|---|---|---|")
    print(sizes(clips, table))
    for num_tokens in (50, 150, 500, 3000):
        print(sizes(joined(clips, num_tokens), table))

    hour = torch.cat([toks for _, toks in clips]).repeat(200)[:180_000]
    for body in ("packed", "smallest"):
        stream = io.BytesIO()
        start = time.perf_counter()
        write_toks(stream, hour, clips[0][0], body)  # type: ignore[arg-type]
        written = time.perf_counter()
        stream.seek(0)
        read_toks(stream)
        read = time.perf_counter()
        print(f"180,000 tokens, {body}: written in {written - start:.3f} s, read in", end=" ")
        print(f"{read - written:.3f} s")


if __name__ == "__main__":
    main()
