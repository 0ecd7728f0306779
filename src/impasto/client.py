"""A service elsewhere, over its HTTP API: submit a run, follow it, fetch what it made.

with Server("https://paint.example", token) as server:
run_id = server.submit({"source": "in/a.mp4", "style": "starry_night"})
for event in server.follow(run_id):
print(event.kind, event.data)
server.fetch(run_id, Path("a.mp4"))
"""

import contextlib
import json
import re
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

import httpx

from impasto.errors import NotFound, RequestError, RunFailed

OPEN = frozenset({"queued", "running"})
"""States in which something is still to come."""

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_TIMEOUT_S = 30.0
_SILENCE_S = 60.0
"""Of a stream: the server says something every 15 seconds."""
_PATIENCE_S = 120.0
"""For a server that is away, or asks to come again later."""
_PAUSE_S = 2.0
_RUN_ID = re.compile("[0-9a-f]{19}")
_NAME = re.compile(r"[^A-Za-z0-9 ._()+@-]+")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """Something that happened to a run."""

    id: str
    kind: str
    """state, stage, plan, chunk, chunk_failed, note, attempt or progress."""
    data: dict[str, Any]


class Server:
    """A service, and somebody's token for it; to be closed, or used in a `with`.

    Every method raises RequestError when the service refuses what is asked, and RunFailed when it
    can't be reached or fails itself, after a patience of two minutes; both in one line.

    Args:
        url: https://host, or http:// to this machine: a token must not travel in the clear.
        token: of the service's own, or of its identity provider.
        sleep: waits so many seconds.

    Raises:
        RequestError: another kind of URL.
    """

    def __init__(
        self, url: str, token: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            raise RequestError(f"a server reads https://host, got {url!r}")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise RequestError(
                f"{url!r} would send the token in the clear; use https:// (http:// goes to this "
                "machine only)"
            )
        if not token.isascii() or not token.isprintable() or " " in token:
            raise RequestError("the token for the server is not one: it is a single printable word")
        self.url = url.rstrip("/")
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=_TIMEOUT_S
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, asked: dict[str, Any], *, key: str | None = None) -> str:
        """Ask for a run and return its id; it is durable then.

        Args:
            asked: the body, as docs/api.md has it.
            key: the same again returns the same run; one of its own when None, so that a lost
                answer never makes two runs.
        """
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        answer = self._ask("POST", "/v1/runs", json=asked, headers=headers)
        return str(answer.json()["run_id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """One run: state, progress, report."""
        return self._object("GET", f"/v1/runs/{run_id}")

    def runs(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Runs, the latest first, page by page."""
        yield from self._pages("/v1/runs", "runs", filters)

    def cancel(self, run_id: str) -> dict[str, Any]:
        """End a run."""
        return self._object("POST", f"/v1/runs/{run_id}/cancel")

    def retry(self, run_id: str) -> dict[str, Any]:
        """Queue a run again that has ended badly."""
        return self._object("POST", f"/v1/runs/{run_id}/retry")

    def logs(self, run_id: str, *, follow: bool = False) -> Iterator[dict[str, Any]]:
        """The lines of a run's log: those there are, or with `follow` all until it ends."""
        after: dict[str, str] = {}
        while True:
            page = self._object("GET", f"/v1/runs/{run_id}/logs", params=after)
            yield from page["lines"]
            if page["next"] is None or not (page["lines"] or follow):
                return
            if not page["lines"]:
                self._sleep(_PAUSE_S)
            after = {"after": page["next"]}

    def find(self, beginning: str) -> str:
        """The id of the one run whose id begins so, among the latest; a whole id as it is.

        Raises:
            RequestError: there is none, or several.
        """
        if _RUN_ID.fullmatch(beginning):
            return beginning
        latest = self._object("GET", "/v1/runs", params={"limit": "500"})["runs"]
        found = [run["run_id"] for run in latest if run["run_id"].startswith(beginning)]
        if len(found) == 1:
            return str(found[0])
        if not found:
            raise RequestError(f"no run {beginning!r} at {self.url}; see impasto runs list")
        raise RequestError(f"{beginning!r} begins several runs: {', '.join(found[:5])}")

    def upload(self, file: Path) -> str:
        """Put a file into the media store; return its path there, which its content decides."""
        name = _NAME.sub("_", file.name).lstrip(" .()+@-")[-100:] or "upload"
        try:
            size = file.stat().st_size
            with self._translated(), file.open("rb") as body:
                answer = self._http.post(
                    "/v1/uploads",
                    params={"name": name},
                    content=body,
                    headers={"Content-Length": str(size),
                             "Content-Type": "application/octet-stream"},
                )  # fmt: skip
        except OSError as error:
            raise RequestError(f"can't read {str(file)!r}: {error.strerror}") from error
        if not answer.is_success:
            self._refuse(answer)
        return str(answer.json()["path"])

    def follow(self, run_id: str) -> Generator[ServerEvent]:
        """Yield what happens to a run until it ends; a broken connection is taken up again."""
        last, gone_s = "0", 0.0
        while True:
            try:
                for event in self._stream(run_id, last):
                    yield event
                    last, gone_s = event.id, 0.0
                if self.run(run_id)["state"] not in OPEN:
                    return
            except httpx.TransportError as error:
                if gone_s >= _PATIENCE_S:
                    raise RunFailed(self._away(error)) from error
            self._sleep(_PAUSE_S)
            gone_s += _PAUSE_S

    def _stream(self, run_id: str, last: str) -> Iterator[ServerEvent]:
        timeout = httpx.Timeout(_TIMEOUT_S, read=_SILENCE_S)
        with self._http.stream(
            "GET", f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": last}, timeout=timeout
        ) as answer:
            if answer.status_code >= 500:
                return
            if not answer.is_success:
                answer.read()
                self._refuse(answer)
            yield from _events(answer.iter_lines())

    def fetch(self, run_id: str, file: Path) -> None:
        """Write the target of a run that has succeeded to `file`, in place of what is there."""
        with self._translated(), self._http.stream("GET", f"/v1/runs/{run_id}/target") as answer:
            if not answer.is_success:
                answer.read()
                self._refuse(answer)
            with file.open("wb") as target:
                for part in answer.iter_bytes():
                    target.write(part)

    def _object(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(method, path, **more).json()
        return found

    def _pages(self, path: str, name: str, filters: dict[str, str]) -> Iterator[dict[str, Any]]:
        after: str | None = None
        while True:
            page = self._object("GET", path, params=filters | ({"after": after} if after else {}))
            yield from page[name]
            if (after := page["next"]) is None:
                return

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request that may be sent again, until an answer comes that counts."""
        waited_s = 0.0
        while True:
            pause_s = _PAUSE_S
            try:
                answer = self._http.request(method, path, **more)
                if answer.status_code not in {429, 502, 503, 504}:
                    break
                with contextlib.suppress(ValueError):
                    pause_s = float(answer.headers.get("Retry-After", _PAUSE_S))
                if waited_s + pause_s > _PATIENCE_S:
                    break
            except httpx.TransportError as error:
                if waited_s + pause_s > _PATIENCE_S or _hopeless(error):
                    raise RunFailed(self._away(error)) from error
            self._sleep(pause_s)
            waited_s += pause_s
        if not answer.is_success:
            self._refuse(answer)
        return answer

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            raise RunFailed(self._away(error)) from error

    def _away(self, error: Exception) -> str:
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"can't reach {self.url}: {reason}"

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        """Raise what a problem document says; it is another's text, of any length."""
        try:
            detail = str(answer.json()["detail"])[:1000]
        except (ValueError, KeyError, TypeError):
            detail = "is this a server of Impasto's?"
        said = f"{self.url} answers {answer.status_code}: {detail}"
        if answer.status_code == 404:
            raise NotFound(said)
        if answer.status_code < 500:
            raise RequestError(said)
        raise RunFailed(said)


def _hopeless(error: httpx.TransportError) -> bool:
    """Whether asking again can't help: a certificate stays wrong, and a closed port is told."""
    return isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol)


def _events(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """Server-sent events, as the HTML standard parses them; one without an id is not ours."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            with contextlib.suppress(ValueError):
                data = json.loads(fields.get("data", ""))
                if "id" in fields and isinstance(data, dict):
                    yield ServerEvent(fields["id"], fields.get("event", "message"), data)
            fields = {}
