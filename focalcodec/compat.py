"""The one place that knows about a torchaudio whose compiled part does not fit torch."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

from focalcodec.errors import UserError

EXTENSION = "torchaudio._extension"


def ensure_torchaudio() -> None:
    """Make `import torchaudio`, and so `import speechbrain`, work beside any torch.

    The torchaudio wheel of the package index holds a library linked against CUDA. Beside a
    torch for the CPU it can't be loaded, and torchaudio, which treats it as optional only
    where the file is absent, does not import at all. Everything SpeechBrain needs of
    torchaudio (filter banks, transforms, functionals) is plain PyTorch. So, and only where
    the import fails, torchaudio is told that it has no compiled part. What then stays
    unavailable says so when called: forced alignment and the CUDA CTC decoder.

    Call it before the first import of torchaudio or speechbrain, at the top level of the
    module that does that import: forked workers inherit it, and spawned ones, which import
    the module again, do it again. Where torchaudio imports as it is, nothing is changed.

    Raises
    ------
    UserError
        torchaudio is not installed, or does not import without its compiled part either.

    Example
    -------
    >>> ensure_torchaudio()
    >>> import torchaudio
    """
    error = _import_error()
    if error is None:
        return
    sys.modules[EXTENSION] = _without_extension(error)
    second_error = _import_error()
    if second_error is not None:
        raise UserError(
            f"torchaudio: does not import ({_first_line(second_error)});"
            " install the build of torchaudio that goes with your torch"
        )


def _import_error() -> Exception | None:
    """Try the import; a failed one leaves none of torchaudio's modules behind."""
    before = set(sys.modules)
    try:
        import torchaudio  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "torchaudio":
            raise UserError(
                "torchaudio: not installed; run pip install 'focalcodec[recipes]'"
            ) from error
        failure: Exception = error
    # ImportError and OSError: a library is not found; RuntimeError: it is for another CUDA.
    except (ImportError, OSError, RuntimeError) as error:
        failure = error
    else:
        return None
    for name in set(sys.modules) - before | {EXTENSION}:
        if name.partition(".")[0] == "torchaudio":
            sys.modules.pop(name, None)
    return failure


def _without_extension(cause: Exception) -> types.ModuleType:
    """Stand-in for `torchaudio._extension`: the names torchaudio 2.11 takes from it."""
    message = f"torchaudio's compiled part could not be loaded: {_first_line(cause)}"

    def unavailable(*args: object, **kwargs: object) -> None:
        raise RuntimeError(message)

    def fail_when_called(function: Callable[..., object]) -> Callable[..., None]:
        return unavailable

    names = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "fail_if_no_align": fail_when_called,
        "_load_lib": unavailable,
    }
    module = types.ModuleType(EXTENSION, "Without its compiled part.")
    for name, value in names.items():
        setattr(module, name, value)
    return module


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
