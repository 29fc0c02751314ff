"""What lost packets cost: word errors of a stream with and without concealment, and its jumps.

    python benchmarks/packet_loss.py FOLDER --model demo-stream --loss 0.05 --seeds 3

FOLDER has audio. Its tokens go through a `DecoderSession` in packets of 80 ms, of which a share is
lost at random and concealed. Prints the dWER by Whisper tiny.en with and without loss, and their
paired difference with a 95 % interval over clips. A jump is the largest change of level from 20 ms
to the next 20 ms, in dB, within 100 ms of a lost packet; those without loss are at the same places.
Levels under -50 dB of full scale count as -50 dB.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from focalcodec import FocalCodec
from focalcodec.audio import read_audio
from focalcodec.evaluation.intervals import figure, paired_difference
from focalcodec.files import AUDIO_SUFFIXES
from focalcodec.metrics.judge import JudgedClip, Score
from focalcodec.metrics.whisper import WhisperJudge
from focalcodec.progress import ProgressBar
from focalcodec.streaming import DecoderSession

PACKET_SECONDS = 0.08
LEVEL_SECONDS = 0.02
NEAR = 5  # levels on either side of a lost packet
FLOOR = 10 ** (-50 / 20)


def decoded(codec: FocalCodec, toks: Tensor, is_lost: Tensor, num_samples: int) -> Tensor:
    """Audio (T,) of toks (1, N) with a packet lost where is_lost (P,) is True."""
    session = DecoderSession(codec)
    packets = toks.split(packet_toks(codec), dim=1)
    audio = [
        session.conceal(packet.shape[1]) if lost else session.push(packet)
        for packet, lost in zip(packets, is_lost.tolist(), strict=True)
    ]
    audio.append(session.flush())
    sig = torch.cat(audio, dim=1)[0]
    return torch.nn.functional.pad(sig, (0, num_samples))[:num_samples]


def packet_toks(codec: FocalCodec) -> int:
    """Tokens of a packet."""
    return max(1, round(PACKET_SECONDS * codec.token_rate))


def largest_jump(sig: Tensor, places: list[float], sample_rate: int) -> float:
    """Largest change of level, dB, near the places (seconds where a lost packet begins or ends)."""
    size = round(LEVEL_SECONDS * sample_rate)
    power = sig[: len(sig) // size * size].view(-1, size).square().mean(dim=1)
    changes = (20 * power.sqrt().clamp(min=FLOOR).log10()).diff().abs()
    near = [round(place / LEVEL_SECONDS) for place in places]
    jumps = [changes[max(0, at - NEAR) : at + NEAR] for at in near]
    return max((float(some.max()) for some in jumps if len(some)), default=0.0)


class Losses:
    """Word errors of each clip, % and words, and the largest jump, without and with loss."""

    def __init__(self, codec: FocalCodec) -> None:
        self.codec, self.judge = codec, WhisperJudge("tiny.en")
        self.errors: tuple[list[float], list[float]] = ([], [])
        self.words: list[float] = []
        self.jumps = [0.0, 0.0]

    def add(self, path: Path, loss: float, seeds: int) -> None:
        """Send a clip once without loss and `seeds` times with it."""
        codec, rate, size = self.codec, self.codec.sample_rate_output, packet_toks(self.codec)
        toks = codec.sig_to_toks(read_audio(path, codec.sample_rate_input)[None])  # (1, N)
        ref_sig = read_audio(path, rate)
        packets = -(-toks.shape[1] // size)
        whole = decoded(codec, toks, torch.zeros(packets, dtype=torch.bool), len(ref_sig))
        scores = []
        for seed in range(seeds):
            draw = torch.rand(packets, generator=torch.Generator().manual_seed(seed))
            is_lost = (draw < loss) & (torch.arange(packets) > 0)
            broken = decoded(codec, toks, is_lost, len(ref_sig))
            begin = is_lost.nonzero().flatten() * size / codec.token_rate
            places = [*begin.tolist(), *(begin + size / codec.token_rate).tolist()]
            for name, rec_sig in enumerate((whole, broken)):
                jump = largest_jump(rec_sig, places, rate)
                self.jumps[name] = max(self.jumps[name], jump)
            scores.append(self._score(path, ref_sig, broken))
        clean = self._score(path, ref_sig, whole)
        if clean is not None:
            self.errors[0].append(clean.value)
            self.errors[1].append(sum(score.value for score in scores) / seeds)
            self.words.append(clean.weight)

    def _score(self, path: Path, ref_sig: Tensor, rec_sig: Tensor) -> Score | None:
        clip = JudgedClip(path.name, ref_sig, rec_sig, self.codec.sample_rate_output)
        return self.judge.score_clip(clip).scores.get(self.judge.columns[0].key)


@torch.inference_mode()
def main() -> None:
    """Print word errors and jumps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="demo-stream")
    parser.add_argument("--loss", type=float, default=0.05, help="share of lost packets")
    parser.add_argument("--seeds", type=int, default=3, help="times that each clip is sent")
    args = parser.parse_args()
    losses = Losses(FocalCodec.from_pretrained(args.model).eval())
    paths = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    for path in ProgressBar(paths, unit="clip"):
        losses.add(path, args.loss, args.seeds)
    for name, values, jump in zip(("without", "with"), losses.errors, losses.jumps, strict=True):
        made = figure(values, losses.words)
        print(
            f"{name} loss: dWER {made.value:.1f} [{made.low:.1f}, {made.high:.1f}] %,"
            f" largest jump {jump:.1f} dB"
        )
    without, lossy = ((values, losses.words) for values in losses.errors)
    made = paired_difference(lossy, without)
    print(f"difference: dWER {made.value:+.1f} [{made.low:.1f}, {made.high:.1f}] points")


if __name__ == "__main__":
    main()
