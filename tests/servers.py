"""Real servers that tests start on loopback, and stop: Azurite, and moto's S3 with IAM."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from certificates import certify
from impasto.access import Access

_REPOSITORY = Path(__file__).resolve().parent.parent
_START_S = 60


@dataclass(frozen=True, slots=True)
class Azurite:
    """Azure's own emulator of its blob storage, with the accounts "media" and "system"."""

    port: int
    keys: dict[str, str]
    certificate: str | None = None
    """Path of the authority's certificate, where it speaks TLS."""

    def endpoint(self, account: str) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.port}/{account}"

    def service(self, account: str) -> Any:
        """The account's owner, by Azure's own client."""
        from azure.storage.blob import BlobServiceClient

        return BlobServiceClient(
            self.endpoint(account),
            credential=self.keys[account],
            connection_verify=self.certificate or True,
        )

    def container(self, account: str, name: str) -> Access:
        """Make a container, and return what opens it by the account's key."""
        self.service(account).create_container(name)
        return Access(
            url=f"az://{name}",
            account=account,
            endpoint=self.endpoint(account),
            key=self.keys[account],
            certificate=self.certificate,
        )

    def sas(self, account: str, name: str, permissions: str = "racwdl", *, hours: int = 1) -> str:
        """A signature for one container."""
        from azure.storage.blob import generate_container_sas

        until = datetime.now(UTC) + timedelta(hours=hours)
        start = datetime.now(UTC) - timedelta(days=2)
        signed: str = generate_container_sas(
            account, name, account_key=self.keys[account], permission=permissions,
            start=start, expiry=until,
        )  # fmt: skip
        return signed


@contextlib.contextmanager
def azurite(folder: Path, *, tls: bool = False) -> Iterator[Azurite]:
    """Start Azurite; the test is skipped where there is none.

    With `tls` it has a certificate, and takes Azure AD's tokens, whose signature it can't check.
    """
    program = _azurite()
    if program is None:
        pytest.skip("no Azurite: npm makes it part of `make test`, or IMPASTO_AZURITE names it")
    keys = {name: _base64(name) for name in ("media", "system")}
    accounts = ";".join(f"{name}:{key}" for name, key in keys.items())
    port = free_port()
    command = [
        str(program), "--silent", "--location", str(folder), "--blobHost", "127.0.0.1",
        "--blobPort", str(port), "--disableTelemetry", "--skipApiVersionCheck",
    ]  # fmt: skip
    authority = None
    if tls:
        authority, certificate, key = certify(folder)
        command += ["--cert", str(certificate), "--key", str(key), "--oauth", "basic"]
    with _process(command, port, {**os.environ, "AZURITE_ACCOUNTS": accounts}):
        yield Azurite(port, keys, str(authority) if authority else None)


def _azurite() -> Path | None:
    named = os.environ.get("IMPASTO_AZURITE")
    folders = [Path(named)] if named else [_REPOSITORY / ".venv" / "azurite"]
    for folder in folders:
        for place in (folder / "node_modules" / ".bin", folder):
            if (place / "azurite-blob").is_file():
                return place / "azurite-blob"
    found = shutil.which("azurite-blob")
    return Path(found) if found else None


def _base64(name: str) -> str:
    return base64.b64encode(f"{name}-key-".ljust(64, "x").encode()).decode()


@dataclass(frozen=True, slots=True)
class S3:
    """moto's S3, which asks who comes."""

    port: int
    owner: Access
    """May do everything in the bucket "films"."""
    reader: Access
    """May read there, and nothing else."""
    role: str
    """ARN of a role that the owner may take on."""


@contextlib.contextmanager
def s3() -> Iterator[S3]:
    """Start moto with a bucket and two users, and have it enforce what they may do."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, port, dict(os.environ)):
        import boto3

        endpoint = f"http://127.0.0.1:{port}"
        root = {
            "endpoint_url": endpoint, "region_name": "us-east-1",
            "aws_access_key_id": "root", "aws_secret_access_key": "root",
        }  # fmt: skip
        boto3.client("s3", **root).create_bucket(Bucket="films")
        iam = boto3.client("iam", **root)
        owner = _user(iam, "owner", ["s3:*", "sts:AssumeRole"], endpoint)
        reader = _user(iam, "reader", ["s3:GetObject", "s3:ListBucket"], endpoint)
        role = _role(iam, "worker", "s3:*")
        plain = {"Content-Type": "text/plain"}  # otherwise the number is taken for a form
        with urlopen(Request(f"{endpoint}/moto-api/reset-auth", b"0", plain)):
            pass
        yield S3(port, owner, reader, role)


def _allowing(actions: str | list[str]) -> str:
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [allowed]})


def _role(iam: Any, name: str, actions: str) -> str:
    anybody = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
    trust = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=_allowing(actions))
    return arn


def _user(iam: Any, name: str, actions: str | list[str], endpoint: str) -> Access:
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=_allowing(actions))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return Access(
        url="s3://films", endpoint=endpoint, region="us-east-1",
        key_id=key["AccessKeyId"], key=key["SecretAccessKey"],
    )  # fmt: skip


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextlib.contextmanager
def _process(command: list[str], port: int, environ: dict[str, str]) -> Iterator[None]:
    """Run a server until the end of the block."""
    server = subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        _await(server, port)
        yield
    finally:
        server.send_signal(signal.SIGTERM)  # Azurite loses what it holds at a kill
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(_START_S * 10):
        if server.poll() is not None:
            pytest.fail(f"{server.args!r} ended with {server.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    pytest.fail(f"{server.args!r} does not listen")


@dataclass(slots=True)
class Counted:
    """A port that passes everything on to another, and counts what comes back."""

    port: int = 0
    received: int = 0
    """Bytes that the server has sent, headers and all."""


@contextlib.contextmanager
def counting(server_port: int) -> Iterator[Counted]:
    """Stand between a client and a server on loopback."""
    counted = Counted()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", server_port)) as server:
                client: socket.socket = self.request
                passing = threading.Thread(target=_pass_on, args=(client, server), daemon=True)
                passing.start()
                with contextlib.suppress(OSError):
                    while data := server.recv(1 << 16):
                        counted.received += len(data)
                        client.sendall(data)
                _hang_up(client)
                passing.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        counted.port = proxy.server_address[1]
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield counted
        proxy.shutdown()
        thread.join()


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(1 << 16):
            server.sendall(data)
    _hang_up(server)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
