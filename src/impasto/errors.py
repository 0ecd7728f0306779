"""Every error that Impasto raises on purpose.

    ImpastoError                  exit code 1
    ├── RequestError              exit code 2: the request is wrong; nothing was begun
    │   ├── SourceRefused         the source can't be read, or breaks a limit
    │   ├── NotFound              the service knows nothing of that name
    │   ├── Conflict              it does not go with what is there already
    │   └── LimitExceeded         a user asks for more than one may; later it may go
    ├── RunFailed                 the run could not finish; what is done is kept
    │   ├── EngineLost            an engine has no worker left; it may be started again
    │   ├── SegmentGone           a finished segment was removed by somebody else
    │   └── OutOfSpace            a disk is full, or a quota used up
    ├── OutOfMemory               a device has no room; the scorer retries with less, then gives up
    └── Interrupted               exit code 130: stopped on request; the same command goes on

A message is one line: what, which value, the way out.
"""

import errno


class ImpastoError(Exception):
    """The root: catch this to catch everything that Impasto raises on purpose."""

    exit_code = 1
    told = False
    """Whether another process has said it already, as rank 0 does for all."""


class RequestError(ImpastoError):
    """The request is wrong: arguments, an unknown style, an unreadable file."""

    exit_code = 2


class SourceRefused(RequestError):  # noqa: N818 - reads as what happened
    """The source is not a video that Impasto opens, or it breaks a configured limit."""


class NotFound(RequestError):  # noqa: N818 - the field's own term
    """The service knows nothing of that name."""


class Conflict(RequestError):  # noqa: N818 - the field's own term
    """The request does not go with the state that a thing is in, or with an earlier request."""


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
