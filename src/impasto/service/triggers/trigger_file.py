"""A text file that starts a run: trigger*.txt, whose first line names what is to be painted.

in/frames                # a video, or a folder of frames
rate = 24                # of the frames, per second
"""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from impasto.errors import RequestError, SourceRefused
from impasto.frames import list_folder, parse_rate
from impasto.keys import digest
from impasto.service.triggers.arrivals import Admitted, Arrivals
from impasto.service.triggers.names import below, check_key, last_part
from impasto.service.triggers.rules import Rule
from impasto.service.triggers.settling import Named, named_folder
from impasto.service.words import in_api_words
from impasto.stores import Entry, Store, StoredFile

log = logging.getLogger("impasto.service.triggers")

MAX_BYTES = 4096
_NAMES = "trigger*.txt"


def is_trigger_file(key: str) -> bool:
    """Whether an object's name is that of a trigger file."""
    return fnmatchcase(last_part(key).lower(), _NAMES)


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a trigger file says."""

    key: str
    """Of a video, or of a folder of frames, in the media store."""
    rate: str | None = None
    """Of the frames, per second."""


def read_trigger(text: bytes, *, media_url: str) -> Trigger:
    """Read a trigger file.

    The first line that is neither empty nor a comment (#) is a path within the media store, or its
    URL. A later one may say `rate = 24`; what has no such form is not read.

    Args:
        text: of the file.
        media_url: of the media store.

    Raises:
        RequestError: no path, one that leads out of the media store, or a setting that means
            nothing.
    """
    if len(text) > MAX_BYTES:
        raise RequestError(f"a trigger file has at most {MAX_BYTES} bytes, got {len(text)}")
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise RequestError("a trigger file is text in UTF-8; save it again as that") from None
    named = (line.strip() for line in lines)
    first, *more = [line for line in named if line and not line.startswith("#")] or [""]
    if not first:
        raise RequestError("the trigger file names nothing; write a path within the media store")
    root = media_url.rstrip("/") + "/"
    path = first.removeprefix(root)
    if "://" in path:
        raise RequestError(f"{first[:200]!r} lies outside the media store {media_url}")
    return Trigger(check_key(path.strip("/")), _rate(more))


def _rate(lines: list[str]) -> str | None:
    """The rate that one of the lines sets; the last one counts."""
    rate = None
    for line in lines:
        setting = re.fullmatch(r"([a-z_]+)\s*[=:]\s*(.+)", line, re.IGNORECASE)
        if setting is None:
            continue
        if setting[1].lower() != "rate":
            raise RequestError(
                f"the trigger file sets {setting[1][:80]!r}, and only rate can be set there"
            )
        rate = setting[2].partition("#")[0].strip()
        parse_rate(rate)
    return rate


def pull(arrivals: Arrivals, entry: Entry, is_ready: Callable[[Named], bool]) -> Admitted | None:
    """Do what the trigger file at `entry` asks for, once for each version of it.

    Args:
        arrivals: makes the run.
        entry: the trigger file.
        is_ready: whether what it names can be taken, and is not being uploaded still.

    Returns:
        None where that is not ready: the trigger file is to be pulled again.

    Raises:
        FileNotFoundError: the file is gone.
        LimitExceeded, RunFailed, RequestError: as `Arrivals.admit` does.
    """
    if (before := arrivals.find(entry)) is not None:
        return before
    media = arrivals.media
    rule = next((rule for rule in arrivals.rules if below(rule.prefix, entry.key)), None)
    text = media.get(entry.key) if entry.bytes <= MAX_BYTES else b" " * (MAX_BYTES + 1)
    try:
        trigger = read_trigger(text, media_url=media.url)
    except RequestError as error:
        return _refuse(arrivals, entry, rule, in_api_words(error))
    try:
        named = _look_for(arrivals, trigger)
        rule = arrivals.rule_for(trigger.key, folder=named.folder) or rule
        if rule is None:
            return _refuse(arrivals, entry, None, f"no rule is about {trigger.key!r}")
        if not is_ready(named):
            return None
        source = _version_of_folder(named, trigger, media) if named.folder else named.entry
    except SourceRefused as error:  # any other is the store's, and later it may do
        return _refuse(arrivals, entry, rule, in_api_words(error))
    admitted = arrivals.admit(
        source, rule, origin="trigger_file", folder=named.folder, rate=trigger.rate
    )
    arrivals.remember([entry], "trigger_file", run_id=admitted.run_id)
    return admitted


def _look_for(arrivals: Arrivals, trigger: Trigger) -> Named:
    """What a trigger file names.

    Raises:
        SourceRefused: nothing is there, or a rate for a video.
        RunFailed, RequestError: the store does not answer.
    """
    media, key = arrivals.media, trigger.key
    try:
        video = media.head(key)
    except FileNotFoundError:
        video = None
    if (video is None or not video.bytes) and _is_folder(media, key):
        return named_folder(media, key, arrivals.clock())
    if video is None:
        raise SourceRefused(f"{key!r}, which the trigger file names, is not there")
    if trigger.rate is not None:
        raise SourceRefused(f"the trigger file sets a rate, and {key!r} is a video with its own")
    return Named(video)


def _version_of_folder(named: Named, trigger: Trigger, media: Store) -> Entry:
    """The version of a folder: that of its pictures' names and versions, and of the rate.

    Raises:
        SourceRefused: it can't be taken.
        RunFailed, RequestError: the store does not answer.
    """
    folder = list_folder(StoredFile(media, trigger.key))
    version = digest([folder.version, trigger.rate])[:32]
    return replace(named.entry, bytes=folder.bytes, etag=version)


def _is_folder(media: Store, key: str) -> bool:
    if "://" in media.url:
        return any(True for _ in media.list(key))
    # A disk fails to list what can't be a folder, and pathlib to look up what is too long a name.
    return os.path.isdir(os.path.join(media.url, key))  # noqa: PTH112, PTH118


def _refuse(arrivals: Arrivals, entry: Entry, rule: Rule | None, why: str) -> Admitted:
    if rule is not None:
        return arrivals.refuse(entry, rule, why, origin="trigger_file")
    log.warning("%r is refused: %s", entry.key, why)
    arrivals.remember([entry], "refused")
    return Admitted("refused")
