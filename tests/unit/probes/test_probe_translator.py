"""Permutation-invariant cross entropy, compared with plain loops."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from focalcodec.errors import UserError
from focalcodec.probes import permuted_cross_entropy
from focalcodec.probes.translator import pairwise_cross_entropy

LENGTHS = torch.tensor([2, 7, 5])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def case(targets, streams):
    logits = torch.randn(3, 7, targets, streams, 4) * 3
    return logits, torch.randint(4, (3, 7, targets, streams))


def by_hand(logits, toks, head, target):
    """Cross entropy of one clip's head and target, averaged over the codebooks."""
    streams = logits.shape[2]
    losses = [
        F.cross_entropy(logits[:, head, q], toks[:, target, q]).item() for q in range(streams)
    ]
    return sum(losses) / streams


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("targets", [1, 2, 3])
def test_every_clip_has_its_own_best_order(targets, streams):
    logits, toks = case(targets, streams)
    found = permuted_cross_entropy(logits, toks, LENGTHS)
    chosen = set()
    for b, n in enumerate(LENGTHS.tolist()):
        losses = {
            order: sum(by_hand(logits[b, :n], toks[b, :n], s, t) for s, t in enumerate(order))
            / targets
            for order in permutations(range(targets))
        }
        best = min(losses, key=losses.get)
        chosen.add(best)
        assert tuple(found.order[b].tolist()) == best
        assert found.loss[b].item() == pytest.approx(losses[best], rel=1e-5)
    assert targets == 1 or len(chosen) > 1, "the case does not distinguish clips from batches"


def test_pairs_are_heads_by_targets():
    logits, toks = case(targets=2, streams=2)
    costs = pairwise_cross_entropy(logits, toks, LENGTHS)
    assert costs.shape == (3, 2, 2)
    for b, n in enumerate(LENGTHS.tolist()):
        for s in range(2):
            for t in range(2):
                expected = by_hand(logits[b, :n], toks[b, :n], s, t)
                assert costs[b, s, t].item() == pytest.approx(expected, rel=1e-5)


def test_padding_is_ignored():
    logits, toks = case(targets=2, streams=2)
    expected = permuted_cross_entropy(logits, toks, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        logits[b, n:], toks[b, n:] = float("nan"), -1
        alone = permuted_cross_entropy(logits[b : b + 1, :n], toks[b : b + 1, :n])
        torch.testing.assert_close(alone.loss[0], expected.loss[b])
    found = permuted_cross_entropy(logits, toks, LENGTHS)
    assert torch.equal(found.loss, expected.loss) and torch.equal(found.order, expected.order)


def test_gradients_are_those_of_the_chosen_pairs():
    logits, toks = case(targets=2, streams=1)
    logits.requires_grad_()
    loss, order = permuted_cross_entropy(logits, toks)
    loss.sum().backward()
    found, logits.grad = logits.grad.clone(), None
    wanted = torch.stack([clip[:, row] for clip, row in zip(toks, order, strict=True)])
    per_token = F.cross_entropy(logits.flatten(0, 3), wanted.flatten(), reduction="sum")
    (per_token / (7 * 2)).backward()
    torch.testing.assert_close(found, logits.grad)


def test_half_precision_loses_nothing():
    logits, toks = case(targets=2, streams=1)
    half = permuted_cross_entropy(logits.bfloat16(), toks).loss
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, permuted_cross_entropy(logits.bfloat16().float(), toks).loss)


def test_wrong_shapes_are_refused():
    logits, toks = case(targets=2, streams=1)
    with pytest.raises(UserError, match=r"\(3, 7, 2\), logits: \(3, 7, 2, 1, 4\)"):
        permuted_cross_entropy(logits, toks[..., 0])
