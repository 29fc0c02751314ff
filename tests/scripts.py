"""Scripts of the recipes, started as a user starts them.

A new interpreter takes three seconds to import PyTorch and SpeechBrain. On Linux a server, one for
each process of pytest, has done so, and forks for each script. It has no module of this
repository: each script imports the package and its recipe itself. On other systems, and where a
test is about the start itself, the script has an interpreter of its own.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

FORKS = sys.platform == "linux"
IMPORTED = """
    torch torch._dynamo torch._inductor torch.utils.tensorboard torchaudio speechbrain.core
    scipy.signal scipy.stats matplotlib.figure matplotlib.backends.backend_agg PIL.Image
    soundfile soxr hyperpyyaml ruamel.yaml sentencepiece
""".split()
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run_script(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a script of a folder in this folder; return its exit status and what it wrote."""
    words = [sys.executable, script, *options]
    environment = {**os.environ, **ENVIRONMENT}
    if not FORKS:
        return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place, "out"), Path(place, "err")
        order = {
            "folder": str(folder),
            "words": words,
            "environment": environment,
            "streams": [str(out), str(err)],
        }
        status = _ask(json.dumps(order))
        return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())


def _ask(order: str) -> int:
    """Exit status of what the server runs for an order."""
    server = _server()
    assert server.stdin is not None and server.stdout is not None
    try:
        print(order, file=server.stdin, flush=True)
        return int(server.stdout.readline())
    except BaseException:  # such as a test's time limit: the script ends with its server
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        _server.cache_clear()
        raise


@cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )


# -- the server ------------------------------------------------------------------------------------


def import_packages() -> None:
    """Import packages of others; those that are not installed are left out."""
    from focalcodec.packages import ensure_torchaudio

    ensure_torchaudio()
    for name in IMPORTED:
        with suppress(ModuleNotFoundError):
            import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "focalcodec"]:
        del sys.modules[name]


def become(order: dict[str, Any]) -> None:
    """Be the process of a script, as far as the script can see."""
    for number, name in enumerate([os.devnull, *order["streams"]]):
        file = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    script = Path(order["folder"], order["words"][1])
    sys.orig_argv[:], sys.argv[:] = order["words"], order["words"][1:]
    sys.path[0] = str(script.parent)
    import numpy

    numpy.random.seed()  # at import it is drawn, and the server's would be that of all scripts
    runpy.run_path(str(script), run_name="__main__")


def serve() -> None:
    """Run the scripts of the orders on standard input, one after the other."""
    import_packages()
    gc.freeze()  # a collection in a script would copy the memory of all these objects
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            become(json.loads(line))  # the interpreter then ends as after any script
            return
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
