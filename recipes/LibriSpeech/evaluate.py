"""Evaluate codecs on LibriSpeech or LibriTTS; the YAML names sets, codecs and judges.

python evaluate.py hparams/resynthesis.yaml --data_folder /data/LibriSpeech --codecs "[my_codec]"
python evaluate.py hparams/resynthesis_mini.yaml --codecs "[../../results/quickstart/codec, opus:6]"
torchrun --nproc_per_node 4 evaluate.py hparams/resynthesis.yaml --data_folder /data/LibriSpeech
"""

from __future__ import annotations

from focalcodec.training.run import script
from focalcodec.training.run.evaluation import evaluate_recipe

if __name__ == "__main__":
    script(evaluate_recipe)
