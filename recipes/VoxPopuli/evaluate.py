"""Evaluate codecs on VoxPopuli, with figures for each language; the YAML names codecs and judges.

python evaluate.py hparams/resynthesis.yaml --data_folder /data/VoxPopuli --codecs "[my_codec]"
python evaluate.py hparams/resynthesis_mini.yaml
torchrun --nproc_per_node 4 evaluate.py hparams/resynthesis.yaml --data_folder /data/VoxPopuli
"""

from __future__ import annotations

from focalcodec.training.run import script
from focalcodec.training.run.evaluation import evaluate_recipe

if __name__ == "__main__":
    script(evaluate_recipe)
