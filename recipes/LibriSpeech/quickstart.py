"""Both stages of the mini configuration, export and evaluation, in one command.

python recipes/LibriSpeech/quickstart.py [OUT]

The stages do not depend on each other, so they are trained at the same time, each on one core. Each
command is printed when it starts, and can be typed by hand in the recipe's folder. The same command
resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import TypeAlias

from focalcodec.progress import INTERVAL, ProgressBar

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER.parents[1] / "results" / "quickstart"  # the recipes' mini YAMLs use this path
YAMLS = {"quantizer": "focalcodec_50hz_mini.yaml", "vocoder": "vocos_16khz_mini.yaml"}

# The models are small: a second thread does not make them faster.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}

BAR = "{desc}{percentage:3.0f} %|{bar:12}| {unit}"

Process: TypeAlias = "subprocess.Popen[str]"


def start(step: str, *words: str | Path, shown: bool = True) -> Process:
    """Start a command of the recipe; its output is shown, or left for `follow`."""
    command = [str(word) for word in words]
    print(f"\n[{step}]\n$ python {shlex.join(command)}", flush=True)
    # Where the output is a terminal, `follow` draws a bar from frequent lines.
    seconds = "1" if sys.stderr.isatty() else os.environ.get(INTERVAL, "60")
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=FOLDER,
        env=ENVIRONMENT if shown else {**ENVIRONMENT, INTERVAL: seconds},
        stdout=None if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )


def follow(name: str, processes: dict[str, Process], log: Path) -> None:
    """Show the output of a training with its name, and keep it in a log; if it fails, stop all."""
    drawn, process = sys.stderr.isatty(), processes[name]
    what = f"{name:<9}"
    bar = ProgressBar(what=what, total=100, show=drawn, leave=False, bar=BAR)
    with bar, open(log, "a", encoding="utf-8") as file:
        for line in process.stdout or ():
            file.write(line)
            if drawn and (found := re.match(r"(\d+) % of the run: (.*)", line)):
                bar.n, bar.unit = int(found[1]), found[2]
                bar.refresh()
            else:
                with bar.external_write_mode():
                    print(f"{what}: {line.rstrip()}", flush=True)
    if process.wait() != 0:
        for each in processes.values():
            each.terminate()


def finish(process: Process) -> None:
    """Wait for a command; stop if it failed."""
    if process.wait() != 0:
        raise SystemExit(process.returncode)


def train_both(runs: dict[str, Path], out: Path) -> None:
    """Train both stages at the same time."""
    processes: dict[str, Process] = {}
    try:
        for index, (stage, run) in enumerate(runs.items(), start=1):
            command = ("train.py", f"hparams/{YAMLS[stage]}", "--output_folder", run)
            processes[stage] = start(f"{index}/4 train the {stage}", *command, shown=False)
        threads = [
            Thread(target=follow, args=[stage, processes, out / f"{stage}.log"]) for stage in runs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for process in processes.values():
            process.terminate()
    # A stage that was stopped because the other one failed has a negative code.
    for process in sorted(processes.values(), key=lambda process: process.wait() < 0):
        finish(process)


def main() -> None:
    """Train both stages, export, evaluate."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("out", nargs="?", default=RESULTS, metavar="OUT", help="folder")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="MODULE",
        help="module of this recipe that the YAMLs name, such as parts of your own",
    )
    args = parser.parse_args()
    given, trust = args.out, [word for name in args.trust for word in ("--trust", name)]
    if not given:
        parser.error("OUT is empty; give a folder, or check the shell's variable")
    out = Path(given).resolve()
    out.mkdir(parents=True, exist_ok=True)
    runs = {stage: out / stage for stage in YAMLS}
    train_both(runs, out)
    join = ("-m", "focalcodec", "export", *runs.values(), out / "codec", *trust)
    finish(start("3/4 join both stages", *join))
    places = ("--codec", out / "codec", "--output_folder", out / "resynthesis", *trust)
    finish(start("4/4 evaluate the codec", "evaluate.py", "hparams/resynthesis_mini.yaml", *places))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        raise SystemExit(128 + 2) from None
