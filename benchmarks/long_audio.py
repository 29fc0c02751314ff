"""Long recordings: windows against the whole signal, and the memory that an hour takes.

    python benchmarks/long_audio.py agreement results/quickstart/codec
    python benchmarks/long_audio.py memory --minutes 60

`agreement` encodes and decodes the embedded corpus (or `--audio`), as one recording, whole and in
windows. `memory` sends a recording of any length from file to tokens to file. Without a codec both
take one of the paper's size with random weights. `memory` is for Linux.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from codec_speed import paper_codec, resident_mb
from torch import Tensor
from tqdm import tqdm

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.audio_stream import AudioStream, write_blocks
from focalcodec.data.corpus import embedded_corpus
from focalcodec.long_audio.coding import WINDOW_SECONDS, decode_blocks, encode_blocks


def load(source: str | None) -> FocalCodec:
    """Codec of a folder, else of the paper's size with random weights."""
    if source is not None:
        return FocalCodec.from_pretrained(source)
    return paper_codec()


def recording(folder: Path, seconds: float) -> Iterator[Tensor]:
    """Clips of a folder one after the other, again and again, at 16 kHz."""
    clips = sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".ogg", ".wav"))
    missing = int(seconds * 16000)
    while missing:
        for clip in clips:
            sig = read_audio(clip, 16000, channels="mix")[:missing]
            yield sig
            missing -= len(sig)


def agreement(codec: FocalCodec, sig: Tensor, windows: list[float]) -> None:
    """Print how many tokens and bits of each window size are those of the whole signal."""
    start = time.perf_counter()
    whole = torch.cat(list(encode_blocks(codec, [sig], 16000, window_seconds=1e6)))
    whole_time = time.perf_counter() - start
    rec_sig = torch.cat(list(decode_blocks(codec, whole, len(sig), window_seconds=1e6)))
    bits = codec.toks_to_codes(whole[None]) > 0
    distinct = len(whole.unique())
    print(f"{len(sig) / 16000:.0f} s, {len(whole)} tokens, {distinct} different ones")
    print("window s | toks equal % | bits equal % | waveform SNR dB | time / whole")
    for seconds in windows:
        start = time.perf_counter()
        toks = torch.cat(list(encode_blocks(codec, [sig], 16000, seconds)))
        taken = (time.perf_counter() - start) / whole_time
        same_bits = (codec.toks_to_codes(toks[None]) > 0) == bits
        windowed = torch.cat(list(decode_blocks(codec, whole, len(sig), window_seconds=seconds)))
        noise = (windowed - rec_sig).square().sum()
        snr = 10 * torch.log10(rec_sig.square().sum() / noise)
        same = 100 * (toks == whole).float().mean()
        share = 100 * same_bits.float().mean()
        print(f"{seconds:g} | {same:.1f} | {share:.2f} | {snr:.1f} | {taken:.2f}")


def memory(codec: FocalCodec, minutes: float, window_seconds: float) -> None:
    """Print the peak memory of coding a file, over that of the loaded model after a short clip."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.flac"
        write_blocks(path, recording(embedded_corpus("LibriSpeech"), 60 * minutes), 16000)
        codec.decode(codec.encode(torch.zeros(1, 16000), 16000)[0])
        before = resident_mb("VmRSS")
        with AudioStream(path) as stream:
            blocks = encode_blocks(codec, stream, stream.sample_rate, window_seconds)
            toks = torch.cat([*tqdm(blocks, desc="encode", unit="window")])
            encoded = resident_mb("VmHWM")
            sig = decode_blocks(codec, toks, stream.num_samples, window_seconds=window_seconds)
            write_blocks(Path(folder) / "out.wav", tqdm(sig, desc="decode"), 16000)
    both = resident_mb("VmHWM") - before
    print(f"{minutes:g} minutes, {len(toks)} tokens; peak over the loaded model:")
    print(f"encode {encoded - before:.0f} MB, encode and decode {both:.0f} MB")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["agreement", "memory"])
    parser.add_argument("codec", nargs="?", help="folder; default the paper's size, random weights")
    parser.add_argument("--audio", type=Path, help="folder of clips (default: embedded corpus)")
    parser.add_argument("--minutes", type=float, help="of the recording")
    parser.add_argument("--windows", type=float, nargs="+", default=[30.0, 60.0, 120.0, 240.0])
    parser.add_argument("--window_seconds", type=float, default=WINDOW_SECONDS)
    args = parser.parse_args()
    codec = load(args.codec).requires_grad_(False)
    if args.what == "memory":
        memory(codec, args.minutes or 60.0, args.window_seconds)
        return
    folder = args.audio or embedded_corpus("LibriSpeech")
    sig = torch.cat(list(recording(folder, 60 * (args.minutes or 6.0))))
    agreement(codec, sig, args.windows)


if __name__ == "__main__":
    main()
