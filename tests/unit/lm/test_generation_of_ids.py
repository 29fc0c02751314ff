"""Sampling: seeds, ends, batches, and ids that are repeated."""

from __future__ import annotations

import pytest
import torch

from focalcodec.errors import UserError
from focalcodec.lm import Sampling, SpeechLM, generate
from focalcodec.lm.generation import draw, stream_ids

ALLOWED, END = torch.arange(10, 40), 10


def small(chunk_size: int) -> SpeechLM:
    torch.manual_seed(0)
    model = SpeechLM(40, 16, 2, num_heads=4, num_kv_heads=2, chunk_size=chunk_size).eval()
    model.head.data *= 20
    return model


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_a_row_of_a_batch_gets_what_it_gets_alone(chunk_size: int) -> None:
    model = small(chunk_size)
    prompts = [torch.randint(40, (length,)) for length in (3, 9, 5)]
    most, seeds = [20, 30, 7], [1, 2, 3]
    batch = generate(model, prompts, ALLOWED, END, most, seeds=seeds)
    for row, found in enumerate(batch):
        one = generate(model, [prompts[row]], ALLOWED, END, [most[row]], seeds=[seeds[row]])
        assert torch.equal(found, one[0])
        assert 1 <= len(found) <= most[row] and torch.isin(found, ALLOWED).all()
        assert not (found[:-1] == END).any()
    assert any(len(found) < length for found, length in zip(batch, most, strict=True))
    again = generate(model, prompts, ALLOWED, END, most, seeds=[4, 5, 6])
    assert not all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


def test_steps_come_one_after_the_other() -> None:
    model, prompt = small(4), [torch.tensor([3])]
    how = Sampling()
    steps = [ids for (ids,) in stream_ids(model, prompt, ALLOWED, END, [9], how, [8])]
    whole = generate(model, prompt, ALLOWED, END, [9], seeds=[8])
    assert torch.equal(torch.cat(steps), whole[0]) and all(len(ids) <= 4 for ids in steps)


def logits_of(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()[None, None]  # (1, 1, A)


def drawn(sampling: Sampling, number: float, recent: list[int], second: float = 0.99) -> int:
    ids = torch.tensor([10, 11, 12])
    numbers = torch.tensor([[[number, second]]])
    logits = logits_of(0.3, 0.6, 0.1)
    place = draw(logits, ids, torch.tensor([recent]), sampling, numbers)
    return int(ids[place])


def test_top_p_leaves_out_the_tail() -> None:
    assert {drawn(Sampling(top_p=0.9), x / 100, [0] * 10) for x in range(100)} == {10, 11}
    assert {drawn(Sampling(top_p=0.5), x / 100, [0] * 10) for x in range(100)} == {11}
    assert {drawn(Sampling(top_p=1.0), x / 100, [0] * 10) for x in range(100)} == {10, 11, 12}
    assert drawn(Sampling(temperature=0.0), 0.99, [0] * 10) == 11


def test_an_id_that_fills_the_window_is_drawn_again_from_all() -> None:
    aware = Sampling(top_p=0.5, repetition_share=0.1)
    assert drawn(aware, 0.2, [11] + [0] * 9) == 11  # one of ten is allowed
    assert drawn(aware, 0.2, [11, 11] + [0] * 8) == 12  # by the second number, 0.99
    assert drawn(aware, 0.2, [11, 11] + [0] * 8, second=0.1) == 10
    never = Sampling(top_p=0.5, repetition_share=1.0)
    assert drawn(never, 0.2, [11] * 10) == 11


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])  # of thousands of ids: flat, and steep
@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_only_ids_of_the_nucleus_are_drawn(scale: float, top_p: float) -> None:
    torch.manual_seed(0)
    logits, allowed = scale * torch.randn(2, 3, 3000), torch.arange(3000)
    how, recent = Sampling(top_p=top_p, repetition_share=1.0), torch.full((2, 1), -1)
    p, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = p.cumsum(dim=-1) - p  # a place is in the nucleus if the sum before it is below top_p
    for number in (0.0, 0.5, 0.999):
        places = draw(logits, allowed, recent, how, torch.full((2, 3, 2), number))
        ranks = (order == places[..., None]).int().argmax(dim=-1, keepdim=True)
        low, high = before.gather(-1, ranks), (before + p).gather(-1, ranks)
        assert (low < top_p + 1e-5).all()
        wanted = number * (before + p).gather(-1, (before < top_p).sum(dim=-1, keepdim=True) - 1)
        assert ((low - 1e-3 <= wanted) & (wanted <= high + 1e-3)).all()


@pytest.mark.parametrize("wrong", [{"top_p": 0.0}, {"temperature": -1.0}, {"repetition_window": 0}])
def test_a_wrong_option_is_one_line(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))}="):
        Sampling(**wrong)  # type: ignore[arg-type]
