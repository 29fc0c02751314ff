"""Text to speech without a language model: phonemes, their durations, then all tokens at once.

The alignment of phonemes and frames is found in training, by the path that is the most probable
under the model (Kim et al., Glow-TTS, arXiv 2005.11129, section 3.2), so no other program has to
align the corpus. The output is the bits of each token, which are independent in a binary spherical
quantizer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from focalcodec.focalnet import FocalDecoder, FocalEncoder
from focalcodec.nn.masking import masked_mean, valid_mask, zero_padding

_FAR = 20  # frames: places further from the border of a phoneme look the same


class AlignedModel(nn.Module):
    """Bits of tokens from phonemes and a voice.

    Parameters
    ----------
    num_phonemes : int
        Ids, with 0 for the padding.
    code_dim : int
        Bits of a token.
    hidden_size : int
        Width of both towers of focal modulation.
    text_layers, frame_layers : int
        Levels of the tower over phonemes, and of that over frames.
    voice_size : int
        Values of the vector of a voice.
    focal_window : int
        Kernel of the first level of context.
    dropout : float
        Inside the blocks of both towers.

    Example
    -------
    >>> model = AlignedModel(9, hidden_size=8, text_layers=1, frame_layers=1, voice_size=4).eval()
    >>> voice = model.voice(torch.randn(1, 20, 13), torch.tensor([20]))  # (1, 4)
    >>> x = model.encode(torch.tensor([[1, 2, 3]]), torch.tensor([3]), voice)  # (1, 3, 8)
    >>> logits, lengths = model.bits(x, torch.tensor([[2, 1, 4]]), voice)
    >>> logits.shape, lengths.tolist()
    (torch.Size([1, 7, 13]), [7])
    """

    def __init__(
        self,
        num_phonemes: int,
        code_dim: int = 13,
        *,
        hidden_size: int = 192,
        text_layers: int = 4,
        frame_layers: int = 6,
        voice_size: int = 64,
        focal_window: int = 7,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "num_phonemes": num_phonemes,
            "code_dim": code_dim,
            "hidden_size": hidden_size,
            "text_layers": text_layers,
            "frame_layers": frame_layers,
            "voice_size": voice_size,
            "focal_window": focal_window,
            "dropout": dropout,
        }
        focal: dict[str, Any] = {
            "focal_window": focal_window,
            "focal_level": 2,
            "focal_factor": 2,
            "dropout": dropout,
        }
        self.table = nn.Embedding(num_phonemes, hidden_size, padding_idx=0)
        self.text_tower = _tower(hidden_size, hidden_size, text_layers, focal)
        self.voice_tower = _tower(code_dim, voice_size, 2, focal)
        self.voice_of_text = nn.Linear(voice_size, hidden_size)
        self.voice_of_frames = nn.Linear(voice_size, hidden_size)
        self.sound = nn.Linear(hidden_size, code_dim)
        self.duration = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, 1)
        )
        self.place = nn.Linear(3, hidden_size)
        widths = [hidden_size] * frame_layers
        self.frame_tower = FocalDecoder(
            hidden_size, code_dim, hidden_dims=widths, upscale_factors=[1] * frame_layers, **focal
        )

    def voice(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """Vector (B, voice_size) of a prompt: bits of its tokens (B, N, code_dim) as 1 and -1."""
        x, lengths = self.voice_tower.run(codes, lengths)
        return masked_mean(x, valid_mask(lengths, x.shape[1]))[:, 0]

    def encode(self, phonemes: Tensor, lengths: Tensor, voice: Tensor) -> Tensor:
        """Phonemes (B, S) with their surroundings: (B, S, hidden_size), zero in the padding."""
        x = self.table(phonemes) + self.voice_of_text(voice)[:, None]
        return self.text_tower.run(zero_padding(x, valid_mask(lengths, x.shape[1])), lengths)[0]

    def log_durations(self, x: Tensor) -> Tensor:
        """Logarithm (B, S) of the frames of each phoneme, from `encode`."""
        return self.duration(x)[..., 0]

    def durations(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Frames (B, S) int64 of each phoneme, at least one; 0 in the padding."""
        found = self.log_durations(x).float().exp().round().clamp(min=1, max=2 * 50).long()
        return zero_padding(found, valid_mask(lengths, x.shape[1]))

    def alignment(self, x: Tensor, lengths: Tensor, codes: Tensor, frames: Tensor) -> Tensor:
        """Log-probability (B, S, N) of the bits codes (B, N, code_dim) of each frame, by phoneme.

        It is that of the phoneme alone, without its neighbours in time; `frames` (B,) are valid.
        Where phoneme or frame is padding, it is zero.
        """
        logits = self.sound(x)  # (B, S, L)
        with torch.autocast(x.device.type, enabled=False):  # sums of many bits
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            # ln sigmoid(c z) = c z / 2 - ln(2 cosh(z / 2)) for c = 1 or -1
            norm = (F.softplus(logits) - logits / 2).sum(dim=2, keepdim=True)  # (B, S, 1)
            found = logits @ codes.to(logits.dtype).mT / 2 - norm  # (B, S, N)
        mask = valid_mask(lengths, x.shape[1])[:, :, None]
        return found * (mask & valid_mask(frames, codes.shape[1])[:, None])

    def bits(self, x: Tensor, durations: Tensor, voice: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, N, code_dim) of the bits of each frame, and the frames (B,) of each text."""
        lengths = durations.sum(dim=1)
        place, passed, left = spread(durations, int(lengths.max()))  # (B, N) each
        y = x.gather(1, place[..., None].expand(-1, -1, x.shape[2]))  # (B, N, D)
        share = (passed + 0.5) / (passed + left + 1)
        near = torch.stack([share, *(n.clamp(0, _FAR) / _FAR for n in (passed, left))], dim=2)
        y = y + self.place(near.to(y.dtype)) + self.voice_of_frames(voice)[:, None]
        return self.frame_tower.run(zero_padding(y, valid_mask(lengths, y.shape[1])), lengths)


def spread(durations: Tensor, num_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each frame: place of its phoneme, frames of it that are before it and after it.

    durations (B, S) int64 to three tensors (B, num_frames) int64.

    Example
    -------
    >>> [x.tolist() for x in spread(torch.tensor([[2, 1]]), 3)]
    [[[0, 0, 1]], [[0, 1, 0]], [[1, 0, 0]]]
    """
    ends = durations.cumsum(dim=1)  # (B, S)
    frames = torch.arange(num_frames, device=durations.device).expand(len(ends), -1).contiguous()
    place = torch.searchsorted(ends, frames, right=True).clamp(max=durations.shape[1] - 1)
    last = ends.gather(1, place)
    passed = frames - (last - durations.gather(1, place))
    return place, passed, (last - 1 - frames).clamp(min=0)


@torch.no_grad()
def most_probable_path(scores: Tensor, lengths: Tensor, frames: Tensor) -> Tensor:
    """Frames (B, S) int64 of each phoneme, on the path of the highest sum of scores (B, S, N).

    The path has all phonemes in their order, each with at least one frame; `lengths` (B,) are the
    valid phonemes, `frames` (B,) the valid frames, at least as many.

    Example
    -------
    >>> scores = torch.tensor([[[0.0, 0, -9, -9], [-9, -9, 0, 0]]])
    >>> most_probable_path(scores, torch.tensor([2]), torch.tensor([4])).tolist()
    [[2, 2]]
    """
    batch, size, length = scores.shape
    best = scores.new_full((batch, size), -torch.inf)  # of the paths that end here
    best[:, 0] = scores[:, 0, 0]
    moved = torch.zeros(length, batch, size, dtype=torch.bool, device=scores.device)
    for frame in range(1, length):
        before = F.pad(best[:, :-1], (1, 0), value=-torch.inf)
        moved[frame] = before > best
        best = torch.maximum(before, best) + scores[:, :, frame]
    durations = torch.zeros(batch, size, dtype=torch.int64, device=scores.device)
    rows, place = torch.arange(batch, device=scores.device), lengths - 1
    for frame in range(length - 1, -1, -1):
        valid = frame < frames
        durations[rows, place] += valid
        place = place - (valid & moved[frame, rows, place]).long()
    return durations


def _tower(input_dim: int, output_dim: int, layers: int, focal: dict[str, Any]) -> FocalEncoder:
    """Levels of focal modulation that keep the rate."""
    widths, factors = [output_dim] * layers, [1] * layers
    return FocalEncoder(*(input_dim, output_dim), widths, factors, **focal, unit_norm=False)
