"""Use any layer of any speech encoder of `transformers` as the encoder of a codec.

WavLM, HuBERT, wav2vec 2.0 and Whisper's encoder. For WavLM, `focalcodec.wavlm` is faster; the
published models use it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from focalcodec.audio import check_sig
from focalcodec.encoders.model_config import PREPROCESSOR, checked_config, read_model
from focalcodec.errors import UserError
from focalcodec.hub import hub_folder
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import full_lengths
from focalcodec.nn.official import OfflineEncoder
from focalcodec.packages import need_beside_torchaudio

_PATTERNS = ("config.json", PREPROCESSOR, "*.safetensors", "*.safetensors.index.json")
_HOP = 320  # of all of them, at 16 kHz
_SHORTEST = 400  # samples: one frame of the strided convolutions, one window of Whisper's spectrum


class LayerMix(AtLeastFloat32):
    """Layers (B, N, D) of an encoder to feats (B, N, C): principal components of their mean.

    Early layers represent sound and voice, late layers words; their mean represents both. Each
    channel of each layer is first brought to mean 0 and variance 1, because a few channels of a
    transformer are a hundred times as large as the others. One number scales all components, so
    that the mean square of a frame is about 1 and their relative sizes stay: a squared error of
    feats is a squared error of the layers. C is `components`, 1 to D; else a `UserError`.

    Example
    -------
    >>> clips = torch.randn(4, 100, 2, 3)  # 4 clips, frames, layers, channels
    >>> mix = LayerMix(num_layers=2, dim=3, components=2)
    >>> mix.fit(list(clips))
    >>> mix([clips[0, None, :, 0], clips[0, None, :, 1]]).shape
    torch.Size([1, 100, 2])
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor

    def __init__(self, num_layers: int, dim: int, components: int) -> None:
        super().__init__()
        if not isinstance(components, int) or not 1 <= components <= dim:
            raise UserError(f"components={components}: give 1 to {dim}, the width of a layer")
        self.register_buffer("mean", torch.zeros(num_layers, dim))
        self.register_buffer("scale", torch.ones(num_layers, dim))
        self.register_buffer("rotation", torch.eye(dim, components))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """Mix layers, each (B, N, D), to feats (B, N, C)."""
        return self._average(torch.stack(list(layers), dim=-2)) @ self.rotation  # (B, N, C)

    @torch.no_grad()
    def fit(self, clips: Iterable[Tensor]) -> None:
        """Compute means, scales and the rotation from clips, each (N, num_layers, D).

        A channel without variance or with values that are not finite is a `UserError`.
        """
        frames = torch.cat(list(clips)).double()  # (frames, num_layers, D)
        mean, scale = frames.mean(dim=0), frames.std(dim=0)
        if not bool(torch.isfinite(scale).all()) or not bool((scale > 0).all()):
            raise UserError(
                f"{len(frames)} frames: a channel of a layer is constant or not finite in them;"
                " fit the mix to more speech"
            )
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        mixed = self._average(frames.float()).double()  # (frames, D)
        _, vectors = torch.linalg.eigh(torch.cov(mixed.T))  # in ascending order of variance
        rotation = vectors.flip(1)[:, : self.rotation.shape[1]]
        self.rotation.copy_(rotation / (mixed @ rotation).square().mean().sqrt())

    def _average(self, x: Tensor) -> Tensor:
        """(..., num_layers, D) to (..., D)."""
        return ((x - self.mean) / self.scale).mean(dim=-2)


class SpeechEncoder(OfflineEncoder):
    """A model of `transformers`: waveform to the hidden states of one layer, 50 per second.

    The feats are the output of the layer itself, before any norm that closes the model. The model
    never gets clips of different lengths in one batch: some of these models normalise over time,
    and Whisper has no masks. So a clip has the same feats alone and in a padded batch. Clips of
    equal length do share a batch: there the order of sums, which depends on the processor, leaves
    a difference of about 1e-6 of the scale of the feats. `LayerMix` divides by the deviation of
    each channel, and so enlarges the rounding of a channel that hardly changes.

    Whisper (arXiv 2212.04356) was trained on windows of 30 s, padded with silence. Here it gets
    the clip without padding: its log-mel, and as many positions as it has frames. Encode longer
    recordings in windows: `focalcodec.long_audio.coding`.

    The encoder is frozen: always in eval mode, without gradients.

    Parameters
    ----------
    model : mapping
        Configuration of the `transformers` model, with `model_type`: one of wavlm, hubert,
        wav2vec2 and whisper.
    layer : int or sequence of int
        The feats are the output of this layer, 1 to the model's number of layers. 0 is the input of
        the first layer; for Whisper, before positions are added. With several layers the feats are
        their mix.
    components : int, optional
        Width of the mix of several layers, default the width of a layer. The mix needs `fit_mix`,
        or `load_state_dict`, before it is useful.
    normalize : bool
        Bring each clip to zero mean and unit variance; some models of waveforms need it.

    Raises
    ------
    UserError
        `transformers` is not installed, or the model is of another kind, does not have 50 frames
        per second, or has no such layer.

    Example
    -------
    >>> sizes = {"d_model": 8, "encoder_layers": 2, "encoder_attention_heads": 2}
    >>> encoder = SpeechEncoder({"model_type": "whisper", "encoder_ffn_dim": 8, **sizes}, layer=1)
    >>> feats, lengths = encoder(torch.zeros(2, 16000), lengths=torch.tensor([16000, 8000]))
    >>> feats.shape, lengths
    (torch.Size([2, 50, 8]), tensor([50, 25]))
    """

    sample_rate = 16000
    hop = _HOP
    teacher: dict[str, Any] | None = None

    def __init__(
        self,
        model: Mapping[str, Any],
        layer: int | Sequence[int],
        components: int | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        transformers = _transformers()
        config = checked_config(transformers.AutoConfig, model)
        kind = config.model_type
        self.layers = [layer] if isinstance(layer, int) else list(layer)
        for number in self.layers or [-1]:
            if not 0 <= number <= config.num_hidden_layers:
                last = config.num_hidden_layers
                raise UserError(f"layer={layer}: the {kind} has layers 0 to {last}")
        self.config: dict[str, Any] = {
            "model": dict(model),
            "layer": layer if isinstance(layer, int) else self.layers,
            "components": components,
            "normalize": normalize,
        }
        self.normalize = normalize
        self.dim = int(config.hidden_size)
        config.mask_time_prob = config.mask_feature_prob = 0.0  # of training only
        # the layers above the highest one are not needed
        config.num_hidden_layers = max(1, *self.layers)
        self.mix: LayerMix | None = None
        self.model: Any
        if kind == "whisper":
            modeling = importlib.import_module("transformers.models.whisper.modeling_whisper")
            self.model = modeling.WhisperEncoder(config)
            # the closing norm: the feats are taken before it
            self.model.layer_norm = nn.Identity()
            bands = config.num_mel_bins
            self._spectrogram = transformers.WhisperFeatureExtractor(feature_size=bands)
            kept = self.model
        else:
            _check_frames(config)
            self.model = transformers.AutoModel.from_config(config)
            kept = self.model.encoder
        self.model.float()
        if not isinstance(layer, int):
            self.mix = LayerMix(len(self.layers), self.dim, components or self.dim)
            self.dim = components or self.dim
        self._kept_layers = list(kept.layers)
        self.eval()

    def train(self, mode: bool = True) -> SpeechEncoder:
        """Stay in eval mode: dropout and dropped layers are only for the model's training."""
        return super().train(False)

    @property
    def max_seconds(self) -> float | None:  # type: ignore[override]
        """Longest clip, s; None is any."""
        if self.config["model"]["model_type"] != "whisper":
            return None
        return self.model.max_source_positions * self.hop / self.sample_rate

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        layer: int | Sequence[int],
        components: int | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
    ) -> SpeechEncoder:
        """Load a float32 encoder from a folder of `transformers`, or from the hub.

        Parameters
        ----------
        source : str or path
            Local folder, or name on the hub, e.g. "openai/whisper-base".
        layer, components
            See the class.
        revision, token, cache_dir, local_files_only
            For the hub: see `focalcodec.hub.hub_folder`.

        Raises
        ------
        UserError
            The model is not available, is of another kind, lacks weights, or has no such layer.
        """
        transformers = _transformers()
        folder = Path(source).expanduser()
        if not folder.is_dir():
            folder = hub_folder(
                os.fspath(source), _PATTERNS, revision, token, cache_dir, local_files_only
            )
        try:
            model, config, missing, normalize = read_model(transformers, folder)
            encoder = cls(config, layer, components, normalize)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        prefix = "encoder." if model.config.model_type == "whisper" else ""
        names = {f"{prefix}{name}": name for name in encoder.model.state_dict()}
        lost = sorted(names.keys() & missing)
        if lost:
            problem = f"{len(lost)} weights are missing, such as {lost[0]}"
            raise UserError(f"{source}: {problem}; download the model again")
        state = model.state_dict()
        encoder.model.load_state_dict({ours: state[theirs] for theirs, ours in names.items()})
        return encoder

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames for this many samples, int64 of any shape."""
        samples = lengths.clamp(min=_SHORTEST)
        if self.config["model"]["model_type"] == "whisper":
            return (samples // 160 + 1) // 2
        return self.model._get_feat_extract_output_lengths(samples)

    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode sig (B, T), float at 16 kHz, about [-1, 1]; gradients only if sig requires one.

        Return feats (B, N, D), zero in the padding, and their lengths (B,) int64; see `Encoder`.
        Another shape of sig, and clips longer than `max_seconds`, are a `UserError`.
        """
        check_sig(sig, lengths)
        lengths = full_lengths(sig) if lengths is None else lengths
        self._check_seconds(int(lengths.max()))
        frames = self.output_lengths(lengths)
        weight = next(self.model.parameters())
        feats = weight.new_zeros(len(sig), int(frames.max()), self.dim)  # (B, N, D)
        with torch.set_grad_enabled(torch.is_grad_enabled() and sig.requires_grad):
            for length in lengths.unique().tolist():
                items = (lengths == length).nonzero()[:, 0]
                layers = self.hidden_states(sig[items, :length])
                out = layers[0] if self.mix is None else self.mix(layers)  # (items, n, D)
                feats[items, : out.shape[1]] = out.to(feats)
        return feats, frames

    @torch.no_grad()
    def fit_mix(self, clips: Iterable[Tensor]) -> None:
        """Fit the mix of several layers to clips, each (T,) at 16 kHz.

        An encoder of one layer, and too little speech, are a `UserError`.
        """
        if self.mix is None:
            raise UserError(f"layer={self.config['layer']}: one layer is not mixed; give several")
        states = (self.hidden_states(sig[None].to(self.mix.mean)) for sig in clips)
        self.mix.fit(torch.stack(layers, dim=2)[0] for layers in states)

    def _check_seconds(self, samples: int) -> None:
        limit = self.max_seconds
        if limit is not None and samples > limit * self.sample_rate:
            raise UserError(
                f"clip of {samples / self.sample_rate:.1f} s: Whisper takes {limit:g} s at most;"
                " encode it in windows, as `focalcodec encode` does, or leave"
                f" it out of a training with max_seconds={limit:g}"
            )

    def hidden_states(self, sig: Tensor) -> list[Tensor]:
        """Outputs (B, N, D) of each of `layers`, before they are mixed, of sig (B, T), not padded.

        Clips longer than `max_seconds` are a `UserError`.
        """
        self._check_seconds(sig.shape[1])
        sig = nn.functional.pad(sig, (0, max(0, _SHORTEST - sig.shape[1])))
        # mean, variance and spectra of a waveform are not computed in half precision
        sig = sig.to(torch.promote_types(sig.dtype, torch.float32))
        states: list[Tensor] = []

        def take_input(_module: nn.Module, inputs: Any) -> None:
            states.append(inputs[0])

        def take_output(_module: nn.Module, _inputs: Any, output: Any) -> None:
            states.append(output if isinstance(output, Tensor) else output[0])

        hooks: list[Any] = [layer.register_forward_hook(take_output) for layer in self._kept_layers]
        hooks.append(self._kept_layers[0].register_forward_pre_hook(take_input))
        try:
            if self.config["model"]["model_type"] == "whisper":
                # positions are too large to be subtracted again without rounding errors
                states[0] = self._run_whisper(sig)
            else:
                self._run_waveform(sig)
        finally:
            for hook in hooks:
                hook.remove()
        return [states[number] for number in self.layers]

    def _run_waveform(self, sig: Tensor) -> None:
        if self.normalize:
            mean = sig.mean(dim=1, keepdim=True)
            sig = (sig - mean) / (sig.var(dim=1, keepdim=True, correction=0) + 1e-7).sqrt()
        self.model(sig.to(next(self.model.parameters()).dtype))

    def _run_whisper(self, sig: Tensor) -> Tensor:
        """Run all layers (hooks store their outputs); return the convolutions' output (B, N, D)."""
        spectra = self._spectra
        if torch.compiler.is_compiling():  # as a decorator it would import the compiler, a second
            spectra = torch.compiler.disable(spectra)
        mel = spectra(sig).to(self.model.conv1.weight)  # (B, bands, 2N)
        x = nn.functional.gelu(self.model.conv1(mel))
        sound = nn.functional.gelu(self.model.conv2(x)).mT  # (B, N, D)
        x = sound + self.model.embed_positions.weight[: sound.shape[1]]
        for layer in self.model.layers:
            x = layer(x, None)
        return sound

    def _spectra(self, sig: Tensor) -> Tensor:
        """Whisper's own log-mel: (B, T) to (B, bands, 2N)."""
        if torch.is_grad_enabled() and sig.requires_grad:
            return self._spectra_with_gradient(sig)
        with torch.autocast("cpu", enabled=False):
            return self._spectrogram(
                list(sig.float().cpu().numpy()),
                sampling_rate=self.sample_rate,
                padding=False,
                truncation=False,
                return_tensors="pt",
            )["input_features"]

    def _spectra_with_gradient(self, sig: Tensor) -> Tensor:
        """The same in torch, for a loss on sig; equal but for rounding."""
        make = self._spectrogram
        filters = torch.as_tensor(make.mel_filters, dtype=torch.float32, device=sig.device)
        with torch.autocast(sig.device.type, enabled=False):
            window = torch.hann_window(make.n_fft, device=sig.device)
            spectrum = torch.stft(
                sig.float(), make.n_fft, make.hop_length, window=window, return_complex=True
            )[..., :-1]
            power = torch.view_as_real(spectrum).square().sum(-1)  # (B, bins, 2N)
            mel = (filters.T @ power).clamp(min=1e-10).log10()
            mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0)
            return (mel + 4.0) / 4.0


def _check_frames(config: Any) -> None:
    """Check that the convolutions make the frames of the published models."""
    samples, hop = 1, 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples += (kernel - 1) * hop
        hop *= stride
    if (samples, hop) != (_SHORTEST, _HOP):
        raise UserError(
            f"conv_kernel, conv_stride: frames of {samples} samples, one every {hop}; take a model"
            f" with {_SHORTEST}, one every {_HOP}"
        )


def _transformers() -> Any:
    return need_beside_torchaudio("transformers", "pip install 'focalcodec[recipes]'")
