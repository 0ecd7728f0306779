"""What a worker process's libraries print, kept for the log of the chunk at hand.

Whoever prints, Python, FFmpeg or OpenVINO, uses file descriptors 1 and 2, so these lead to a file.
Engines' processes call `keep` first of all; where nobody does, as in the process that a person
started, printing goes where it always goes.
"""

import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile

_MOST_BYTES = 64 * 1024
"""Of what is printed for one chunk, the end is kept."""
_LAST_WORDS = f"""
import os, sys
sys.stdin.buffer.read()
size = os.fstat(1).st_size
os.write(2, os.pread(1, {_MOST_BYTES}, max(0, size - {_MOST_BYTES})))
"""
"""A process that waits for the end of another, and passes on what that printed and nobody took."""

_kept: int | None = None


def keep(descriptor: int | None = None) -> None:
    """Let all that this process prints from now on go to a file, for `take`.

    Args:
        descriptor: of a file, open for reading and writing, whose owner reads what is left in it
            when this process has died. None makes one; what is left then goes where standard
            error went before.
    """
    global _kept  # noqa: PLW0603 - descriptors 1 and 2 are the process's own, too
    if os.name != "posix":
        return
    if descriptor is None:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-I", "-S", "-c", _LAST_WORDS],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            start_new_session=True,
        )
    _kept = descriptor
    for standard in (1, 2):
        os.dup2(descriptor, standard)


def take() -> str:
    """What was printed since it was asked last; empty where nothing is kept."""
    if _kept is None:
        return ""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):  # closed
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # C libraries have a buffer of their own
    size = os.fstat(_kept).st_size
    printed = os.pread(_kept, _MOST_BYTES, max(0, size - _MOST_BYTES))
    os.lseek(_kept, 0, os.SEEK_SET)  # 1 and 2 share its position
    os.ftruncate(_kept, 0)
    words = printed.decode(errors="replace")
    return words if size <= _MOST_BYTES else f"({size - _MOST_BYTES} bytes were cut)\n{words}"
