"""Feats beside qfeats as pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor


def feature_figure(
    feats: Tensor,
    qfeats: Tensor,
    frame_rate: float,
    title: str = "",
    targets: Tensor | None = None,
) -> Figure:
    """Feats, qfeats and their difference, one under the other, on one colour scale.

    Parameters
    ----------
    feats, qfeats : Tensor
        (N, D) what the model heard and what it made.
    frame_rate : float
        Frames a second.
    title : str
        Above the pictures.
    targets : Tensor, optional
        (N, D) what qfeats should be, where that is not feats; the difference is from it.

    Returns
    -------
    Figure

    Example
    -------
    >>> import torch
    >>> len(feature_figure(torch.zeros(50, 8), torch.ones(50, 8), frame_rate=50.0).axes)
    4
    """
    wanted = feats if targets is None else targets
    shown_as = {"feats": feats, "qfeats": qfeats, "difference": qfeats - wanted}
    if targets is not None:
        shown_as = {
            "feats of the mixture": feats,
            "feats of the clean clip": targets,
            "qfeats": qfeats,
            "qfeats less feats of the clean clip": qfeats - targets,
        }
    images = {name: x.float().numpy().T for name, x in shown_as.items()}
    bound = float(np.percentile(np.abs(wanted.float().numpy()), 99)) or 1.0
    figure = Figure(figsize=(9, 1 + 2 * len(images)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left")
    axes = figure.subplots(len(images), 1, sharex=True, sharey=True)
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        shown = ax.imshow(
            image,
            origin="lower",
            aspect="auto",
            cmap="RdBu_r",
            vmin=-bound,
            vmax=bound,
            extent=(0, image.shape[1] / frame_rate, 0, image.shape[0]),
        )
        ax.set_title(name, loc="left", fontsize=10)
        ax.set_ylabel("dimension")
    axes[-1].set_xlabel("time (s)")
    figure.colorbar(shown, ax=axes, aspect=40)
    return figure
