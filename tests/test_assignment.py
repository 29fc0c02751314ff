"""The checker of the course's assignment: right submissions get all points, wrong ones a hint."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

COURSE = Path(__file__).parents[1] / "docs" / "course"
RIGHT = """
import torch


def lats_to_codes(lats):
    return torch.tanh(lats).round()


def codes_to_toks(codes):
    places = 3 ** torch.arange(codes.shape[-1] - 1, -1, -1)
    return ((codes.long() + 1) * places).sum(dim=-1)


def toks_to_codes(toks, digits):
    places = 3 ** torch.arange(digits - 1, -1, -1)
    return (toks[..., None] // places % 3 - 1).float()


def valid(lats, lengths):
    return torch.arange(lats.shape[1]) < lengths[:, None]


def quantize(lats, lengths):
    mask = valid(lats, lengths)
    points, codes = torch.tanh(lats), lats_to_codes(lats)
    toks = codes_to_toks(codes)
    codes = points + (codes - points).detach()
    return toks * mask, codes * mask[..., None]


def entropies(lats, lengths, sharpness):
    levels = torch.tensor([-1.0, 0.0, 1.0])
    points = torch.tanh(lats[valid(lats, lengths)])
    probs = torch.softmax(-sharpness * (points[..., None] - levels) ** 2, dim=-1)
    entropy = lambda p: -torch.xlogy(p, p).sum(dim=-1)
    return entropy(probs).sum(dim=-1).mean(), entropy(probs.mean(dim=0)).sum()
"""
STRAIGHT = "codes = points + (codes - points).detach()"
FAULTS = {  # what a student may write, and a part of the answer
    "rounds lats": ("torch.tanh(lats).round()", "lats.round().clamp(-1, 1)", "round tanh(lats)"),
    "last digit first": (
        "places = 3 ** torch.arange(codes.shape[-1] - 1, -1, -1)",
        "places = 3 ** torch.arange(codes.shape[-1])",
        "the first counts most",
    ),
    "toks are floats": ("(codes.long() + 1)", "(codes + 1)", "toks are torch.float32"),
    "no gradient": (STRAIGHT, "codes = codes.detach()", "codes have no gradient"),
    "gradient of rounding": (STRAIGHT, "pass", "it is zero, as rounding has none"),
    "gradient to lats": (STRAIGHT, STRAIGHT.replace("points", "lats"), "not to lats"),
    "padded toks": ("toks * mask,", "toks,", "so set toks too"),
    "padding counts": (
        "lats[valid(lats, lengths)])",
        "lats).flatten(0, 1)",
        "padding does not count",
    ),
    "clips mixed": (
        "return toks * mask, codes",
        "return toks * mask, codes - codes.mean(1, keepdim=True).detach()",
        "a clip has the same result alone",
    ),
    "zero probability": ("torch.xlogy(p, p)", "(p * p.log())", "0 log 0 is 0"),
    "bits": ("torch.xlogy(p, p)", "torch.xlogy(p, p).div(0.6931)", "in nats"),
    "error": ("levels = ", "raise ValueError('one\\ntwo')\n    levels = ", "ValueError: one\n"),
}


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", COURSE / "assignment_check.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def submission(folder: Path, text: str) -> Path:
    path = folder / "student.py"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_right_submission_gets_all_points(check: ModuleType, tmp_path: Path) -> None:
    assert check.grade(submission(tmp_path, RIGHT)) == 25


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_submission_gets_a_hint(
    fault: str, check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, hint = FAULTS[fault]
    assert old in RIGHT
    points = check.grade(submission(tmp_path, RIGHT.replace(old, new)))
    said = capsys.readouterr().out
    assert 0 < points < 25 and hint in said, said


def test_the_template_runs_and_gets_no_points(
    check: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.grade(COURSE / "assignment.py") == 0
    assert capsys.readouterr().out.count("not written yet") == len(check.CHECKS)


def test_a_submission_that_is_not_python(
    check: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check.grade(submission(tmp_path, "def :")) == 0
    assert "student.py does not run: SyntaxError" in capsys.readouterr().out


def test_a_class_is_graded_in_one_command(
    check: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Right, missing, and without an end: each gets its points, and the rest goes on."""
    right = submission(tmp_path, RIGHT)
    assert check.main([str(right)]) == 0
    endless = tmp_path / "endless.py"
    endless.write_text("while True: pass", encoding="utf-8")
    monkeypatch.setattr(check, "SECONDS", 0.1)
    assert check.main([str(endless), "nobody.py"]) == 1 and check.main([]) == 2
    said = capsys.readouterr().out
    for line in ("student.py: 25 of 25", "endless.py: 0 of 25", "nobody.py: 0 of 25"):
        assert line in said
    assert "there is no such file" in said and "not finished after 0.1 s" in said
