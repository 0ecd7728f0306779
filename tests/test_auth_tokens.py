"""API tokens, roles and the audit log, on a real database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa

from api_service import Clock
from impasto.errors import RequestError, RunFailed
from impasto.service import audit
from impasto.service import tokens as tokens_module
from impasto.service.audit import AuditLog, Entry
from impasto.service.database import Database, sqlite_url
from impasto.service.roles import PERMISSIONS, ROLES, Permission, Principal, check_role, check_user
from impasto.service.tokens import LASTS_S, TokenRefused, Tokens
from postgres import postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "service.db")
    found: str = request.getfixturevalue("server")
    database = Database(found)
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    database.close()
    return found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    made = Database(url)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(database: Database, clock: Clock) -> Tokens:
    return Tokens(database, clock_s=clock)


def test_a_token_says_who_bears_it(tokens: Tokens) -> None:
    made, written = tokens.create("alice", "submitter", created_by="root", label="laptop")
    assert tokens.verify(written) == Principal("alice", "submitter", made.id)


def test_the_database_holds_no_part_of_a_secret(tokens: Tokens, database: Database) -> None:
    made, written = tokens.create("alice", "viewer", created_by="root")
    secret = written.removeprefix(f"impasto_{made.id}_")
    assert len(secret) == 43  # 32 bytes in base64
    with database.read() as connection:
        row = connection.execute(sa.select(tokens_module.table)).one()
    assert len(row.digest) == 32
    for shown in (repr(row), repr(made), repr(tokens.page())):
        assert secret not in shown


def test_a_token_that_was_verified_is_known_for_a_while(database: Database, clock: Clock) -> None:
    tokens = Tokens(database, alone=True, clock_s=clock)
    _, written = tokens.create("alice", "submitter", created_by="root")
    assert tokens.recall(written) is None
    who = tokens.verify(written)
    assert tokens.recall(written) == who
    assert tokens.recall(written[:-1]) is None
    clock.now += 61
    assert tokens.recall(written) is None


def test_a_token_that_is_known_still_expires(database: Database, clock: Clock) -> None:
    tokens = Tokens(database, alone=True, clock_s=clock)
    _, written = tokens.create("alice", "submitter", created_by="root", lasts_s=30)
    tokens.verify(written)
    clock.now += 30
    assert tokens.recall(written) is None
    with pytest.raises(TokenRefused, match="expired"):
        tokens.verify(written)


def test_a_revoked_token_is_known_to_nobody_at_once(database: Database, clock: Clock) -> None:
    tokens = Tokens(database, alone=True, clock_s=clock)
    made, written = tokens.create("alice", "submitter", created_by="root")
    tokens.verify(written)
    tokens.revoke(made.id)
    assert tokens.recall(written) is None
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.verify(written)
    assert tokens.recall(written) is None


def test_a_token_that_is_revoked_while_it_is_looked_up_is_not_remembered(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(database, alone=True, clock_s=clock)
    made, written = tokens.create("alice", "submitter", created_by="root")
    note_use = tokens._note_use

    def revoked_meanwhile(token_id: str, now: float) -> None:
        note_use(token_id, now)
        tokens.revoke(made.id)

    monkeypatch.setattr(tokens, "_note_use", revoked_meanwhile)
    tokens.verify(written)
    assert tokens.recall(written) is None


def test_what_other_processes_may_revoke_is_looked_up_each_time(tokens: Tokens) -> None:
    _, written = tokens.create("alice", "submitter", created_by="root")
    tokens.verify(written)
    assert tokens.recall(written) is None


@pytest.mark.parametrize("change", ["id", "secret", "cut", "empty", "nul", "long"])
def test_a_token_that_is_not_quite_ours_is_refused(tokens: Tokens, change: str) -> None:
    made, written = tokens.create("alice", "admin", created_by="root")
    secret = written[-43:]
    wrong = {
        "id": f"impasto_{'a' * 12}_{secret}",
        "secret": f"impasto_{made.id}_{secret[::-1]}",
        "cut": written[:-1],
        "empty": "",
        "nul": written + "\0",
        "long": written * 1000,
    }[change]
    with pytest.raises(TokenRefused):
        tokens.verify(wrong)


def test_a_token_ends_at_its_time(tokens: Tokens, clock: Clock) -> None:
    _, written = tokens.create("alice", "viewer", created_by="root", lasts_s=60)
    clock.now += 59.9
    tokens.verify(written)
    clock.now += 0.1
    with pytest.raises(TokenRefused, match="expired"):
        tokens.verify(written)


def test_a_revoked_token_ends_at_once_and_stays_revoked(tokens: Tokens, clock: Clock) -> None:
    made, written = tokens.create("alice", "viewer", created_by="root")
    revoked_at = clock.now
    assert tokens.revoke(made.id)
    clock.now += 5
    assert tokens.revoke(made.id)
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.verify(written)
    assert tokens.page()[0].revoked_at == revoked_at
    assert not tokens.revoke("a" * 12)


def test_the_last_use_is_noted_to_the_minute(tokens: Tokens, clock: Clock) -> None:
    _, written = tokens.create("alice", "viewer", created_by="root")
    assert tokens.page()[0].last_used_at is None
    tokens.verify(written)
    first = clock.now
    clock.now += 59
    tokens.verify(written)
    assert tokens.page()[0].last_used_at == first
    clock.now += 1
    tokens.verify(written)
    assert tokens.page()[0].last_used_at == clock.now


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": ""},
        {"user": "../etc"},
        {"user": "a\nb"},
        {"user": "oidc:"},
        {"role": "root"},
        {"label": "two\nlines"},
        {"lasts_s": 0},
        {"lasts_s": float("nan")},
        {"lasts_s": 1e12},
    ],
    ids=str,
)
def test_what_can_be_no_token_is_refused(tokens: Tokens, wrong: dict[str, object]) -> None:
    asked = {"user": "alice", "role": "viewer", "created_by": "root"} | wrong
    with pytest.raises(RequestError):
        tokens.create(**asked)  # type: ignore[arg-type]
    assert tokens.page() == ()


def test_tokens_are_paged_by_id(tokens: Tokens) -> None:
    made = sorted(tokens.create(f"u{n}", "viewer", created_by="root")[0].id for n in range(5))
    first = tokens.page(limit=2)
    rest = tokens.page(limit=10, after=first[-1].id)
    assert [token.id for token in (*first, *rest)] == made


def test_the_first_start_makes_one_admin_token_however_many_processes_start(
    url: str, database: Database, clock: Clock
) -> None:
    found: list[str | None] = []

    def start() -> None:
        other = Database(url)
        found.append(Tokens(other, clock_s=clock).first_admin_token())
        other.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (written,) = [each for each in found if each]
    assert Tokens(database, clock_s=clock).verify(written).role == "admin"


def test_an_admin_token_is_made_again_only_when_nobody_can_be_admin(
    tokens: Tokens, clock: Clock
) -> None:
    assert tokens.first_admin_token()
    assert tokens.first_admin_token() is None
    tokens.create("bob", "operator", created_by="admin")
    clock.now += LASTS_S
    assert tokens.first_admin_token(others=True) is None  # an identity provider makes admins
    assert tokens.first_admin_token() is not None


def test_each_role_may_all_that_the_one_before_may() -> None:
    for lower, higher in pairwise(ROLES):
        assert PERMISSIONS[lower] < PERMISSIONS[higher]
    assert PERMISSIONS["admin"] == frozenset(Permission)


def test_only_operators_and_admins_reach_what_belongs_to_others() -> None:
    own = {role: Principal("alice", check_role(role)) for role in ROLES}
    assert all(who.owns("alice") for who in own.values())
    assert [role for role in ROLES if own[role].owns("bob")] == ["operator", "admin"]


def test_names_of_users_hold_nothing_that_a_path_or_a_log_takes_for_its_own() -> None:
    assert check_user("alice@example.com") == "alice@example.com"
    assert check_user("oidc:auth0|12/3") == "oidc:auth0|12/3"
    for name in ("", ".", "a/b", "a b", "a\x1b", "a" * 129, "oidc:a b", "ali\u0441e"):
        with pytest.raises(RequestError, match="a user's name"):
            check_user(name)


def test_the_audit_log_is_read_from_the_latest_on(database: Database, clock: Clock) -> None:
    log = AuditLog(database, clock_s=clock)
    for n in range(5):
        log.append(Entry(user=f"u{n % 2}", action="POST /v1/runs", status=202))
        clock.now += 1
    latest = log.page(limit=2)
    assert [each.entry.user for each in latest] == ["u0", "u1"]
    assert [each.at for each in log.page(before=latest[-1].id)] == [
        1_800_000_002.0, 1_800_000_001.0, 1_800_000_000.0
    ]  # fmt: skip
    assert len(log.page(user="u1")) == 2


@pytest.mark.parametrize("verb", ["UPDATE audit SET \"user\" = 'eve'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_the_audit_log(database: Database, verb: str) -> None:
    log = AuditLog(database)
    log.append(Entry(user="alice", action="POST /v1/runs", status=202))
    with pytest.raises(RunFailed, match="only grows"), database.transaction() as connection:
        connection.execute(sa.text(verb))
    assert log.page()[0].entry.user == "alice"
    AuditLog(database)  # made once


def test_old_entries_of_the_audit_log_go_and_young_ones_the_database_keeps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_AT_ONCE", 2)
    days_ago = [400, 399, 398, 370, 300, 20]
    for age in days_ago:
        log = AuditLog(database, clock_s=lambda age=age: time.time() - age * 86_400)  # type: ignore[misc]
        log.append(Entry(user=f"of {age}", action="POST /v1/runs", status=202))
    assert log.remove(before=time.time() - 365 * 86_400) == 4
    assert [each.entry.user for each in log.page()] == ["of 20", "of 300"]
    with pytest.raises(RunFailed, match="only grows"):
        log.remove(before=time.time() - 10 * 86_400)
    assert len(log.page()) == 2


def test_an_entry_is_one_bounded_line_whatever_a_client_sends(database: Database) -> None:
    log = AuditLog(database)
    log.append(
        Entry(user="eve", action="GET /x", subject="a\nadmin \x1b[2J\u2028" * 900, status=403)
    )
    subject = log.page()[0].entry.subject
    assert subject.isprintable()
    assert subject.startswith("a?admin ?[2J?")
    assert len(subject) == 500
