"""Every error that Impasto raises on purpose.

    ImpastoError                  exit code 1
    ├── RequestError              exit code 2: the request is wrong; nothing was begun
    │   ├── SourceRefused         the source can't be read, or breaks a limit
    │   ├── NotFound              the service knows nothing of that name
    │   ├── Conflict              it does not go with what is there already
    │   ├── Unavailable           what the run needs around it can't be had; later it may be
    │   └── LimitExceeded         a user asks for more than one may; later it may go
    ├── RunFailed                 the run could not finish; what is done is kept
    │   ├── EngineLost            an engine has no worker left; it may be started again
    │   ├── SegmentGone           a finished segment was removed by somebody else
    │   └── OutOfSpace            a disk is full, or a quota used up
    ├── OutOfMemory               a device has no room; the scorer retries with less, then gives up
    └── Interrupted               exit code 130: stopped on request; the same command goes on

A message is one line: what, which value, the way out. A way out that the command line and the HTTP
API call by different names is a `Way`, which each of them puts into its own words at its edge.
"""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["overwrite", "retarget", "target", "resume", "restart", "stop", "logs", "styles"]


@dataclass(frozen=True, slots=True)
class Way:
    """Something that whoever asked can do about an error."""

    kind: Kind
    """Overwrite what is there, name another target or the one that would do, have the run go on
    from where it stopped, have a lost engine begun again by itself, not wait for what is begun,
    look at the run's log, or at the styles there are."""
    about: str = ""
    """The target that would do; the run whose log it is."""


TAKEN = (Way("overwrite"), Way("retarget"))
"""Where there is something at a target already."""

IN_PYTHON: dict[Kind, str] = {
    "overwrite": "force overwrites it",
    "retarget": "name another target",
    "target": "the target {about!r} would do",
    "resume": "begun again it goes on from there",
    "restart": "with restarts by itself",
    "stop": "asked again it stops at once",
    "logs": "the log of run {about} says more",
    "styles": "see the list of styles",
}
"""Ways out for whoever calls from Python, or reads a log."""


def worded(message: str, ways: Iterable[Way], words: Mapping[Kind, str]) -> str:
    """One line of a message and the ways out of it.

    Args:
        message: what happened.
        ways: out of it.
        words: how they are said, with {about} in it; empty where one is none.
    """
    said = (words[way.kind].format(about=way.about) for way in ways)
    return "; ".join(filter(None, [message, ", ".join(filter(None, said))]))


class ImpastoError(Exception):
    """The root: catch this to catch everything that Impasto raises on purpose.

    Args:
        message: what happened.
        ways: out of it.
    """

    exit_code = 1
    told = False
    """Whether another process has said it already, as rank 0 does for all."""

    def __init__(self, message: str = "", *ways: Way) -> None:
        super().__init__(message)
        self.ways = ways

    def __str__(self) -> str:
        return self.worded(IN_PYTHON)

    def worded(self, words: Mapping[Kind, str]) -> str:
        """One line of it, with its ways out in `words`."""
        return worded(super().__str__(), self.ways, words)


class RequestError(ImpastoError):
    """The request is wrong: arguments, an unknown style, an unreadable file."""

    exit_code = 2


class SourceRefused(RequestError):  # noqa: N818 - reads as what happened
    """The source is not a video that Impasto opens, or it breaks a configured limit."""


class NotFound(RequestError):  # noqa: N818 - the field's own term
    """The service knows nothing of that name."""


class Conflict(RequestError):  # noqa: N818 - the field's own term
    """The request does not go with the state that a thing is in."""


class Unavailable(RequestError):  # noqa: N818 - reads as what happened
    """The request may be right, but a store, its credentials, an engine or a package can't be had.

    Nothing of the source or the options is at fault: once it can be had, the same request goes.
    """


class LimitExceeded(RequestError):  # noqa: N818 - the field's own term
    """A user asks for more than one user may.

    Args:
        message: which limit, its value, the way out.
        retry_after_s: seconds after which it is worth asking again.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RunFailed(ImpastoError):  # noqa: N818 - reads as what happened
    """The run could not finish; finished segments stay in the store."""


class EngineLost(RunFailed):
    """An engine has no worker left; what was not scored yet waits for another start."""

    log = ""
    """Everything known of its end."""


class OutOfSpace(RunFailed):
    """A disk is full, or a quota used up; once there is room, the same command goes on."""

    CODES = frozenset({errno.ENOSPC, errno.EDQUOT})
    """What POSIX systems say then."""


class SegmentGone(RunFailed):
    """A finished segment is no longer in the store; its chunk has to be scored again."""


class OutOfMemory(ImpastoError):  # noqa: N818 - the field's own term
    """A device has no room for the work at this setting."""


class Interrupted(ImpastoError):  # noqa: N818 - reads as what happened
    """The run was stopped on request; the same command resumes it."""

    exit_code = 130
