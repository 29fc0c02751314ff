"""Train a codec of the package: all its steps in their order, two at a time; join it and evaluate.

    python demo_chain.py demo results/chain --data_folder /data/demo --precision bf16

Options after the folder are those of each training. Each command is printed when it starts, and can
be typed by hand in this folder. The same command resumes an interrupted run. Steps that two codecs
have in common are trained once if they have the same folder.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, NoReturn

FOLDER = Path(__file__).resolve().parent
WORDS = "words.safetensors"
"""Weights of the reader of the loss on words; fit_words.py makes them."""
_SPEECH = ("train-libri", "train-real", "train-synthetic")  # of fit_words.py

TRAININGS: dict[str, Mapping[str, str]] = {
    "distill_encoder": {},
    "demo_vocos": {},
    "demo_50hz_wide": {},
    "demo_vocos_gan": {"init_from": "demo_vocos"},
    "demo_50hz_small": {"distilled": "distill_encoder", "init_from": "demo_50hz_wide"},
    WORDS: {},
    "demo_50hz_joint": {"quantizer_source": "demo_50hz_small"},
    "demo_50hz_words": {"quantizer_source": "demo_50hz_joint", "word_reader_file": WORDS},
    "demo_vocos_codec": {"init_from": "demo_vocos_gan", "quantized": "demo_50hz_joint"},
    "demo_25hz_joint": {},
    "demo_25hz_words": {"quantizer_source": "demo_25hz_joint", "word_reader_file": WORDS},
    "stream_50hz_joint": {},
    "stream_vocos": {},
    "stream_50hz_words": {"quantizer_source": "stream_50hz_joint", "word_reader_file": WORDS},
    "stream_vocos_codec": {"init_from": "stream_vocos", "quantized": "stream_50hz_joint"},
}
"""YAMLs, each after those that it needs: options that name the run of another YAML."""


class Parts(NamedTuple):
    """What a codec is joined from: trainings, or a codec of the package."""

    stage_1: str
    decoder: str


CODECS = {
    "demo": Parts("demo_50hz_words", "demo_vocos_codec"),
    "demo-25hz": Parts("demo_25hz_words", "demo"),
    "demo-stream": Parts("stream_50hz_words", "stream_vocos_codec"),
}

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

    def train(self, name: str, sources: Sequence[Future[None]]) -> None:
        """Run a training, after those that it needs."""
        for source in sources:
            source.result()
        places = (f"--{option}={self.out / source}" for option, source in TRAININGS[name].items())
        yaml = f"hparams/{name}.yaml"
        self.call(
            name, "train.py", yaml, f"--output_folder={self.out / name}", *places, *self.options
        )

    def fit_words(self, data_folder: str) -> None:
        """Make the reader of the loss on words, if it is not there."""
        folders = [str(Path(data_folder) / split) for split in _SPEECH]
        if not (self.out / WORDS).is_file():
            self.call("fit_words", "fit_words.py", *folders, "--to", str(self.out / WORDS))

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


def needed(last: Iterable[str]) -> list[str]:
    """The last trainings and all that they need, each after those that it needs."""
    names = set(last)
    for name in reversed(TRAININGS):
        if name in names:
            names |= set(TRAININGS[name].values())
    return [name for name in TRAININGS if name in names]


def run_all(steps: Steps, names: Sequence[str], data_folder: str) -> None:
    """Run trainings, two at a time: a training that waits was given after those it waits for."""
    started: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(2) as pool:
        for name in names:
            if name == WORDS:
                started[name] = pool.submit(steps.fit_words, data_folder)
            else:
                sources = [started[source] for source in TRAININGS[name].values()]
                started[name] = pool.submit(steps.train, name, sources)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all steps; the result is an exit status."""
    form = argparse.RawDescriptionHelpFormatter
    usage = "%(prog)s CODEC OUT --data_folder FOLDER [OPTIONS OF train.py]"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, usage=usage)
    parser.add_argument("codec", metavar="CODEC", choices=tuple(CODECS), help=", ".join(CODECS))
    parser.add_argument("out", metavar="OUT", help="folder for runs, codec and figures")
    parser.add_argument("--data_folder", required=True, help="corpus of demo_corpus.py")
    given, options = parser.parse_known_args(argv)
    out, parts = Path(given.out).resolve(), CODECS[given.codec]
    out.mkdir(parents=True, exist_ok=True)
    steps = Steps(out, [f"--data_folder={given.data_folder}", *options])
    run_all(steps, needed(parts), given.data_folder)
    sources = [str(out / name) if name in TRAININGS else name for name in parts]
    codec = str(out / given.codec)
    steps.call("export", *EXPORT, *sources, codec)
    places = ("--codec", codec, "--output_folder", str(out / f"resynthesis_{given.codec}"))
    steps.call("evaluate", "evaluate.py", "hparams/resynthesis_demo.yaml", *places)
    if not steps.code:
        print(f"{codec}: ready for --model; figures: {places[-1]}", flush=True)
    return abs(steps.code)


def leave(main: Callable[[], int]) -> NoReturn:
    """Run a command of this folder and end the process with its exit status."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        raise SystemExit(128 + 2) from None


if __name__ == "__main__":
    leave(main)
