"""Train each improvement beside its base, with two seeds, and make the table of paired differences.

    python improvements.py results/improvements --data_folder /data/demo --precision bf16

Options after the folder are those of each training; --only, --seeds, --panel and --max_clips are of
this command. Each command is printed when it starts, and can be typed by hand in this folder. The
same command resumes. OUT/improvements.md has the table, docs/improvements.md what each row is.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from demo_chain import Steps, leave

from focalcodec.evaluation.ablations import Scores, clip_scores, scores_difference
from focalcodec.evaluation.summary import column_title, markdown, read_card

SEEDS = (1986, 1987)
CODEC = "demo"
"""Of the package: it gives the encoder, the stage 1 that a row's decoder is joined with, and the
decoder that a row's stage 1 is joined with."""
ENCODER = f"--encoder=!name:focalcodec.training.run.trained.load_student {{source: {CODEC}}}"
LOW_RATE = ["--downscale_factors=[2, 2, 1]", "--upscale_factors=[1, 2, 2]"]  # 12.5 Hz


class Train(NamedTuple):
    """A training: its YAML, the shared runs or the codec that options name, and other options."""

    yaml: str
    sources: Mapping[str, str] = {}
    options: Sequence[str] = ()


SHARED = {
    "demo_vocos": Train("demo_vocos"),
    "speaker_encoder": Train("ablations/speaker_encoder"),
}
"""Trained once, with the first seed: what the rows start from."""

MEL = {"init_from": "demo_vocos"}
GAN = Train("demo_vocos_gan", MEL)
WIDE = Train("demo_50hz_wide")
INPUT, LOSS = {"codec_input": CODEC}, {"distilled": CODEC}
VOICE = {"speaker_source": "speaker_encoder"}
ROWS: dict[str, tuple[Train, Train]] = {
    "codec_input": (GAN, Train("improvements/vocos_codec_input", MEL | INPUT)),
    "encoder_loss": (GAN, Train("improvements/vocos_encoder_loss", MEL | LOSS)),
    "speaker_loss": (GAN, Train("improvements/vocos_speaker_loss", MEL | VOICE)),
    "seen": (GAN, Train("improvements/vocos_seen", MEL | INPUT | LOSS | VOICE)),
    "masked": (WIDE, Train("improvements/demo_50hz_masked")),
    "merged": (WIDE, Train("improvements/demo_50hz_merged")),
    "voice": (Train("ablations/demo_25hz"), Train("improvements/demo_25hz_voice")),
    "ssq": (
        Train("ablations/demo_50hz", options=LOW_RATE),
        Train("improvements/demo_12_5hz_ssq"),
    ),
}
"""Base and delta, both on the encoder of `CODEC`."""
VOICED = Train("improvements/vocos_25hz_voice", MEL)
"""The decoder of the row `voice`; its codec_input is that row's stage 1."""
MERGE = "merge:0.7@"  # how the row `merged` is evaluated, on both sides


class Plan(Steps):
    """Trains, exports and evaluates in the folder `out`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.done: set[Path] = set()

    def shared(self, names: Sequence[str], seed: int) -> None:
        """Train what rows start from."""
        for name in names:
            self.run(name, SHARED[name], self.out / name, seed)

    def run(self, label: str, what: Train, folder: Path, seed: int, **more: str) -> None:
        """Train once, also if several rows have this base."""
        if folder in self.done:
            return
        self.done.add(folder)
        words = ["train.py", f"hparams/{what.yaml}.yaml", f"--output_folder={folder}"]
        for key, name in {**what.sources, **more}.items():
            place = self.out / name if name in SHARED else name
            is_input = key == "codec_input"
            words.append(f"--{key}={f'{{source: {place}, share: 0.5}}' if is_input else place}")
        self.call(label, *words, f"--seed={seed}", ENCODER, *what.options, *self.options)

    def side(self, row: str, side: str, what: Train, seed: int) -> Path:
        """Train one side of a row and join it to a codec; return the codec's folder."""
        base = Path(what.yaml).name + "_12_5hz" * bool(what.options)
        place = self.out / (f"bases/{base}" if side == "base" else row) / str(seed)
        place.parent.mkdir(parents=True, exist_ok=True)
        label = f"{row}-{side}-{seed}"
        self.run(label, what, place / "run", seed)
        run = str(place / "run")
        first, second = (CODEC, run) if "vocos" in what.yaml else (run, CODEC)
        if what.yaml.endswith("_voice"):
            second = str(place / "decoder")
            self.run(label, VOICED, place / "decoder", seed, codec_input=first)
        codec = place / "codec"
        words = ("export", first, second, str(codec), "--dtype=float16", "--overwrite")
        self.call(label, "-m", "focalcodec", *words)
        return codec

    def row(self, row: str, seed: int, judging: Sequence[str]) -> None:
        """Train both sides with a seed and evaluate them in one run."""
        sides = zip(("base", "delta"), ROWS[row], strict=True)
        codecs = {side: self.side(row, side, what, seed) for side, what in sides}
        prefix = MERGE if row == "merged" else ""
        self.evaluate(row, seed, {s: f"{prefix}{codec}" for s, codec in codecs.items()}, judging)
        if row == "voice":
            ways = {"base": str(codecs["delta"]), "delta": f"voice:{codecs['delta']}"}
            self.evaluate("conversion", seed, ways, [*judging, "--task=conversion"])

    def evaluate(
        self, row: str, seed: int, codecs: Mapping[str, str], judging: Sequence[str]
    ) -> None:
        """Evaluate codecs, by their side, on the same clips."""
        named = ", ".join(f'{{{side}: "{codec}"}}' for side, codec in codecs.items())
        place = f"--output_folder={self.out / row / 'figures' / str(seed)}"
        yaml = "hparams/resynthesis_demo.yaml"
        words = (yaml, f"--codecs=[original, {named}]", place, "--report=False", *judging)
        self.call(f"{row}-{seed}", "evaluate.py", *words)


def shared_by(rows: Sequence[str]) -> list[str]:
    """Names in SHARED that these rows start from."""
    names = {name for row in rows for each in ROWS[row] for name in each.sources.values()}
    if "voice" in rows:
        names.update(VOICED.sources.values())
    return [name for name in SHARED if name in names]


def table(out: Path, rows: Sequence[str], seeds: Sequence[int]) -> str:
    """Paired differences, delta minus base, of each set and figure; a clip counts once for seeds.

    Intervals are over what the last column counts. Rows without figures are left out.
    """
    headers = ["row", "set", "figure", "base", "delta", "difference", "over"]
    lines: list[list[str]] = []
    for row in [*rows, *(["conversion"] if "voice" in rows else [])]:
        figures = out / row / "figures"
        for folder in sorted(figures.glob(f"{seeds[0]}/*/base")):
            name = folder.parent.name
            sides = [
                [read_card(figures / str(seed) / name / side) for seed in seeds]
                for side in ("base", "delta")
            ]
            base, delta = (clip_scores(cards) for cards in sides)
            for column in sides[0][0]["columns"]:
                key = column["key"]
                cells = _cells(delta.get(key, {}), base.get(key, {}), sides[0][0])
                if cells:
                    lines.append([row, name, column_title(column), *cells])
    return markdown(headers, lines) + "\n"


def _cells(delta: Scores, base: Scores, card: Mapping[str, Any]) -> list[str]:
    """Means of both sides on the clips that both have, and the difference; empty for too few."""
    found = scores_difference(delta, base, card)
    if found is None:
        return []
    means = []
    for side in (base, delta):
        values, weights = zip(*(side[clip] for clip in base if clip in delta), strict=True)
        means.append(f"{np.average(values, weights=weights):.3g}")
    over = f"{found.speakers} speakers" if found.speakers else f"{found.count} clips"
    return [*means, f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]", over]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all rows; the result is an exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s OUT [--only ROW ...] [--seeds N ...] [OPTIONS OF train.py]",
    )
    parser.add_argument("out", metavar="OUT", help="folder for runs, codecs and figures")
    parser.add_argument("--only", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--panel", default="offline_tiny", help="judges (default: %(default)s)")
    parser.add_argument("--max_clips", default="null", help="of each set; null: all")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at the same time")
    given, options = parser.parse_known_args(argv)
    out = Path(given.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(out, options)
    plan.shared(shared_by(given.only), given.seeds[0])
    judging = [f"--panel={given.panel}", f"--max_clips={given.max_clips}", "--jobs=1"]

    def one_seed(seed: int) -> None:
        for row in given.only:
            plan.row(row, seed, judging)

    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(one_seed, given.seeds))
    if plan.code:
        return abs(plan.code)
    text = table(out, given.only, given.seeds)
    (out / "improvements.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    leave(main)
