"""Neural codecs of others, from transformers: EnCodec, DAC, Mimi and X-codec2.

Their output depends on padding, so they get one clip at a time. Bitrates count the tokens with
fixed-length codes. Weights come from the hub, its offline cache or a local folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from abc import abstractmethod
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from focalcodec.coders.coder import ClipCoder
from focalcodec.encoders.model_config import read_config, weight_files
from focalcodec.errors import UserError, one_line
from focalcodec.files import file_sha256
from focalcodec.hub import hub_folder
from focalcodec.hub.weights import AtMost, check_arguments, check_values
from focalcodec.packages import ensure_torchaudio

# of config.json: what this module uses
_HINTS: dict[str, Any] = {
    **dict.fromkeys(("sampling_rate", "codebook_size", "num_quantizers", "n_codebooks"), int),
    "frame_rate": float | None,
    "target_bandwidths": Sequence[float],
    "quantization_levels": Sequence[int],
}
_PATTERNS = ("config.json", "preprocessor_config.json", "model*.safetensors", "model*.index.json")


class HubCoder(ClipCoder):
    """A model of transformers with tokens (Q, N): Q streams, N frames.

    Parameters
    ----------
    source : str
        Folder, or repository on the hub.
    setting : float or None
        The subclass's choice of the bitrate; None for its default.
    device : torch.device
        Where it runs.

    Raises
    ------
    UserError
        transformers is not installed, there is no such model, or it is not of this class.
    """

    architecture = ""
    streams = 1

    def __init__(self, source: str, setting: float | None, device: torch.device) -> None:
        super().__init__()
        self.device, self.setting, self.source = device, setting, source
        self.folder = _find(source)
        self.weights_sha256 = _weights_sha256(self.folder)
        self.model = self._load().eval().to(device)
        config = self.model.config
        self.sample_rate_input = self.sample_rate_output = int(config.sampling_rate)
        self.streams = self.count_streams(config)
        bits = round(math.log2(self.stream_size(config)))
        self.bits = self.streams * bits
        self.token_rate = self.frame_rate(config)
        self.kbps = self.token_rate * self.bits / 1000
        self.codebook_size = self.stream_size(config) if self.streams == 1 else None
        self.settings = {"streams": self.streams, "transformers": metadata.version("transformers")}

    def _load(self) -> Any:
        if importlib.util.find_spec("torchaudio"):  # transformers imports it if it is installed
            ensure_torchaudio()
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise UserError(
                f"{self.source}: transformers is not installed; pip install transformers"
            ) from error
        check_arguments(f"{self.folder}: config.json: ", read_config(self.folder), _HINTS)
        try:
            with AtMost(weight_files(self.folder)):
                model, info = getattr(transformers, self.architecture).from_pretrained(
                    self.folder, local_files_only=True, output_loading_info=True
                )
        # of any kind: transformers gives the values of config.json to the model unchecked
        except Exception as error:
            raise UserError(
                f"{self.folder}: not a checkpoint of {self.architecture} ({one_line(error)});"
                " copy the whole folder again"
            ) from error
        random = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        if random:  # transformers would continue with random weights
            raise UserError(
                f"{self.folder}: not a complete checkpoint of {self.architecture}:"
                f" {len(random)} of its tensors are missing, such as {random[0]}"
            )
        check_values(self.folder, model.state_dict())
        return model

    def _refuse_setting(self, known: str) -> UserError:
        return UserError(f"{self.source}: setting {self.setting:g}; it has {known}")

    def _streams_up_to(self, most: int, default: int) -> int:
        wanted = default if self.setting is None else self.setting
        if wanted != int(wanted) or not 1 <= wanted <= most:
            raise self._refuse_setting(f"1 to {most} codebooks")
        return int(wanted)

    def count_streams(self, config: Any) -> int:
        """Return the number of codebooks that are used, Q."""
        return 1

    def stream_size(self, config: Any) -> int:
        """Return the number of codes of one codebook, K."""
        return config.codebook_size

    def frame_rate(self, config: Any) -> float:
        """Return the frames of tokens per second."""
        return config.sampling_rate / config.hop_length

    def codebooks(self) -> list[Tensor] | None:
        """Return the codes (K, L) of each used stream; None if the codec has no table."""
        return None

    @abstractmethod
    def to_toks(self, sig: Tensor) -> Tensor:
        """Encode one clip (1, 1, T) to toks (Q, N)."""

    @abstractmethod
    def to_sig(self, toks: Tensor) -> Tensor:
        """Decode toks (Q, N) to a waveform (T',)."""

    def encode_clip(self, sig: Tensor) -> tuple[Tensor, int, Tensor | None]:
        """Return toks (Q, N), their bits, and toks (N,) if there is one stream."""
        toks = self.to_toks(sig[None, None].to(self.device))  # (Q, N)
        assert self.bits is not None
        return toks, toks.shape[1] * self.bits, toks[0] if self.streams == 1 else None

    def decode_clip(self, content: Tensor) -> Tensor:
        """Decode toks (Q, N)."""
        return self.to_sig(content)


class Encodec(HubCoder):
    """EnCodec, 24 kHz, causal (arXiv 2210.13438). The setting is its bandwidth in kbit/s."""

    architecture = "EncodecModel"

    def count_streams(self, config: Any) -> int:
        """Return the number of codebooks of the bandwidth."""
        wanted = config.target_bandwidths[0] if self.setting is None else self.setting
        if wanted not in config.target_bandwidths:
            raise self._refuse_setting(f"{', '.join(f'{x:g}' for x in config.target_bandwidths)}")
        self.setting = wanted
        return self.model.quantizer.get_num_quantizers_for_bandwidth(wanted)

    def codebooks(self) -> list[Tensor]:
        """Return the codebooks of the bandwidth."""
        return [_vectors(x.codebook.embed) for x in self.model.quantizer.layers[: self.streams]]

    def to_toks(self, sig: Tensor) -> Tensor:
        """Encode one clip."""
        return self.model.encode(sig, bandwidth=self.setting).audio_codes[0, 0]

    def to_sig(self, toks: Tensor) -> Tensor:
        """Decode."""
        return self.model.decode(toks[None, None], [None]).audio_values[0, 0]


class Dac(HubCoder):
    """Descript's audio codec (arXiv 2306.06546), 16 kHz. The setting is its codebooks."""

    architecture = "DacModel"

    def count_streams(self, config: Any) -> int:
        """Return the setting, by default all codebooks."""
        return self._streams_up_to(config.n_codebooks, config.n_codebooks)

    def codebooks(self) -> list[Tensor]:
        """Return the used codebooks, in the narrow space of the nearest-code search."""
        used = self.model.quantizer.quantizers[: self.streams]
        return [_vectors(x.codebook.weight) for x in used]

    def to_toks(self, sig: Tensor) -> Tensor:
        """Encode one clip, padded to whole frames as its own feature extractor does."""
        hop = self.model.config.hop_length
        sig = pad(sig, (0, -sig.shape[-1] % hop))
        return self.model.encode(sig, n_quantizers=self.streams).audio_codes[0]

    def to_sig(self, toks: Tensor) -> Tensor:
        """Decode."""
        return self.model.decode(audio_codes=toks[None]).audio_values[0].flatten()


class Mimi(HubCoder):
    """Mimi of Moshi (arXiv 2410.00037), 24 kHz, causal. The setting is its codebooks."""

    architecture = "MimiModel"

    def count_streams(self, config: Any) -> int:
        """Return the setting, by default eight codebooks as in Moshi."""
        return self._streams_up_to(config.num_quantizers, min(8, config.num_quantizers))

    def frame_rate(self, config: Any) -> float:
        """Return the frames of tokens per second."""
        return float(config.frame_rate)

    def codebooks(self) -> list[Tensor]:
        """Return the used codebooks: first the semantic, then the acoustic ones."""
        quantizer = self.model.quantizer
        layers = [
            *quantizer.semantic_residual_vector_quantizer.layers,
            *quantizer.acoustic_residual_vector_quantizer.layers,
        ]
        return [_vectors(layer.codebook.embed) for layer in layers[: self.streams]]

    def to_toks(self, sig: Tensor) -> Tensor:
        """Encode one clip."""
        return self.model.encode(sig, num_quantizers=self.streams).audio_codes[0]

    def to_sig(self, toks: Tensor) -> Tensor:
        """Decode."""
        return self.model.decode(toks[None]).audio_values[0, 0]


class XCodec2(HubCoder):
    """X-codec2 (arXiv 2502.04128), 16 kHz, one stream of 65,536 tokens. It has no setting."""

    architecture = "Xcodec2Model"

    def __init__(self, source: str, setting: float | None, device: torch.device) -> None:
        super().__init__(source, setting, device)
        from transformers import Xcodec2FeatureExtractor

        self._extract = Xcodec2FeatureExtractor(hop_length=self.model.config.hop_length)

    def count_streams(self, config: Any) -> int:
        """Return 1."""
        return self._streams_up_to(1, 1)

    def stream_size(self, config: Any) -> int:
        """Return the product of the levels of finite scalar quantization."""
        return math.prod(config.quantization_levels)

    def to_toks(self, sig: Tensor) -> Tensor:
        """Encode one clip."""
        rate = self.sample_rate_input
        inputs = self._extract(audio=sig[0, 0].cpu(), sampling_rate=rate, return_tensors="pt")
        return self.model.encode(**inputs.to(self.device)).audio_codes[0]

    def to_sig(self, toks: Tensor) -> Tensor:
        """Decode."""
        return self.model.decode(audio_codes=toks[None]).audio_values.flatten()


def _vectors(table: Tensor) -> Tensor:
    return table.detach().float().cpu()


def _find(source: str) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    try:
        return hub_folder(source, _PATTERNS)
    except UserError as error:
        raise UserError(
            f"{source}: not a folder, not in the hub's cache, and the hub can't be reached;"
            " without a network, copy its folder from another machine and give CODEC@FOLDER"
        ) from error


def _weights_sha256(folder: Path) -> str:
    """Return the hash of a checkpoint's file, or of the hashes of its files."""
    # Sorted, so that the hash does not depend on the file system.
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{folder}: no .safetensors in it; copy the model's whole folder from a machine that"
            " has it and give CODEC@FOLDER"
        )
    hashes = [file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
