"""Join the results of both stages in one folder for `FocalCodec.from_pretrained`.

On the command line: focalcodec export QUANTIZER DECODER FOLDER
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import nn

from focalcodec.codec import FocalCodec
from focalcodec.encoders import Encoder
from focalcodec.hub import named_folder
from focalcodec.hub.checkpoints import PART_NAMES, stored_tensors
from focalcodec.hub.fingerprint import describe_encoder, weights_sha256
from focalcodec.hub.publish import About, model_card, publish
from focalcodec.training.run.model_card import figures_text, training_text
from focalcodec.training.run.trained import (
    TrainedParts,
    gives_feats_of,
    load_trained,
    refuse_other_encoder,
    with_clean,
)


def load_decoder(source: str | Path, encoder: Encoder, trust: Collection[str] = ()) -> nn.Module:
    """Load a decoder for this encoder's feats, from a codec folder, hub repository or stage-2 run.

    Parameters
    ----------
    source : str or Path
        See `focalcodec.training.run.trained.load_trained`.
    encoder : Module
        The decoder will get the feats of this encoder.
    trust : collection of str
        Modules of a run whose classes may be built.

    Raises
    ------
    UserError
        The source is none of these, or its decoder was trained for another encoder, which is not
        the teacher of this one.
    """
    found = load_trained(source, trust, ["decoder"])
    decoder = found.part("decoder")
    _check_encoder(found, encoder)
    return decoder


def export(
    quantizer_source: str | Path,
    decoder_source: str | Path,
    folder: str | Path,
    dtype: str = "float32",
    trust: Collection[str] = (),
    *,
    about: About | None = None,
    results: Sequence[str | Path] = (),
) -> FocalCodec:
    """Join the parts of two sources into one codec and write it, with a model card.

    Parameters
    ----------
    quantizer_source, decoder_source : str or Path
        Each is the folder of a run or a codec (folder, hub repository, `demo`). The first gives
        encoder, compressor, quantizer and decompressor, the second the decoder. A run gives the
        weights of its best checkpoint.
    folder : str or Path
        Folder for the files of a repository on the hub, `focalcodec.hub.publish`, and a copy of the
        modules of the user's own parts.
    dtype : {"float32", "float16"}
        Number format of the file: `focalcodec.hub.checkpoints.stored_tensors`. A loaded codec is
        always float32.
    trust : collection of str
        Modules of the runs whose classes may be built; without it no code of a run's folder runs.
    about : About
        What the model card says beside the facts; `training` is on the data and its licence.
    results : sequence of str or Path
        Output folders of evaluations of this codec, for the figures of the model card.

    Returns
    -------
    FocalCodec
        The written codec, with rounded weights, in eval mode.

    Raises
    ------
    UserError
        A source is not of this kind, the decoder was trained for another encoder, which is not the
        first one's teacher, there is no such `dtype`, a part of the user's own can't be loaded
        again from its `config`, or `results` are of another codec.
    """
    first = load_trained(quantizer_source, trust, ("student", *PART_NAMES))
    encoder = first.encoder_for()
    names = ("compressor", "quantizer", "decompressor")
    compressor, quantizer, decompressor = (first.part(name) for name in names)
    second = first
    if named_folder(decoder_source) != named_folder(quantizer_source):
        second = load_trained(decoder_source, trust, PART_NAMES)
    decoder = second.part("decoder")
    _check_encoder(second, encoder)
    codec = FocalCodec(encoder, compressor, quantizer, decompressor, decoder).eval()
    codec.load_state_dict(stored_tensors(codec.state_dict(), dtype))  # rounded as in the file
    sources = {"all but the decoder": quantizer_source, "decoder": decoder_source}
    about = (about or About())._replace(
        training=training_text(sources, about.training if about else ""),
        figures=figures_text(sources, results, weights_sha256(codec)),
    )
    publish(codec, folder, model_card(codec, Path(folder).name, about), dtype)
    return codec


def _check_encoder(source: TrainedParts, encoder: Encoder) -> None:
    if source.trained_on is not None and gives_feats_of(encoder, source):
        return
    if source.encoder is encoder:
        return
    present = describe_encoder(encoder)
    clean = with_clean(source.encoder)[-1]
    theirs = describe_encoder(clean)
    if theirs["config"] == present["config"] and _nearly_equal(clean, encoder):
        return
    refuse_other_encoder(source.name, theirs, present)


def _nearly_equal(a: Encoder, b: Encoder) -> bool:
    # The same published weights may differ by rounding if one copy was in another format.
    theirs, ours = a.state_dict(), b.state_dict()
    return theirs.keys() == ours.keys() and all(
        torch.allclose(tensor, ours[name], rtol=1e-2, atol=1e-3) for name, tensor in theirs.items()
    )
