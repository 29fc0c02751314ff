from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from focalcodec.errors import UserError
from focalcodec.training.pictures import (
    code_usage_figure,
    feature_figure,
    save_png,
    spectrogram_figure,
)


def tone(samples: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 1000 / 16000 * np.arange(samples))


def test_spectrogram_shows_the_tone_at_its_band_on_one_scale():
    figure = spectrogram_figure(tone(16000), 0.1 * tone(16000), 16000, title="tone")
    left, right = (axes.get_images()[0] for axes in figure.axes[:2])
    loudest = np.asarray(left.get_array()).mean(axis=1).argmax()
    ticks = figure.axes[0].get_yticks()
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert abs(loudest - ticks[names.index("1")]) <= 1
    assert left.get_clim() == right.get_clim()
    gain = np.asarray(left.get_array()).max() - np.asarray(right.get_array()).max()
    assert gain == pytest.approx(20, abs=0.1)


def test_clips_of_different_length_share_the_time_axis():
    figure = spectrogram_figure(tone(16000), tone(8000), 16000)
    assert [axes.get_xlim() for axes in figure.axes[:2]] == [(0.0, 1.0)] * 2
    assert figure.axes[1].get_images()[0].get_extent()[1] == 0.5


def test_mixture_is_shown_before_the_reference_that_sets_the_scale():
    figure = spectrogram_figure(tone(8000), tone(8000), 16000, mixture=9 * tone(8000))
    names = [axes.get_title(loc="left") for axes in figure.axes[:3]]
    assert names == ["mixture", "reference", "reconstruction"]
    mixture, reference = (axes.get_images()[0] for axes in figure.axes[:2])
    assert np.asarray(mixture.get_array()).max() > mixture.get_clim()[1]
    assert np.asarray(reference.get_array()).max() == reference.get_clim()[1]


@pytest.mark.parametrize("samples", [1, 100, 400])
def test_shortest_clips_have_a_picture(samples, tmp_path):
    save_png(spectrogram_figure(np.zeros(samples), np.zeros(samples), 16000), tmp_path / "a.png")


@pytest.mark.parametrize("sig", [np.zeros(0), np.zeros((1, 100))])
def test_other_shapes_are_refused(sig):
    with pytest.raises(UserError, match=r"waveform: shape .* give \(samples,\)"):
        spectrogram_figure(tone(100), sig, 16000)


def test_code_usage_shows_share_and_entropy():
    uniform = code_usage_figure(np.ones(8192)).get_suptitle()
    assert uniform == "8,192 of 8,192 codes seen (100.0 %), normalised entropy 100.0 %"
    one = code_usage_figure([0, 9, 0, 0]).get_suptitle()
    assert one == "1 of 4 codes seen (25.0 %), normalised entropy 0.0 %"


def test_rare_codes_are_not_labelled_zero_percent(tmp_path):
    figure = code_usage_figure(np.arange(8192))
    save_png(figure, tmp_path / "codes.png")
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert labels and "0 %" not in labels and len(set(labels)) == len(labels)


@pytest.mark.parametrize("histogram", [[1, 2, 3], [[1, 1]], [0, 0], [-1, 2], []])
def test_bad_histograms_are_refused(histogram):
    with pytest.raises(UserError, match="histogram: "):
        code_usage_figure(histogram)


def test_png_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "usage.png"
    save_png(code_usage_figure([1, 1]), path)
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")

    def half(self, file, **options):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        save_png(code_usage_figure([1, 1]), path)
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["usage.png"]


def test_every_colour_bar_says_what_it_shows() -> None:
    feats, sig = torch.zeros(20, 8), np.zeros(8000)
    figures = {
        "value of the feature": feature_figure(feats, feats, 50.0),
        "level (dB)": spectrogram_figure(sig, sig, 16000),
        "use, relative to uniform": code_usage_figure([3, 1]),
    }
    for label, figure in figures.items():
        assert label in [axes.get_ylabel() for axes in figure.axes]
