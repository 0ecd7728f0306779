"""Hear from Azure that this machine is about to go: the Scheduled Events endpoint.

A virtual machine asks its host, over a link-local address that nothing outside can reach; a spot
machine is told at least 30 seconds ahead. Format and fields:
https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events
"""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from impasto.keys import from_json

AZURE = "http://169.254.169.254/metadata/scheduledevents?api-version=2020-07-01"
_NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
_ENDING = frozenset({"Preempt", "Terminate", "Reboot", "Redeploy"})
"""The fifth kind, Freeze, stops the machine for seconds and loses nothing."""
_EVERY_S = 1.0
_TIMEOUT_S = 10.0
_MOST_BYTES = 1 << 20
_ASSET_TAG = Path("/sys/class/dmi/id/chassis_asset_tag")
_AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"
"""What the firmware of every virtual machine on Azure says, so that no other machine asks."""


@dataclass(frozen=True, slots=True)
class _Event:
    EventType: str
    Resources: list[str] = field(default_factory=list)
    EventId: str = ""


@dataclass(frozen=True, slots=True)
class _Document:
    Events: list[_Event] = field(default_factory=list)


def endpoint(setting: str) -> str | None:
    """The URL to ask: `setting` itself, or for "auto" Azure's on its machines; None for no one."""
    if setting == "auto":
        return AZURE if _on_azure() else None
    return None if setting == "off" else setting


def _on_azure() -> bool:
    try:
        return _ASSET_TAG.read_text(encoding="ascii", errors="replace").strip() == _AZURE_TAG
    except OSError:
        return False


def watch(url: str, tell: Callable[[str], None], *, every_s: float = _EVERY_S) -> None:
    """Ask `url` until it announces this machine's end, then `tell` in one line and return.

    What can't be reached or read is asked again: a notice that is missed costs a chunk.
    """
    name = None
    while True:
        try:
            name = name or _machine_name(url)
            if (kind := coming(_get(url), name)) is not None:
                tell(f"the machine {name} is about to go ({kind})")
                return
        except (OSError, ValueError):  # URLError is one
            pass
        time.sleep(every_s)


def coming(document: bytes, name: str) -> str | None:
    """Type of the event in `document` that ends the machine `name`; None where there is none.

    Raises:
        ValueError: not a document of scheduled events.
    """
    for event in from_json(document, _Document).Events:
        mine = name.lower() in {resource.lower() for resource in event.Resources}
        if mine and event.EventType in _ENDING:
            return event.EventType
    return None


def _machine_name(url: str) -> str:
    """What Azure calls this machine, which is not always what it calls itself."""
    parts = urlsplit(url)
    try:
        return _get(f"{parts.scheme}://{parts.netloc}{_NAME}").decode().strip()
    except (URLError, ValueError):
        return socket.gethostname()


def _get(url: str) -> bytes:
    # Never through a proxy: the address means this machine's own host.
    opener = build_opener(ProxyHandler({}))
    with opener.open(Request(url, headers={"Metadata": "true"}), timeout=_TIMEOUT_S) as answer:  # noqa: S310 - config lets http URLs pass only
        return bytes(answer.read(_MOST_BYTES))
