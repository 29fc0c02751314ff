"""Judges of quality without a reference, on the scale of mean opinion scores (MOS).

UTMOS: Saeki et al., "UTMOS: UTokyo-SaruLab System for VoiceMOS Challenge 2022", arXiv 2204.02152;
the papers' judge of clean speech.
DNSMOS, the two networks of the DNS challenge: P.835 (speech, background, overall), Reddy et al.,
arXiv 2110.01763; P.808 (one score, the papers' judge of noisy sets), arXiv 2010.15258.
Distill-MOS: Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised
Representation-Based Speech Quality Assessment", arXiv 2502.05356.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError
from focalcodec.files import file_sha256
from focalcodec.hub.weights import check_values
from focalcodec.metrics.judge import (
    SAMPLE_RATE,
    Column,
    JudgedClip,
    SignalJudge,
    at_rate,
    judge_folder,
)
from focalcodec.packages import (
    check_sha256,
    need,
    need_beside_torchaudio,
    package_folder,
    versions,
)

# -- UTMOS -----------------------------------------------------------------------------------------

UTMOS_SOURCE = "k2-fsa/TTS_eval_models"
UTMOS_WEIGHTS = "mos/utmos22_strong_step7459_v1.pt"
UTMOS_INSTALL = "pip install transformers"
# Names in the weights, which are fairseq's for wav2vec 2.0, and transformers' names.
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
    """UTMOS' strong learner without phonemes: wav2vec 2.0, two embeddings, BLSTM, MOS per frame.

    The embeddings are of the data set and of the listener. No library has this network; its weights
    were first released with the repository tarepan/SpeechMOS (MIT). `config` are options of
    `transformers.Wav2Vec2Config` that differ from base.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        transformers = need_beside_torchaudio("transformers", UTMOS_INSTALL)
        wav2vec2 = transformers.Wav2Vec2Config(mask_time_prob=0.0, **config)
        self.wav2vec2 = transformers.Wav2Vec2Model(wav2vec2)
        self.domain_emb = nn.Parameter(torch.zeros(1, 128))
        self.judge_emb = nn.Parameter(torch.zeros(1, 128))
        self.blstm = nn.LSTM(wav2vec2.hidden_size + 256, 512, batch_first=True, bidirectional=True)
        self.projection = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 1))

    def forward(self, sig: Tensor) -> Tensor:
        """MOS (B,) of sig (B, T) at 16 kHz, without padding."""
        feats = self.wav2vec2(sig).last_hidden_state  # (B, N, D)
        codes = torch.cat([self.domain_emb, self.judge_emb], dim=1)  # (1, 256)
        codes = codes.expand(*feats.shape[:2], -1)
        frames = self.projection(self.blstm(torch.cat([feats, codes], dim=2))[0])  # (B, N, 1)
        return 3 + 2 * frames.mean(dim=(1, 2))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load the published weights (name -> tensor); `UserError` if they do not fit."""
        conv = self.wav2vec2.encoder.pos_conv_embed.conv
        renamed = dict(_renamed(state, "parametrizations" in dict(conv.named_children())))
        try:
            self.load_state_dict(renamed)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise UserError(f"UTMOS: not its weights ({first}); give {UTMOS_SOURCE}") from error


def _renamed(state: Mapping[str, Tensor], parametrised: bool) -> Iterator[tuple[str, Tensor]]:
    """Pairs of name and tensor; names of the weight norm differ between versions of torch."""
    gain, direction = "weight_g", "weight_v"
    if parametrised:
        gain, direction = (f"parametrizations.weight.original{i}" for i in range(2))
    for name, tensor in state.items():
        prefix, _, rest = name.partition("wav2vec2.")
        if rest == "mask_emb":  # only used in its training
            continue
        if not prefix:
            for old, new in NAMES:
                rest = re.sub(
                    old, new.replace("{gain}", gain).replace("{direction}", direction), rest
                )
            name = f"wav2vec2.{rest}"
        yield name, tensor


class UtmosJudge(SignalJudge):
    """One MOS, about 1 to 5; `UserError` if a package or the weights are missing.

    `source` is a folder or hub repository with mos/utmos22_strong_step7459_v1.pt.
    """

    name = "UTMOS"
    columns = (Column("utmos", "UTMOS", "MOS", "higher"),)
    least = {"utmos": 1.0}

    def __init__(self, device: str = "cpu", source: str = UTMOS_SOURCE) -> None:
        package_folder("transformers", UTMOS_INSTALL)
        _, self._weights = judge_folder(source, (), (UTMOS_WEIGHTS,))
        self._source, self._device = source, device

    @cached_property
    def _model(self) -> UtmosModel:
        model = UtmosModel()
        model.load_published(torch.load(self._weights, map_location="cpu", weights_only=True))
        check_values(self._weights, model.state_dict())
        return model.eval().to(self._device)

    @cached_property
    def _sha256(self) -> str:
        return file_sha256(self._weights)

    @torch.no_grad()
    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """MOS of one output."""
        sig = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE)
        return {"utmos": float(self._model(sig[None].to(self._device)))}

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["transformers", "torch"]),
            "weights": f"{self._source} {UTMOS_WEIGHTS}",
            "weights_sha256": self._sha256,
            "settings": f"utmos22_strong, fp32, {self._device}",
        }


# -- Distill-MOS -----------------------------------------------------------------------------------

DISTILLMOS_INSTALL = "pip install distillmos==0.9.1 xls-r-sqa==0.1.0"
DISTILLMOS_SHA256 = "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40"


class DistillMosJudge(SignalJudge):
    """One MOS, 1 to 5, by a small network that was distilled from XLS-R.

    Raises `UserError` if a package is missing, or has other weights.
    """

    name = "Distill-MOS"
    columns = (Column("distillmos", "Distill-MOS", "MOS", "higher"),)
    least = {"distillmos": 1.0}

    def __init__(self, device: str = "cpu") -> None:
        folder = package_folder("distillmos", DISTILLMOS_INSTALL)
        weights = folder / "weights" / "distill_mos_v7.pt"
        self._weights = check_sha256(weights, DISTILLMOS_SHA256, DISTILLMOS_INSTALL)
        package_folder("xls_r_sqa", DISTILLMOS_INSTALL)
        self._device = device

    @cached_property
    def _model(self) -> Any:
        package = need_beside_torchaudio("distillmos", DISTILLMOS_INSTALL)
        model = package.ConvTransformerSQAModel(load_weights=False)
        state = torch.load(self._weights, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        return model.eval().to(self._device)

    @torch.no_grad()
    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """MOS of one output."""
        sig = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE)
        return {"distillmos": float(self._model(sig[None].to(self._device)))}

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["distillmos", "xls-r-sqa", "torch"]),
            "weights": "variant 7",
            "weights_sha256": DISTILLMOS_SHA256,
            "settings": self._device,
        }


# -- DNSMOS ----------------------------------------------------------------------------------------

DNSMOS_INSTALL = "pip install speechmos==0.0.1.1 onnxruntime requests"
DNSMOS_SHA256 = {
    "model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
    "sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
}
DNSMOS_TITLES = {
    "p808": "P.808",
    "sig": "P.835 speech",
    "bak": "P.835 background",
    "ovrl": "P.835 overall",
}


class DnsmosJudge(SignalJudge):
    """Four MOS, 1 to 5, by the networks in the package `speechmos`.

    Clips shorter than 9 s are repeated, longer ones are scored every second, as its authors do. The
    polynomials that map the networks' outputs can give values a little below 1. `device` is not
    used: the networks are small and run on the CPU. Raises `UserError` if a package is missing, or
    has other networks.
    """

    name = "DNSMOS"

    def __init__(self, device: str = "cpu") -> None:
        folder = package_folder("speechmos", DNSMOS_INSTALL)
        self._models = [
            str(check_sha256(folder / "dnsmos_models" / file, sha256, DNSMOS_INSTALL))
            for file, sha256 in DNSMOS_SHA256.items()
        ]
        need("onnxruntime", DNSMOS_INSTALL)
        need("requests", DNSMOS_INSTALL)
        self.columns = tuple(
            Column(f"dnsmos_{key}", f"DNSMOS {title}", "MOS", "higher")
            for key, title in DNSMOS_TITLES.items()
        )
        self.least = {column.key: 1.0 for column in self.columns}

    @cached_property
    def _model(self) -> Any:
        p808, p835 = self._models
        model = need("speechmos.dnsmos", DNSMOS_INSTALL).DNSMOS(p835, p808)
        # By itself each session has a thread for each core, so two processes disturb each other:
        # with two on two cores a clip takes 3/4 of the time this way.
        runtime = need("onnxruntime", DNSMOS_INSTALL)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model.onnx_sess = runtime.InferenceSession(p835, options)
        model.p808_onnx_sess = runtime.InferenceSession(p808, options)
        return model

    def figures(self, clip: JudgedClip) -> dict[str, float]:
        """Four MOS of one output."""
        audio = at_rate(clip.rec_sig, clip.sample_rate, SAMPLE_RATE).clamp(-1, 1).numpy()
        mos = self._model(audio, SAMPLE_RATE, is_personalized_MOS=False)
        return {f"dnsmos_{key}": float(mos[f"{key}_mos"]) for key in DNSMOS_TITLES}

    def describe(self) -> dict[str, str]:
        """Packages and weights."""
        return {
            "name": self.name,
            "packages": versions(["speechmos", "onnxruntime", "librosa"]),
            "weights": ", ".join(DNSMOS_SHA256),
            "weights_sha256": ", ".join(DNSMOS_SHA256.values()),
            "settings": "windows of 9.01 s, not personalised",
        }
