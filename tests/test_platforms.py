"""Code runs on Linux, macOS and Windows: what one of them lacks is not used without a fallback."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("focalcodec", "recipes", "benchmarks")
# what Windows does not have
MODULES = """crypt curses fcntl grp nis posix pty pwd readline resource spwd syslog termios tty
    _posixsubprocess""".split()
NAMES = {
    "os": """chown chroot fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp
        getpriority getuid initgroups killpg lchown mkfifo mknod nice O_CLOEXEC O_DIRECTORY
        O_NOFOLLOW O_NONBLOCK openpty pathconf pipe2 posix_fadvise posix_fallocate posix_spawn pread
        preadv pwrite register_at_fork sched_getaffinity sched_setaffinity sched_yield sendfile
        setgid setpgid setpriority setsid setuid statvfs sync sysconf ttyname uname wait wait3 wait4
        waitid WEXITSTATUS WIFSIGNALED WNOHANG WTERMSIG""".split(),
    "signal": """alarm getitimer ITIMER_REAL pause pthread_kill pthread_sigmask setitimer SIGALRM
        SIGBUS SIGCHLD SIGCONT siginterrupt SIGHUP SIGKILL sigpending SIGPIPE SIGQUIT SIGSTOP
        SIGTSTP SIGUSR1 SIGUSR2 sigwait""".split(),
    "socket": ["AF_UNIX", "socketpair"],
    "time": ["tzset", "clock_gettime", "CLOCK_MONOTONIC", "CLOCK_PROCESS_CPUTIME_ID"],
}
ARGUMENTS = ("preexec_fn", "start_new_session", "pass_fds", "process_group")  # of subprocess
GUARDS = ("sys.platform", "os.name", "hasattr(")


def of_one_system(node: ast.AST) -> str | None:
    """What a node uses that Windows does not have."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found = [name for name in named if name.partition(".")[0] in MODULES]
        if isinstance(node, ast.ImportFrom) and node.module in NAMES:
            found += [alias.name for alias in node.names if alias.name in NAMES[node.module]]
        return found[0] if found else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return ast.unparse(node) if node.attr in NAMES.get(node.value.id, ()) else None
    if isinstance(node, ast.keyword) and node.arg in ARGUMENTS:
        return node.arg
    return None


def unguarded(node: ast.AST, guarded: bool = False) -> Iterator[tuple[int, str]]:
    """Lines that use such a thing outside of a `try` or an `if` that asks for the system."""
    found = of_one_system(node)
    if found and not guarded:
        yield getattr(node, "lineno", 0), found
    for field, value in ast.iter_fields(node):
        inside = guarded
        if isinstance(node, ast.Try) and field == "body":
            caught = [ast.unparse(handler.type) for handler in node.handlers if handler.type]
            inside |= any("ImportError" in x or "NotFoundError" in x for x in caught)
        if isinstance(node, (ast.If, ast.IfExp)):
            inside |= any(guard in ast.unparse(node.test) for guard in GUARDS)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from unguarded(child, inside)


def test_finds_what_one_system_has() -> None:
    bad = """
import fcntl
from os import fork
import signal
def f():
    import pwd
    signal.signal(signal.SIGHUP, f)
    run(x, preexec_fn=f)
"""
    good = """
try:
    import fcntl
except ModuleNotFoundError:
    fcntl = None
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, f)
if sys.platform == "linux":
    os.fork()
"""
    found = [name for _, name in unguarded(ast.parse(bad))]
    assert found == ["fcntl", "fork", "pwd", "signal.SIGHUP", "preexec_fn"]
    assert not [*unguarded(ast.parse(good))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_used_that_one_system_lacks(folder: str) -> None:
    paths = [path for path in (ROOT / folder).rglob("*.py") if "results" not in path.parts]
    assert paths
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(paths)
        for line, name in unguarded(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)
