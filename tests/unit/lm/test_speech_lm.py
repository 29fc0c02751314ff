"""The transformer: its cache, its padding, its heads, and the same logits in transformers."""

from __future__ import annotations

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.lm import KeyValueCache, SpeechLM, target_nats


def small(chunk_size: int = 1, **sizes: int) -> SpeechLM:
    """A model with random weights, that of the bits included."""
    torch.manual_seed(0)
    options = {"hidden_size": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, **sizes}
    model = SpeechLM(40, code_dim=3, chunk_size=chunk_size, **options).eval()
    model.codes[10:] = torch.randn(30, 3).sign()
    return model


def test_transformers_gives_the_same_logits() -> None:
    model, ids = small(num_kv_heads=1, ffn_size=24), torch.randint(40, (2, 9))
    llama = model.to_transformers()
    with torch.no_grad():
        torch.testing.assert_close(llama(ids).logits, model(ids), rtol=1e-5, atol=1e-6)
    assert type(llama).__name__ == "LlamaForCausalLM"
    with pytest.raises(UserError, match="chunk_size=4: Llama predicts one id at a time"):
        small(chunk_size=4).to_transformers()


@pytest.mark.parametrize("chunk_size", [1, 3])
@torch.no_grad()
def test_cached_steps_give_the_logits_of_the_whole(chunk_size: int) -> None:
    model, ids = small(chunk_size), torch.randint(40, (2, 12))
    whole, lengths, cache = model(ids), torch.tensor([3, 6]), KeyValueCache(model, 2, 12)
    first = model(ids[:, :6], lengths=lengths, cache=cache)  # the first row is padded
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(first[0, :3], whole[0, :3], **close)
    assert not first[0, 3:].any()
    rows = torch.arange(2)[:, None]
    for step in range(2):
        places = lengths[:, None] + 3 * step + torch.arange(3)  # (2, 3)
        torch.testing.assert_close(
            model(ids[rows, places], cache=cache), whole[rows, places], **close
        )
    assert cache.lengths.tolist() == [9, 12]


def test_a_place_depends_on_no_later_id_and_padding_on_none() -> None:
    model, ids = small(), torch.randint(40, (1, 8))
    changed = ids.clone()
    changed[:, 5:] = 0
    torch.testing.assert_close(model(ids)[:, :5], model(changed)[:, :5])
    assert not torch.equal(model(ids)[:, 5], model(changed)[:, 5])
    padded = model(ids, lengths=torch.tensor([5]))
    assert not padded[:, 5:].any()


def test_the_loss_is_over_the_targets_alone() -> None:
    model, ids = small(), torch.randint(40, (2, 7))
    is_target = torch.zeros(2, 7, dtype=torch.bool)
    is_target[0, 3] = is_target[0, 6] = is_target[1, 2] = True
    nats, counts = target_nats(model, ids, is_target)
    log_p = model(ids).log_softmax(dim=-1)
    expected = -torch.stack(
        [log_p[0, 2, ids[0, 3]] + log_p[0, 5, ids[0, 6]], log_p[1, 1, ids[1, 2]]]
    )
    torch.testing.assert_close(nats, expected)
    assert counts.tolist() == [2, 1]
    other = ids.clone()
    other[:, 6] = (other[:, 6] + 1) % 40  # the last id is no target of the second row
    assert target_nats(model, other, is_target)[0][1] == nats[1]


def test_each_head_predicts_its_own_id() -> None:
    model, ids = small(chunk_size=2), torch.randint(40, (1, 6))
    is_target = torch.zeros(1, 6, dtype=torch.bool)
    is_target[0, 4] = True
    nats, counts = target_nats(model, ids, is_target)
    log_p = model(ids).log_softmax(dim=-1)  # (1, 6, 2, 40)
    one, two = log_p[0, 3, 0, ids[0, 4]], log_p[0, 2, 1, ids[0, 4]]
    torch.testing.assert_close(nats[0], -(one + two) / 2)
    assert counts.tolist() == [1]


def test_it_learns_a_sequence() -> None:
    model, ids = small().train(), torch.arange(40)[None]
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    losses = []
    for _ in range(60):
        nats, counts = target_nats(model, ids, torch.ones_like(ids, dtype=torch.bool))
        losses.append((nats / counts).item())
        optimizer.zero_grad()
        (nats / counts).sum().backward()
        optimizer.step()
    assert losses[-1] < 0.3 < 3.0 < losses[0]


def test_sizes_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(UserError, match="hidden_size=10, num_heads=4"):
        SpeechLM(8, hidden_size=10, num_heads=4)
