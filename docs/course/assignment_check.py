"""Grade the assignment: `python assignment_check.py SUBMISSION.py ...`, 25 points each.

Each submission runs in a process of its own, and for at most two minutes. It is a program of
somebody else: run it where it can do no harm. Exit status 0 if all have 25 points.
"""

from __future__ import annotations

import math
import runpy
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SECONDS = 120  # for one submission
LEVELS = torch.tensor([-1.0, 0.0, 1.0])
Submission = dict[str, Any]


class Wrong(Exception):
    """What is wrong, in one line with a hint."""


def need(right: Any, hint: str) -> None:
    """Stop a check if something is wrong."""
    if not right:
        raise Wrong(hint)


def same(name: str, value: Any, expected: Tensor, hint: str) -> None:
    """Compare a result with the expected one."""
    need(isinstance(value, Tensor), f"{name} is a {type(value).__name__}, expected a tensor")
    found, wanted = tuple(value.shape), tuple(expected.shape)
    need(found == wanted, f"{name} has shape {found}, expected {wanted}")
    value = value.detach()
    if not torch.allclose(value.double(), expected.double(), rtol=1e-4, atol=1e-5):
        wrong = ~torch.isclose(value.double(), expected.double(), rtol=1e-4, atol=1e-5)
        first = tuple(wrong.nonzero()[0].tolist())
        place = f" at {first}" if first else ""
        raise Wrong(
            f"{name}{place} is {value[first].item():.5g}, expected {expected[first].item():.5g}: "
            f"{hint}"
        )


def example(frames: int = 6, digits: int = 4) -> Tensor:
    """Lats (2, frames, digits), the same ones every time, none between two levels."""
    lats = 2 * torch.randn(2, frames, digits, generator=torch.Generator().manual_seed(1))
    return torch.where((torch.tanh(lats).abs() - 0.5).abs() < 0.02, lats + 0.2, lats)


def nearest(lats: Tensor) -> Tensor:
    """Codes by a search through the levels."""
    return LEVELS[(torch.tanh(lats)[..., None] - LEVELS).abs().argmin(dim=-1)]


def level_probs(lats: Tensor, sharpness: float) -> Tensor:
    """Probabilities (..., L, 3) of the levels of each digit."""
    distance = (torch.tanh(lats.double())[..., None] - LEVELS.double()) ** 2
    return torch.softmax(-sharpness * distance, dim=-1)


def entropy(probs: Tensor) -> Tensor:
    """Entropy in nats over the last dimension."""
    return -torch.xlogy(probs, probs).sum(dim=-1)


def check_codes(work: Submission) -> None:
    """Codes."""
    lats = example()
    hint = "round tanh(lats), not lats, to the next level"
    same("lats_to_codes(lats)", work["lats_to_codes"](lats), nearest(lats), hint)


def check_toks(work: Submission) -> None:
    """Toks of codes."""
    codes = torch.tensor([[1.0, 0.0], [-1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    toks = work["codes_to_toks"](codes)
    same("toks", toks, torch.tensor([7, 0, 8, 2]), "the digits are code + 1; the first counts most")
    need(toks.dtype == torch.int64, f"toks are {toks.dtype}, expected torch.int64")
    # In float32 this number would be rounded
    many = work["codes_to_toks"](torch.ones(1, 20))
    need(int(many[0]) == 3**20 - 1, "a tok of 20 digits is rounded: compute with integers")


def check_back(work: Submission) -> None:
    """Codes of toks."""
    toks = torch.arange(81).view(3, 27)
    codes = torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=4))).view(3, 27, 4)
    hint = "the inverse of codes_to_toks: divide by powers of 3, take the remainder, subtract 1"
    same("toks_to_codes(toks, 4)", work["toks_to_codes"](toks, 4), codes, hint)


def check_values(work: Submission) -> None:
    """Quantize without padding."""
    lats = example()
    toks, codes = work["quantize"](lats, torch.tensor([6, 6]))
    same("codes", codes, nearest(lats), "without padding they are those of lats_to_codes")
    places = 3 ** torch.arange(3, -1, -1)
    expected = ((nearest(lats) + 1).long() * places).sum(dim=-1)
    same("toks", toks, expected, "without padding they are those of codes_to_toks")


def check_gradient(work: Submission) -> None:
    """Straight-through gradient."""
    lats = example().requires_grad_()
    weights = torch.linspace(-1, 2, lats.numel()).view(lats.shape)
    codes = work["quantize"](lats, torch.tensor([6, 6]))[1]
    need(codes.requires_grad, "codes have no gradient: add the points, subtract them detached")
    (codes * weights).sum().backward()
    expected = weights * (1 - torch.tanh(lats.detach()) ** 2)
    moved = lats.grad is not None and bool(lats.grad.any())
    need(moved, "it is zero, as rounding has none: add the points, subtract them detached")
    same("gradient of lats", lats.grad, expected, "straight through to tanh(lats), not to lats")


def check_padding(work: Submission) -> None:
    """Padded frames are zero."""
    lats = example()
    lats[0, 4:] = 1000.0
    toks, codes = work["quantize"](lats, torch.tensor([4, 6]))
    hint = "padded frames are zero; a code of zeros has another tok, so set toks too"
    same("toks in padded frames", toks[0, 4:], torch.zeros(2), hint)
    same("codes in padded frames", codes[0, 4:], torch.zeros(2, 4), hint)


def check_alone(work: Submission) -> None:
    """Padded equals alone."""
    lats = example()
    toks, codes = work["quantize"](lats, torch.tensor([4, 6]))
    toks_alone, codes_alone = work["quantize"](lats[:1, :4], torch.tensor([4]))
    hint = "a clip has the same result alone and in a padded batch"
    same("toks of a padded clip", toks[:1, :4], toks_alone, hint)
    same("codes of a padded clip", codes[:1, :4], codes_alone.detach(), hint)


def check_token_entropy(work: Submission) -> None:
    """Entropy of a token."""
    lats, sharpness = example(), 3.0
    probs = level_probs(lats, sharpness)
    codes = torch.tensor(list(product(range(3), repeat=4)))  # (81, 4): all of them
    joint = torch.stack([probs[..., range(4), code].prod(dim=-1) for code in codes], dim=-1)
    found = work["entropies"](lats, torch.tensor([6, 6]), sharpness)[0]
    hint = "the mean over frames of the entropy of all 81 codes, in nats"
    same("entropy of a token", found, entropy(joint).mean(), hint)


def check_many_codes(work: Submission) -> None:
    """Entropies of 3^40 codes."""
    lats = example(digits=40)
    token, codebook = work["entropies"](lats, torch.tensor([6, 6]), 3.0)
    expected = entropy(level_probs(lats, 3.0)).sum(dim=-1).mean()
    hint = "independent digits: the entropy of a code is the sum of those of its digits"
    same("entropy of a token of 40 digits", token, expected, hint)
    token, codebook = work["entropies"](lats, torch.tensor([6, 6]), 1e4)
    finite = math.isfinite(float(token)) and math.isfinite(float(codebook))
    need(finite, "not finite where a probability is 0: 0 log 0 is 0 (torch.xlogy)")


def check_codebook_entropy(work: Submission) -> None:
    """Entropy of the codebook."""
    lats = example()
    expected = entropy(level_probs(lats, 3.0).flatten(0, 1).mean(dim=0)).sum()
    found = work["entropies"](lats, torch.tensor([6, 6]), 3.0)[1]
    hint = "first the mean of the probabilities over frames, then the entropy, then the sum"
    same("entropy of the codebook", found, expected, hint)


def check_entropy_padding(work: Submission) -> None:
    """Entropies leave out padding."""
    lats, lengths = example(), torch.tensor([2, 6])
    lats[0, 2:] = -1000.0
    probs = level_probs(torch.cat([lats[0, :2], lats[1]]), 3.0)  # (8, 4, 3)
    token, codebook = work["entropies"](lats, lengths, 3.0)
    hint = "a mean over the 8 valid frames, each with the same weight; padding does not count"
    same("entropy of a token", token, entropy(probs).sum(dim=-1).mean(), hint)
    same("entropy of the codebook", codebook, entropy(probs.mean(dim=0)).sum(), hint)


CHECKS: list[tuple[int, Callable[[Submission], None]]] = [
    (2, check_codes),
    (3, check_toks),
    (2, check_back),
    (2, check_values),
    (3, check_gradient),
    (2, check_padding),
    (2, check_alone),
    (3, check_token_entropy),
    (2, check_many_codes),
    (2, check_codebook_entropy),
    (2, check_entropy_padding),
]


def grade(path: Path) -> int:
    """Run all checks of one submission; print a line for each; return its points."""
    try:
        work = runpy.run_path(str(path))
    except BaseException as error:  # SystemExit too
        print(f"  {path.name} does not run: {type(error).__name__}: {error}")
        return 0
    total = 0
    for points, check in CHECKS:
        name = (check.__doc__ or "").rstrip(".")
        try:
            check(work)
            total += points
            print(f"  {points} of {points}  {name}")
        except Wrong as error:
            print(f"  0 of {points}  {name}: {error}")
        except NotImplementedError:
            print(f"  0 of {points}  {name}: not written yet")
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            print(f"  0 of {points}  {name}: your code raised {type(error).__name__}: {first}")
    return total


def main(words: list[str]) -> int:
    """Grade each submission in a process of its own, then list the points."""
    if words[:1] == ["--one"]:
        print(f"points: {grade(Path(words[1]))}")
        return 0
    if not words:
        print("usage: python assignment_check.py SUBMISSION.py ...")
        return 2
    most, results = sum(points for points, _ in CHECKS), []
    for word in words:
        print(word)
        if not Path(word).is_file():
            print("  there is no such file")
            results.append(0)
            continue
        command = [sys.executable, __file__, "--one", word]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            text, mark, points = done.stdout.rpartition("points: ")
            print(text.rstrip("\n") if mark else f"  stopped: exit status {done.returncode}")
            results.append(int(points) if mark else 0)
        except subprocess.TimeoutExpired:
            print(f"  not finished after {SECONDS} s: does a loop go through all codes?")
            results.append(0)
    print(
        "\n".join(
            f"{word}: {points} of {most}" for word, points in zip(words, results, strict=True)
        )
    )
    return int(min(results) < most)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
