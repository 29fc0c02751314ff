"""Clips of each set: shares of seconds, by speaker or by file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from focalcodec.data.own_folder import ShareOptions, share_out
from focalcodec.errors import UserError


def row(name: str, seconds: float = 1.0, speaker: str = "") -> dict:
    numbers = {"duration": seconds, "sample_rate": 100, "num_samples": round(seconds * 100)}
    return {"ID": name, "wav": f"{name}.wav", "spk_id": speaker, "wrd": "", **numbers}


def shared(
    rows: list[dict], options: ShareOptions | None = None, copies: Mapping[str, str] | None = None
) -> dict[str, list[dict]]:
    return share_out(rows, copies or {}, options or ShareOptions(), "talks")[0]


@pytest.mark.parametrize(
    ("count", "options", "how"),
    [
        (10, ShareOptions(), "by speaker, 10 of them"),
        (9, ShareOptions(), "by file, since speakers are under 10: 9"),
        (9, ShareOptions(valid_share=0.2, test_share=0.15), "by speaker, 9 of them"),
        (10, ShareOptions(split_by="file"), "by file"),
        (3, ShareOptions(split_by="speaker"), "by speaker, 3 of them"),
    ],
)
def test_choice_of_speakers_or_files(count: int, options: ShareOptions, how: str) -> None:
    rows = [row(f"{speaker}-{k}", 1.0, f"s{speaker}") for speaker in range(count) for k in range(4)]
    sets, said = share_out(rows, {}, options, "talks")
    assert said == how and all(sets.values())
    assert sorted(x["ID"] for some in sets.values() for x in some) == sorted(x["ID"] for x in rows)


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_of_seconds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [row(f"clip{k}", float(rng.gamma(2, 4)) + 0.1) for k in range(2000)]
    sets = shared(rows, ShareOptions(valid_share=0.1, test_share=0.05, seed=seed))
    total = sum(x["duration"] for x in rows)
    shares = {name: sum(x["duration"] for x in some) / total for name, some in sets.items()}
    assert shares == pytest.approx({"train": 0.85, "valid": 0.1, "test": 0.05}, abs=0.01)


def test_few_clips_move_when_others_are_added() -> None:
    rows = [row(f"clip{k}") for k in range(2000)]
    before, after = shared(rows[:1800]), shared(rows)
    placed = {x["ID"]: name for name, some in after.items() for x in some}
    moved = [x["ID"] for name, some in before.items() for x in some if placed[x["ID"]] != name]
    assert len(moved) < 40
    trained = {x["ID"] for x in before["train"]}
    assert not trained & {x["ID"] for x in after["test"]}  # no leak into the test


def test_the_order_of_files_does_not_matter_and_the_seed_does() -> None:
    rows = [row(f"clip{k}") for k in range(100)]
    names = [{x["ID"] for x in shared(some)["test"]} for some in (rows, rows[::-1])]
    assert names[0] == names[1] != {x["ID"] for x in shared(rows, ShareOptions(seed=1))["test"]}


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.4, 0.4), (0.01, 0.9)])
@pytest.mark.parametrize("seed", range(8))
def test_no_set_is_empty_and_very_long_files_are_for_training(seed: int, shares: tuple) -> None:
    options = ShareOptions("file", *shares, seed)
    for seconds in ([1, 1, 1], [1, 1, 100], [1, 50, 100, 1], [100, *[1] * 30]):
        sets = shared([row(f"clip{k}", length) for k, length in enumerate(seconds)], options)
        assert all(sets.values())
        if len(seconds) > 3 and shares == (0.1, 0.1):
            assert any(x["duration"] == 100 for x in sets["train"])


@pytest.mark.parametrize("seed", range(40))
def test_any_folder_is_shared_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 60))
    people = [f"s{k}" for k in rng.integers(0, rng.integers(1, 30), count)]
    lengths = rng.gamma(0.5, 20, count) + 10
    rows = [
        row(f"{k:02}", seconds, speaker * bool(rng.integers(0, 5)))
        for k, (seconds, speaker) in enumerate(zip(lengths, people, strict=True))
    ]
    names = [x["wav"] for x in rows]
    copies = {name: names[int(rng.integers(0, 3))] for name in names[3:] if rng.random() < 0.3}
    share = float(rng.uniform(0.02, 0.45))
    sets, how = share_out(rows, copies, ShareOptions("auto", share, 0.1, seed), "talks")
    where = {x["ID"]: name for name, some in sets.items() for x in some}
    assert all(sets.values()) and len(where) == sum(map(len, sets.values()))
    assert len(where) == len(rows) or (copies and "by speaker" in how)
    for copy, first in copies.items():
        assert where.get(copy[:-4], where[first[:-4]]) == where[first[:-4]]
    if "by speaker" in how:
        own = [
            {x["spk_id"] for x in some if x["wav"] not in copies} - {""} for some in sets.values()
        ]
        assert len(set.union(*own)) == sum(map(len, own))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "time"}, "split_by='time': not one of auto, speaker, file"),
        ({"valid_share": 0.0}, "valid_share=0.0, test_share=0.1: each must be above 0"),
        ({"valid_share": 0.6, "test_share": 0.4}, "both together below 1"),
        ({"test_share": float("nan")}, "each must be above 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ShareOptions(**options)
