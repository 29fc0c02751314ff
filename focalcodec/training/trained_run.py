"""What a run left in its folder: modules at the best checkpoint, and which encoder they heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from focalcodec.errors import UserError
from focalcodec.hub.fingerprint import describe_encoder
from focalcodec.training.checkpointing import RunCheckpointer
from focalcodec.training.config import load_config
from focalcodec.training.identity import SAVE_NAME

CONFIG_NAME = "hyperparams.yaml"
ENCODER_NAME = "encoder.json"

# The rest may name a recipe's own code, which is not there where the folder was copied to.
_KEYS = ("encoder", "modules", "init_from", "best_checkpoint")


def describe_with_teacher(encoder: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Descriptions of the encoders whose feats an encoder gives: its own, and its teacher's.

    Feats of a distilled encoder are estimates of its teacher's; any other is its own teacher.

    Example
    -------
    >>> from focalcodec.encoders.logmel import LogMel
    >>> own, teacher = describe_with_teacher(LogMel(n_mels=80))
    >>> own == teacher
    True
    """
    own = describe_encoder(encoder)
    return own, getattr(encoder, "teacher", None) or own


def read_encoder(folder: str | Path) -> dict[str, Any]:
    """The description of the encoder that a run was trained on.

    Raises
    ------
    UserError
        It is not in the folder.
    """
    path = Path(folder) / ENCODER_NAME
    if not path.is_file():
        raise UserError(f"{folder}: no {ENCODER_NAME}; was this run's folder copied in full?")
    return json.loads(path.read_text(encoding="utf-8"))


def load_run(folder: str | Path) -> dict[str, Any]:
    """What of a run makes up a codec, with the best checkpoint's weights.

    Parameters
    ----------
    folder : str or Path
        A run's folder, with `hyperparams.yaml` and `save/`.

    Returns
    -------
    dict
        `modules`: all that the run trained; `encoder`: makes the encoder of its YAML; `init_from`:
        what it began with, or None; `best_checkpoint`; and `replace_encoder`, where it has it.

    Raises
    ------
    UserError
        Not a run's folder, or one without a whole checkpoint.
    """
    folder = Path(folder)
    if not (folder / CONFIG_NAME).is_file():
        raise UserError(f"{folder}: no {CONFIG_NAME}; name the folder of a training run")
    hparams = load_config(folder / CONFIG_NAME, keys=(*_KEYS, "replace_encoder"))
    for key in _KEYS:
        if key not in hparams:  # a run of another kind, or of an early version
            raise UserError(f"{folder / CONFIG_NAME}: no {key!r}; not a run that trains a codec")
    unfinished = UserError(f"{folder}: no finished epoch in {SAVE_NAME}/; train it first")
    if not (folder / SAVE_NAME).is_dir():
        raise unfinished
    trained = {
        name: module
        for name, module in hparams["modules"].items()
        if any(True for _ in module.parameters())
    }
    checkpointer = RunCheckpointer(folder / SAVE_NAME, trained)
    checkpointer.refuse_if_all_damaged()
    if checkpointer.recover_if_possible(**hparams["best_checkpoint"]) is None:
        raise unfinished
    return hparams
