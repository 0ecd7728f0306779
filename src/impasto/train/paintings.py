"""Any painting as a style: its name, and whether it was learned already. Imports no torch."""

import contextlib
import dataclasses
import datetime as dt
import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from impasto.errors import RequestError, Unavailable, Way
from impasto.settings import Settings
from impasto.stores import Place
from impasto.styles import PICTURES, check_own_name, find_style
from impasto.train.step import TrainingStep

_MAX_BYTES = 256 << 20
_DIGITS = 8


def is_painting(style: str) -> bool:
    """Whether what was given as a style is the path of a picture: no style's name has a suffix."""
    return Path(style).suffix.lower() in PICTURES


def name_for(painting: Path) -> str:
    """The name of the style of a painting: its file's stem and its digest's first digits.

    Raises RequestError when the file can't be read.
    """
    digest = sha256_of(painting)
    stem = re.sub(r"[^a-z0-9_-]+", "-", painting.stem.lower()).strip("-")[:48]
    return f"{stem or 'painting'}-{digest[:_DIGITS]}"


def sha256_of(painting: Path) -> str:
    """Digest of a painting's file, in hexadecimal. Raises RequestError when it can't be read."""
    try:
        if not painting.is_file() and painting.exists():
            raise RequestError(f"painting {painting} is not a file; give a JPEG or PNG picture")
        if painting.stat().st_size > _MAX_BYTES:
            raise RequestError(f"painting {painting} has more than {_MAX_BYTES} bytes")
        return hashlib.sha256(painting.read_bytes()).hexdigest()
    except OSError as error:
        raise RequestError(
            f"painting {painting} can't be read: {error.strerror}; give a JPEG or PNG picture, or "
            "a style's name",
            Way("styles"),
        ) from error


def learn_painting(
    painting: Path,
    *,
    quality: str,
    settings: Settings,
    today: dt.date,
    name: str | None = None,
    source: Place | None = None,
    content: Path | None = None,
    iterations: int | None = None,
    force: bool = False,
    report: Callable[[str], None],
    on_step: Callable[[TrainingStep], None] = lambda step: None,  # noqa: ARG005
) -> str:
    """Return the name of a painting's style; learn it first where it is not known.

    Args:
        painting: a picture of it.
        quality: of the shipped network.
        settings: folders, limits, and the perceptual network.
        today: for the card.
        name: of the style; made of the file's name and digest when None.
        source: a video whose frames are painted while learning, where there is no `content`.
        content: a folder of photographs to paint while learning.
        iterations: at most; the usual number when None.
        force: learn it anew.
        report: called with one line for what a person should know.
        on_step: called after each iteration.

    Raises:
        RequestError: a file or folder that can't be used, no torch, a name that is taken.
        Interrupted: stopped by a signal; called again, it goes on.
    """
    own = name_for(painting)

    def known() -> bool:
        if force or not is_learned(name or own, quality, settings.user_styles):
            return False
        if name is not None:
            check_own_name(name)
            raise RequestError(f"style '{name}' exists; choose another name, or give --force")
        return True

    if known():
        return own
    if content is None and source is None:
        raise RequestError("learning a painting needs --content: a folder of photographs")
    learn = need_torch("impasto.train.learn")
    with _alone(painting, report):
        if known():  # another process was quicker
            return own
        perceptual = need_torch("impasto.nets.perceptual").find_perceptual(
            settings.perceptual, cache=settings.cache, report=report
        )
        photographs = (
            need_torch("impasto.train.data").open_photographs(content, report)
            if content is not None
            else learn.frames_of(source, painting, settings.limits, report)
        )
        config = learn.LEARNING
        if iterations is not None:
            config = dataclasses.replace(config, iterations=iterations)
        learn.learn_vector(
            painting, photographs, name=name or own, quality=quality,
            user_styles=settings.user_styles, perceptual=perceptual, today=today, config=config,
            listener=need_torch("impasto.train.studio").Listener(report, on_step),
        )  # fmt: skip
    return name or own


@contextlib.contextmanager
def _alone(painting: Path, report: Callable[[str], None]) -> Generator[None]:
    """Hold a painting's file locked: processes that meet it at once learn it once, in turn."""
    with painting.open("rb") as file:
        if sys.platform != "win32":
            import fcntl

            with contextlib.suppress(OSError):  # some file systems have no locks
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    report(f"waiting for another process, which is learning {painting.name}")
                    fcntl.flock(file, fcntl.LOCK_EX)
        yield


def need_torch(module: str) -> Any:
    """Import a module that needs what the extra `train` installs.

    Raises Unavailable when that is missing.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"training needs: pip install 'impasto[train]' ({error.name} is missing)"
        ) from error


def is_learned(name: str, quality: str, user_styles: Path) -> bool:
    """Whether there is a style of that name, whole and for the network that is installed now."""
    try:
        find_style(name, quality, user_styles=user_styles)
    except RequestError:
        return False
    return True
