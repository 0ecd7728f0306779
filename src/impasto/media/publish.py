"""Files that appear whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from impasto.errors import RequestError


@contextmanager
def publishing(target: Path, *, force: bool) -> Generator[Path]:
    """Give a name to write to, and turn what was written there into `target` at the end.

    After an error nothing is left.

    Args:
        target: where the file goes.
        force: overwrite a file that is there already.

    Raises:
        RequestError: the target exists and `force` is not given, or its folder does not exist.
    """
    _refuse(target, force=force)
    unfinished = target.with_name(f".{target.name[-120:]}.{os.getpid()}.part")
    try:
        yield unfinished
        _refuse(target, force=force)  # it may have appeared meanwhile
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _refuse(target: Path, *, force: bool) -> None:
    if target.exists() and not force:
        raise RequestError(f"{str(target)!r} exists; --force overwrites it, -o names another")
    if not target.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {str(target.absolute().parent)!r}; make it first")
