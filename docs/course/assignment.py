"""Assignment: a quantizer with three levels, by hand. Replace each `raise` by your code.

A frame has L lats. Each becomes one of three levels, -1, 0 or 1, so a frame has 3^L codes:

    point = tanh(lat), between -1 and 1          code = the level next to the point
    tok   = the number whose digits in base 3 are code + 1, the first digit counts most

Example with L = 2: lats (2.0, -0.1), points (0.96, -0.10), codes (1, 0), digits (2, 1), tok 7.

For the entropy loss, a digit is at random: level k has a probability proportional to
exp(-sharpness (point - k)^2), independently for each digit. The probability of a code is the
product of those of its digits. Entropies are in nats.

In a padded batch, `lengths` (B,) are the valid frames of each clip. The numbers in padded frames
mean nothing and must change nothing.

Check it with `python assignment_check.py assignment.py`. Use PyTorch only, not focalcodec.
"""

import torch  # noqa: F401
from torch import Tensor


def lats_to_codes(lats: Tensor) -> Tensor:
    """Codes (..., L) of lats (..., L): floats, each -1, 0 or 1."""
    raise NotImplementedError


def codes_to_toks(codes: Tensor) -> Tensor:
    """Toks (...) int64, from 0 to 3^L - 1, of codes (..., L)."""
    raise NotImplementedError


def toks_to_codes(toks: Tensor, digits: int) -> Tensor:
    """Codes (..., digits) of toks (...)."""
    raise NotImplementedError


def quantize(lats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Toks (B, N) int64 and codes (B, N, L) of lats (B, N, L); both zero in padded frames.

    The gradient of the codes passes straight through to the points, tanh(lats).
    """
    raise NotImplementedError


def entropies(lats: Tensor, lengths: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """Entropy of a token, and of the codebook as if its digits were independent; both ().

    The first is the mean, over valid frames, of the entropy of a frame's code. The second is the
    sum over digits of the entropy of the digit's mean probabilities over valid frames. Both must
    work with L = 40, where a list of all codes does not fit in memory.
    """
    raise NotImplementedError
