"""What one user may ask of the service, so that nobody's flood becomes everybody's wait."""

import msgspec

from impasto.errors import LimitExceeded

_OPEN_AGAIN_S = 60.0
"""When a user with too many open runs may ask again: nobody knows when one of them ends."""


class Quota(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one user; `[serve.quota]` in the configuration."""

    submissions_per_minute: float = 600.0
    burst: int = 1000
    """Submissions that may come at once; after a minute's rest it is full again for the most."""
    open_runs: int = 20_000
    """Queued and running."""
    source_bytes: int = 64 << 30
    upload_bytes: int = 256 << 20
    """Of one upload through the API; larger videos go straight into the media store."""
    stored_upload_bytes: int = 10 << 30
    """Of all the uploads of a user that still lie in the media store."""
    uploads: int = 4
    """Under way at a time; each waits on a disk of the service until it is whole."""
    streams: int = 100
    """Runs that are followed at a time; each holds one of the 2000 connections that all share."""


def next_arrival(before: float | None, now: float, quota: Quota) -> float:
    """Admit a submission at `now`, or refuse it: the generic cell rate algorithm.

    Its whole state is one number, the theoretical arrival time (ITU-T I.371): each submission moves
    it on by the interval of the rate, and it may run ahead of the clock by a burst.

    Args:
        before: what the last call returned; None for a user's first.
        now: seconds since the epoch.
        quota: the user's.

    Raises:
        LimitExceeded: too many in too short a time.
    """
    interval_s = 60.0 / quota.submissions_per_minute
    arrival = max(before if before is not None else now, now) + interval_s
    ahead_s = arrival - now - quota.burst * interval_s
    if ahead_s > 1e-9:  # a sum of a thousand intervals is not exactly a thousand times one
        raise LimitExceeded(
            f"more than {quota.submissions_per_minute:g} submissions a minute; "
            f"try again in {ahead_s:.1f} s",
            retry_after_s=ahead_s,
        )
    return arrival


def refuse_open(count: int, quota: Quota) -> None:
    """Raise LimitExceeded for a user whose `count` open runs leave no room for one more."""
    if count >= quota.open_runs:
        raise LimitExceeded(
            f"{count} of your runs are queued or running, and {quota.open_runs} may be; "
            "wait for some, or cancel them",
            retry_after_s=_OPEN_AGAIN_S,
        )


def refuse_size(source_bytes: int | None, quota: Quota) -> None:
    """Raise LimitExceeded for a source larger than a user's may be."""
    if source_bytes is not None and source_bytes > quota.source_bytes:
        raise LimitExceeded(
            f"the source has {source_bytes} bytes, and {quota.source_bytes} are allowed",
            retry_after_s=0.0,
        )
