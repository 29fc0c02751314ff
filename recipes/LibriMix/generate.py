"""Write mixtures in LibriMix's tree, of LibriSpeech and a folder of noise; the YAML says which.

python generate.py hparams/generate.yaml --data_folder /data/LibriSpeech \
    --noise_folder /data/wham_noise --num_speakers 2 --output_folder /data/LibriMix
python generate.py hparams/generate_mini.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from focalcodec.compat import ensure_torchaudio
from focalcodec.training.config import load_config, refuse_dead_keys
from focalcodec.training.experiment import run_script

ensure_torchaudio()
import speechbrain as sb  # noqa: E402

READ_KEYS = frozenset({"data_folder", "output_folder", "prepare", "max_broken_share"})


def generate(argv: Sequence[str]) -> None:
    """Write what is not there yet; the same command goes on where it stopped.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs.

    Raises
    ------
    UserError
        What the user can put right: a knob, the speech, the noise.
    """
    file, _, overrides = sb.parse_arguments(list(argv))
    hparams = load_config(file, overrides)
    refuse_dead_keys(file, READ_KEYS)
    out = Path(hparams["output_folder"])
    hparams["prepare"](
        data_folder=hparams["data_folder"],
        save_folder=out / "manifests",
        max_broken_share=hparams["max_broken_share"],
    )
    print(f"{out}: ready; train with --data_folder {out}", flush=True)


if __name__ == "__main__":
    run_script(generate)
