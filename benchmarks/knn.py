"""Nearest frames for voice conversion: exact search against its matrix products, and faiss.

    python benchmarks/knn.py --minutes 60 --queries 500
    python benchmarks/knn.py --folder corpus/LibriSpeech/train-mini

Without a folder the reference is random: frames around random centres, of the paper's width. With
one, it is the log-mel features of every second file, and the queries are those of the others.
Prints seconds (the best of `--repeats`), the share of the matrix products, the memory that the
search takes besides the frames, and recall@4 of faiss. The default takes 3 GB, and a minute on one
core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from focalcodec.audio import read_audio
from focalcodec.encoders.logmel import LogMel
from focalcodec.knn import FaissIndex, nearest_frames

FRAMES_A_MINUTE = 3000


def clustered(count: int, dim: int, seed: int, clusters: int = 2000) -> Tensor:
    """Frames around centres that all seeds share."""
    centres = torch.randn(clusters, dim, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(clusters, (count,), generator=generator)
    return centres[kinds].add_(torch.randn(count, dim, generator=generator), alpha=0.7)


def speech(folder: Path) -> tuple[Tensor, Tensor]:
    """Features of every second file, and of the others."""
    encoder, paths = LogMel(), sorted(folder.rglob("*.flac"))
    feats = [encoder(read_audio(path, sample_rate=16000)[None])[0][0] for path in paths]
    return torch.cat(feats[::2]), torch.cat(feats[1::2])


def best_seconds(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes that PyTorch holds on the CPU for a call, besides what it held before."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    held, most = 0, 0
    for event in profile.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def products(queries: Tensor, block: Tensor, count: int) -> None:
    """As many matrix products as `nearest_frames` makes."""
    for _ in range(count):
        for some in queries.split(512):
            some @ block.T


def report(reference: Tensor, queries: Tensor, repeats: int, k: int = 4) -> None:
    """Print one comparison."""
    print(f"{len(reference)} frames x {reference.shape[1]} {reference.dtype}", end=", ")
    print(f"{reference.nbytes / 1e6:.0f} MB; {len(queries)} queries, k = {k}")
    block = reference[:4096].float()
    blocks = len(reference) / len(block)
    exact = best_seconds(lambda: nearest_frames(queries, reference, k), repeats)
    matrix = best_seconds(lambda: products(queries, block, 4), repeats) / 4 * blocks
    extra = peak_bytes(lambda: nearest_frames(queries, reference, k))
    print(f"  exact: {exact:.2f} s, matrix products {matrix / exact:.0%}, {extra / 1e6:.0f} MB")
    start = time.perf_counter()
    index = FaissIndex(reference)
    print(f"  faiss: {index.num_lists} lists, built in {time.perf_counter() - start:.2f} s")
    expected = nearest_frames(queries, reference, k)
    for index.num_probes in (4, 16, 64):
        seconds = best_seconds(lambda: index.nearest(queries, k), repeats)
        found = index.nearest(queries, k)
        recall = (found[:, :, None] == expected[:, None]).any(dim=2).float().mean().item()
        print(
            f"    {index.num_probes:2d} probes: {seconds:.2f} s, {exact / seconds:.1f} times as"
            f" fast as exact, recall@{k} {recall:.3f}"
        )


@torch.no_grad()
def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="of the reference")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=500, help="frames of the source")
    parser.add_argument("--folder", type=Path, help="recordings to use instead")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if args.folder is not None:
        report(*speech(args.folder), args.repeats)
        return
    reference = clustered(round(args.minutes * FRAMES_A_MINUTE), args.dim, seed=1)
    queries = clustered(args.queries, args.dim, seed=2)
    report(reference.half(), queries, args.repeats)
    report(reference, queries, args.repeats)


if __name__ == "__main__":
    main()
