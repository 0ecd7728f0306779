"""Files that appear whole or not at all."""

import contextlib
import filecmp
import os
import platform
import shutil
import sys
import tempfile
import zlib
from collections.abc import Generator
from pathlib import Path

from impasto.errors import TAKEN, OutOfSpace, RequestError, RunFailed, Way
from impasto.protocols import File, RemoteFile

_RETARGET = Way("retarget")
_SILENCE_S = 24 * 3600.0


def refuse(target: File, *, force: bool) -> None:
    """See that a file may be put at `target`.

    Raises:
        RequestError: something is there and `force` is not given, its folder is missing or can't
            be written to, or its store can't be looked into.
        RunFailed: the store fails.
    """
    if not isinstance(target, Path):
        if target.exists() and not force:
            raise RequestError(f"{str(target)!r} exists", *TAKEN)
        return
    folder = target.absolute().parent
    try:
        taken, is_folder = target.exists(), target.is_dir()
    except OSError as error:  # a name that is too long, say
        raise RequestError(f"can't write {str(target)!r}: {error.strerror}") from error
    if is_folder:
        raise RequestError(f"{str(target)!r} is a folder", _RETARGET)
    if taken and not force:
        raise RequestError(f"{str(target)!r} exists", *TAKEN)
    if not folder.is_dir():
        raise RequestError(f"there is no folder {str(folder)!r} for {target.name!r}; make it first")
    if not os.access(folder, os.W_OK):
        raise RequestError(f"the folder {str(folder)!r} can't be written to", _RETARGET)


def refuse_source(target: File, *sources: File) -> None:
    """Raise RequestError when `target` is one of the files it is made from."""
    for source in sources:
        if isinstance(target, Path) and isinstance(source, Path):
            same = target.exists() and source.exists() and target.samefile(source)
        else:
            same = str(target) == str(source)
        if same:
            raise RequestError(f"{str(target)!r} is a source itself", _RETARGET)


@contextlib.contextmanager
def publishing(target: File, *, force: bool, resumed: bool = False) -> Generator[Path]:
    """Give a name to write to, and turn what was written there into `target` at the end.

    After an error nothing is left; what a killed process left for the same target goes now. A
    target in a store is written to a folder for temporary files, and uploaded at the end. Where the
    very same bytes came to be at `target` in the meantime, they stay, and that is no error.

    Args:
        target: where the file goes.
        force: overwrite a file that is there already.
        resumed: begin though there is a file, which may be what an earlier start has published.

    Raises:
        RequestError: as `refuse` does, now or at the end.
        RunFailed: the folder or the store is gone, or does not take it.
        OutOfSpace: there is no room for it.
    """
    refuse(target, force=force or resumed)
    if isinstance(target, Path):
        with _beside(target, force=force) as unfinished:
            yield unfinished
    else:
        with _elsewhere(target) as unfinished:
            yield unfinished
            target.put(unfinished, force=force)


@contextlib.contextmanager
def _elsewhere(target: RemoteFile) -> Generator[Path]:
    """Give a name in a temporary folder, which nobody else may read."""
    mark = f"impasto-{zlib.crc32(str(target).encode()):08x}"
    for left in Path(tempfile.gettempdir()).glob(f"{mark}-*"):
        if _ended_here(*left.name.split("-")[2:4]):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{mark}-{_machine()}-{os.getpid()}-") as folder:
        try:
            yield Path(folder) / f"target{target.suffix}"
        except OSError as error:
            if not no_room(error):
                raise
            raise OutOfSpace(
                f"no space left in {tempfile.gettempdir()!r}, where {str(target)!r} is put "
                "together; make room there",
                Way("resume"),
            ) from error


@contextlib.contextmanager
def _beside(target: Path, *, force: bool) -> Generator[Path]:
    """Give a name beside the target, and have what was written there appear at the end."""
    # Not made of the target's name, which may be as long as a name can be.
    mark = f".impasto-{zlib.crc32(os.fsencode(target.name)):08x}"
    unfinished = target.with_name(f"{mark}-{_machine()}-{os.getpid()}.part")
    try:
        for left in target.absolute().parent.glob(f"{mark}-*.part"):
            if _ended_here(*left.stem.split("-")[2:]) or _silent(left, unfinished):
                left.unlink(missing_ok=True)
        yield unfinished
        if not force and _same(target, unfinished):
            return
        refuse(target, force=force)
        try:
            with unfinished.open("r+b") as file:  # a power cut must not take what was proven
                os.fsync(file.fileno())
            _appear(unfinished, target, force=force)
        except FileExistsError:  # just now
            if not _same(target, unfinished):
                raise RequestError(f"{str(target)!r} exists", *TAKEN) from None
        except OSError as error:
            if no_room(error):  # which some disks notice this late
                raise
            raise RunFailed(f"can't write {str(target)!r}: {error.strerror}") from error
    except OSError as error:
        if not no_room(error):
            raise
        raise OutOfSpace(
            f"no space left in {str(target.absolute().parent)!r} for {target.name!r}; make room "
            "there",
            _RETARGET,
            Way("resume"),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _same(target: Path, unfinished: Path) -> bool:
    return target.is_file() and filecmp.cmp(target, unfinished, shallow=False)


def _appear(unfinished: Path, target: Path, *, force: bool) -> None:
    """Let a file appear whole as `target`, in place of none where `force` is not given.

    Raises:
        FileExistsError: there is one.
    """
    if not force:
        try:
            os.link(unfinished, target)  # unlike a rename, it looks and writes at once
        except FileExistsError:
            raise
        except OSError:  # not every file system has links: there it was looked at just before
            pass
        else:
            return
    unfinished.replace(target)


def no_room(error: Exception) -> bool:
    """Whether an error, also one of FFmpeg's, says that a disk is full."""
    return isinstance(error, OSError) and error.errno in OutOfSpace.CODES


def _machine() -> str:
    """What tells this machine from others that see the same folder."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _ended_here(machine: str = "", process: str = "") -> bool:
    """Whether a process of this machine has left a file, and is gone; of others none can tell."""
    return machine == _machine() and not _alive(process)


def _silent(file: Path, beside: Path) -> bool:
    """Whether nobody has written to a file for so long that nobody will.

    The time is that of the disk, which may be another machine's: `beside` is written to learn it.
    """
    with contextlib.suppress(FileNotFoundError):
        written_at = file.stat().st_mtime
        beside.touch()
        return beside.stat().st_mtime - written_at > _SILENCE_S
    return False


def _alive(process: str) -> bool:
    if sys.platform == "win32":  # signal 0 is no question there
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:  # somebody else's, so it lives
        return True
    return True
