"""Evaluate the demo codec, or others, on clips that it was not trained on; options: see YAML.

python evaluate.py hparams/resynthesis_demo.yaml
python evaluate.py hparams/resynthesis_demo.yaml --codec results/demo
"""

from __future__ import annotations

from focalcodec.training.run import script
from focalcodec.training.run.evaluation import evaluate_recipe

if __name__ == "__main__":
    script(evaluate_recipe)
