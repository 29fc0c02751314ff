"""Log-mel spectrograms, and two encoders on them: `LogMel` without weights, `MelEncoder` with some.

They take WavLM's place, so that a codec can be trained and used without a large model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from focalcodec.audio import check_sig
from focalcodec.errors import UserError
from focalcodec.nn.convnext import ConvNeXt
from focalcodec.nn.layers import AtLeastFloat32
from focalcodec.nn.masking import full_lengths, valid_mask, zero_padding
from focalcodec.nn.official import OfflineEncoder, given_states, refuse_lengths
from focalcodec.nn.past import LeftContext, after_context

# Slaney's mel scale: linear up to 1 kHz, then logarithmic.
_LINEAR = 200.0 / 3  # Hz per mel
_CORNER_HZ = 1000.0
_CORNER_MEL = _CORNER_HZ / _LINEAR
_LOG_STEP = np.log(6.4) / 27.0  # natural logarithm of Hz per mel

_STACKED = 2  # spectra, one every 10 ms, in a frame of 20 ms of `MelEncoder`


def mel_frequencies(n_mels: int, f_min: float, f_max: float) -> npt.NDArray[np.float64]:
    """Corners of `n_mels` triangular bands, (n_mels + 2,) Hz, equally spaced in Slaney's mel."""
    low, high = (
        hz / _LINEAR if hz < _CORNER_HZ else _CORNER_MEL + np.log(hz / _CORNER_HZ) / _LOG_STEP
        for hz in (f_min, f_max)
    )
    mels = np.linspace(low, high, n_mels + 2)
    above = _CORNER_HZ * np.exp(_LOG_STEP * (mels - _CORNER_MEL))
    return np.where(mels < _CORNER_MEL, _LINEAR * mels, above)


def mel_bands(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Mel filter bank (n_mels, n_fft // 2 + 1), float32: triangles of equal area.

    Slaney's scale and norm, as in `librosa.filters.mel`. Frequencies are in Hz.

    Example
    -------
    >>> mel_bands(16000, 1024, n_mels=80, f_min=0.0, f_max=8000.0).shape
    torch.Size([80, 513])
    """
    corners = mel_frequencies(n_mels, f_min, f_max)
    bins = np.fft.rfftfreq(n_fft, 1.0 / sample_rate)  # Hz
    ramps = np.subtract.outer(corners, bins)
    widths = np.diff(corners)[:, None]
    rising, falling = -ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    triangles *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return torch.from_numpy(triangles)


def magnitudes(
    sig: Tensor, window: Tensor, n_fft: int, hop: int, after_past: bool = False
) -> Tensor:
    """Spectrogram (B, n_fft // 2 + 1, N) of sig (B, T), with the frames of `log_mel`."""
    samples, past = sig.shape[1], n_fft - hop
    frames = (samples - past * after_past + hop - 1) // hop
    before = 0 if after_past else past // 2
    after = (frames - 1) * hop + n_fft - before - samples
    spectrum = torch.stft(
        nn.functional.pad(sig, (before, after)),
        n_fft,
        hop,
        len(window),
        window,
        center=False,
        return_complex=True,
    )  # (B, bins, N)
    return spectrum.abs()


def log_mel(
    sig: Tensor,
    bands: Tensor,
    window: Tensor,
    n_fft: int,
    hop: int,
    floor: float,
    after_past: bool = False,
    spectrum: Callable[..., Tensor] = magnitudes,
) -> Tensor:
    """Log-mel spectrogram (B, N, n_mels) of sig (B, T): magnitudes, natural log.

    Frame i is centred on the middle of samples [i * hop, (i + 1) * hop), and N = ceil(T / hop).
    Samples before the first and after the last are zeros.

    Parameters
    ----------
    sig : Tensor
        (B, T) float.
    bands : Tensor
        (n_mels, n_fft // 2 + 1), from `mel_bands`.
    window : Tensor
        At most n_fft samples, centred in the transform.
    n_fft, hop : int
        Transform, and distance of frames, samples.
    floor : float
        Smallest magnitude of a band.
    after_past : bool
        sig starts with n_fft - hop samples of the past, and a window ends with its frame.
    spectrum : callable
        `magnitudes`, or what gives the same.
    """
    # With a contiguous second factor a frame's product does not depend on the number of frames: a
    # clip has the same feats alone and in any batch, to the last bit.
    filters = bands.mT.contiguous()  # (n_fft // 2 + 1, n_mels)
    mel = spectrum(sig, window, n_fft, hop, after_past).mT @ filters  # (B, N, n_mels)
    return mel.clamp(min=floor).log()


def mel_power(sig: Tensor, bands: Tensor, window: Tensor, n_fft: int, hop: int) -> Tensor:
    """Mel powers (n_mels, 1 + T // hop) of sig (T,), as `librosa.feature.melspectrogram`.

    Frame i is centred on sample i * hop. Encoders and losses use `log_mel`.
    """
    spectrum = torch.stft(
        sig, n_fft, hop, len(window), window, pad_mode="constant", return_complex=True
    )  # (bins, N)
    return bands @ spectrum.abs().square()


class LogMel(AtLeastFloat32, OfflineEncoder):
    """Log-mel spectrogram, shifted and scaled to about zero mean and unit variance.

    The frames are those of `log_mel`, which equal those of the "same"-padded inverse STFT of Vocos
    (arXiv 2306.00814).

    Parameters
    ----------
    sample_rate : int
        Hz.
    n_fft : int
        Window and transform, samples.
    hop_length : int
        Samples from one frame to the next, at most `n_fft`.
    n_mels : int
        Bands.
    f_min, f_max : float
        Edges of the lowest and highest band, Hz; None is half the sample rate.
    floor : float
        Smallest magnitude, > 0; everything below it is silence.
    offset, scale : float
        feats = (log-mel - offset) / scale, with scale > 0. Mean and standard deviation over the
        embedded corpus were -4.98 and 2.28 in synthetic speech, -5.22 and 2.22 in real speech.

    Raises
    ------
    UserError
        A value outside of these ranges.

    Example
    -------
    >>> encoder = LogMel()
    >>> feats, lengths = encoder(torch.zeros(2, 1600), lengths=torch.tensor([1600, 801]))
    >>> feats.shape, lengths
    (torch.Size([2, 5, 80]), tensor([5, 3]))
    """

    window: Tensor
    bands: Tensor
    max_seconds: float | None = None
    teacher: dict[str, Any] | None = None
    spectrum: Callable[..., Tensor]  # an export can replace it

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        floor: float = 1e-5,
        offset: float = -5.0,
        scale: float = 2.3,
    ) -> None:
        super().__init__()
        highest = sample_rate / 2 if f_max is None else f_max
        if not 0 <= f_min < highest <= sample_rate / 2:
            raise UserError(
                f"f_min, f_max: {f_min}, {f_max} Hz; give 0 <= f_min < f_max <= {sample_rate / 2}"
            )
        if not 0 < hop_length <= n_fft:
            raise UserError(f"hop_length: {hop_length}; give 1 to n_fft, which is {n_fft}")
        if floor <= 0 or scale <= 0:
            raise UserError(f"floor, scale: {floor}, {scale}; give positive numbers")
        self.config: dict[str, Any] = {
            "sample_rate": sample_rate,
            "n_fft": n_fft,
            "hop_length": hop_length,
            "n_mels": n_mels,
            "f_min": f_min,
            "f_max": f_max,
            "floor": floor,
            "offset": offset,
            "scale": scale,
        }
        self.sample_rate, self.hop, self.dim = sample_rate, hop_length, n_mels
        self.n_fft, self.floor = n_fft, floor
        self.offset, self.scale = offset, scale
        self.spectrum = magnitudes
        bands = mel_bands(sample_rate, n_fft, n_mels, f_min, highest)
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32), False)
        self.register_buffer("bands", bands, persistent=False)

    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode sig (B, T), float at `sample_rate`, about [-1, 1].

        Return feats (B, N, n_mels), zero in the padding, and their lengths (B,) int64; see
        `Encoder`. Another shape of sig is a `UserError`.
        """
        check_sig(sig, lengths)
        sig = sig.to(self.window.dtype)
        if lengths is not None:
            sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))
        feats = self.spectra(sig)
        if lengths is None:
            return feats, full_lengths(feats)
        frames = self.output_lengths(lengths)
        return zero_padding(feats, valid_mask(frames, feats.shape[1])), frames

    def spectra(self, sig: Tensor, after_past: bool = False) -> Tensor:
        """Feats (B, N, n_mels) of sig (B, T), all of it valid, with the frames of `log_mel`."""
        # a spectrum in half precision does not exist on the CPU and overflows on a GPU
        with torch.autocast(sig.device.type, enabled=False):
            mel = log_mel(
                *(sig, self.bands, self.window, self.n_fft, self.hop, self.floor, after_past),
                self.spectrum,
            )
        return (mel - self.offset) / self.scale


class MelEncoderState(NamedTuple):
    """What a causal encoder keeps of a stream, for each row of a batch."""

    sig: LeftContext  # (B, n_fft - 160, 1), the samples before the next ones
    contexts: tuple[LeftContext, ...]  # (B, kernel_size - 1, channels) of each convolution


class MelEncoder(OfflineEncoder):
    """Log-mel bands through ConvNeXt, 50 frames per second: one for every started 320 samples.

    It is trained to predict the feats of a large encoder, its teacher:
    `recipes/Demo/hparams/distill_encoder.yaml`. Its receptive field is finite, so long
    recordings in windows, and streams, give the same feats.

    Parameters
    ----------
    output_dim : int
        Width of the feats.
    num_layers : int
        ConvNeXt blocks.
    dim, ffn_dim : int
        Widths between and inside the blocks.
    kernel_size : int
        Frames in the kernel of each convolution.
    n_mels : int
        Bands; a `UserError` if they do not fit the window.
    n_fft : int
        Window of a spectrum, samples; there is one spectrum every 160 samples.
    causal : bool
        Past samples only, and the other frames of a chunk of 1 + lookahead_size frames.
    lookahead_size : int
        If causal: frames of a chunk besides the first.

    Example
    -------
    >>> encoder = MelEncoder(output_dim=8, num_layers=1, dim=16, ffn_dim=32).eval()
    >>> feats, lengths = encoder(torch.zeros(2, 1600), lengths=torch.tensor([1600, 801]))
    >>> feats.shape, lengths
    (torch.Size([2, 5, 8]), tensor([5, 3]))
    """

    max_seconds: float | None = None
    teacher: dict[str, Any] | None = None

    def __init__(
        self,
        output_dim: int,
        num_layers: int = 6,
        dim: int = 256,
        ffn_dim: int = 768,
        kernel_size: int = 7,
        n_mels: int = 80,
        n_fft: int = 512,
        causal: bool = False,
        lookahead_size: int = 3,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "output_dim": output_dim,
            "num_layers": num_layers,
            "dim": dim,
            "ffn_dim": ffn_dim,
            "kernel_size": kernel_size,
            "n_mels": n_mels,
            "n_fft": n_fft,
            # as before it was an argument: the hash of a codec depends on its configuration
            **({"causal": True, "lookahead_size": lookahead_size} if causal else {}),
        }
        self.spectrogram = LogMel(n_fft=n_fft, hop_length=160, n_mels=n_mels)
        self.sample_rate, self.dim = self.spectrogram.sample_rate, output_dim
        self.hop, self.causal = _STACKED * self.spectrogram.hop, causal
        self.frames_per_chunk = 1 + lookahead_size if causal else 1
        self.backbone = ConvNeXt(
            *(_STACKED * n_mels, num_layers, dim, ffn_dim, kernel_size),
            causal=causal,
            chunk_size=self.frames_per_chunk,
        )
        self.head = nn.Linear(dim, output_dim)

    @property
    def chunk_size(self) -> int:
        """Samples of a chunk."""
        return self.frames_per_chunk * self.hop

    def run(self, sig: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode sig (B, T), float at 16 kHz, about [-1, 1].

        Return feats (B, N, output_dim), zero in the padding, and their lengths (B,) int64; see
        `Encoder`. Another shape of sig is a `UserError`.
        """
        check_sig(sig, lengths)
        lengths = full_lengths(sig) if lengths is None else lengths
        if self.causal:
            sig = zero_padding(sig, valid_mask(lengths, sig.shape[1]))
            spectra, _ = self._next_spectra(sig, None)
            ends = valid_mask(self.spectrogram.output_lengths(lengths), spectra.shape[1])
            spectra = zero_padding(spectra, ends)
        else:
            spectra, _ = self.spectrogram.run(sig, lengths)
        frames = self.output_lengths(lengths)
        x = _stack(spectra)  # (B, N, 2 * n_mels)
        mask = valid_mask(frames, x.shape[1])
        feats = self.head(self.backbone(x, mask=mask)[0])  # (B, N, output_dim)
        return zero_padding(feats, mask), frames

    def step(
        self, sig: Tensor, state: MelEncoderState | None = None
    ) -> tuple[Tensor, MelEncoderState]:
        """Encode the next samples (B, T) of streams: feats (B, N, output_dim), and the state.

        `state` is that after the samples before, None at the start; it is not changed. With steps
        of whole chunks (`chunk_size` samples) the feats are those of `run`. A `UserError` if the
        encoder is not causal.
        """
        if not self.causal:
            raise UserError("causal: False; only a causal encoder works in steps")
        check_sig(sig)
        before, contexts = (None, None) if state is None else state
        spectra, before = self._next_spectra(sig, before)
        x, contexts = self.backbone(_stack(spectra), contexts)
        return self.head(x), MelEncoderState(before, tuple(contexts))

    def forward(
        self,
        input: Tensor,
        curr_pos: Tensor | None = None,
        left_contexts: Sequence[Tensor | None] | None = None,
        kv_caches: Sequence[Tensor | None] | None = None,
        length: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Call `run` if there are lengths; else, if causal, `step` with the official states."""
        if not self.causal or lengths is not None or length is not None:
            return super().forward(input, curr_pos, length=length, lengths=lengths)
        refuse_lengths(curr_pos)
        states = given_states("left_contexts", left_contexts, len(self.backbone.layers) + 2)
        state = None if states is None else MelEncoderState(states[0], tuple(states[1:]))
        feats, state = self.step(input, state)
        return feats, feats.new_zeros((), dtype=torch.int64), [state.sig, *state.contexts], []

    def _next_spectra(self, sig: Tensor, before: LeftContext | None) -> tuple[Tensor, LeftContext]:
        """Spectra of sig (B, T), whose windows end with its hops, and samples for the next ones."""
        inner = self.spectrogram
        sig = sig.to(inner.window.dtype)[..., None]
        sig, before = after_context(sig, before, inner.n_fft - inner.hop, repeat=False)
        return inner.spectra(sig[..., 0], after_past=True), before


def _stack(spectra: Tensor) -> Tensor:
    """Join each two spectra; an odd number of them gets one of zeros."""
    spectra = nn.functional.pad(spectra, (0, 0, 0, spectra.shape[1] % _STACKED))
    return spectra.unflatten(1, (-1, _STACKED)).flatten(2)  # (B, N, 2 * n_mels)
