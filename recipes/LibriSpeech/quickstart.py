"""Both stages of the mini configuration, export and resynthesis, in one command.

python recipes/LibriSpeech/quickstart.py [OUT]

The commands are printed as they run; each can be typed by hand. A run that was interrupted is taken
up where it was.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    """Run the four commands, stop at the first that fails."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "results/quickstart").resolve()
    vocoder, quantizer, codec = out / "vocoder", out / "quantizer", out / "codec"
    commands: list[list[str | Path]] = [
        ["train.py", "hparams/vocos_16khz_mini.yaml", "--output_folder", vocoder],
        ["train.py", "hparams/focalcodec_50hz_mini.yaml", "--output_folder", quantizer]
        + ["--decoder_source", vocoder],
        ["-m", "focalcodec.training.export", quantizer, vocoder, codec],
        ["resynthesize.py", codec, out / "resynthesis"],
    ]
    # Threads of OpenMP that wait in a loop slow a busy machine down many times.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    for command in commands:
        words = [str(word) for word in command]
        print(f"\n$ python {shlex.join(words)}", flush=True)
        status = subprocess.run([sys.executable, *words], cwd=FOLDER, env=environment).returncode
        if status != 0:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
