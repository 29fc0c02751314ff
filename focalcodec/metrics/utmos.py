"""UTMOS: quality without a reference, the papers' judge of clean speech.

Saeki et al., "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022", arXiv 2204.02152: the
strong learner without phonemes, `utmos22_strong_step7459_v1.pt`, which was first released with the
repository tarepan/SpeechMOS (MIT). No library carries the network: it is the base wav2vec 2.0 of
transformers with a small head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.files import file_sha256
from focalcodec.metrics.hub_weights import judge_folder
from focalcodec.metrics.judge import Clip, Column, SignalJudge, at_rate
from focalcodec.packages import need_beside_torchaudio, package_folder, versions

SOURCE = "k2-fsa/TTS_eval_models"
WEIGHTS = "mos/utmos22_strong_step7459_v1.pt"
INSTALL = "pip install transformers"
SAMPLE_RATE = 16000
# Names of fairseq's wav2vec 2.0, in the weights, and of transformers'.
NAMES = (
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.0\.2\.", r"feature_extractor.conv_layers.0.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.0\.bias$", "encoder.pos_conv_embed.conv.bias"),
    (r"^encoder\.pos_conv\.0\.weight_g$", "encoder.pos_conv_embed.conv.{gain}"),
    (r"^encoder\.pos_conv\.0\.weight_v$", "encoder.pos_conv_embed.conv.{direction}"),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)


class UtmosModel(nn.Module):
    """wav2vec 2.0, a code for the data set and one for the listener, BLSTM, frame by frame MOS.

    Parameters
    ----------
    config : dict
        Of `transformers.Wav2Vec2Config` where it differs from base.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        transformers = need_beside_torchaudio("transformers", INSTALL)
        wav2vec2 = transformers.Wav2Vec2Config(mask_time_prob=0.0, **config)
        self.wav2vec2 = transformers.Wav2Vec2Model(wav2vec2)
        self.domain_emb = nn.Parameter(torch.zeros(1, 128))
        self.judge_emb = nn.Parameter(torch.zeros(1, 128))
        self.blstm = nn.LSTM(wav2vec2.hidden_size + 256, 512, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 1))

    def forward(self, sig: Tensor) -> Tensor:
        """MOS (B,) of sig (B, T) at 16 kHz, all valid."""
        feats = self.wav2vec2(sig).last_hidden_state
        codes = torch.cat([self.domain_emb, self.judge_emb], dim=1)
        codes = codes.expand(*feats.shape[:2], -1)
        frames = self.projection(self.blstm(torch.cat([feats, codes], dim=2))[0])
        return 3 + 2 * frames.mean(dim=(1, 2))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the published weights, whose wav2vec 2.0 has fairseq's names.

        Parameters
        ----------
        state : mapping
            Name to tensor.

        Raises
        ------
        UserError
            They are not of this network.
        """
        conv = self.wav2vec2.encoder.pos_conv_embed.conv
        renamed = dict(_renamed(state, "parametrizations" in dict(conv.named_children())))
        try:
            self.load_state_dict(renamed)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise UserError(f"UTMOS: not its weights ({first}); give {SOURCE}") from error


class UtmosJudge(SignalJudge):
    """One MOS, about 1 to 5.

    Parameters
    ----------
    device : str
        For the network.
    source : str
        Folder or hub repository with mos/utmos22_strong_step7459_v1.pt.

    Raises
    ------
    UserError
        A package or the weights can't be had.
    """

    name = "UTMOS"
    columns = (Column("utmos", "UTMOS", "MOS", "higher"),)
    least = {"utmos": 1.0}

    def __init__(self, device: str = "cpu", source: str = SOURCE) -> None:
        package_folder("transformers", INSTALL)
        _, self._weights = judge_folder(source, (), (WEIGHTS,))
        self._source, self._device = source, device

    @cached_property
    def _model(self) -> UtmosModel:
        model = UtmosModel()
        model.load_published(torch.load(self._weights, map_location="cpu", weights_only=True))
        return model.eval().to(self._device)

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._weights)

    @torch.no_grad()
    def figures(self, clip: Clip) -> dict[str, float]:
        """MOS of one output."""
        sig = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE)
        return {"utmos": float(self._model(sig[None].to(self._device)))}

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["transformers", "torch"]),
            "weights": f"{self._source} {WEIGHTS}",
            "weights_sha256": self._sha256,
            "settings": f"utmos22_strong, fp32, {self._device}",
        }


def _renamed(state: Mapping[str, Tensor], parametrised: bool) -> Any:
    """Pairs of name and tensor; the weight norm's names differ between versions of torch."""
    gain, direction = "weight_g", "weight_v"
    if parametrised:
        gain, direction = (f"parametrizations.weight.original{i}" for i in range(2))
    for name, tensor in state.items():
        prefix, _, rest = name.partition("wav2vec2.")
        if rest == "mask_emb":  # of its training
            continue
        if not prefix:
            for old, new in NAMES:
                rest = re.sub(
                    old, new.replace("{gain}", gain).replace("{direction}", direction), rest
                )
            name = f"wav2vec2.{rest}"
        yield name, tensor
