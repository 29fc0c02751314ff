"""Entropy loss of the quantizer: the plain definition against the factorised one, in one run.

    python benchmarks/bsq_entropy.py --tokens 12000 --bits 13

Prints the time of a forward and backward pass of both (the best of `--repeats`), their ratio, and
the largest difference of values and gradients. About 20 s and 3 GB on one CPU core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from focalcodec.bsq import BinarySphericalQuantizer


def plain_entropy_loss(
    lats: Tensor, mask: Tensor | None = None, inv_temperature: float = 100.0, gamma: float = 1.0
) -> Tensor:
    """Entropy loss as the papers define it, over a matrix of (tokens, 2^L) probabilities."""
    bits = lats.shape[-1]
    codebook = BinarySphericalQuantizer(2**bits).codebook.to(lats).sign() / bits**0.5
    lats = lats.flatten(0, -2) if mask is None else lats[mask]
    unit = lats / lats.norm(dim=-1, keepdim=True)
    probs = torch.softmax(2 * inv_temperature * unit @ codebook.T, dim=-1)
    sample = -(probs * probs.clamp(min=1e-5).log()).sum(dim=-1).mean()
    mean = probs.mean(dim=0)
    return sample + gamma * (mean * mean.clamp(min=1e-5).log()).sum()


def value_and_gradient(
    loss: Callable[[Tensor], Tensor], lats: Tensor, repeats: int = 1
) -> tuple[float, Tensor, float]:
    """Loss, its gradient, and the seconds of the fastest forward and backward pass."""
    seconds = []
    for _ in range(repeats):
        leaf = lats.detach().clone().requires_grad_()
        start = time.perf_counter()
        value = loss(leaf)
        (grad,) = torch.autograd.grad(value, leaf)
        seconds.append(time.perf_counter() - start)
    return value.item(), grad, min(seconds)


def main() -> None:
    """Run both and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=12000)
    parser.add_argument("--bits", type=int, default=13)
    parser.add_argument("--inv-temperature", type=float, default=100.0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    torch.manual_seed(0)
    lats = torch.randn(args.tokens, args.bits)
    quantizer = BinarySphericalQuantizer(2**args.bits)
    scale = args.inv_temperature
    plain, plain_grad, plain_seconds = value_and_gradient(
        lambda x: plain_entropy_loss(x, inv_temperature=scale), lats, args.repeats
    )
    ours, grad, seconds = value_and_gradient(
        lambda x: quantizer.entropy_loss(x, inv_temperature=scale), lats, args.repeats
    )
    print(f"{args.tokens} tokens, {args.bits} bits, {torch.get_num_threads()} threads, float32")
    print(f"plain       {plain:.6f} nats  {plain_seconds:8.3f} s")
    print(f"factorised  {ours:.6f} nats  {seconds:8.3f} s")
    print(f"ratio                      {plain_seconds / seconds:8.1f} x")
    print(
        f"difference  value {abs(plain - ours):.1e}, gradient {(plain_grad - grad).abs().max():.1e}"
    )


if __name__ == "__main__":
    main()
