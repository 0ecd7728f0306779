"""A style's folder: its card, the file beside it, and how both are written and read."""

import dataclasses
import hashlib
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from impasto.errors import RequestError
from impasto.runtimes.onnx_file import MAX_BYTES

CARD = "card.json"
MODEL = "style.onnx"
VECTORS = "vectors.npz"

_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a style's card says, and where the style stands."""

    name: str
    title: str = ""
    artist: str = ""
    year: str = ""
    """As a person writes it: "1889", "about 1810"."""
    source: str = ""
    licence: str = ""
    network: str = ""
    """Kind of network: painter, transformer, tiny or onnx."""
    parameters: int = 0
    preprocessing: str = ""
    multiple_of: int = 4
    """Height and width in pixels that the network takes divide by this; the runtime pads."""
    trained: dict[str, Any] = field(default_factory=dict)
    qualities: dict[str, str] = field(default_factory=dict)
    """Quality → file beside the card."""
    sha256: str = ""
    """Of the vectors, or else of the network of the default quality; in hexadecimal."""
    sha256_by_quality: dict[str, str] = field(default_factory=dict)
    """Of a style's own networks for the other qualities."""
    networks: dict[str, str] = field(default_factory=dict)
    """Quality → SHA-256 of the shared network that the vector belongs to; empty for a style with
    networks of its own."""
    bytes: int = 0
    """Of the card and the files that it names; not in the card."""
    shipped: bool = False
    """Whether it is part of the package; not in the card."""
    folder: Path = Path()
    """Where it stands; not in the card."""


def check_name(name: str) -> str:
    """Return `name` if a style may be called so.

    Raises:
        RequestError: it is not 1 to 64 of a-z, 0-9, _ and -.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(f"a style's name is 1 to 64 of a-z, 0-9, _ and -, got {name[:80]!r}")
    return name


def names_in(root: Path) -> list[str]:
    """Names of the styles under a folder, sorted; what has no card or no proper name is none."""
    try:
        return sorted(
            path.name
            for path in root.iterdir()
            if _NAME.fullmatch(path.name) and (path / CARD).is_file()
        )
    except OSError:  # no such folder yet
        return []


def read_card(folder: Path, *, shipped: bool) -> Style:
    """Return what the card in a style's folder says.

    Raises:
        RequestError: it is damaged.
    """
    way_out = "remove the folder, or import the style again"
    try:
        with (folder / CARD).open("rb") as file:
            text = file.read(_MAX_CARD_BYTES)
        style = msgspec.json.decode(text, type=Style)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{folder / CARD} can't be read: {error}; {way_out}") from error
    if style.name != folder.name:
        raise RequestError(f"{folder / CARD} is the card of '{style.name}'; {way_out}")
    if not style.qualities:
        raise RequestError(f"{folder / CARD} names no quality; {way_out}")
    for name in style.qualities.values():
        if not _FILE.fullmatch(name):
            raise RequestError(f"{folder / CARD}: {name[:80]!r} does not lie beside it")
    if style.networks and (
        style.networks.keys() != style.qualities.keys() or len({*style.qualities.values()}) > 1
    ):
        raise RequestError(f"{folder / CARD} names other networks than qualities; {way_out}")
    paths = [folder / name for name in {CARD, *style.qualities.values()}]
    return dataclasses.replace(
        style,
        bytes=sum(path.stat().st_size for path in paths if path.is_file()),
        shipped=shipped,
        folder=folder,
    )


def card_of(style: Style) -> bytes:
    """Return what stands in the card of `style`: JSON for people to read too."""
    values = dataclasses.asdict(style)
    for name in ("bytes", "shipped", "folder"):
        del values[name]
    for name in ("sha256_by_quality", "networks"):
        if not values[name]:
            del values[name]
    return msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n"


def read_file(style: Style, file: str, digest: str) -> bytes:
    """Return the bytes of a file beside a style's card.

    Raises:
        RequestError: it can't be read, or its SHA-256 is not `digest`.
    """
    path = style.folder / file
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequestError(f"{path} has more than {MAX_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path} can't be read: {error.strerror}") from error
    if sha256_of(content) != digest:
        raise RequestError(
            f"{path} is not the file that its card describes (the digests differ); "
            "install or import the style again"
        )
    return content


def sha256_of(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file that is on the disk when this returns: it must not be renamed half there."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def publish(folder: Path, files: dict[str, bytes]) -> None:
    """Write the style beside its place, then move it there: it appears whole or not at all.

    Raises:
        RequestError: the folder can't be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A leading dot is no style's name, so what stands here is not taken for one.
        with tempfile.TemporaryDirectory(prefix=".style-", dir=folder.parent) as scratch:
            made, old = Path(scratch) / "new", Path(scratch) / "old"
            made.mkdir()
            for name, content in files.items():
                _write(made / name, content)
            if folder.exists():
                folder.rename(old)
            try:
                made.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
            if old.exists():
                for path in old.iterdir():
                    if path.name not in {CARD, MODEL, VECTORS}:  # a training's own, say
                        path.rename(folder / path.name)
    except OSError as error:
        raise RequestError(f"{folder} can't be written: {error.strerror or error}") from error
