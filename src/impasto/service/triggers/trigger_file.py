"""A text file that starts a run: trigger*.txt, whose first line names what is to be painted."""

import logging
import os
from fnmatch import fnmatchcase

from impasto.errors import RequestError
from impasto.service.triggers.arrivals import Admitted, Arrivals, look_up
from impasto.service.triggers.names import below, check_key, last_part
from impasto.service.triggers.rules import Rule
from impasto.stores import Entry, Store

log = logging.getLogger("impasto.service.triggers")

MAX_BYTES = 4096
_NAMES = "trigger*.txt"


def is_trigger_file(key: str) -> bool:
    """Whether an object's name is that of a trigger file."""
    return fnmatchcase(last_part(key).lower(), _NAMES)


def read_trigger(text: bytes, *, media_url: str) -> str:
    """Return the key that a trigger file names: a video, or a folder, of the media store.

    The first line that is neither empty nor a comment (#) counts: a path within the media store,
    or its URL.

    Args:
        text: of the file.
        media_url: of the media store.

    Raises:
        RequestError: no such line, or it leads out of the media store.
    """
    if len(text) > MAX_BYTES:
        raise RequestError(f"a trigger file has at most {MAX_BYTES} bytes, got {len(text)}")
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise RequestError("a trigger file is text in UTF-8; save it again as that") from None
    named = (line.strip() for line in lines)
    first = next((line for line in named if line and not line.startswith("#")), None)
    if first is None:
        raise RequestError("the trigger file names nothing; write a path within the media store")
    root = media_url.rstrip("/") + "/"
    path = first.removeprefix(root)
    if "://" in path:
        raise RequestError(f"{first[:200]!r} lies outside the media store {media_url}")
    return check_key(path.strip("/"))


def pull(arrivals: Arrivals, entry: Entry) -> Admitted:
    """Do what the trigger file at `entry` asks for, once for each version of it.

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
        key = read_trigger(text, media_url=media.url)
    except RequestError as error:
        return _refuse(arrivals, entry, rule, str(error))
    try:
        video = look_up(media, key)
    except FileNotFoundError:
        frames = _is_folder(media, key)
        why = "is a folder; join its frames to a video, and name that" if frames else "is not there"
        return _refuse(arrivals, entry, rule, f"{key!r}, which the trigger file names, {why}")
    rule = arrivals.rule_for(key) or rule
    if rule is None:
        return _refuse(arrivals, entry, None, f"no rule is about {key!r}")
    admitted = arrivals.admit(video, rule, origin="trigger_file")
    arrivals.remember([entry], "trigger_file", run_id=admitted.run_id)
    return admitted


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
