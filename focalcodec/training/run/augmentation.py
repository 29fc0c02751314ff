"""Write augmented copies of splits from a recipe's YAML, as more splits in LibriSpeech's tree."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from focalcodec.data.augment import CopyPart, write_copy
from focalcodec.data.corpus import embedded_corpus
from focalcodec.errors import UserError
from focalcodec.training.run.dead_keys import load_command


def augment_recipe(argv: Sequence[str]) -> None:
    """Write the copies that are missing: `<split>-aug1`, ...; the same command resumes.

    Parameters
    ----------
    argv : sequence of str
        Command line: the YAML, then `--key value` for its knobs.

    Raises
    ------
    UserError
        A knob, the speech or the noise is wrong.
    """
    _, hparams, _ = load_command(argv, sys.modules[__name__])
    data_root, root = _folders(hparams)
    for split, copies in _copies(hparams).items():
        for copy in range(1, copies + 1):
            part = CopyPart(data_root, root, split, copy)
            write_copy(
                part,
                hparams["augmenter"],
                hparams["seed"],
                hparams["jobs"],
                hparams["max_broken_share"],
            )
            print(f"{root / part.name}: ready", flush=True)


def _folders(hparams: Mapping[str, Any]) -> tuple[Path, Path]:
    """Folders of corpus and copies: the same, except for the corpus of the package."""
    data, out = hparams["data_folder"], hparams["output_folder"]
    if data is None:
        data, out = embedded_corpus("LibriSpeech"), out or f"results/{hparams['name']}"
        print("no --data_folder: the embedded mini corpus is used", flush=True)
    root = Path(data).expanduser()
    if not root.is_dir():
        raise UserError(f"data_folder {root}: no such folder; name the corpus' root")
    return root, Path(out or root).expanduser()


def _copies(hparams: Mapping[str, Any]) -> dict[str, int]:
    copies = hparams["copies"]
    if not isinstance(copies, Mapping) or not copies:
        raise UserError(f'copies={copies}: give splits and how many, such as "{{train-mini: 2}}"')
    for split, number in copies.items():
        if not isinstance(number, int) or number < 0:
            raise UserError(f"copies: {split}: {number}; give a whole number")
    return dict(copies)
