"""Pictures of a training: spectrograms, feats and use of the codebook, in one style.

Each function returns a `matplotlib.figure.Figure` without pyplot, global state or a window.
`save_png` writes it to a file; TensorBoard's `add_figure` accepts it too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from focalcodec.encoders.logmel import mel_bands, mel_frequencies
from focalcodec.errors import UserError
from focalcodec.files import atomic_path

INK = "#22272e"
MUTED = "#8b949e"
PAPER = "#eef0f3"
BLUE = "#2f6fde"
ORANGE = "#e8710a"
DYNAMIC_RANGE = 80.0  # range of a spectrogram, dB below the loudest point of the reference
_MOST_WRITTEN = 30  # labels; more numbers in one picture can't be read
MEL_TICKS = (100, 500, 1000, 2000, 4000, 8000, 12000)  # Hz

# -- public ------------------------------------------------------------------------------------


def spectrogram_figure(
    reference: ArrayLike,
    reconstruction: ArrayLike,
    sample_rate: int,
    title: str = "",
    mixture: ArrayLike | None = None,
) -> Figure:
    """Waveforms' log-mel spectrograms side by side, on one colour scale.

    Parameters
    ----------
    reference, reconstruction : array_like
        (T,) each, at `sample_rate`; they may differ in length.
    sample_rate : int
        Hz.
    title : str
        Heading of both, such as the clip's name.
    mixture : array_like, optional
        (T,) the reference with noise or other voices, shown before the reference.

    Raises
    ------
    UserError
        A waveform is not (T,) with T >= 1.

    Example
    -------
    >>> figure = spectrogram_figure(np.zeros(8000), np.zeros(8000), 16000, title="silence")
    >>> [axes.get_title(loc="left") for axes in figure.axes[:2]]
    ['reference', 'reconstruction']
    """
    before = {} if mixture is None else {"mixture": mixture}
    sigs = {**before, "reference": reference, "reconstruction": reconstruction}
    mels = {name: _log_mel(sig, sample_rate) for name, sig in sigs.items()}
    top = float(mels["reference"].max())
    seconds = {name: np.size(sig) / sample_rate for name, sig in sigs.items()}
    figure = new_figure(1.0 + 5.0 * len(sigs), 3.9, title)
    axes = figure.subplots(1, len(sigs), sharex=True, sharey=True)
    for ax, (name, mel) in zip(axes, mels.items(), strict=True):
        image = ax.imshow(
            mel,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=top - DYNAMIC_RANGE,
            vmax=top,
            extent=(0.0, seconds[name], -0.5, mel.shape[0] - 0.5),
        )
        ax.set_xlim(0.0, max(seconds.values()))
        ax.set_facecolor(PAPER)  # where the shorter clip has ended
        ax.set_title(name, loc="left", fontsize=11, color=INK)
        ax.set_xlabel("time (s)")
    _mel_axis(axes[0], mels["reference"].shape[0], sample_rate)
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=28)
    bar.set_label("level (dB)", color=INK)
    bar.outline.set_visible(False)
    return figure


def feature_figure(
    feats: Tensor,
    qfeats: Tensor,
    frame_rate: float,
    title: str = "",
    targets: Tensor | None = None,
) -> Figure:
    """Feats, qfeats and their difference, from top to bottom, on one colour scale.

    Parameters
    ----------
    feats, qfeats : Tensor
        (N, D) input and output of the bottleneck.
    frame_rate : float
        Frames a second.
    title : str
        Above the pictures.
    targets : Tensor, optional
        (N, D) target of qfeats, if it is not feats; the difference is between qfeats and it.

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
    shown_as = {"feats": feats, "qfeats": qfeats, "qfeats - feats": qfeats - wanted}
    if targets is not None:
        shown_as = {
            "feats of the mixture": feats,
            "feats of the clean clip": targets,
            "qfeats": qfeats,
            "qfeats - feats of the clean clip": qfeats - targets,
        }
    images = {name: x.float().numpy().T for name, x in shown_as.items()}
    bound = float(np.percentile(np.abs(wanted.float().numpy()), 99)) or 1.0
    figure = new_figure(9.0, 1.0 + 2.0 * len(images), title)
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
        ax.set_title(name, loc="left", fontsize=11, color=INK)
        ax.set_ylabel("dimension")
    axes[-1].set_xlabel("time (s)")
    bar = figure.colorbar(shown, ax=axes, aspect=40, extend="both")
    bar.set_label("value of the feature", color=INK)
    bar.outline.set_visible(False)
    return figure


def code_usage_figure(histogram: ArrayLike, title: str = "") -> Figure:
    """How often each code of the codebook is used.

    Left: all codes by index; the rows are the first bits of the index, the columns the last bits.
    Right: the codes by rank, compared with uniform use. The heading has the share of codes used and
    the normalised entropy: entropy over log2 of the number of codes used.

    Parameters
    ----------
    histogram : array_like
        (2^L,) counts of tokens.
    title : str
        Heading of the figure.

    Returns
    -------
    Figure

    Raises
    ------
    UserError
        Its size is not a power of two, it has a negative count, or it has no counts at all.

    Example
    -------
    >>> code_usage_figure([4, 4, 0, 0], title="toy").get_suptitle()
    'toy: 2 of 4 codes seen (50.0 %), normalised entropy 100.0 %'
    """
    counts = np.asarray(histogram, dtype=np.float64)
    size = counts.size
    if counts.ndim != 1 or size < 2 or size & (size - 1):
        raise UserError(f"histogram: shape {counts.shape}; give (2^L,) counts")
    if not (counts >= 0).all() or counts.sum() == 0:
        raise UserError(f"histogram: {counts.sum():g} tokens in all; give counts of some tokens")
    share = counts / counts.sum()
    seen = np.sort(share[share > 0])[::-1]
    entropy = float(-(seen * np.log2(seen)).sum() / np.log2(seen.size)) if seen.size > 1 else 0.0
    heading = (
        f"{len(seen):,} of {size:,} codes seen ({100 * len(seen) / size:.1f} %),"
        f" normalised entropy {100 * entropy:.1f} %"
    )
    figure = new_figure(11.0, 3.9, f"{title}: {heading}" if title else heading)
    grid, rank = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    _code_grid(figure, grid, share)
    _code_ranks(rank, seen, size)
    return figure


def confusion_figure(
    counts: ArrayLike, names: Sequence[str], label: str = "label", title: str = ""
) -> Figure:
    """How often each label was recognised as each other, and the share of it that was right.

    A row has the clips of one label. Its colours are shares of the row, its numbers are clips.

    Parameters
    ----------
    counts : array_like
        (K, K) clips: labels x predictions.
    names : sequence of str
        The K labels.
    label : str
        What they are labels of.
    title : str
        Heading.

    Example
    -------
    >>> figure = confusion_figure([[3, 1], [0, 4]], ["angry", "sad"], "emotion")
    >>> [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    ['angry, 3 of 4', 'sad, 4 of 4']
    """
    clips = np.asarray(counts, dtype=np.int64)
    totals = clips.sum(axis=1)
    shares = 100.0 * clips / np.maximum(totals, 1)[:, None]
    size = max(4.2, 1.6 + 0.42 * len(names))
    figure = new_figure(size + 2.6, size, title)
    ax = figure.subplots()
    image = ax.imshow(shares, cmap="Blues", vmin=0.0, vmax=100.0)
    right = zip(names, clips.diagonal(), totals, strict=True)
    rows = [f"{name}, {correct} of {total}" for name, correct, total in right]
    ax.set_yticks(range(len(names)), rows)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_xlabel("predicted")
    ax.set_ylabel(label)
    ax.tick_params(colors=INK, labelsize=9)
    if len(names) <= _MOST_WRITTEN:
        for row, column in np.argwhere(clips > 0):
            colour = "white" if shares[row, column] > 55.0 else INK
            text = str(clips[row, column])
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=28)
    bar.set_label("share of the clips of a row (%)", color=INK)
    bar.outline.set_visible(False)
    return figure


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 110) -> None:
    """Write a figure as a PNG file, whole or not at all.

    Parameters
    ----------
    figure : Figure
        Result of a function of this module.
    path : str or path
        File to write; its folder is created if it does not exist.
    dpi : int
        Pixels an inch.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_png(code_usage_figure([3, 1]), os.path.join(folder, "usage.png"))
    ...     os.listdir(folder)
    ['usage.png']
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def new_figure(width: float, height: float, title: str) -> Figure:
    """Empty white figure with a size in inches and a title at the left."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")
    return figure


def plain_axes(ax: Axes) -> None:
    """Remove the parts of the axes that a curve does not need."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.tick_params(colors=INK, labelsize=9)
    ax.grid(axis="y", color=MUTED, alpha=0.25, linewidth=0.7)


# -- spectrograms ------------------------------------------------------------------------------


def _log_mel(sig: ArrayLike, sample_rate: int, n_mels: int = 80) -> NDArray[np.float64]:
    """(n_mels, frames) in dB, a frame every 8 ms."""
    wave = np.asarray(sig, dtype=np.float64)
    if wave.ndim != 1 or wave.size == 0:
        raise UserError(f"waveform: shape {wave.shape}; give (samples,), one or more")
    window = 2 * int(0.016 * sample_rate)
    hop = window // 4
    padded = np.pad(wave, window // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    n_fft = max(1024, window)
    power = np.abs(np.fft.rfft(frames * np.hanning(window), n=n_fft)) ** 2
    bands = mel_bands(sample_rate, n_fft, n_mels, 0.0, sample_rate / 2).numpy()
    mel: NDArray[np.float64] = 10 * np.log10(np.maximum(bands @ power.T, 1e-10))
    return mel


def _mel_axis(ax: Axes, n_mels: int, sample_rate: int) -> None:
    centres = mel_frequencies(n_mels, 0.0, sample_rate / 2)[1:-1]
    ticks = [hz for hz in MEL_TICKS if hz <= sample_rate / 2]
    ax.set_yticks(
        np.interp(ticks, centres, np.arange(n_mels)),
        [f"{hz / 1000:g}" for hz in ticks],
    )
    ax.set_ylabel("frequency (kHz)")


# -- codes -------------------------------------------------------------------------------------


def _code_grid(figure: Figure, ax: Axes, share: NDArray[np.float64]) -> None:
    bits = share.size.bit_length() - 1
    rows, columns = 2 ** (bits // 2), 2 ** (bits - bits // 2)
    # Relative to uniform use, on a logarithmic scale: 1 is the use of each code if all are equal.
    relative = np.ma.masked_equal(share.reshape(rows, columns) * share.size, 0.0)
    image = ax.imshow(
        np.ma.log10(relative), cmap="viridis", aspect="auto", vmin=-1.0, vmax=1.5, origin="upper"
    )
    ax.set_facecolor("white")
    ax.set_title("by index (white: never seen)", loc="left", fontsize=11, color=INK)
    ax.set_xlabel(f"last {bits - bits // 2} bits of the token")
    ax.set_ylabel(f"first {bits // 2} bits")
    bar = figure.colorbar(image, ax=ax, pad=0.02, aspect=28, extend="both", ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["0.1", "1", "10"])
    bar.set_label("use, relative to uniform", color=INK)
    bar.outline.set_visible(False)


def _code_ranks(ax: Axes, seen: NDArray[np.float64], size: int) -> None:
    plain_axes(ax)
    ax.fill_between(np.arange(1, seen.size + 1), seen, 0, color=BLUE, alpha=0.15, linewidth=0)
    ax.plot(np.arange(1, seen.size + 1), seen, color=BLUE, linewidth=1.8, label="this codebook")
    ax.axhline(1 / size, color=ORANGE, linewidth=1.4, linestyle="--", label="uniform")
    ax.set_yscale("log")
    ax.set_xlim(1, size)
    ax.yaxis.set_major_formatter(
        lambda share, _: (
            f"{np.format_float_positional(100 * share, 3, fractional=False, trim='-')} %"
        )
    )
    ax.set_title("by rank", loc="left", fontsize=11, color=INK)
    ax.set_xlabel("codes, most used first")
    ax.set_ylabel("share of all tokens")
    ax.legend(frameon=False, fontsize=9, labelcolor=INK)
