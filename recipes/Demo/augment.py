"""Write augmented copies of the demo codec's corpus, as more splits; the YAML has the options.

python augment.py hparams/augment_demo.yaml --data_folder /data/demo --jobs 8
"""

from __future__ import annotations

from focalcodec.training.run import script
from focalcodec.training.run.augmentation import augment_recipe

if __name__ == "__main__":
    script(augment_recipe)
