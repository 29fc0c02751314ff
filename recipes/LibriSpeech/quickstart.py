"""Both stages of the mini configuration, export and evaluation, in one command.

python recipes/LibriSpeech/quickstart.py [OUT]

The stages do not depend on each other, so they are trained at the same time, each on one core. Each
command is printed when it starts, and can be typed by hand in the recipe's folder. The same command
resumes an interrupted run.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER.parents[1] / "results" / "quickstart"  # the recipes' mini YAMLs use this path

# The models are small: a second thread does not make them faster.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(*words: str | Path, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a command of the recipe; its output is shown, or written to a log."""
    command = [str(word) for word in words]
    print(f"\n$ python {shlex.join(command)}{f' > {log}' if log else ''}", flush=True)
    out = open(log, "wb") if log else None
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=FOLDER,
        env=ENVIRONMENT,
        stdout=out,
        stderr=subprocess.STDOUT if log else None,
    )


def finish(process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Wait for a command; if it failed, show the end of its log and stop."""
    if process.wait() == 0:
        return
    if log is not None:
        print(log.read_text(encoding="utf-8", errors="replace")[-2000:], file=sys.stderr)
    raise SystemExit(process.returncode)


def main() -> None:
    """Train both stages, export, evaluate."""
    out = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else RESULTS
    out.mkdir(parents=True, exist_ok=True)
    log = out / "vocoder.log"
    runs = {stage: out / stage for stage in ("vocoder", "quantizer")}
    yamls = {"vocoder": "vocos_16khz_mini.yaml", "quantizer": "focalcodec_50hz_mini.yaml"}
    train = {
        stage: ("train.py", f"hparams/{yamls[stage]}", "--output_folder", runs[stage])
        for stage in runs
    }
    vocoder = start(*train["vocoder"], log=log)
    try:
        finish(start(*train["quantizer"]))
        print("\nwaiting for the vocoder's training to end", flush=True)
        finish(vocoder, log)
    finally:
        vocoder.terminate()
    finish(start("-m", "focalcodec", "export", *reversed(runs.values()), out / "codec"))
    places = ("--codec", out / "codec", "--output_folder", out / "resynthesis")
    finish(start("evaluate.py", "hparams/resynthesis_mini.yaml", *places))


if __name__ == "__main__":
    main()
