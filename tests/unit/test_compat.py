"""torchaudio with a torch that it was not built for: each case in a new interpreter."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

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
        from focalcodec.compat import ensure_torchaudio
        ensure_torchaudio()
        import speechbrain, torch, torchaudio
        print(tuple(torchaudio.transforms.MelSpectrogram(n_mels=40)(torch.zeros(1, 1600)).shape))
        """
    )
    assert out == "(1, 40, 9)"


def test_twice_and_in_a_forked_worker():
    out = run_python(
        """
        from focalcodec.compat import ensure_torchaudio
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
        from focalcodec.compat import ensure_torchaudio
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
        from focalcodec.compat import ensure_torchaudio
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
        from focalcodec.compat import ensure_torchaudio
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
        from focalcodec.compat import ensure_torchaudio
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
