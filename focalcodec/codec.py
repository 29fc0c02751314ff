"""The codec: five exchangeable parts, one stream of tokens."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from focalcodec.audio_codec import AudioCodec
from focalcodec.codec_base import config_of
from focalcodec.contracts import Decoder, Quantizer, RateChanger
from focalcodec.encoders import Encoder
from focalcodec.errors import UserError
from focalcodec.files import read_json, read_text
from focalcodec.hub.checkpoints import (
    PART_NAMES,
    check_tensors,
    find_files,
    override,
    read_weights,
    upgrade_config,
    write_checkpoint,
    write_files,
)
from focalcodec.hub.publish import card_beside, model_card, publish, upload
from focalcodec.hub.weights import AtMost
from focalcodec.official_codec import DEFAULT_CONFIGS
from focalcodec.parts import (
    REGISTRY,
    build_part,
    check_parts,
    check_stored,
    copy_modules,
    trusted_code,
)
from focalcodec.precision import pick_device, set_precision

__all__ = ["DEFAULT_CONFIGS", "REGISTRY", "FocalCodec"]


class FocalCodec(AudioCodec):
    """Low-bitrate speech codec (arXiv 2502.04465, section 3).

    `sig -> encoder -> feats -> compressor -> lats -> quantizer -> codes, toks` and back
    `codes -> decompressor -> qfeats -> decoder -> rec_sig`. `OfficialCodec` has the methods of
    these steps, such as `sig_to_feats`; those of `AudioCodec`, such as `encode`, resample and
    check. `CodecBase` has rates and sizes.

    A codec is made of parts, by their roles, or of names and configurations, as in `config.json`.
    The parts have the interfaces `Encoder`, `RateChanger` and `Decoder`, see `parts`; parts that do
    not fit together raise a `UserError`. Of the modules `trust`, classes may be built by their
    paths.

    Example
    -------
    >>> from focalcodec.bsq import BinarySphericalQuantizer
    >>> from focalcodec.focalnet import FocalDecoder, FocalEncoder
    >>> from focalcodec.encoders.logmel import LogMel
    >>> from focalcodec.vocos import Vocos
    >>> codec = FocalCodec(
    ...     encoder=LogMel(n_mels=80),
    ...     compressor=FocalEncoder(80, 13, [32, 32, 32], [1, 1, 1]),
    ...     quantizer=BinarySphericalQuantizer(codebook_size=8192),
    ...     decompressor=FocalDecoder(13, 80, [32, 32, 32], [1, 1, 1]),
    ...     decoder=Vocos(80, num_layers=1, dim=32, ffn_dim=64),
    ... ).eval()
    >>> toks, lengths = codec.encode(torch.randn(1, 16000), sample_rate=16000)
    >>> toks.shape, lengths
    (torch.Size([1, 50]), tensor([50]))
    >>> codec.decode(toks, lengths=lengths, num_samples=16000).shape
    torch.Size([1, 16000])
    >>> codec.convert(torch.randn(1, 4001), torch.randn(90, 80), 16000).shape
    torch.Size([1, 4001])
    >>> codec.bitrate
    650.0
    """

    def __init__(
        self,
        encoder_name: Any = "WavLM",
        encoder_config: Any = None,
        compressor_name: Any = "FocalEncoder",
        compressor_config: Any = None,
        quantizer_name: Any = "BinarySphericalQuantizer",
        quantizer_config: dict[str, Any] | None = None,
        decompressor_name: str = "FocalDecoder",
        decompressor_config: dict[str, Any] | None = None,
        decoder_name: str = "WaveNeXt",
        decoder_config: dict[str, Any] | None = None,
        *,
        encoder: Encoder | None = None,
        compressor: RateChanger | None = None,
        quantizer: Quantizer | None = None,
        decompressor: RateChanger | None = None,
        decoder: Decoder | None = None,
        trust: Collection[str] = (),
    ) -> None:
        names = [encoder_name, compressor_name, quantizer_name, decompressor_name, decoder_name]
        configs = [encoder_config, compressor_config, quantizer_config]
        configs += [decompressor_config, decoder_config]
        # five parts may be the first five positional arguments
        first = [encoder_name, encoder_config, compressor_name, compressor_config, quantizer_name]
        parts: dict[str, Any] = {
            part: module
            for part, module in zip(PART_NAMES, first, strict=True)
            if isinstance(module, nn.Module)
        }
        by_role = (encoder, compressor, quantizer, decompressor, decoder)
        parts |= {
            part: module
            for part, module in zip(PART_NAMES, by_role, strict=True)
            if module is not None
        }
        given: dict[str, Any] = {}
        if not parts:
            for part, name, config in zip(PART_NAMES, names, configs, strict=True):
                given |= {f"{part}_name": name, f"{part}_config": dict(config or {})}
                parts[part] = build_part(part, name, given[f"{part}_config"], trust)
        if len(parts) < len(PART_NAMES):
            raise UserError(f"FocalCodec: only {', '.join(parts)}; give {', '.join(PART_NAMES)}")
        check_parts(parts)
        super().__init__(parts, given or config_of(parts))

    # -- checkpoints -----------------------------------------------------------------------------

    @classmethod
    def from_config(
        cls,
        config: str | os.PathLike[str] | dict[str, Any],
        pretrained: bool = False,
        overrides: Mapping[str, Any] | None = None,
        *,
        trust: Collection[str] = (),
        **hub: Any,
    ) -> FocalCodec:
        """Codec of a parsed `config.json` of either generation, or of a file with one.

        The weights are random, or those of the file if `pretrained`. Raises a `UserError` for
        unknown parts, wrong configurations, or parts that do not fit, and as `from_pretrained`.

        Parameters
        ----------
        config : str, path or dict
            As for `from_pretrained`, or a parsed configuration.
        pretrained : bool
            Load the weights; the codec is in eval mode then.
        overrides : dict, optional
            Other values by their paths, such as `{"encoder_config.max_cached_steps": 0}`.
        trust : collection of str
            As for `from_pretrained`.
        **hub
            Options for a repository on the hub: `revision`, `token`, `cache_dir` and others.
        """
        if not isinstance(config, (str, os.PathLike)):
            if pretrained:
                raise UserError("config: a dict has no weights; give a name, or pretrained=False")
            config = upgrade_config(override(upgrade_config(config), overrides))
            return cls(**config, trust=trust)
        path, weights = find_files(config, weights=pretrained, **hub)
        parsed, tensors = read_json(path), {} if weights is None else read_weights(weights)
        try:
            bound = nullcontext() if weights is None else AtMost([weights])
            with bound, trusted_code(path.parent, trust):
                parsed = upgrade_config(override(upgrade_config(parsed), overrides))
                codec = cls(**parsed, trust=trust)
        except UserError as error:
            raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
        codec.model_id = str(config)
        if weights is None:
            return codec
        check_tensors(weights, tensors, codec.state_dict())
        # before, so that another default dtype of torch does not round the weights
        codec.float().load_state_dict(tensors)
        return codec.eval()

    @classmethod
    def from_pretrained(
        cls,
        config: str | os.PathLike[str],
        overrides: Mapping[str, Any] | str | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        trust: Collection[str] = (),
        **hub: Any,
    ) -> FocalCodec:
        """Codec of the package, of files, or of a hub repository or its cache; in eval mode.

        Raises a `UserError` if there is no such checkpoint, a file is damaged, the tensors are
        those of another model, or the machine does not have the device.

        Parameters
        ----------
        config : str or path
            A codec of the package such as `demo`, a folder, a `.json` file with the weights beside
            it, or a repository such as `lucadellalib/focalcodec_50hz`.
        overrides : dict, optional
            As for `from_config`; a string in this place is a revision.
        device : str or torch.device, optional
            Where the codec is put, such as `cuda`; `auto` is a GPU if there is one. Default: CPU.
        dtype : str or torch.dtype, optional
            Number format, such as `torch.bfloat16`, see `set_precision`. Default: float32.
        trust : collection of str
            Python modules whose classes the configuration may name by their paths, such as
            `my_parts.MyEncoder`; their code runs. Without it no code of others runs.
        **hub
            `revision` is a branch, tag or commit of the repository, `token` an access token,
            `cache_dir` by default that of `huggingface_hub`.
        """
        if isinstance(overrides, str):
            overrides, hub = None, {"revision": overrides, **hub}
        target = None if device is None else pick_device(device)
        codec = cls.from_config(config, pretrained=True, overrides=overrides, trust=trust, **hub)
        codec.to(target)
        return codec if dtype is None else set_precision(codec, dtype)

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str | None = None) -> None:
        """Write `config.json` and `model.safetensors`, atomically; dtype: `stored_tensors`.

        The modules of one's own parts are copied too. Raises a `UserError`, before it writes, for a
        part that could not be loaded again.
        """
        parts = {part: self._part(part) for part in PART_NAMES}
        check_stored(parts)
        if self.packed_sha256 is not None:
            raise UserError("save_pretrained: the weights are packed; load the codec again")
        write_checkpoint(folder, self.config, self.state_dict(), dtype)
        copy_modules(parts.values(), folder)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        card: str | os.PathLike[str] | None = None,
        dtype: str | None = None,
        **upload_options: Any,
    ) -> str:
        """Upload to a repository on the hub, which is made if there is none; return its address.

        The files are those of `focalcodec export`. A `UserError` if the hub refuses.

        Parameters
        ----------
        repo_id : str
            `owner/name`.
        card : str or path, optional
            File with the model card. Default: the one in the folder that the codec was loaded from,
            if it is about the same weights; else a new one, without training data and figures.
        dtype : str, optional
            Of the stored weights: `stored_tensors`.
        **upload_options
            `token`, `private`, `revision` (a branch), `commit_message`, `create_pr`: see `upload`.
        """
        text = card_beside(self, self.model_id) if card is None else read_text(card)
        with tempfile.TemporaryDirectory() as folder:
            publish(self, folder, text or model_card(self, repo_id.rpartition("/")[2]), dtype)
            return upload(folder, repo_id, **upload_options)

    def to_config(self, config: str | os.PathLike[str], pretrained: bool = False) -> None:
        """Write the configuration that this codec was made of to a `.json` file, as it was given.

        `pretrained` also writes the weights, with `.safetensors`.
        """
        path = Path(config)
        path = path if path.suffix == ".json" else path.with_name(f"{path.name}.json")
        keys = [f"{part}_{kind}" for part in PART_NAMES for kind in ("name", "config")]
        given = {key: getattr(self, key) for key in keys}
        for part in PART_NAMES:
            module, first = getattr(self, part, None), self._facts.get((part, "config"))
            if getattr(module, "config", first) != first:  # it took the place of the first
                given |= config_of({part: module})
        weights = path.with_suffix(".safetensors") if pretrained else None
        tensors = self.state_dict() if pretrained and self.config else {}
        write_files(path, given, weights, tensors)

    def to_pretrained(self, config: str | os.PathLike[str]) -> None:
        """Write configuration and weights, as `to_config`."""
        self.to_config(config, pretrained=True)
