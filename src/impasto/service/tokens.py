"""API tokens: shown once, kept as a digest; expiring, revocable, with a role each.

A token reads `impasto_<id>_<secret>`. The id finds and names it, in lists and in the audit log; the
secret is 256 random bits, so one SHA-256 keeps it as well as any slow hash would.
"""

import hashlib
import hmac
import re
import secrets
import string
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from impasto.errors import RequestError
from impasto.service.database import Database, metadata
from impasto.service.roles import Principal, Role, check_role, check_user

DAY_S = 24 * 3600
LASTS_S = 90 * DAY_S
"""Without another wish."""
MAX_LASTS_S = 3650 * DAY_S
_USED_EVERY_S = 60.0
"""The last use is noted to this precision, so that reading does not write."""

_MOST_RECENT = 10_000
"""Tokens that are remembered at a time."""

_ID_SIGNS = string.ascii_lowercase + string.digits
_TOKEN = re.compile(r"impasto_([a-z0-9]{12})_[A-Za-z0-9_-]{43}")
_LABEL = re.compile(r"[^\x00-\x1f\x7f]{0,200}")

table = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("user", sa.String(256), nullable=False),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("created_by", sa.String(256), nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
    sa.Column("last_used_at", sa.Double),
)
_SHOWN = [column for column in table.columns if column.name != "digest"]


class TokenRefused(Exception):  # noqa: N818 - reads as what happened
    """The token opens nothing; the message says why, for the log and not for its bearer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is known of a token, but for its secret."""

    id: str
    user: str
    role: Role
    label: str
    """What its owner calls it: "laptop", "nightly job"."""
    created_at: float  # seconds since the epoch, as are the next four
    created_by: str
    expires_at: float
    revoked_at: float | None = None
    last_used_at: float | None = None
    """To the minute."""


class Tokens:
    """The tokens in the database; every method may be called from any thread.

    Args:
        database: where they are kept; the table is made when missing.
        alone: no other process revokes tokens there, so that what is known need not be looked up.
        clock_s: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        *,
        alone: bool = False,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._alone = alone
        self._clock_s = clock_s
        self._recent: dict[bytes, tuple[Principal, float]] = {}
        """Digest of a token → who bears it, and until when nothing about it need be looked up."""
        self._revoked = 0
        self._remembering = threading.Lock()
        database.create(table)

    def create(
        self,
        user: str,
        role: str,
        *,
        created_by: str,
        label: str = "",
        lasts_s: float = LASTS_S,
    ) -> tuple[Token, str]:
        """Make a token; the string that comes with it is shown to nobody again.

        Raises:
            RequestError: a user, role, label or lifetime that can't be.
        """
        row, written = self._new(user, role, created_by, label, lasts_s)
        with self._database.transaction() as connection:
            connection.execute(sa.insert(table).values(row))
        return _token(row), written

    def first_admin_token(self, *, others: bool = False) -> str | None:
        """Make a token for `admin` where nobody could be one; None where somebody can.

        Args:
            others: an identity provider makes admins too, so only an empty table asks for a token.
        """
        usable = [table.c.role == "admin", table.c.revoked_at.is_(None),
                  table.c.expires_at > self._clock_s()]  # fmt: skip
        row, written = self._new("admin", "admin", "first start", "first start", LASTS_S)
        with self._database.transaction(lock="first admin token") as connection:
            there = sa.select(table.c.id).where(*([] if others else usable)).limit(1)
            if connection.execute(there).first() is not None:
                return None
            connection.execute(sa.insert(table).values(row))
        return written

    def verify(self, written: str) -> Principal:
        """Return who bears the token.

        Raises:
            TokenRefused: it is none of ours, expired or revoked.
        """
        found, revoked = _TOKEN.fullmatch(written), self._revoked
        if found is None:
            raise TokenRefused("no token of ours looks like that")
        with self._database.read() as connection:
            row = connection.execute(sa.select(table).where(table.c.id == found[1])).first()
        digest = _digest(written)
        if row is None or not hmac.compare_digest(bytes(row.digest), digest):
            raise TokenRefused("there is no such token")
        now = self._clock_s()
        if row.revoked_at is not None:
            raise TokenRefused(f"token {row.id} is revoked")
        if row.expires_at <= now:
            raise TokenRefused(f"token {row.id} has expired")
        used_at = row.last_used_at
        if used_at is None or now - used_at >= _USED_EVERY_S:
            self._note_use(row.id, now)
            used_at = now
        who = Principal(row.user, check_role(row.role), row.id)
        self._remember(digest, who, min(row.expires_at, used_at + _USED_EVERY_S), revoked)
        return who

    def recall(self, written: str) -> Principal | None:
        """Return who bears a token that was verified a moment ago, without a look at the database.

        None tells nothing of the token; `verify` does.
        """
        who, until = self._recent.get(_digest(written), (None, 0.0))
        return who if self._clock_s() < until else None

    def _remember(self, digest: bytes, who: Principal, until: float, revoked: int) -> None:
        """Remember a token, unless one was revoked since it was looked up: it may be this one."""
        with self._remembering:
            if self._alone and revoked == self._revoked:
                if len(self._recent) >= _MOST_RECENT:
                    self._recent.clear()
                self._recent[digest] = who, until

    def page(self, *, after: str | None = None, limit: int = 100) -> tuple[Token, ...]:
        """Return tokens in the order of their ids, those that follow the id `after`."""
        asked = sa.select(*_SHOWN).order_by(table.c.id).limit(limit)
        if after is not None:
            asked = asked.where(table.c.id > after)
        with self._database.read() as connection:
            rows = connection.execute(asked).mappings().all()
        return tuple(_token(dict(row)) for row in rows)

    def revoke(self, token_id: str) -> bool:
        """End a token at once; return whether there is one of that id."""
        ending = (
            sa.update(table)
            .where(table.c.id == token_id)
            .values(revoked_at=sa.func.coalesce(table.c.revoked_at, self._clock_s()))
        )
        with self._database.transaction() as connection:
            known = connection.execute(ending).rowcount > 0
        with self._remembering:
            self._revoked += 1
            self._recent.clear()
        return known

    def _new(
        self, user: str, role: str, created_by: str, label: str, lasts_s: float
    ) -> tuple[dict[str, object], str]:
        if not _LABEL.fullmatch(label):
            raise RequestError("a token's label is one line of at most 200 characters")
        if not 0 < lasts_s <= MAX_LASTS_S:
            raise RequestError(
                f"a token lasts more than 0 and at most {MAX_LASTS_S // DAY_S} days, "
                f"got {lasts_s / DAY_S:g}"
            )
        token_id = "".join(secrets.choice(_ID_SIGNS) for _ in range(12))
        written = f"impasto_{token_id}_{secrets.token_urlsafe(32)}"
        now = self._clock_s()
        row: dict[str, object] = {
            "id": token_id,
            "digest": _digest(written),
            "user": check_user(user),
            "role": check_role(role),
            "label": label,
            "created_at": now,
            "created_by": created_by,
            "expires_at": now + lasts_s,
        }
        return row, written

    def _note_use(self, token_id: str, now: float) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                sa.update(table).where(table.c.id == token_id).values(last_used_at=now)
            )


def _digest(written: str) -> bytes:
    return hashlib.sha256(written.encode()).digest()


def _token(row: dict[str, object]) -> Token:
    return Token(**{name: value for name, value in row.items() if name != "digest"})  # type: ignore[arg-type]
