"""Train FocalCodec on LibriMix, or on LibriSpeech mixed on the fly; the YAML says which stage.

python train.py hparams/focalcodec_50hz.yaml --data_folder /data/LibriMix
python train.py hparams/focalcodec_50hz_mini.yaml
torchrun --nproc_per_node 4 train.py hparams/vocos_16khz.yaml --data_folder /data/LibriMix
"""

from __future__ import annotations

from focalcodec.training.experiment import run_script, train

if __name__ == "__main__":
    run_script(train)
