"""Train demo-stream: encoder and stage 1, beside them stage 2; then join the parts and evaluate.

    python demo_stream.py results/stream --data_folder /data/demo --precision bf16

Options after the folder are those of each training. Each command is printed when it starts, and can
be typed by hand in this folder. The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LANES = (("stream_encoder", "stream_50hz"), ("stream_vocos", "stream_vocos_gan"))
"""Trainings in their order. The lanes do not depend on each other and run at the same time."""
CONTINUES = {
    "stream_50hz": ("--distilled", "stream_encoder"),
    "stream_vocos_gan": ("--init_from", "stream_vocos"),
}
"""Option of a training that names the run of another."""

# The same command runs again after its end, too.
EXPORT = ("-m", "focalcodec", "export", "--dtype", "float16", "--overwrite")

# The models are small: a second thread does not make them much faster.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **os.environ}


class Steps:
    """Runs commands; if one fails, it stops those that still run, and starts no other.

    Parameters
    ----------
    out : Path
        Folder of the runs and their logs.
    options : sequence of str
        Options of each training.
    """

    def __init__(self, out: Path, options: Sequence[str]) -> None:
        self.out, self.options = out, list(options)
        self.running: list[subprocess.Popen[str]] = []
        self.code = 0  # exit status of the first command that failed

    def train(self, lane: Sequence[str]) -> None:
        """Train one after the other."""
        for name in lane:
            command = ["train.py", f"hparams/{name}.yaml", "--output_folder", str(self.out / name)]
            if name in CONTINUES:
                option, source = CONTINUES[name]
                command += [option, str(self.out / source)]
            self.call(name, *command, *self.options)

    def call(self, name: str, *command: str) -> None:
        """Run a command of this folder; its output goes to a log, lines on epochs are shown."""
        if self.code:
            return
        log = self.out / f"{name}.log"
        print(f"[{name}] $ python {shlex.join(command)}\n[{name}] all output: {log}", flush=True)
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=FOLDER,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self.running.append(process)
        line = ""
        with open(log, "a", encoding="utf-8") as file:
            for line in process.stdout or ():
                print(line, end="", file=file, flush=True)
                if line.startswith("epoch "):
                    print(f"[{name}] {line.rstrip()}", flush=True)
        if process.wait() and not self.code:
            self.code = process.returncode
            print(f"[{name}] failed: {line.rstrip()}", file=sys.stderr, flush=True)
            for other in self.running:
                other.terminate()


def main(argv: Sequence[str] | None = None) -> int:
    """Run all steps; the result is an exit status."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=form, usage="%(prog)s OUT [OPTIONS OF train.py]"
    )
    parser.add_argument("out", metavar="OUT", help="folder for runs, codec and figures")
    words = list(sys.argv[1:] if argv is None else argv)
    given, options = parser.parse_known_args(words)
    if given.out != words[0] or not given.out:
        parser.error("OUT, a folder, comes first; then the options of train.py")
    out = Path(given.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out, options)
    with ThreadPoolExecutor(len(LANES)) as pool:
        list(pool.map(steps.train, LANES))
    runs, codec = [str(out / lane[-1]) for lane in LANES], str(out / "codec")
    steps.call("export", *EXPORT, *runs, codec)
    places = ("--codec", codec, "--output_folder", str(out / "resynthesis"))
    steps.call("evaluate", "evaluate.py", "hparams/resynthesis_demo.yaml", *places)
    if not steps.code:
        print(f"{codec}: ready for --model; figures: {out / 'resynthesis'}", flush=True)
    return abs(steps.code)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        raise SystemExit(128 + 2) from None
