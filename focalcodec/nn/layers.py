"""Small layers shared by the focal codec and the decoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.nn.masking import zero_padding


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, groups: int = 1
) -> Tensor:
    """`F.conv1d` of frames, (B, N, C) to (B, N', D), without padding.

    Parameters
    ----------
    x : Tensor
        (B, N, C).
    weight, bias : Tensor
        As those of `nn.Conv1d`.
    stride, groups : int
        As those of `nn.Conv1d`.

    Returns
    -------
    Tensor
        (B, N', D).

    Example
    -------
    >>> convolve(torch.zeros(1, 5, 2), torch.zeros(4, 2, 3)).shape
    torch.Size([1, 3, 4])
    """
    x = x.transpose(1, 2)
    depthwise = groups > 1 and weight.shape[1] == 1
    # What follows was measured on CPUs. It trains long kernels up to three times slower, and with
    # depth-wise ones of 16 channels or fewer it never comes back in bfloat16 (torch 2.13).
    long = weight.shape[2] > 16 and (depthwise or torch.is_grad_enabled())
    if long or x.device.type != "cpu":
        return F.conv1d(x, weight, bias, stride, groups=groups).transpose(1, 2)
    # (B, N, C) in memory is a picture of height 1 with its channels last: conv2d takes it without
    # the copies that conv1d makes before and after, up to ten times faster if depth-wise
    y = F.conv2d(x[:, :, None], weight[:, :, None], bias, (1, stride), groups=groups)
    return y[:, :, 0].transpose(1, 2)


def pad_frames(x: Tensor, left: int, right: int = 0, repeat: bool = False) -> Tensor:
    """Frames before and after (B, N, C): zeros, or on the left the first frame again.

    Parameters
    ----------
    x : Tensor
        (B, N, C).
    left, right : int
        Frames to add.
    repeat : bool
        What stands on the left.

    Returns
    -------
    Tensor
        (B, left + N + right, C).

    Example
    -------
    >>> pad_frames(torch.tensor([[[2.0], [3.0]]]), left=1, right=1, repeat=True).flatten().tolist()
    [2.0, 2.0, 3.0, 0.0]
    """
    if repeat:
        x, left = torch.cat([x[:, :1].expand(-1, left, -1), x], dim=1), 0
    return F.pad(x, (0, 0, left, right))


class MaskedConv1d(nn.Conv1d):
    """Convolution over time that keeps the number of frames and never sees the padding.

    Parameters
    ----------
    in_channels, out_channels : int
        Widths.
    kernel_size : int
        Frames seen by an output frame.
    groups : int
        `in_channels` for a depth-wise convolution.
    causal : bool
        Look at the past only, instead of half past and half future.
    causal_padding : str
        What stands before the first frame of a causal convolution: "replicate" or "constant"
        (zeros).

    Example
    -------
    >>> conv = MaskedConv1d(2, 4, kernel_size=3)
    >>> conv(torch.ones(1, 5, 2), torch.ones(1, 5, dtype=torch.bool)).shape
    torch.Size([1, 5, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        groups: int = 1,
        causal: bool = False,
        causal_padding: str = "replicate",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, groups=groups)
        self.left = kernel_size - 1 if causal else (kernel_size - 1) // 2
        self.right = kernel_size - 1 - self.left
        self.repeat = causal and causal_padding == "replicate"

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve the valid frames.

        Parameters
        ----------
        x : Tensor
            (B, N, in_channels).
        mask : Tensor
            (B, N) bool, True on valid frames.

        Returns
        -------
        Tensor
            (B, N, out_channels); padded frames hold values without a meaning.
        """
        x = pad_frames(zero_padding(x, mask), self.left, self.right, self.repeat)
        return convolve(x, self.weight, self.bias, groups=self.groups)


class Snake(nn.Module):
    """Periodic activation x + sin(a x)^2 / a, with one learned a per channel.

    Source: Ziyin et al., "Neural networks fail to learn periodic functions" (2020), equation 3.

    Parameters
    ----------
    dim : int
        Channels.

    Example
    -------
    >>> Snake(2)(torch.zeros(1, 3, 2)).sum().item()
    0.0
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x of shape (B, N, dim)."""
        alpha = self.alpha[:, 0]
        return x + (alpha * x).sin().square() / (alpha + 1e-9)


class DynamicTanh(nn.Module):
    """tanh(a x) with one learned scalar a: stands for a norm without any statistics.

    Source: Zhu et al., "Transformers without normalization" (2025), without its affine part.

    Example
    -------
    >>> DynamicTanh()(torch.zeros(1, 3, 2)).sum().item()
    0.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to x of any shape."""
        return (self.alpha * x).tanh()


def project_to_sphere(x: Tensor) -> Tensor:
    """Divide by the Euclidean norm of the last dimension.

    A zero vector stays zero and passes its gradient on unchanged, where dividing by a small
    constant would give gradients of 1e12.

    Parameters
    ----------
    x : Tensor
        (..., D).

    Returns
    -------
    Tensor
        (..., D), each vector of norm 1, or 0.

    Example
    -------
    >>> project_to_sphere(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.masked_fill(norm == 0, 1.0)
