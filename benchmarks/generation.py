"""Speed of a language model: training, and generation with and without its cache.

    python benchmarks/generation.py
    python benchmarks/generation.py --hidden_size 512 --num_layers 12 --length 500

Against transformers' Llama of the same size, in one process. Seconds are those of the processor,
and the two models take turns, so that other work on the machine changes little. Each figure is the
median of the runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from focalcodec.errors import UserError
from focalcodec.lm import Sampling, SpeechLM, generate, target_nats

CODE_DIM = 13
VOCAB_SIZE = 2**CODE_DIM + 37
END = 36


def timed(work: Callable[[], Any]) -> float:
    """Seconds of the processor."""
    start = time.process_time()
    work()
    return time.process_time() - start


def take_turns(runs: int, *works: Callable[[], Any]) -> list[float]:
    """Median seconds of each work, after one run that is not counted."""
    for work in works:
        work()
    rounds = [[timed(work) for work in works] for _ in range(runs)]
    return [median(column) for column in zip(*rounds, strict=True)]


def training_step(model: Any, loss_of: Callable[[], Tensor]) -> Callable[[], None]:
    """A step of AdamW on a loss."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()

    return step


def train_both(model: SpeechLM, llama: Any, args: argparse.Namespace) -> tuple[float, float]:
    """Ids a second in training: ours, transformers."""
    ids = torch.randint(VOCAB_SIZE, (args.batch_size, args.row_length))
    is_target = torch.ones_like(ids, dtype=torch.bool)

    def ours() -> Tensor:
        nats, counts = target_nats(model, ids, is_target)
        return nats.sum() / counts.sum()

    def theirs() -> Tensor:
        logits = llama(ids, use_cache=False).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    model.train(), llama.train()
    steps = training_step(model, ours), training_step(llama, theirs)
    one, two = take_turns(args.runs, *steps)
    return ids.numel() / one, ids.numel() / two


def generate_all(model: SpeechLM, llama: Any, args: argparse.Namespace) -> tuple[float, ...]:
    """Seconds of `length` ids: with the cache, transformers.generate, without the cache."""
    model.eval(), llama.eval()
    prompt = torch.randint(END + 1, VOCAB_SIZE, (40,))
    allowed, how = torch.arange(END + 1, VOCAB_SIZE), Sampling(temperature=0.0)

    def cached() -> None:
        generate(model, [prompt], allowed, END, [args.length], how)

    @torch.inference_mode()
    def theirs() -> None:
        options = {"max_new_tokens": args.length, "do_sample": False, "pad_token_id": END}
        llama.generate(prompt[None], min_new_tokens=args.length, **options)

    @torch.inference_mode()
    def whole_each_time() -> None:
        ids, vectors = prompt[None], model.output_vectors()[0]
        for _ in range(args.length):
            logits = model.hidden(ids)[:, -1] @ vectors.T
            ids = torch.cat([ids, logits.argmax(dim=1, keepdim=True)], dim=1)

    one, two = take_turns(args.runs, cached, theirs)
    return one, two, timed(whole_each_time)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden_size", type=int, default=240)
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--ffn_size", type=int, default=512)
    parser.add_argument("--row_length", type=int, default=1024, help="ids of a training row")
    parser.add_argument("--batch_size", type=int, default=2, help="training rows")
    parser.add_argument("--length", type=int, default=500, help="ids that are generated")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    sizes = (args.hidden_size, args.num_layers, 4, 1, args.ffn_size)
    try:
        model = SpeechLM(VOCAB_SIZE, *sizes, code_dim=CODE_DIM)
        llama = model.to_transformers()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ours, theirs = train_both(model, llama, args)
    cached, transformers, uncached = generate_all(model, llama, args)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{millions:.1f} M parameters, {args.threads} threads")
    print(
        f"training, ids a second: {ours:.0f}, transformers {theirs:.0f}: {ours / theirs:.2f} times"
    )
    print(
        f"generation of {args.length} ids, s: {cached:.2f}, transformers {transformers:.2f}"
        f" ({transformers / cached:.2f} times), without the cache {uncached:.2f}"
        f" ({uncached / cached:.1f} times)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
