"""From the folders of a stage-1 and a stage-2 run to one folder for `FocalCodec.from_pretrained`.

On the command line: focalcodec export QUANTIZER_RUN VOCODER_RUN FOLDER
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from focalcodec.checkpoints import CONFIG_NAME
from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.training.checkpointing import RunCheckpointer
from focalcodec.training.config import load_config
from focalcodec.training.identity import SAVE_NAME

ENCODER_NAME = "encoder.json"


def describe_encoder(encoder: Any) -> dict[str, Any]:
    """Name, configuration and hash of the weights of an encoder, JSON-ready.

    Example
    -------
    >>> from focalcodec.logmel import LogMel
    >>> describe_encoder(LogMel(n_mels=80))["name"]
    'LogMel'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "name": type(encoder).__name__,
        "config": json.loads(json.dumps(encoder.config)),
        "sha256": digest.hexdigest(),
    }


def load_run(folder: str | Path, names: Sequence[str]) -> dict[str, Any]:
    """Configuration of a run, with the best checkpoint's weights in its modules.

    Parameters
    ----------
    folder : str or Path
        A run's folder, with `hyperparams.yaml` and `save/`.
    names : sequence of str
        Modules that are needed.

    Returns
    -------
    dict
        The run's configuration.

    Raises
    ------
    UserError
        Not a run's folder, a run of the other stage, or one without a whole checkpoint.
    """
    folder = Path(folder)
    yaml = folder / "hyperparams.yaml"
    if not yaml.is_file():
        raise UserError(f"{folder}: no hyperparams.yaml; name the folder of a training run")
    hparams = load_config(yaml)
    missing = [name for name in names if name not in hparams.get("modules", {})]
    if missing:
        raise UserError(f"{folder}: this run trained no {missing[0]}; is it the other stage's?")
    weights = {
        name: hparams["modules"][name]
        for name in names
        if any(True for _ in hparams["modules"][name].parameters())
    }
    if not (folder / SAVE_NAME).is_dir():
        raise UserError(f"{folder}: no finished epoch in {SAVE_NAME}/; train it first")
    checkpointer = RunCheckpointer(folder / SAVE_NAME, weights)
    checkpointer.refuse_if_all_damaged()
    if checkpointer.recover_if_possible(**hparams["brain"].selection) is None:
        raise UserError(f"{folder}: no finished epoch in {SAVE_NAME}/; train it first")
    return hparams


def load_decoder(source: str | Path, encoder: Any) -> nn.Module:
    """Decoder of a codec folder, a hub repository or a stage-2 run, for this encoder's feats.

    Parameters
    ----------
    source : str or Path
        Folder with `config.json`, folder of a stage-2 run, or hub repository.
    encoder : Module
        The encoder whose feats it will hear.

    Raises
    ------
    UserError
        None of these, or made for another encoder.
    """
    folder = Path(source)
    if folder.is_dir() and not (folder / CONFIG_NAME).is_file():
        hparams = load_run(folder, ["decoder"])
        _check_encoder(folder, encoder)
        return hparams["modules"]["decoder"]
    codec = FocalCodec.from_pretrained(source)
    if codec.encoder.dim != encoder.dim:
        raise UserError(
            f"{source}: its decoder reads feats of {codec.encoder.dim}, the encoder gives"
            f" {encoder.dim}; choose one made for this encoder"
        )
    return codec.decoder


def export(quantizer_run: str | Path, vocoder_run: str | Path, folder: str | Path) -> FocalCodec:
    """Compose the best checkpoints of both stages into one codec and write it.

    Parameters
    ----------
    quantizer_run, vocoder_run : str or Path
        Folders of a stage-1 and a stage-2 run on the same encoder.
    folder : str or Path
        Gets `config.json` and `model.safetensors` in the published format.

    Returns
    -------
    FocalCodec
        The codec that was written, in eval mode.

    Raises
    ------
    UserError
        Not two such runs, or runs on different encoders.
    """
    first = load_run(quantizer_run, ["compressor", "quantizer", "decompressor"])
    second = load_run(vocoder_run, ["decoder"])
    encoder = first["encoder"]()
    _check_encoder(Path(quantizer_run), encoder)
    _check_encoder(Path(vocoder_run), encoder)
    parts = first["modules"]
    codec = FocalCodec(
        encoder,
        parts["compressor"],
        parts["quantizer"],
        parts["decompressor"],
        second["modules"]["decoder"],
    ).eval()
    codec.save_pretrained(folder)
    return codec


def _check_encoder(run: Path, encoder: Any) -> None:
    path = run / ENCODER_NAME
    if not path.is_file():
        raise UserError(f"{run}: no {ENCODER_NAME}; was this run's folder copied in full?")
    trained_on, present = json.loads(path.read_text(encoding="utf-8")), describe_encoder(encoder)
    for key in ("name", "config", "sha256"):
        if trained_on[key] != present[key]:
            raise UserError(
                f"{run}: trained on another encoder ({key} {trained_on[key]}, now {present[key]});"
                " both stages need the same one"
            )
