"""Train probes of emotion on IEMOCAP, CREMA-D or RAVDESS; the YAML says which.

python train.py hparams/emotion.yaml --data_folder /data/IEMOCAP_full_release
python train.py hparams/emotion.yaml --data_folder /data/CREMA-D --corpus crema-d
python train.py hparams/emotion_mini.yaml
"""

from __future__ import annotations

from focalcodec.training.experiment import run_script, train

if __name__ == "__main__":
    run_script(train)
