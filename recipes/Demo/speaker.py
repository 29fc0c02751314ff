"""A small speaker encoder, and a loss on the voice of the decoder's output; tried, not kept.

The encoder maps a clip to a vector of 128 numbers; its direction depends on the speaker.
`ablations.py` trains the encoder, and a decoder with the loss.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from focalcodec.encoders.logmel import LogMel
from focalcodec.errors import UserError
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.masking import full_lengths, masked_mean, valid_mask, zero_padding
from focalcodec.probes.lstm import pool_statistics
from focalcodec.training.run.trained import load_run


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
    """1 - cosine of the speaker embeddings of a generated and of the real clip.

    Gradients pass through the frozen encoder to the generated clip.

    Source: the speaker consistency loss of YourTTS, arXiv 2112.02418.

    Parameters
    ----------
    encoder : Module
        (sig, lengths) -> embeddings (B, D), with `sample_rate`; frozen here, and kept in eval
        mode. Not the judge of an evaluation: see `SpeakerEncoder`.

    Example
    -------
    >>> loss = SpeakerLoss(SpeakerEncoder(num_layers=1, dim=8, ffn_dim=8))
    >>> sig = torch.randn(2, 8000)
    >>> loss(0.5 * sig, sig) < 0.1
    tensor([True, True])
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.sample_rate: int = encoder.sample_rate
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> SpeakerLoss:
        """Stay in eval mode."""
        return super().train(False)

    def forward(self, rec_sig: Tensor, sig: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Distance between the voices of rec_sig and sig, for each item.

        Parameters
        ----------
        rec_sig, sig : Tensor
            (B, T), generated and real, at `sample_rate`; of a second or more.
        lengths : Tensor, optional
            (B,) int64 >= 1, valid samples; default all.

        Returns
        -------
        Tensor
            (B,) float32, 0 to 2.
        """
        with torch.no_grad():
            target = self.encoder(sig, lengths=lengths)  # (B, D)
        return 1 - cosine_similarity(self.encoder(rec_sig, lengths=lengths), target, dim=1)


def load_speaker_loss(source: str | Path) -> SpeakerLoss:
    """Load the speaker encoder that a run trained, as a loss.

    Parameters
    ----------
    source : str or Path
        Folder of a run of `hparams/ablations/speaker_encoder.yaml`.

    Raises
    ------
    UserError
        The source is not a run's folder, has no complete checkpoint, or trained other modules.
    """
    folder = Path(source).expanduser()
    modules = load_run(folder, trust=[__name__], parts=["speaker"])["modules"]
    if "speaker" not in modules:
        raise UserError(
            f"speaker_source={source}: a run that trained no speaker encoder; give one of"
            " speaker_encoder.yaml"
        )
    return SpeakerLoss(modules["speaker"])
