"""Evaluate codecs on VoxPopuli, language by language; the YAML says which codecs and judges.

python evaluate.py hparams/resynthesis.yaml --data_folder /data/VoxPopuli --codecs "[my_codec]"
python evaluate.py hparams/resynthesis_mini.yaml
torchrun --nproc_per_node 4 evaluate.py hparams/resynthesis.yaml --data_folder /data/VoxPopuli
"""

from __future__ import annotations

from focalcodec.training.evaluation import evaluate_recipe
from focalcodec.training.experiment import run_script

if __name__ == "__main__":
    run_script(evaluate_recipe)
