"""Evaluate codecs on noisy speech: their output is compared with the clean speech.

python evaluate.py hparams/denoising.yaml --data_folder /data/LibriMix --codecs "[my_codec]"
python evaluate.py hparams/denoising_mini.yaml
torchrun --nproc_per_node 4 evaluate.py hparams/denoising.yaml --data_folder /data/LibriMix
"""

from __future__ import annotations

from focalcodec.training.run import script
from focalcodec.training.run.evaluation import evaluate_recipe

if __name__ == "__main__":
    script(evaluate_recipe)
