"""Run programs for the official package, unedited, with it and with this one; compare the results.

    git clone https://github.com/lucadellalib/focalcodec official
    git -C official checkout 912b7f2
    git clone https://github.com/speechbrain/speechbrain
    python benchmarks/against_clients.py official --speechbrain speechbrain

The programs are demo.py of the official repository, in all its modes, and the seven trainings of
LibriTTS/focalcodec and LibriTTS/focalcodec-stream, if there is `--speechbrain`. The models are
small, with random weights. Each training is killed in its second epoch, resumed and tested: with
the official package; with ours, also the first step alone; with the official one before the kill
and ours after it; and with the official one on AVX2 instructions, which shows what rounding alone
does on a processor that has more. It prints the largest differences: of a sample, or relative of a
loss. About 15 minutes on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import soundfile
from official.models import CONFIGS, make_codec
from official.packages import ours
from official.pairs import hub_cache
from official.trainings import AVX2, CLIENT, CORPUS, TRAININGS, difference, prepare, train

ROOT = Path(__file__).parents[1]
OFFLINE, CAUSAL = "lucadellalib/focalcodec_50hz", "lucadellalib/focalcodec_50hz_4k_causal"
MODES = {
    "offline, 50 Hz": ["--config", OFFLINE],
    "offline, 50 Hz causal": ["--config", CAUSAL],
    "conversion": ["--config", OFFLINE, "--reference-files", "REFERENCES"],
    "streaming": ["--config", CAUSAL, "--streaming"],
    "streaming conversion": [
        *("--config", CAUSAL, "--streaming", "--reference-files", "REFERENCES"),
    ],
    "offline `--jit`": ["--config", OFFLINE, "--jit"],
    "streaming `--jit`": ["--config", CAUSAL, "--streaming", "--jit"],
}


def demo(official: Path, folder: Path, environment: dict[str, str], only: str) -> bool:
    """Compare the modes of demo.py; whether all ran."""
    for name in (OFFLINE, CAUSAL):
        config = CONFIGS[name.partition("focalcodec_")[2]]
        hub = hub_cache(folder, name, make_codec(ours(), config), config)
    clips = sorted((CORPUS / "train-mini").rglob("*.flac"))
    (folder / "references").mkdir()
    for name, clip in (("in", 0), ("references/a", 50), ("references/b", 51)):
        sig, rate = soundfile.read(clips[clip], dtype="float32")
        soundfile.write(folder / f"{name}.wav", sig[:20000], rate)
    print("| mode of demo.py | largest difference of a sample |\n|---|---|")
    complete = True
    for mode, options in MODES.items():
        if only not in mode:
            continue
        words = [str(folder / "references") if word == "REFERENCES" else word for word in options]
        audio = []
        for name, root in (("official", official), ("ours", ROOT)):
            out = folder / f"{name}.wav"
            out.unlink(missing_ok=True)
            program = [str(root), str(folder / "losses"), str(official / "demo.py")]
            done = subprocess.run(
                [sys.executable, "-W", "ignore", str(CLIENT), *program]
                + [str(folder / "in.wav"), "--output-file", str(out), *words],
                env=environment | {"HF_HUB_CACHE": str(hub)},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"| {mode} | {name}: {done.stderr.strip().splitlines()[-1]} |")
                complete = False
                break
            audio.append(soundfile.read(out, dtype="float32")[0])
        else:
            same = len(audio[0]) == len(audio[1])
            text = f"{abs(audio[0] - audio[1]).max():.1e}" if same else "other length"
            print(f"| {mode} | {text} |", flush=True)
            complete &= same
    return complete


def trainings(
    official: Path, recipes: Path, folder: Path, environment: dict[str, str], only: str
) -> bool:
    """Compare the losses of the trainings; whether all ran."""
    prepare(folder)
    print("\n| script | losses | first step | ours | official, then ours | official on AVX2 |")
    print("|---|---|---|---|---|---|")
    complete = True
    for name in TRAININGS:
        if only not in name:
            continue
        runs = [
            ((official, official), environment),
            ((ROOT, ROOT), environment),
            ((official, ROOT), environment),
            ((official, official), environment | AVX2),
        ]
        try:
            losses = [train(name, recipes, folder, *run) for run in runs]
        except RuntimeError as error:
            print(f"| {name} | {error} |", flush=True)
            complete = False
            continue
        first = difference(losses[0][:1], losses[1][:1])
        found = [first, *(difference(losses[0], other) for other in losses[1:])]
        complete &= float("inf") not in found
        cells = " | ".join(f"{value:.1e}" for value in found)
        print(f"| {name} | {len(losses[0])} | {cells} |", flush=True)
    return complete


def main() -> None:
    """Run the programs and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("official", type=Path, help="folder of the official repository")
    parser.add_argument("--speechbrain", type=Path, help="folder of SpeechBrain's repository")
    parser.add_argument("--only", default="", help="modes and trainings whose names contain this")
    parser.add_argument("--work", type=Path, help="new folder that keeps the logs")
    args = parser.parse_args()
    official = args.official.resolve()
    recipes = args.speechbrain and args.speechbrain.resolve() / "recipes" / "LibriTTS"
    for path in [official / "demo.py"] + ([recipes / "focalcodec"] if recipes else []):
        if not path.exists():
            raise SystemExit(f"{path}: does not exist; give the folders of the two repositories")
    if args.work and args.work.exists():
        raise SystemExit(f"{args.work}: exists; give a new folder")
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with tempfile.TemporaryDirectory() as name:
        folder = args.work or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        complete = demo(official, folder, environment, args.only)
        if recipes:
            complete &= trainings(official, recipes, folder, environment, args.only)
    sys.exit(not complete)


if __name__ == "__main__":
    main()
