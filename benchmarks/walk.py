"""Files that a reader opens to follow one training step of stage 1.

    python benchmarks/walk.py

Trains the mini model of recipes/LibriSpeech for a few steps and follows one of them, from reading
the clips to the step of the optimiser. Counts the files of the package and of the recipe whose code
runs, and how often the execution changes from one of them to another, calls and returns.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from focalcodec.packages import ensure_torchaudio

ROOT = Path(__file__).parents[1]
FOLLOWED = 3  # the first steps make buffers


class Walk:
    """Files in the order in which their code runs."""

    def __init__(self, root: Path) -> None:
        self.roots = tuple(f"{root / name}{os.sep}" for name in ("focalcodec", "recipes"))
        self.files: list[str] = []

    def follow(self, frame: FrameType, event: str, _: object) -> None:
        """Profile function of Python: note the file that is entered, or returned to."""
        if event not in ("call", "return"):
            return
        now = frame if event == "call" else frame.f_back
        if now is not None and now.f_code.co_filename.startswith(self.roots):
            self._note(now.f_code.co_filename)

    def _note(self, file: str) -> None:
        if not self.files or self.files[-1] != file:
            self.files.append(file)


def main() -> None:
    """Train a few steps, print the files of one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout whose recipe is run")
    root = parser.parse_args().root.resolve()
    ensure_torchaudio()
    import speechbrain as sb

    walk, steps = Walk(root), 0
    fit_train = sb.Brain._fit_train

    def counted(brain: Any, *args: Any, **kwargs: Any) -> None:
        fit_batch = brain.fit_batch

        def step(batch: Any) -> Any:
            nonlocal steps
            loss = fit_batch(batch)
            steps += 1
            # From the end of one step to the end of the next: its clips are read in between.
            sys.setprofile(walk.follow if steps == FOLLOWED - 1 else None)
            return loss

        brain.fit_batch = step
        fit_train(brain, *args, **kwargs)
        sys.setprofile(None)

    sb.Brain._fit_train = counted
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(root / "recipes" / "LibriSpeech")
        sys.path[:0] = [str(root), os.getcwd()]
        sys.argv = ["train.py", "hparams/focalcodec_50hz_mini.yaml", f"--output_folder={folder}"]
        sys.argv += ["--debug", f"--debug_batches={FOLLOWED + 1}", "--sample_clips=0"]
        runpy.run_path("train.py", run_name="__main__")
    visits = Counter(walk.files)
    for file, count in visits.most_common():
        print(f"{count:>5}  {Path(file).relative_to(root)}")
    print(f"{len(visits)} files, {len(walk.files) - 1} changes of file in one step")


if __name__ == "__main__":
    main()
