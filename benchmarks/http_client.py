"""As much of an HTTP/1.1 client as the benchmarks need: asyncio's streams, kept alive.

A client of many comforts takes more processor time for a request than the service does, on the
same cores; here it is a tenth of that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Connection:
    """One connection; one request at a time.

    Args:
        reader: of the connection.
        writer: likewise.
        head: lines that every request has, each with its end.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._head = head

    async def get(self, path: str) -> Answer:
        """Ask for `path`."""
        return await self._ask("GET", path, b"")

    async def post(self, path: str, body: Any = None) -> Answer:
        """Send `body` as JSON."""
        return await self._ask("POST", path, b"" if body is None else json.dumps(body).encode())

    async def lines(self, path: str) -> AsyncGenerator[str]:
        """Yield the lines of a stream, those between its chunks too."""
        self._send("GET", path, b"")
        while line := await self._reader.readline():
            yield line.decode()

    async def _ask(self, method: str, path: str, body: bytes) -> Answer:
        self._send(method, path, body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = head.partition("content-length:")[2].partition("\r\n")[0]
        return Answer(int(head[9:12]), await self._reader.readexactly(int(length)))

    def _send(self, method: str, path: str, body: bytes) -> None:
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)


@dataclass(frozen=True, slots=True)
class Client:
    """Opens connections to one service."""

    url: str
    token: str

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """One more connection, closed at the end."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"Host: {address.netloc}\r\nAuthorization: Bearer {self.token}\r\n"
            "Content-Type: application/json\r\n"
        )
        try:
            yield Connection(reader, writer, head)
        finally:
            writer.close()
