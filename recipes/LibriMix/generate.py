r"""Write mixtures of LibriSpeech and noise, in LibriMix's tree; the YAML names speech and noise.

python generate.py hparams/generate.yaml --data_folder /data/LibriSpeech \
    --noise_folder /data/wham_noise --num_speakers 2 --output_folder /data/LibriMix
python generate.py hparams/generate_mini.yaml
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from focalcodec.training.run import script
from focalcodec.training.run.dead_keys import load_command


def generate(argv: Sequence[str]) -> None:
    """Write the mixtures that are missing; the same command resumes if it was interrupted.

    `argv` is the YAML, then `--key value` for its keys. UserError if a key, the speech or the
    noise is wrong.
    """
    _, hparams, _ = load_command(argv, sys.modules[__name__])
    out = Path(hparams["output_folder"])
    hparams["prepare"](
        data_folder=hparams["data_folder"],
        save_folder=out / "manifests",
        max_broken_share=hparams["max_broken_share"],
    )
    print(f"{out}: ready; train with --data_folder {out}", flush=True)


if __name__ == "__main__":
    script(generate)
