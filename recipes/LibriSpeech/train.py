"""Train FocalCodec on LibriSpeech or LibriTTS; the YAML says which stage and which model.

python train.py hparams/focalcodec_50hz.yaml --data_folder /data/LibriTTS
python train.py hparams/focalcodec_50hz_mini.yaml
torchrun --nproc_per_node 4 train.py hparams/vocos_16khz.yaml --data_folder /data/LibriTTS
"""

from __future__ import annotations

from collections.abc import Sequence

from librispeech_prepare import prepare_librispeech

from focalcodec.data.embedded import embedded_corpus
from focalcodec.data.manifest import read_manifest
from focalcodec.training.experiment import Experiment, run_script

DATA_KEYS = ("data_folder", "tr_splits", "dev_splits", "te_splits", "extra_sets")

EMBEDDED_SPLITS = {
    "tr_splits": ["train-mini"],
    "dev_splits": ["dev-mini"],
    "te_splits": ["test-mini"],
    "extra_sets": {"test-real": ["test-real"]},
}


def main(argv: Sequence[str]) -> None:
    """Prepare the manifests, then train and test."""
    experiment = Experiment(argv, DATA_KEYS)
    hparams = experiment.hparams
    data_folder = hparams["data_folder"]
    splits = {key: hparams[key] for key in DATA_KEYS[1:]}
    if data_folder is None:
        data_folder = embedded_corpus("LibriSpeech")
        named = {name for key in DATA_KEYS[1:4] for name in splits[key]}
        if not all((data_folder / name).is_dir() for name in named):
            splits = EMBEDDED_SPLITS
        used = ", ".join(f"{key} {value}" for key, value in splits.items())
        experiment.say(f"no --data_folder: the embedded mini corpus is used, {used}")

    manifests = experiment.output_folder / "manifests"
    options = {key: hparams[key] for key in ("skip_prep", "max_broken_share")}
    experiment.on_main(prepare_librispeech, data_folder, manifests, **splits, **options)
    sets = {
        name: read_manifest(manifests / f"{name}.csv", data_folder)
        for name in ("train", "valid", "test", *splits["extra_sets"])
    }
    tests = {name: rows for name, rows in sets.items() if name not in ("train", "valid")}
    experiment.run(sets["train"], sets["valid"], tests)


if __name__ == "__main__":
    run_script(main)
