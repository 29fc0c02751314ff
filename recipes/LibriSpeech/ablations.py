"""Train the rows of the ablations, each with several seeds, evaluate them and make the table.

python ablations.py results/ablations_mini --size mini
python ablations.py results/ablations_small --size small --data_folder CORPUS --decoder demo
python ablations.py results/ablations --data_folder /data/LibriSpeech --rows all

A row is a YAML of hparams/ablations/, with `_mini` or `_small` at its end for these sizes. Each
command is printed when it starts. The same command resumes: what is finished is not run again.
Options after `--` are those of the rows' train.py, such as `-- --number_of_epochs 2`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ABLATIONS = FOLDER / "hparams" / "ablations"
PAPER = ("base", "bsq", "fsq", "leaky_relu", "conformer", "amp", "linear")
EVALUATIONS = {
    "full": "hparams/resynthesis.yaml",
    "mini": "hparams/resynthesis_mini.yaml",
    "small": "hparams/ablations/resynthesis_small.yaml",
}
NO_ROWS = ("hifigan", "resynthesis")


def yaml_of(row: str, size: str) -> Path:
    """YAML of a row at a size."""
    return ABLATIONS / (f"{row}.yaml" if size == "full" else f"{row}_{size}.yaml")


def rows_of(size: str) -> list[str]:
    """All rows that exist at a size, the paper's first."""
    ends = ("_mini", "_small")
    known = [path.stem for path in ABLATIONS.glob("*.yaml") if not path.stem.endswith(ends)]
    found = [row for row in sorted(known) if row not in NO_ROWS and yaml_of(row, size).exists()]
    return [*PAPER, *(row for row in found if row not in PAPER)]


class Commands:
    """Commands of the recipe, several at a time; what they show is in their logs."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[bytes]] = set()

    def run(self, *words: str | Path, log: Path) -> None:
        """Run one, and stop all if it fails."""
        command = [str(word) for word in words]
        print(f"$ python {shlex.join(command)}    # {log}", flush=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=FOLDER, stdout=file, stderr=subprocess.STDOUT
            )
            self.running.add(process)
            code = process.wait()
            self.running.discard(process)
        if code != 0:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            reason = lines[-1] if lines else "no message"
            raise SystemExit(f"{log}: stopped with exit status {code}: {reason}")

    def train(self, yaml: Path, folder: Path, options: Sequence[str]) -> None:
        """Train one YAML in a folder, unless it was trained and tested there."""
        if not (folder / "results.json").exists():
            words = ("train.py", yaml.relative_to(FOLDER), f"--output_folder={folder}", *options)
            self.run(*words, log=folder.with_suffix(".log"))

    def stop(self) -> None:
        """Let trainings write a checkpoint and end."""
        for process in [*self.running]:
            process.terminate()


def read_arguments() -> argparse.Namespace:
    """The command line; what is after `--` is for train.py."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of runs, codecs and table")
    parser.add_argument("--size", choices=[*EVALUATIONS], default="full")
    parser.add_argument("--rows", nargs="+", default=list(PAPER), help="default: the paper's; all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1986, 1987])
    parser.add_argument(
        "--data_folder", type=os.path.abspath, help="corpus; default: the embedded one"
    )
    parser.add_argument("--decoder", help="codec or stage-2 run; default: train HiFi-GAN once")
    parser.add_argument("--feature_cache", type=Path, help="folder; default: OUT/feats")
    parser.add_argument("--max_clips", type=int, help="of each test set (default: all)")
    parser.add_argument("--panel", help="judges: paper, offline, offline_tiny, none")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    given, _, options = " ".join(map(shlex.quote, sys.argv[1:])).partition(" -- ")
    args = parser.parse_args(shlex.split(given))
    args.options, args.out = shlex.split(options), args.out.resolve()
    args.rows = rows_of(args.size) if args.rows == ["all"] else args.rows
    if args.decoder and Path(args.decoder).is_dir():
        args.decoder = str(Path(args.decoder).resolve())
    for row in args.rows:
        if not yaml_of(row, args.size).exists() or row in NO_ROWS:
            rows = ", ".join(rows_of(args.size))
            parser.error(f"row {row}: none of this name at this size; give {rows}")
    return args


def evaluate(commands: Commands, args: argparse.Namespace, names: Sequence[str]) -> None:
    """Evaluate the codecs of all rows and seeds, and the decoder on clean features."""
    folder = args.out / "codecs"
    codecs = ", ".join(f'{{"{name}": "{folder / name}"}}' for name in names)
    words = [
        f"--output_folder={args.out / 'eval'}",
        "--report=False",
        "--speed_clips=0",
        f"--codecs=[original, {{vocoder: 'vocoder:{folder / names[0]}'}}, {codecs}]",
        f"--jobs={args.jobs}",
        *([f"--data_folder={args.data_folder}"] if args.data_folder else []),
        *([f"--max_clips={args.max_clips}"] if args.max_clips else []),
        *([f"--panel={args.panel}"] if args.panel else []),
    ]
    commands.run("evaluate.py", EVALUATIONS[args.size], *words, log=args.out / "eval.log")


def train_rows(
    commands: Commands, args: argparse.Namespace, decoder: str | Path, options: Sequence[str]
) -> None:
    """Train and export each row with each seed."""

    def finish(row: str, seed: int) -> None:
        folder, codec = args.out / "runs" / row / str(seed), args.out / "codecs" / f"{row}-{seed}"
        commands.train(yaml_of(row, args.size), folder, [f"--seed={seed}", *options])
        if not (codec / "model.safetensors").exists():
            words = ("-m", "focalcodec", "export", folder, decoder, codec)
            commands.run(*words, log=folder.with_suffix(".log"))

    with ThreadPoolExecutor(args.jobs) as pool:
        futures = [pool.submit(finish, row, seed) for row in args.rows for seed in args.seeds]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            commands.stop()
            raise


def main() -> None:
    """Decoder, rows, evaluation, table."""
    args, commands = read_arguments(), Commands()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    if args.jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    options = [f"--data_folder={args.data_folder}"] if args.data_folder else []
    if args.size != "mini":  # the mini models change the speed of clips
        options += [f"--feature_cache={(args.feature_cache or args.out / 'feats').resolve()}"]
    try:
        if args.decoder is None:
            commands.train(yaml_of("hifigan", args.size), args.out / "decoder", options)
        train_rows(commands, args, args.decoder or args.out / "decoder", options + args.options)
        names = [f"{row}-{seed}" for row in args.rows for seed in args.seeds]
        evaluate(commands, args, names)
    except KeyboardInterrupt:
        commands.stop()
        print("stopped; the same command resumes", file=sys.stderr)
        raise SystemExit(128 + 2) from None
    subprocess.run([sys.executable, "-m", "focalcodec", "ablations", args.out], check=True)


if __name__ == "__main__":
    main()
