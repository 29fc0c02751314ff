"""Several layers of a speech encoder as one stream of feats: standardised, averaged, rotated.

Early layers keep the sound and the voice, late ones the words. Their mean keeps both, once each
channel of each layer has mean 0 and variance 1, for a few channels of a transformer are a hundred
times as large as the rest. The leading principal components keep most of it in fewer channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from focalcodec.errors import UserError


class LayerMix(nn.Module):
    """(B, N, D) of each layer to feats (B, N, C): principal components of the layers' mean.

    Components are scaled by one number, so that a frame's mean square is about 1; they keep
    their sizes among themselves, and a squared error of them is one of the layers.

    Parameters
    ----------
    num_layers : int
        Layers.
    dim : int
        D, their width.
    components : int
        C, at most D.

    Raises
    ------
    UserError
        `components` is not in 1 to `dim`.

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
        """Mix what the layers gave, each (B, N, D), to feats (B, N, C)."""
        return self._average(torch.stack(list(layers), dim=-2)) @ self.rotation

    @torch.no_grad()
    def fit(self, clips: Iterable[Tensor]) -> None:
        """Set means, scales and rotation by clips, each (N, L, D).

        Raises
        ------
        UserError
            A channel never changes, or the values are not finite.
        """
        frames = torch.cat(list(clips)).double()
        mean, scale = frames.mean(dim=0), frames.std(dim=0)
        if not bool(torch.isfinite(scale).all()) or not bool((scale > 0).all()):
            raise UserError(
                f"{len(frames)} frames: a channel of a layer never changes there, or is not finite;"
                " fit the mix to more speech"
            )
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        mixed = self._average(frames.float()).double()
        _, vectors = torch.linalg.eigh(torch.cov(mixed.T))
        # eigh sorts upwards
        rotation = vectors.flip(1)[:, : self.rotation.shape[1]]
        self.rotation.copy_(rotation / (mixed @ rotation).square().mean().sqrt())

    def _average(self, x: Tensor) -> Tensor:
        """(..., L, D) to (..., D)."""
        return ((x - self.mean) / self.scale).mean(dim=-2)
