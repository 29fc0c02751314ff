"""What lost packets cost: word errors of a stream, and its jumps, for each number of repeats.

    python benchmarks/packet_loss.py FOLDER --model demo --loss 0.05 --seeds 10 --repeat 0 1

FOLDER has audio. Its tokens go through the packets of `focalcodec stream`, 80 ms each, of which a
share is lost at random, but not the first one. A packet has the tokens of `--repeat` packets before
it again. The receiver conceals what is missing. Prints the tokens that were missing, the dWER by
Whisper tiny.en, and its paired difference from a stream without loss, with a 95 % interval over
clips. The jump of a gap, which is tokens that were missing one after the other, is the largest
change of level from 20 ms to the next 20 ms, in dB, from 20 ms before the gap until 20 ms after it.
Those without loss are at the same places: words begin with such jumps too. Levels under -50 dB of
full scale count as -50 dB.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.cli.connection import packet_toks, read_connection
from focalcodec.evaluation.intervals import figure, paired_difference
from focalcodec.fct import PacketWriter, header_for
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.hub.fingerprint import weights_sha256
from focalcodec.metrics.judge import JudgedClip, Score
from focalcodec.metrics.whisper import WhisperJudge
from focalcodec.progress import ProgressBar
from focalcodec.streaming import DecoderSession

LEVEL_SECONDS = 0.02
FLOOR = 10 ** (-50 / 20)
LARGE = 20.0  # dB, a jump that is counted


class _Wire(io.BytesIO):
    """What a sender writes: header, packets and end, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.parts.append(data)
        return len(data)


class Output(NamedTuple):
    """Audio (T,) of a receiver, and where tokens were missing: begin and end, tokens."""

    sig: Tensor
    gaps: list[tuple[int, int]]

    @property
    def num_missing(self) -> int:
        """Tokens that were concealed."""
        return sum(end - begin for begin, end in self.gaps)


def sent(codec: FocalCodec, toks: Tensor, repeat: int) -> list[bytes]:
    """Header, packets and end of toks (N,)."""
    wire = _Wire()
    header = header_for(codec, "sent", weights_sha256(codec), codec.sample_rate_input, 1)
    writer = PacketWriter(wire, header, repeat)
    writer.write(toks, packet_toks(codec.token_rate))
    writer.finish(len(toks) * codec.hop_length)
    return wire.parts


def received(codec: FocalCodec, parts: list[bytes], is_lost: Tensor, num_samples: int) -> Output:
    """Audio of a stream without the packets where is_lost (P,) is True."""
    head, *packets, end = parts
    kept = [packet for packet, lost in zip(packets, is_lost.tolist(), strict=True) if not lost]
    _, stream = read_connection(io.BytesIO(b"".join([head, *kept, end])), "the sender")
    session, audio, gaps, place = DecoderSession(codec), [], [], 0
    for toks, missing, _ in stream:
        if missing:
            audio.append(session.conceal(missing, following=toks[None]))
            gaps.append((place, place + missing))
        audio.append(session.push(toks[None]))
        place += missing + len(toks)
    audio.append(session.flush())
    sig = torch.cat(audio, dim=1)[0]
    return Output(torch.nn.functional.pad(sig, (0, num_samples))[:num_samples], gaps)


def jumps(sig: Tensor, gaps: list[tuple[float, float]], sample_rate: int) -> list[float]:
    """Largest change of level, dB, in and beside each of the gaps (begin and end, seconds)."""
    size = round(LEVEL_SECONDS * sample_rate)
    power = sig[: len(sig) // size * size].view(-1, size).square().mean(dim=1)
    changes = (20 * power.sqrt().clamp(min=FLOOR).log10()).diff().abs()
    places = [[round(edge / LEVEL_SECONDS) for edge in gap] for gap in gaps]
    some = [changes[max(0, begin - 1) : end + 1] for begin, end in places]
    return [float(each.max()) for each in some if len(each)]


class Row:
    """Streams with one number of repeats: errors of each clip, tokens missing, and jumps."""

    def __init__(self, repeat: int) -> None:
        self.repeat = repeat
        self.errors: list[float] = []
        self.toks, self.missing = 0, 0
        self.jumps: list[float] = []
        self.clean_jumps: list[float] = []  # without loss, of the same gaps


class Losses:
    """Sends clips without loss and with it, and judges them."""

    def __init__(self, codec: FocalCodec, repeats: list[int]) -> None:
        self.codec, self.judge = codec, WhisperJudge("tiny.en")
        self.rows = [Row(repeat) for repeat in repeats]
        self.errors: list[float] = []  # of each clip without loss, %
        self.words: list[float] = []

    def add(self, path: Path, loss: float, seeds: int) -> None:
        """Send a clip once without loss, and `seeds` times with it for each row."""
        codec, rate = self.codec, self.codec.sample_rate_output
        toks = codec.sig_to_toks(read_audio(path, codec.sample_rate_input)[None])[0]
        ref_sig = read_audio(path, rate)
        count = -(-len(toks) // packet_toks(codec.token_rate))
        none = torch.zeros(count, dtype=torch.bool)
        whole = received(codec, sent(codec, toks, 0), none, len(ref_sig)).sig
        clean = self._score(path, ref_sig, whole)
        if clean is None:
            return
        self.errors.append(clean.value)
        self.words.append(clean.weight)
        for row in self.rows:
            parts, total = sent(codec, toks, row.repeat), 0.0
            for seed in range(seeds):
                draw = torch.Generator().manual_seed(crc32(f"{seed} {path.name}".encode()))
                is_lost = (torch.rand(count, generator=draw) < loss) & (torch.arange(count) > 0)
                output = received(codec, parts, is_lost, len(ref_sig))
                gaps = [(a / codec.token_rate, b / codec.token_rate) for a, b in output.gaps]
                row.jumps += jumps(output.sig, gaps, rate)
                row.clean_jumps += jumps(whole, gaps, rate)
                row.toks, row.missing = row.toks + len(toks), row.missing + output.num_missing
                score = self._score(path, ref_sig, output.sig) if output.gaps else clean
                total += clean.value if score is None else score.value
            row.errors.append(total / seeds)

    def _score(self, path: Path, ref_sig: Tensor, rec_sig: Tensor) -> Score | None:
        clip = JudgedClip(path.name, ref_sig, rec_sig, self.codec.sample_rate_output)
        return self.judge.score_clip(clip).scores.get(self.judge.columns[0].key)

    def show(self) -> None:
        """Print the table."""
        made = figure(self.errors, self.words)
        print(f"without loss: dWER {made.value:.1f} [{made.low:.1f}, {made.high:.1f}] %")
        for row in self.rows:
            errors = figure(row.errors, self.words)
            more = paired_difference((row.errors, self.words), (self.errors, self.words))
            large = [sum(jump > LARGE for jump in each) for each in (row.jumps, row.clean_jumps)]
            print(
                f"{row.repeat} repeats: {100 * row.missing / row.toks:.2f} % of the tokens missing,"
                f" dWER {errors.value:.1f} %,"
                f" {more.value:+.1f} [{more.low:.1f}, {more.high:.1f}] points;"
                f" jumps over {LARGE:.0f} dB in {large[0]} of {len(row.jumps)} gaps"
                f" (without loss {large[1]}), largest {max(row.jumps, default=0.0):.1f} dB"
                f" (without loss {max(row.clean_jumps, default=0.0):.1f})"
            )


@torch.inference_mode()
def main() -> None:
    """Print word errors and jumps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--loss", type=float, default=0.05, help="share of lost packets")
    parser.add_argument("--seeds", type=int, default=10, help="times that each clip is sent")
    parser.add_argument("--repeat", type=int, nargs="+", default=[0, 1], help="repeats, one a row")
    args = parser.parse_args()
    losses = Losses(FocalCodec.from_pretrained(args.model).eval(), args.repeat)
    paths = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    for path in ProgressBar(paths, unit="clip"):
        losses.add(path, args.loss, args.seeds)
    losses.show()


if __name__ == "__main__":
    main()
