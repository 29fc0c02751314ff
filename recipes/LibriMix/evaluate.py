"""Evaluate codecs on noisy speech: what they make of it beside the clean speech.

python evaluate.py hparams/denoising.yaml --data_folder /data/LibriMix --codecs "[my_codec]"
python evaluate.py hparams/denoising_mini.yaml
torchrun --nproc_per_node 4 evaluate.py hparams/denoising.yaml --data_folder /data/LibriMix
"""

from __future__ import annotations

from focalcodec.training.evaluation import evaluate_recipe
from focalcodec.training.experiment import run_script

if __name__ == "__main__":
    run_script(evaluate_recipe)
