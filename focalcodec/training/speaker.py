"""A small speaker encoder, and a loss on the voice of the decoder's output.

The encoder maps a clip to a vector of 128 numbers; its direction depends on the speaker.
`SpeakerBrain` of recipes/Demo trains it, on the training speakers. It is not a judge: evaluations
measure similarity by models that no training uses.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from focalcodec.encoders import Encoder
from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.masking import full_lengths, masked_mean, valid_mask, zero_padding
from focalcodec.probes.lstm import pool_statistics
from focalcodec.training.run.trained import load_run

if TYPE_CHECKING:
    from focalcodec.training.stages import Stage2Output

VOICE_SECONDS = 1.0  # shortest crop in which a speaker encoder can recognise a voice


class SpeakerEncoder(nn.Module):
    """Log-mel, ConvNeXt, mean and standard deviation over time, one linear layer.

    `SpeakerBrain` trains it. An evaluation must not use it as a judge, because a decoder that was
    trained with it would be judged by its own loss. Resemblyzer, which no training uses, measures
    speaker similarity.

    Sources: Snyder et al., "X-vectors" (2018), section 2.2, statistics pooling; ConvNeXt as in
    Vocos, arXiv 2306.00814, section 3.2.

    Parameters
    ----------
    embedding_dim : int
        Width of the embedding.
    num_layers : int
        ConvNeXt blocks.
    dim, ffn_dim : int
        Widths between and inside the blocks.
    kernel_size : int
        Frames of each convolution's kernel.
    n_mels : int
        Number of mel bands.
    n_fft, hop_length : int
        Samples of a spectrum's window, and samples from one window to the next.

    Raises
    ------
    UserError
        The bands do not fit the window.

    Example
    -------
    >>> encoder = SpeakerEncoder(num_layers=1, dim=8, ffn_dim=8).eval()
    >>> encoder(torch.randn(2, 16000), lengths=torch.tensor([16000, 8000])).shape
    torch.Size([2, 128])
    """

    def __init__(
        self,
        embedding_dim: int = 128,
        num_layers: int = 4,
        dim: int = 128,
        ffn_dim: int = 384,
        kernel_size: int = 7,
        n_mels: int = 80,
        n_fft: int = 512,
        hop_length: int = 160,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "embedding_dim": embedding_dim,
            "num_layers": num_layers,
            "dim": dim,
            "ffn_dim": ffn_dim,
            "kernel_size": kernel_size,
            "n_mels": n_mels,
            "n_fft": n_fft,
            "hop_length": hop_length,
        }
        self.spectrogram = LogMel(n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        self.sample_rate, self.dim = self.spectrogram.sample_rate, embedding_dim
        self.backbone = ConvNeXt(n_mels, num_layers, dim, ffn_dim, kernel_size)
        self.head = nn.Linear(2 * dim, embedding_dim)

    def forward(self, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed a batch.

        Parameters
        ----------
        sig : Tensor
            (B, T) float, at 16 kHz, about [-1, 1]; values of the padding are not used.
        lengths : Tensor, optional
            (B,) int64 >= 1, valid samples of each clip; None: all samples are valid.

        Returns
        -------
        Tensor
            (B, embedding_dim) float32. Only its direction has a meaning, not its length.

        Raises
        ------
        UserError
            `sig` is not (B, T) of floats with at least one sample.
        """
        lengths = full_lengths(sig) if lengths is None else lengths
        # A spectrum in half precision does not exist on the CPU and overflows on a GPU.
        with torch.autocast(sig.device.type, enabled=False):
            spectra, frames = self.spectrogram(sig.float(), lengths=lengths)  # (B, N, bands), (B,)
            mask = valid_mask(frames, spectra.shape[1])
            # Subtract the level of the recording, which does not depend on the voice.
            level = masked_mean(spectra, mask).mean(dim=2, keepdim=True)
            spectra = zero_padding(spectra - level, mask)
        x = zero_padding(self.backbone(spectra, mask=mask)[0], mask)  # (B, N, dim)
        with torch.autocast(sig.device.type, enabled=False):
            return self.head(pool_statistics(x.float(), frames))


class SpeakerLoss(nn.Module):
    """Term of stage 2: 1 - cosine of the speaker embeddings of the decoded and of the true audio.

    Gradients pass through the frozen speaker encoder to the decoder. In training the audio are
    crops, which must have a second or more (`crop_frames`).

    Source: the speaker consistency loss of YourTTS, arXiv 2112.02418.

    Parameters
    ----------
    source : str or path
        Run that trained a speaker encoder: recipes/Demo/hparams/ablations/speaker_encoder.yaml. It
        is loaded when the training starts.

    Example
    -------
    >>> loss = SpeakerLoss("results/speaker_encoder/1986")
    >>> loss.encoder = SpeakerEncoder(num_layers=1, dim=8, ffn_dim=8)
    >>> sig = torch.randn(2, 16000)
    >>> loss.distances(0.5 * sig, sig) < 0.1
    tensor([True, True])
    """

    encoder: Any

    def __init__(self, source: str | Path) -> None:
        super().__init__()
        self.source = source

    def load(self, encoder: Encoder, trust: Collection[str] = ()) -> None:
        """Load the speaker encoder; a `UserError` if its sample rate is not the run's encoder's."""
        folder = Path(self.source).expanduser()
        modules = load_run(folder, trust, parts=["speaker"])["modules"]
        if "speaker" not in modules:
            raise UserError(
                f"{self.source}: a run that trained no speaker encoder; give one of"
                " speaker_encoder.yaml"
            )
        self.encoder = modules["speaker"]
        if self.encoder.sample_rate != encoder.sample_rate:
            raise UserError(
                f"{self.source}: its speaker encoder takes {self.encoder.sample_rate} Hz, the"
                f" encoder {encoder.sample_rate}; name one for that rate"
            )

    def forward(self, out: Stage2Output) -> Tensor:
        """Distances (B,) float32, 0 to 2; a `UserError` if crops of a training are too short."""
        shortest = round(VOICE_SECONDS * self.encoder.sample_rate)
        if out.rec_sig.requires_grad and out.sig.shape[1] < shortest:
            raise UserError(
                f"crop_frames: crops of {out.sig.shape[1]} samples; a voice can't be recognised in"
                f" less than {shortest}, so raise crop_frames and min_seconds"
            )
        return self.distances(out.rec_sig, out.sig, out.lengths)

    def distances(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Distance between the voices of rec_sig and sig, both (B, T): (B,) float32."""
        with torch.no_grad():
            target = self.encoder(sig, lengths=lengths)  # (B, D)
        return 1 - cosine_similarity(self.encoder(rec_sig, lengths=lengths), target, dim=1)
