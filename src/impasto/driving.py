"""One driver at a time for a run: others wait for it, and then find what it has scored.

It spares work, and keeps nothing from harm: whoever scores a chunk gives the same segment, and each
appears whole. So a driver that was taken for dead may go on beside the one that took its place.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from uuid import uuid4

from impasto.errors import ImpastoError
from impasto.keys import from_json, to_json
from impasto.stores import Store

_BEAT_S = 5.0
_SILENT_S = 20.0
"""Without a beat, until a driver elsewhere is taken for dead."""
_LOOK_S = 0.5
_here: set[str] = set()
"""Tokens of this process."""


@dataclass(frozen=True, slots=True)
class Driver:
    """Who drives a run, or waits for its turn."""

    host: str
    pid: int
    token: str
    beat: int = 0

    @property
    def name(self) -> str:
        """For a person: "host/pid"."""
        return f"{self.host}/{self.pid}"

    @property
    def dead(self) -> bool:
        """Whether it is known to be gone; of another machine's nobody knows."""
        if self.host != socket.gethostname() or os.name != "posix":
            return False
        if self.pid == os.getpid():
            return self.token not in _here
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


@contextlib.contextmanager
def sole_driver(
    store: Store, run_id: str, wait: Callable[[Driver], None]
) -> Generator[Callable[[], bool]]:
    """Drive a run, as soon as nobody else does.

    Args:
        store: the system store.
        run_id: of the run.
        wait: called now and then while another one drives; may raise to give up.

    Yields:
        A function that says whether others wait for this run.
    """
    me = Driver(socket.gethostname(), os.getpid(), uuid4().hex)
    _here.add(me.token)
    try:
        _take_turn(store, run_id, me, wait)
        ended = threading.Event()
        beating = threading.Thread(target=_beat, args=(store, run_id, me, ended), daemon=True)
        beating.start()
        try:
            yield lambda: _awaited(store, run_id)
        finally:
            ended.set()
            beating.join()
            with contextlib.suppress(ImpastoError, OSError):
                if _is(_driver(store, run_id)[0], me):
                    store.delete(_key(run_id))
    finally:
        _here.discard(me.token)


def _key(run_id: str) -> str:
    return f"runs/{run_id}/driver.json"


def _driver(store: Store, run_id: str) -> tuple[Driver | None, str]:
    """Who drives, None where that can't be read, and the record's etag."""
    etag = store.head(_key(run_id)).etag
    try:
        return from_json(store.get(_key(run_id)), Driver), etag
    except ValueError:
        return None, etag


def _is(found: Driver | None, me: Driver) -> bool:
    return found is not None and found.token == me.token


def _take_turn(store: Store, run_id: str, me: Driver, wait: Callable[[Driver], None]) -> None:
    mark = f"runs/{run_id}/waiting/{me.token}.json"
    last, heard, marked = None, time.monotonic(), False
    try:
        while not store.put_new(_key(run_id), to_json(me)):
            try:
                other, etag = _driver(store, run_id)
            except FileNotFoundError:
                continue  # it has just finished
            if _is(other, me):
                return  # it was written, and the answer lost
            if other != last:
                last, heard = other, time.monotonic()
            silent = time.monotonic() - heard > _SILENT_S
            if other is None or other.dead or silent:
                if store.put_if_match(_key(run_id), to_json(me), etag):
                    return
                continue
            if not marked:
                marked = True
                store.put(mark, to_json(me))
            wait(other)
            time.sleep(_LOOK_S)
    finally:
        if marked:
            store.delete(mark)


def _beat(store: Store, run_id: str, me: Driver, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_S):
        me = replace(me, beat=me.beat + 1)
        # A store that is away for a while: the next beat may come through.
        with contextlib.suppress(ImpastoError, OSError):
            there, etag = _driver(store, run_id)
            if not _is(there, me) or not store.put_if_match(_key(run_id), to_json(me), etag):
                return  # another one took its place


def _awaited(store: Store, run_id: str) -> bool:
    for entry in list(store.list(f"runs/{run_id}/waiting")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            if not from_json(store.get(entry.key), Driver).dead:
                return True
    return False
