"""Nearest frames: equal to the plain computation for any blocks, in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from focalcodec import UserError
from focalcodec.knn import SPARE, FaissIndex, nearest_frames


def plain(queries, references, k):
    """The definition, over the whole (Q, R) matrix, in float64."""
    cosines = F.normalize(queries.double()) @ F.normalize(references.double()).T
    return cosines.argsort(dim=1, descending=True, stable=True)[:, :k]


def clustered(count, seed, dim=32, clusters=40):
    """Frames like those of speech: many frames around few centres."""
    centres = torch.randn(clusters, dim, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(clusters, (count,), generator=generator)
    return centres[kinds] + 0.3 * torch.randn(count, dim, generator=generator)


class LargestTensor(TorchDispatchMode):
    """Counts the values of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(x, torch.Tensor) and not x._is_view():
                self.numel = max(self.numel, x.numel())
        return made


@pytest.mark.parametrize("blocks", [(1, 1), (7, 13), (64, 5), (1000, 32), (3, 10_000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 4, 97])
def test_blocks_equal_plain(blocks, dtype, k):
    torch.manual_seed(0)
    queries, references = torch.randn(30, 16), torch.randn(97, 16).to(dtype)
    found = nearest_frames(queries, references, k, *blocks)
    assert torch.equal(found, plain(queries, references, k))


def test_norms_of_frames_have_no_influence():
    torch.manual_seed(0)
    queries, references = torch.randn(20, 8), torch.randn(50, 8)
    scaled = references * torch.logspace(-3, 3, 50)[:, None]
    assert torch.equal(nearest_frames(queries, scaled, 4), nearest_frames(queries, references, 4))
    assert torch.equal(
        nearest_frames(1e-6 * queries, references, 4), nearest_frames(queries, references, 4)
    )


@pytest.mark.parametrize("blocks", [(1, 2), (3, 4), (512, 4096)])
def test_equal_frames_are_in_the_order_of_their_indices(blocks):
    torch.manual_seed(0)
    kinds = torch.randn(5, 8)
    references = kinds.repeat(3, 1)  # frame i, i + 5 and i + 10 are the same
    found = nearest_frames(kinds, references, 3, *blocks)
    assert found.tolist() == [[i, i + 5, i + 10] for i in range(5)]


def test_zero_frames_are_allowed():
    references = torch.cat([torch.zeros(1, 4), torch.eye(4)])
    assert nearest_frames(torch.eye(4), references, 1).flatten().tolist() == [1, 2, 3, 4]
    assert nearest_frames(torch.zeros(1, 4), references, 2).tolist() == [[0, 1]]


def test_order_is_that_of_float64():
    """The cosines of these references differ by less than the rounding of float32."""
    query, references = torch.ones(1, 64), torch.ones(10, 64)
    references[:, 0] += torch.linspace(2e-4, 1e-4, 10)
    in_float32 = (F.normalize(query) @ F.normalize(references).T).argsort(descending=True)
    expected = list(range(9, -1, -1))
    assert in_float32[0].tolist() != expected  # float32 alone would fail here
    references = torch.cat([references, torch.randn(50, 64)])
    assert nearest_frames(query, references, 10, 1, 16)[0].tolist() == expected


def test_a_query_gives_the_same_alone_and_in_a_batch():
    queries, references = clustered(200, 1), clustered(3000, 2)
    together = nearest_frames(queries, references, 4, 64, 500)
    alone = [nearest_frames(query[None], references, 4, 64, 500) for query in queries]
    assert torch.equal(together, torch.cat(alone))


def test_memory_is_bounded_by_the_blocks():
    queries, references = clustered(2000, 1), clustered(20_000, 2).half()
    with LargestTensor() as largest:
        nearest_frames(queries, references, 4, query_block=128, reference_block=1024)
    bookkeeping = len(queries) * max(4 + SPARE, queries.shape[1])
    assert largest.numel <= max(128 * 1024, 1024 * 32, bookkeeping)
    with LargestTensor() as largest:
        nearest_frames(queries, references, 4, query_block=2000, reference_block=20_000)
    assert largest.numel == 2000 * 20_000  # the measure finds a whole matrix


def peak_bytes(run):
    """Largest number of bytes allocated during a call."""
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        run()
    changes = [e.nbytes() for e in profile.kineto_results.events() if e.name() == "[memory]"]
    return int(torch.tensor(changes).cumsum(0).max())


def test_peak_memory_does_not_grow_with_the_reference():
    queries = clustered(500, 1, dim=64)

    def peak(frames):
        references = clustered(frames, 2, dim=64).half()
        return peak_bytes(lambda: nearest_frames(queries, references, 4, 100, 1000))

    least = 4 * 1000 * (100 + 64)
    assert least < peak(2000) < 3 * least
    assert peak(16_000) < 1.1 * peak(2000)


@pytest.mark.parametrize("k", [0, -1, 6])
def test_k_must_fit(k):
    with pytest.raises(UserError, match=r"k=.*1\.\.5"):
        nearest_frames(torch.randn(2, 3), torch.randn(5, 3), k)


# -- faiss --------------------------------------------------------------------------------------


def recall(index, queries, references, k=4):
    exact = nearest_frames(queries, references, k)
    found = index.nearest(queries, k)
    return (found[:, :, None] == exact[:, None]).any(dim=2).float().mean().item()


def test_faiss_recall():
    pytest.importorskip("faiss")
    queries, references = clustered(300, 1), clustered(8000, 2)
    index = FaissIndex(references)
    assert index.num_lists > 2 * index.num_probes  # some lists are not searched
    assert recall(index, queries, references) > 0.95
    assert recall(FaissIndex(references, num_probes=1), queries, references) < 0.9


def test_faiss_is_exact_if_it_searches_all_lists():
    pytest.importorskip("faiss")
    queries, references = clustered(100, 1), clustered(1000, 2).half()
    index = FaissIndex(references, num_lists=10, num_probes=10)
    assert torch.equal(index.nearest(queries, 4), nearest_frames(queries, references, 4))


def test_faiss_always_gives_k_neighbours():
    pytest.importorskip("faiss")
    references = clustered(400, 2)
    found = FaissIndex(references, num_lists=10, num_probes=1).nearest(clustered(20, 1), 200)
    assert found.shape == (20, 200)
    assert all(len(set(row)) == 200 and min(row) >= 0 for row in found.tolist())


def test_faiss_of_few_frames():
    pytest.importorskip("faiss")
    references = torch.randn(3, 8)
    assert FaissIndex(references).nearest(references, 1).flatten().tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="k=4"):
        FaissIndex(references).nearest(references, 4)
    with pytest.raises(UserError, match="num_lists"):
        FaissIndex(references, num_lists=4)


def test_the_error_without_faiss_has_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UserError, match="pip install faiss-cpu"):
        FaissIndex(torch.randn(50, 8))


def test_faiss_is_imported_at_its_first_use():
    code = "import sys, focalcodec.conversion; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
