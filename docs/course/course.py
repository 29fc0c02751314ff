"""What all chapters use: speech to hear, pictures, and the figures that a reader should get.

`FOCALCODEC_COURSE=short` in the environment takes a few steps and clips, and checks no figures of
trainings. Then all chapters take about a minute, and their sounds mean nothing.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import soundfile
import torch
from IPython.display import HTML, display
from matplotlib.axes import Axes
from torch import Tensor

from focalcodec.audio import read_audio
from focalcodec.training.losses import MelLoss

SHORT = os.environ.get("FOCALCODEC_COURSE") == "short"
ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "corpus" / "LibriSpeech"
LONGEST = 5.0  # seconds of a sound in a notebook
LEVEL = 0.07  # root mean square of a sound in a notebook, 23 dB below full scale

plt.rcParams.update({"figure.dpi": 72, "figure.figsize": (8, 2.6), "figure.autolayout": True})
plt.rcParams.update({"font.size": 11})
torch.manual_seed(1986)


def choose(full: int, short: int) -> int:
    """Return a number of steps or clips: `full`, or `short` in the short mode."""
    return short if SHORT else full


def files(split: str, number: int | None = None) -> list[Path]:
    """Return the first clips of a split of the embedded corpus, default all, a few if short."""
    found = sorted((CORPUS / split).rglob("*.flac"))
    number = 8 if SHORT and number is None else number
    if number is None or number >= len(found):
        return found
    return found[:: len(found) // number][:number]  # of all speakers


def clip(name: str = "92-1-0000") -> Tensor:
    """Return a clip (T,), 16 kHz, of a real person: `test-real` of the embedded corpus."""
    (path,) = (CORPUS / "test-real").rglob(f"{name}.flac")
    return read_audio(path, sample_rate=16000)


def speaker(path: Path) -> int:
    """Return the speaker of a clip, 0 to 7, for the eight voices of the mini splits."""
    return int(path.name.split("-")[0]) - 11


def listen(title: str, sig: Tensor, sample_rate: int = 16000) -> None:
    """Show a player for sig (T,), at most 5 seconds, stored as MP3 in the notebook.

    All sounds get the same level, because people take the louder one for the better one. FLAC
    takes more than twice the space. The noise of MP3 is 34 dB below the first clip.
    """
    sig = sig.detach().flatten()[: int(LONGEST * sample_rate)]
    sig = sig * LEVEL / sig.square().mean().sqrt().clamp(min=1e-3)
    sig = sig / max(1.0, float(sig.abs().max()))  # louder than full scale would be cut
    sound = io.BytesIO()
    best = {"bitrate_mode": "VARIABLE", "compression_level": 0.0}
    soundfile.write(sound, sig.numpy(), sample_rate, format="MP3", **best)
    data = base64.b64encode(sound.getvalue()).decode()
    player = f'<audio controls src="data:audio/mpeg;base64,{data}"></audio>'
    display(HTML(f"<p>{title}<br>{player}</p>"))


def show_spectrograms(sigs: Mapping[str, Tensor]) -> None:
    """Draw the log-mel spectrograms of some sig (T,), two in a row."""
    columns = min(len(sigs), 2)
    rows = -(-len(sigs) // columns)
    _, axes = plt.subplots(rows, columns, sharey=True, squeeze=False, figsize=(8, 2.6 * rows))
    for axis, (title, sig) in zip(axes.flat, sigs.items(), strict=True):
        draw_spectrogram(axis, sig.detach())
        axis.set_title(title)
    for axis in axes[:, 0]:
        axis.set_ylabel("mel band")
    plt.show()


def draw_spectrogram(axis: Axes, sig: Tensor) -> None:
    """Draw the log-mel spectrogram of sig (T,), 16 kHz, 50 frames a second."""
    mel = MelLoss().log_mel(sig[None])[0]  # (N, 80)
    seconds = len(sig) / 16000
    look = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    axis.imshow(mel.T, vmin=-9, vmax=1, extent=(0, seconds, 0, 80), **look)
    axis.set_xticks(range(int(seconds) + 1))
    axis.set_xlabel("s")


def expect(name: str, value: float, figure: float, tolerance: float) -> None:
    """Check that a measured value is `figure`, give or take `tolerance`; short mode: a number."""
    print(f"{name}: {value:.3g} (expected: {figure:g} +- {tolerance:g})")
    assert value == value, f"{name} is not a number"
    if not SHORT:
        assert abs(value - figure) <= tolerance, f"{name}: {value:.3g}, far from {figure:g}"
