"""What a submission may ask for: paths within the media store, names of styles, known options."""

import re
import unicodedata
from typing import Any

import msgspec

from impasto.errors import RequestError
from impasto.frames import parse_rate
from impasto.request import Options
from impasto.service.records import Submission
from impasto.train.paintings import is_painting
from impasto.wording import did_you_mean

OPTIONS = frozenset(
    "strength keep_colors size rate start end quality pixels codec crf preset precision "
    "chunk_frames on_error force".split()
)
"""Options that belong to whoever submits; the others say where and how the service runs."""

_NAME = re.compile("[a-z0-9_-]{1,64}")
_MAX_PATH = 1024
_MAX_PRIORITY = 100
_MAX_KEY = 256


def check(submission: Submission) -> None:
    """See that a submission is one, as far as this can be told without looking at the stores.

    Raises:
        RequestError: it is not.
    """
    check_path(submission.source, name="source")
    if submission.target is not None:
        check_path(submission.target, name="target")
        if submission.target == submission.source:
            raise RequestError(f"the target {submission.target!r} is the source itself")
    if (submission.style is None) == (submission.model is None):
        raise RequestError("a submission names either a style or a model")
    if submission.model is not None:
        check_path(submission.model, name="model")
    else:
        _check_style(submission.style)
    if not -_MAX_PRIORITY <= submission.priority <= _MAX_PRIORITY:
        raise RequestError(
            f"priority must lie between −{_MAX_PRIORITY} and {_MAX_PRIORITY}, "
            f"got {submission.priority}"
        )
    key = submission.idempotency_key
    if key is not None and not 1 <= len(key) <= _MAX_KEY:
        raise RequestError(f"an idempotency key has 1 to {_MAX_KEY} characters, got {len(key)}")
    read_options(submission.options)


def check_path(path: str, *, name: str) -> None:
    """See that `path` stays within a store whatever it is joined to.

    Raises:
        RequestError: it is empty or too long, absolute, a URL, climbs, or holds what a terminal, a
            header or a log would take for its own.
    """
    wrong = None
    if not path or len(path) > _MAX_PATH:
        wrong = f"has {len(path)} characters, and 1 to {_MAX_PATH} are allowed"
    elif any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or c == "\\" for c in path):
        wrong = "holds a control character or a backslash"
    elif "://" in path:
        wrong = "is a URL; give a path within the media store"
    elif any(part in {"", ".", ".."} for part in path.split("/")):
        wrong = "must be a plain path within the media store, without '.', '..' or a leading '/'"
    if wrong is not None:
        shown = path if len(path) <= 80 else path[:77] + "..."
        raise RequestError(f"{name} {shown!r} {wrong}")


def read_options(given: dict[str, Any]) -> Options:
    """Options of a run from what a user gave.

    Raises:
        RequestError: an unknown option, one that is not the user's to choose, or a wrong value.
    """
    for name in given:
        if name not in OPTIONS:
            there = did_you_mean(name, OPTIONS) or f"there are {', '.join(sorted(OPTIONS))}"
            raise RequestError(f"unknown option {name!r}; {there}")
    try:
        options = msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        raise RequestError(f"options: {error}") from None
    if not 0 <= options.strength <= 1:
        raise RequestError(f"strength must lie between 0 and 1, got {options.strength}")
    if isinstance(options.chunk_frames, int) and options.chunk_frames < 1:
        raise RequestError(f"chunk_frames must be above zero, got {options.chunk_frames}")
    parse_rate(options.rate)
    return options


def _check_style(style: object) -> None:
    if isinstance(style, str) and is_painting(style):
        check_path(style, name="style")  # a picture of the media store, which the job learns
        return
    names = style if isinstance(style, dict) else [style]
    if not names:
        raise RequestError("a blend names at least one style")
    for name in names:
        # A name, and no other path: that would be opened with the service's own rights.
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise RequestError(f"a style's name has 1 to 64 of a–z, 0–9, _ and -, got {name!r}")
