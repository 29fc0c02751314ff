"""A resampler for streams, whose state is tensors: it can be saved, sent and restored exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from focalcodec.audio import check_rates, resampled_length

_ZEROS = 24  # zero crossings of the sinc on each side
_ROLL_OFF = 0.94  # cut-off, relative to half of the lower rate
_BETA = 9.0  # of the Kaiser window: stop band under -90 dB


class Resampler:
    """Band-limited resampling of one signal that arrives in pieces; rates in Hz.

    The output is the same for all ways of cutting the signal, and has `resampled_length` samples.
    `latency` is in seconds. Each output sample is a sum over a windowed sinc.

    Example
    -------
    >>> resampler = Resampler(48000, 16000)
    >>> sig = torch.randn(480)
    >>> pieces = [resampler.push(sig[:100]), resampler.push(sig[100:]), resampler.flush()]
    >>> torch.cat(pieces).shape
    torch.Size([160])
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        check_rates(from_rate, to_rate)
        divisor = math.gcd(from_rate, to_rate)
        self.rates = from_rate, to_rate
        self._up, self._down = to_rate // divisor, from_rate // divisor
        self._equal = self._up == self._down
        cutoff = _ROLL_OFF * min(1.0, to_rate / from_rate)  # of half the input rate
        self._half = math.ceil(_ZEROS / cutoff)
        # tap k of phase p is at k - half + 1 - p / up samples from the output sample
        offset = torch.arange(2 * self._half, dtype=torch.float64) - self._half + 1
        time = offset - torch.arange(self._up, dtype=torch.float64)[:, None] / self._up
        shape = (1 - (time / self._half).square()).clamp(min=0).sqrt()
        window = torch.special.i0(_BETA * shape) / torch.special.i0(torch.tensor(_BETA).double())
        kernel = cutoff * torch.sinc(cutoff * time) * window * (time.abs() < self._half)
        self._kernel = kernel.float()  # (up, 2 * half)
        self.latency = 0.0 if self._equal else self._half / from_rate
        self.reset()

    def reset(self) -> None:
        """Begin a new signal."""
        self._tail = torch.zeros(0 if self._equal else self._half - 1)  # samples still needed
        self._start = -len(self._tail)  # number of the first of them
        self._taken, self._given = 0, 0

    def push(self, sig: Tensor) -> Tensor:
        """Samples (n,) that are complete after sig (T,) float32 on the CPU; T may be 0."""
        self._taken += len(sig)
        if self._equal:
            return sig
        self._tail = torch.cat([self._tail, sig])
        # output n is at input time n * down / up and needs `half` samples after it
        ready = self._taken - self._half
        end = -(-(ready * self._up) // self._down) if ready > 0 else 0
        return self._output(max(end, self._given))

    def flush(self) -> Tensor:
        """Give the last samples, for zeros after the signal."""
        if self._equal:
            return torch.zeros(0)
        self._tail = torch.cat([self._tail, torch.zeros(self._half)])
        return self._output(resampled_length(self._taken, *self.rates))

    def state(self) -> dict[str, Tensor]:
        """Everything that the next samples depend on, not copied."""
        numbers = torch.tensor([self._start, self._taken, self._given])
        return {"tail": self._tail, "numbers": numbers}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue where `state` was taken."""
        self._tail = state["tail"].clone()
        self._start, self._taken, self._given = state["numbers"].tolist()

    def _output(self, end: int) -> Tensor:
        """Output samples up to number `end`; samples that no later one needs are dropped."""
        number = torch.arange(self._given, end) * self._down
        first = number // self._up - self._half + 1 - self._start  # place of the first tap
        taps = torch.arange(2 * self._half)
        sig = (self._tail[first[:, None] + taps] * self._kernel[number % self._up]).sum(dim=1)
        self._given = end
        unused = max(0, end * self._down // self._up - self._half + 1 - self._start)
        self._tail, self._start = self._tail[unused:].clone(), self._start + unused
        return sig
