"""WaveNeXt: the decoder of the causal models, with a linear map instead of the inverse STFT.

Source: Okamoto et al., "WaveNeXt" (ASRU 2023); causal form from arXiv 2509.16195.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from focalcodec.nn.convnext import ConvNeXt, ConvNeXtDecoder
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import zero_padding


class WaveNeXt(ConvNeXtDecoder):
    """Decoder: feats (B, N, input_dim) to rec_sig (B, N * hop_length), within +-1.

    The parameters are those of `ConvNeXt`, `hop_length`, the samples of each frame, and
    `sample_rate`, Hz of rec_sig. `run` decodes padded batches, `step` the next frames of a stream.

    Example
    -------
    >>> decoder = WaveNeXt(8, num_layers=1, dim=4, ffn_dim=6, causal=True)
    >>> rec_sig, lengths = decoder.run(torch.randn(2, 5, 8), torch.tensor([5, 3]))
    >>> rec_sig.shape, lengths.tolist()
    (torch.Size([2, 2400]), [2400, 1440])
    >>> first, state = decoder.step(torch.randn(2, 4, 8))
    >>> second, state = decoder.step(torch.randn(2, 4, 8), state)
    >>> second.shape
    torch.Size([2, 1920])
    """

    def __init__(
        self,
        input_dim: int = 1024,
        num_layers: int = 8,
        dim: int = 1024,
        ffn_dim: int = 2048,
        kernel_size: int = 7,
        layerscale_init: float | None = None,
        hop_length: int = 480,
        causal: bool = False,
        *,
        sample_rate: int = 24000,
    ) -> None:
        super().__init__(
            {
                "input_dim": input_dim,
                "num_layers": num_layers,
                "dim": dim,
                "ffn_dim": ffn_dim,
                "kernel_size": kernel_size,
                "hop_length": hop_length,
                "layerscale_init": layerscale_init,
                "causal": causal,
                # the official package loads only configurations without it
                **({} if sample_rate == 24000 else {"sample_rate": sample_rate}),
            }
        )
        self.sample_rate = sample_rate
        self.backbone = WaveNeXtBackbone(
            input_dim, num_layers, dim, ffn_dim, kernel_size, layerscale_init, causal
        )
        self.head = WaveNeXtHead(dim, hop_length)


class WaveNeXtBackbone(ConvNeXt):
    """`ConvNeXt` with zeros before the first frame if causal."""

    def __init__(
        self,
        input_dim: int = 1024,
        num_layers: int = 8,
        dim: int = 1024,
        ffn_dim: int = 2048,
        kernel_size: int = 7,
        layerscale_init: float | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__(
            *(input_dim, num_layers, dim, ffn_dim, kernel_size, layerscale_init, causal),
            causal_padding="constant",
        )


class WaveNeXtHead(AtLeastFloat32):
    """Linear map from each frame to its samples, within +-1."""

    def __init__(self, dim: int = 1024, hop_length: int = 480) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, hop_length)

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, N, dim) to (B, N * hop_length), zeros on padded samples; `mask` (B, N) bool."""
        # samples of 8 bits of mantissa would be noisy
        with torch.autocast(input.device.type, enabled=False):
            frames = self.proj(input.to(self.proj.weight.dtype)).clamp(-1.0, 1.0)  # (B, N, hop)
        return (frames if mask is None else zero_padding(frames, mask)).flatten(1)
