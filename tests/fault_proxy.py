"""A proxy in front of a store that answers with errors, breaks connections and dawdles, as told."""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class Faults:
    """What becomes of the next requests, a word each.

    "503" and "reset" do nothing else, "lost" does what is asked and gives no answer, "torn" gives
    half of it, and "slow" gives it bit by bit. A request that no word is left for goes through,
    unless `always` holds one.
    """

    def __init__(self) -> None:
        self._coming: deque[str] = deque()
        self._lock = threading.Lock()
        self.always = ""
        self.met: list[str] = []
        """The faults that were met, in order."""

    def plan(self, words: Iterable[str]) -> None:
        with self._lock:
            self._coming.extend(words)

    def next(self) -> str:
        with self._lock:
            word = self._coming.popleft() if self._coming else self.always
            if word:
                self.met.append(word)
            return word


@contextlib.contextmanager
def fault_proxy(port: int) -> Iterator[tuple[int, Faults]]:
    """Stand before the HTTP server on that port of loopback; gives a port of its own."""
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            match faults.next():
                case "503":
                    self.send_response(503, "Server Busy")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                case "reset":
                    self._reset()
                case fault:
                    self._pass_on(body, fault)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = forward  # noqa: N815 - http.server's

        def _pass_on(self, body: bytes, fault: str) -> None:
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            with contextlib.closing(upstream):
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                data = answer.read()
            if fault == "lost":
                self._reset()
                return
            self.send_response(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "torn" and data:  # half of it arrives
                self.wfile.write(data[: len(data) // 2])
                self._reset()
                return
            step = max(1, len(data) // 8) if fault == "slow" else max(1, len(data))
            for at in range(0, len(data), step):
                if fault == "slow":
                    threading.Event().wait(0.05)
                self.wfile.write(data[at : at + step])

        def _reset(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                linger = struct.pack("ii", 1, 0)  # closing sends RST
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.shutdown(socket.SHUT_RD)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], faults
        finally:
            server.shutdown()
            thread.join()
