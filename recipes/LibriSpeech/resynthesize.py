"""Resynthesise test clips with an exported codec: waveforms, pictures and word error rates.

python resynthesize.py CODEC OUT [--data_folder X] [--splits test-mini test-real]

Each clip is heard three times: as it is, through the decoder alone (clean feats, no tokens), and
through the whole codec. Without Whisper's packages the word error rates are left out, with a line
that says how to get them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from librispeech_prepare import prepare_librispeech
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from focalcodec import FocalCodec, UserError
from focalcodec.audio import read_audio, write_audio
from focalcodec.data.embedded import embedded_corpus
from focalcodec.data.manifest import read_manifest, write_csv
from focalcodec.files import atomic_path
from focalcodec.metrics.wer import WhisperJudge, word_error_rate
from focalcodec.training.experiment import run_script
from focalcodec.training.pictures import save_png, spectrogram_figure

WAYS = ("original", "vocoder", "codec")


def main(argv: Sequence[str]) -> None:
    """Resynthesise, listen, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("codec", help="exported codec: a folder, or a hub repository")
    parser.add_argument("out", type=Path, help="folder for waveforms, pictures and results.json")
    parser.add_argument("--data_folder", type=Path, help="default: the embedded mini corpus")
    parser.add_argument("--splits", nargs="+", default=["test-mini", "test-real"])
    args = parser.parse_args(argv)
    codec = FocalCodec.from_pretrained(args.codec)
    data_folder = args.data_folder or embedded_corpus("LibriSpeech")
    sets = {split: [split] for split in args.splits}
    prepare_librispeech(data_folder, args.out / "manifests", extra_sets=sets)
    judge = _judge()
    rows = {}
    for split in args.splits:
        clips = read_manifest(args.out / "manifests" / f"{split}.csv", data_folder)
        heard: dict[str, list[str]] = {way: [] for way in WAYS}
        for clip in tqdm(clips, desc=split):
            sig = read_audio(clip["wav"], codec.sample_rate_input)
            sigs = resynthesize(codec, sig)
            _write(args.out / split / clip["ID"], sigs, codec.sample_rate_output)
            if judge:
                for way, rec_sig in sigs.items():
                    heard[way].append(judge.transcribe(rec_sig, codec.sample_rate_output))
        texts = [clip["wrd"] for clip in clips]
        rows[split] = {"clips": len(clips), "kbit/s": codec.bitrate / 1000}
        if judge:
            for way in WAYS:
                rows[split][f"WER {way} %"] = 100 * word_error_rate(texts, heard[way])
            columns = {"ID": [clip["ID"] for clip in clips], "text": texts, **heard}
            lines = [
                dict(zip(columns, line, strict=True))
                for line in zip(*columns.values(), strict=True)
            ]
            write_csv(args.out / split / "heard.csv", list(columns), lines)
    _report(args.out, rows, judge is not None)


@torch.no_grad()
def resynthesize(codec: FocalCodec, sig: Tensor) -> dict[str, Tensor]:
    """One clip (T,), as it is, through the decoder alone, and through the whole codec."""
    feats = codec.sig_to_feats(sig[None])
    toks, lengths = codec.encode(sig[None])
    rec_sig = codec.decode(toks, lengths, num_samples=len(sig))
    return {"original": sig, "vocoder": codec.feats_to_sig(feats)[0], "codec": rec_sig[0]}


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    pass


def _judge() -> WhisperJudge | None:
    try:
        return WhisperJudge("base")
    except UserError as error:
        print(f"without word error rates: {error}")
        return None


def _write(stem: Path, sigs: dict[str, Tensor], sample_rate: int) -> None:
    for way, sig in sigs.items():
        write_audio(stem.with_name(f"{stem.name}.{way}.wav"), sig.clamp(-1, 1), sample_rate)
    figure = spectrogram_figure(
        sigs["original"].numpy(),
        sigs["codec"].numpy(),
        sample_rate,
        title=stem.name,
        names=("original", "codec"),
    )
    save_png(figure, stem.with_name(f"{stem.name}.png"))


def _report(out: Path, rows: dict[str, dict[str, float]], judged: bool) -> None:
    result = {"judge": "Whisper base, int8, beam 5" if judged else None, "sets": rows}
    with atomic_path(out / "results.json") as path:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = [{"set": split, **stats} for split, stats in rows.items()]
    if judged:
        print(f"\nword error rate: {result['judge']}")
    print(tabulate(table, headers="keys", floatfmt=".2f", tablefmt="github"))
    print(f"waveforms and pictures: {out}", flush=True)


if __name__ == "__main__":
    run_script(main)
