"""FocalCodec for `transformers.AutoModel`: the names and shapes of its audio codecs.

`focalcodec export` copies this file beside the weights. It needs the package `focalcodec`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from focalcodec.codec import FocalCodec
from focalcodec.errors import UserError
from focalcodec.hub.checkpoints import PART_NAMES, upgrade_config
from focalcodec.hub.publish import card_beside, model_card, publish
from focalcodec.nn.masking import as_tensor


class FocalCodecConfig(PretrainedConfig):
    """The `config.json` of a codec: name and configuration of each part."""

    model_type = "focalcodec"
    has_no_defaults_at_init = True

    def __init__(self, **kwargs: Any) -> None:
        known = {key for key in kwargs if key.endswith(("_name", "_config"))}
        super().__init__(**{key: value for key, value in kwargs.items() if key not in known})
        for key in known:
            setattr(self, key, kwargs[key])

    def parts(self) -> dict[str, Any]:
        """Names and configurations of the parts, the arguments of `FocalCodec`."""
        keys = [f"{part}_{kind}" for part in PART_NAMES for kind in ("name", "config")]
        return upgrade_config({key: getattr(self, key) for key in keys if hasattr(self, key)})


@dataclass
class FocalCodecOutput(ModelOutput):
    """Result of a model: what was not asked for is None."""

    audio_codes: Tensor | None = None  # (B, 1, N') int64
    audio_codes_mask: Tensor | None = None  # (B, N') int64, 1 on valid tokens
    audio_values: Tensor | None = None  # (B, 1, T)


class FocalCodecModel(PreTrainedModel):
    """A codec, `model.codec`, with the calls of the codecs in `transformers`.

    Audio is (batch, 1, samples) or (batch, samples), in at `config.sampling_rate`, out at
    `codec.sample_rate_output`; codes are (batch, 1, tokens). In a padded batch `padding_mask`
    (batch, samples) is 1 on valid samples.
    """

    config_class = FocalCodecConfig
    base_model_prefix = "codec"
    main_input_name = "input_values"
    input_modalities = "audio"

    def __init__(self, config: FocalCodecConfig, codec: FocalCodec | None = None) -> None:
        super().__init__(config)
        self.codec = FocalCodec(**config.parts()) if codec is None else codec

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        config: FocalCodecConfig | None = None,
        dtype: str | torch.dtype | None = None,
        device_map: Any = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> FocalCodecModel:
        """Load a codec with the checks of `FocalCodec.from_pretrained`.

        `device_map` is one device, or `auto`; `trust` is for parts of your own. Other options of
        `transformers` have no effect.
        """
        hub: dict[str, Any] = {"revision": revision, "token": token, "cache_dir": cache_dir}
        names = ("local_files_only", "force_download", "trust")
        hub |= {name: options[name] for name in names if name in options}
        dtype = options.get("torch_dtype") if dtype is None else dtype
        codec = FocalCodec.from_pretrained(
            pretrained_model_name_or_path,
            device=device_map.get("") if isinstance(device_map, dict) else device_map,
            dtype=None if dtype == "auto" else dtype,
            **hub,
        )
        if config is None:
            config = FocalCodecConfig(**codec.config, sampling_rate=codec.sample_rate_input)
        config.name_or_path = str(pretrained_model_name_or_path)
        return cls(config, codec).eval()

    def encode(
        self, input_values: Tensor, padding_mask: Tensor | None = None, **_: Any
    ) -> FocalCodecOutput:
        """Audio to `audio_codes` and their mask."""
        rate = self.codec.sample_rate_input
        toks, lengths = self.codec.encode(input_values, rate, _lengths(padding_mask))
        mask = torch.arange(toks.shape[1], device=toks.device) < lengths[:, None]
        return FocalCodecOutput(audio_codes=toks[:, None], audio_codes_mask=mask.long())

    def decode(
        self,
        audio_codes: Tensor,
        audio_codes_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
        **_: Any,
    ) -> FocalCodecOutput:
        """Codes to `audio_values`, as long as the input if its `padding_mask` is given."""
        toks = _without_channel("audio_codes", audio_codes)  # (B, N')
        num_samples = _lengths(padding_mask)
        if num_samples is not None:
            rates = self.codec.sample_rate_input, self.codec.sample_rate_output
            num_samples = num_samples * rates[1] // rates[0]
        rec_sig = self.codec.decode(toks, _lengths(audio_codes_mask), num_samples)
        return FocalCodecOutput(audio_values=rec_sig[:, None])

    def forward(
        self, input_values: Tensor, padding_mask: Tensor | None = None, **_: Any
    ) -> FocalCodecOutput:
        """Audio to codes and audio again, as long as the input.

        Without a `padding_mask`, an input that requires a gradient gets one: docs/pytorch.md.
        """
        sig = _without_channel("input_values", input_values)  # (B, T)
        if padding_mask is None:
            toks, _codes, rec_sig = self.codec(sig)
            mask = torch.ones_like(toks)
            return FocalCodecOutput(toks[:, None], mask, rec_sig[:, None])
        coded = self.encode(sig, padding_mask)
        codes, mask = coded["audio_codes"], coded["audio_codes_mask"]
        rec_sig = self.decode(codes, mask, padding_mask)["audio_values"]
        return FocalCodecOutput(codes, mask, rec_sig)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **_: Any) -> None:  # type: ignore[override]
        """Write the files of `focalcodec export`."""
        source = self.config.name_or_path or None
        card = card_beside(self.codec, source)
        publish(
            self.codec, save_directory, card or model_card(self.codec, Path(save_directory).name)
        )

    def push_to_hub(self, repo_id: str, **options: Any) -> str:  # type: ignore[override]
        """Upload the codec: `FocalCodec.push_to_hub` explains the options."""
        return self.codec.push_to_hub(repo_id, **options)


def _without_channel(name: str, x: Any) -> Tensor:
    """Audio or codes of one channel, (B, 1, N) or (B, N), without the channel."""
    x = as_tensor(name, x)
    if x.dim() == 2 or (x.dim() == 3 and x.shape[1] == 1):
        return x.flatten(1)
    raise UserError(f"{name}: shape {tuple(x.shape)}; give (batch, 1, length) or (batch, length)")


def _lengths(mask: Tensor | None) -> Tensor | None:
    """Valid positions (B,) of a mask (B, N) or (B, 1, N) that is 1 on the first ones."""
    return None if mask is None else as_tensor("mask", mask).flatten(1).long().sum(dim=1)
