"""What every convolutional discriminator does: feature maps, one after the other, then a score."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

_SLOPE = 0.1


def feature_maps(x: Tensor, convs: nn.ModuleList, to_score: nn.Module) -> list[Tensor]:
    """Outputs of all layers, as the loss of feature matching compares them.

    Parameters
    ----------
    x : Tensor
        (B, channels, T).
    convs : ModuleList
        Each is followed by a leaky ReLU.
    to_score : Module
        The last layer.

    Returns
    -------
    list of Tensor
        (B, channels, T'), one of each layer, the score last.

    Example
    -------
    >>> import torch
    >>> convs = nn.ModuleList([nn.Conv1d(1, 4, 3, stride=2, padding=1)])
    >>> maps = feature_maps(torch.zeros(2, 1, 8), convs, nn.Conv1d(4, 1, 1))
    >>> [tuple(x.shape) for x in maps]
    [(2, 4, 4), (2, 1, 4)]
    """
    maps = []
    for conv in convs:
        x = leaky_relu(conv(x), _SLOPE)
        maps.append(x)
    return [*maps, to_score(x)]
