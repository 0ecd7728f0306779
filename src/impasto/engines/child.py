"""A process of ours that is told by its input, heard on its output, and kept by its log."""

import contextlib
import os
import subprocess
import threading
from typing import IO

_LOG_BYTES = 20_000


def end(process: subprocess.Popen[bytes], ear: threading.Thread, *, within_s: float) -> None:
    """Close a process's input, wait for its end, by force after `within_s`, and for its ear's.

    Args:
        process: with pipes for input and output.
        ear: the thread that reads its output.
        within_s: seconds.
    """
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018 - both are pipes
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    ear.join()
    process.stdout.close()


def last_words(log: IO[bytes]) -> str:
    """The end of what a process wrote into its log."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LOG_BYTES))
    return log.read().decode(errors="replace")
