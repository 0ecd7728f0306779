"""A first run of a stranger's model, in a process of its own.

The readers of ONNX files are big and not written for hostile ones: a file in which one operator
lacks an input is enough to end the process. So a model that did not come from Impasto is read,
compiled and run once where that costs nothing.
"""

import contextlib
import hashlib
import subprocess
import sys

from impasto.errors import ImpastoError, RequestError
from impasto.runtimes import onnx_file
from impasto.surroundings import inherited

_SIDE = 64
_TIMEOUT_S = 120.0
_MEMORY_BYTES = 8 << 30
_REFUSED = 2
_passed: set[bytes] = set()
"""SHA-256 of every model that this process has seen to pass; none is asked for it twice."""


def rehearse(model: bytes, *, timeout_s: float = _TIMEOUT_S) -> None:
    """Accept an ONNX file's bytes if a frame of 64 x 64 pixels passes through it, on one core.

    Takes about a second, the first time that this process asks.

    Raises:
        RequestError: the file is refused, or it ends or stalls the process that runs it.
    """
    digest = hashlib.sha256(model).digest()
    if digest in _passed:
        return
    onnx_file.check(model)
    # -P keeps the current folder off the module path: it may be anybody's.
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and code
            command,
            input=model,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=inherited(),
        )
    except subprocess.TimeoutExpired as error:
        raise RequestError(
            f"the model did not finish one small frame within {timeout_s:g} s; use another one"
        ) from error
    if done.returncode == _REFUSED:
        raise RequestError(done.stdout.decode(errors="replace").strip())
    if done.returncode:
        raise RequestError(
            f"the model ends the process that reads it (exit status {done.returncode}): "
            "the file is damaged or hostile"
        )
    _passed.add(digest)


def main() -> None:
    """Read a model from standard input and run it; exit status 2 and one line if it is refused."""
    _limit_memory()
    import numpy as np

    from impasto.runtimes.openvino import Network

    try:
        network = Network(sys.stdin.buffer.read(), height=_SIDE, width=_SIDE, streams=1)
        network(np.full((1, _SIDE, _SIDE, 3), 127, np.uint8))
    except ImpastoError as error:
        sys.stdout.write(f"{error}\n")
        sys.exit(_REFUSED)


def _limit_memory() -> None:
    # Not on Windows; and some systems know the limit but don't take it.
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
