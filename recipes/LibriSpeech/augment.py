r"""Write augmented copies of splits, as more splits in LibriSpeech's tree; options: see the YAML.

python augment.py hparams/augment.yaml --data_folder /data/LibriSpeech \
    --copies "{train-clean-100: 2}" --jobs 8
python augment.py hparams/augment_mini.yaml
"""

from __future__ import annotations

from focalcodec.training.run import script
from focalcodec.training.run.augmentation import augment_recipe

if __name__ == "__main__":
    script(augment_recipe)
