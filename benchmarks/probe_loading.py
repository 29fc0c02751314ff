"""How much of a probe's step is data loading, by PyTorch's profiler.

    python benchmarks/probe_loading.py --threads 2

Tokens of random clips of 2 to 16 s at 50 Hz lie in a memmap, as `cached_tokens` leaves them; the
probe is the papers' for speech recognition: BiLSTM, 2 x 512, CTC, 1001 symbols, batches of 16.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.data import DataLoader

from focalcodec.data.sampler import EpochBatchSampler
from focalcodec.probes import SequenceProbe, TokenEmbedding
from focalcodec.probes.token_dataset import TokenDataset, collate_tokens
from focalcodec.tokenize.store import (
    META_NAME,
    TokenizedClip,
    TokenStore,
    TokenVocabulary,
    write_memmap,
)

CODEBOOK_SIZE, SYMBOLS, TOKEN_RATE = 8192, 1001, 50


def write_tokens(folder: Path, clips: int) -> TokenDataset:
    """Clips of random tokens on disk."""
    generator = np.random.default_rng(0)
    frames = generator.integers(2 * TOKEN_RATE, 16 * TOKEN_RATE, clips).tolist()
    vocabulary = TokenVocabulary(CODEBOOK_SIZE, special=())
    made = (
        TokenizedClip(str(i), torch.from_numpy(generator.integers(0, CODEBOOK_SIZE, n)), n, 16000)
        for i, n in enumerate(frames)
    )
    write_memmap(folder, made, vocabulary)
    meta = {"ids": sum(frames), "vocabulary": vocabulary.config}
    (folder / META_NAME).write_text(json.dumps(meta))
    rows = [
        {"ID": str(i), "duration": n / TOKEN_RATE, "wrd": "A TEXT OF SOME WORDS " * 5}
        for i, n in enumerate(frames)
    ]
    return TokenDataset(rows, TokenStore(folder))


def take_steps(loader: Any, steps: int, device: torch.device) -> None:
    """Train for some steps; a text has a symbol for each eight frames."""
    inputs = TokenEmbedding(CODEBOOK_SIZE, codes=[torch.randn(CODEBOOK_SIZE, 13)]).to(device)
    probe = SequenceProbe(512, SYMBOLS).to(device)
    parameters = [*inputs.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    batches = iter(loader)
    for _ in range(steps):
        with record_function("loading"):
            batch = next(batches).to(device)
        with record_function("computing"):
            log_probs, frames = probe(*inputs(batch.toks, batch.lengths))
            counts = frames // 8
            texts = torch.randint(1, SYMBOLS, (int(counts.sum()),), device=device)
            loss = torch.nn.functional.ctc_loss(
                log_probs.transpose(0, 1), texts, frames, counts, zero_infinity=True
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 0.01)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()


def main() -> None:
    """Print milliseconds a step and the share of loading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_tokens(Path(folder), args.clips)
        sampler = EpochBatchSampler(dataset.durations, batch_size=16, sorting="bucketed")
        loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate_tokens,
            num_workers=args.workers,
        )
        with profile(activities=[ProfilerActivity.CPU]) as found:
            take_steps(loader, args.steps, torch.device(args.device))
    times = {event.key: event.cpu_time_total / 1000 for event in found.key_averages()}
    loading, computing = (times[name] / args.steps for name in ("loading", "computing"))
    share = 100 * loading / (loading + computing)
    print(f"step {loading + computing:.1f} ms, of it loading {loading:.2f} ms: {share:.2f} %")


if __name__ == "__main__":
    main()
