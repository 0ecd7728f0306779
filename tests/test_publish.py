"""A target appears whole, in place of nothing that somebody else has put there."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import pytest

from impasto.errors import RequestError
from impasto.media import publish
from impasto.media.publish import publishing


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the folder's file system knows hard links: FAT doesn't, nor some network shares."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


def _appears_late(target: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have somebody else put `data` there after the last look."""
    looks = []
    look = publish.refuse

    def refuse(target: Path, *, force: bool) -> None:
        look(target, force=force)
        looks.append(target)
        if len(looks) == 2:
            target.write_bytes(data)

    monkeypatch.setattr(publish, "refuse", refuse)


def test_what_appears_in_between_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mp4"
    _appears_late(target, b"theirs", monkeypatch)
    with (
        pytest.raises(RequestError, match=r"out\.mp4' exists"),
        publishing(target, force=False) as unfinished,
    ):
        unfinished.write_bytes(b"ours")
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("theirs", "force"), [(b"ours", False), (b"theirs", True)])
def test_the_same_bytes_and_what_may_be_overwritten_are_no_error(
    theirs: bytes, force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.mp4"
    _appears_late(target, theirs, monkeypatch)
    with publishing(target, force=force) as unfinished:
        unfinished.write_bytes(b"ours")
    assert target.read_bytes() == b"ours"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("links")
def test_a_target_stands_alone_when_it_is_there(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with publishing(target, force=False) as unfinished:
        unfinished.write_bytes(b"ours")
    assert target.read_bytes() == b"ours"
    assert target.stat().st_nlink == 1
    assert list(tmp_path.iterdir()) == [target]


def test_what_another_machine_is_writing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that both see; process ids are no more than numbers there."""
    target = tmp_path / "out.mp4"
    monkeypatch.setattr(platform, "node", lambda: "other")
    with publishing(target, force=False) as theirs:
        theirs.write_bytes(b"half")
        monkeypatch.setattr(platform, "node", lambda: "this")
        monkeypatch.setattr(publish, "_alive", lambda _: False)
        with publishing(target, force=True) as ours:
            ours.write_bytes(b"ours")
            assert theirs.exists()
        day_ago = time.time() - 25 * 3600
        os.utime(theirs, (day_ago, day_ago))
        with publishing(target, force=True) as ours:
            ours.write_bytes(b"ours")
            assert not theirs.exists()
        theirs.write_bytes(b"ours")
