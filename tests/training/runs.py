"""Small runs of both stages, started as a user starts them."""

from __future__ import annotations

import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "LibriSpeech"

COMMON = (
    "--number_of_epochs 2 --passes_per_epoch 1 --batch_size 4 --sample_clips 0 --num_workers 0"
    " --ckpt_interval_minutes 0 --tr_splits [dev-mini] --dev_splits [test-real]"
    " --te_splits [test-real] --extra_sets {}"
).split()
STAGES = {
    "quantizer": [
        "hparams/focalcodec_12_5hz_mini.yaml",
        "--hidden_dims=[16, 16, 16]",
        "--reversed_hidden_dims=[16, 16, 16]",
    ],
    "vocoder": [
        "hparams/vocos_16khz_mini.yaml",
        "--modules={decoder: {num_layers: 1, dim: 16, ffn_dim: 16}}",
        "--discriminator_divisor=32",
        "--adversarial_start_step=1",
    ],
}


def arguments(stage: str, folder: Path, *more: str) -> list[str]:
    """Script and options of a run of some seconds."""
    return ["train.py", *STAGES[stage], "--output_folder", str(folder), *COMMON, *more]


def command(stage: str, folder: Path, *more: str) -> list[str]:
    """The same for one process."""
    return [sys.executable, *arguments(stage, folder, *more)]
