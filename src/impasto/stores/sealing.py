"""Encryption at rest: an object's bytes, sealed by blocks, so that a part can be read alone.

    object = header | block 0 | block 1 | … | last block
    header = "IMPASTO1" | id of the key, 16 bytes, zeros behind it | salt, 32 random bytes
    block  = AES-256-GCM of up to 64 KiB, with its tag of 16 bytes

Each object has a key of its own, HKDF-SHA-256 (RFC 5869) of the named key and the salt, bound to
the header and to the object's place in the store. A block's nonce is its number, 11 bytes, and one
byte that is 1 for the last block and 0 for the others; only an empty object has an empty block. So
a flipped bit, a block or an object in another's place, and an end cut off are all noticed.

This is the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár (Online Authenticated-
Encryption and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015, https://eprint.iacr.org/2015/189)
with nonces as age has them (https://c2sp.org/age) and keys derived as Tink's AES-GCM-HKDF has them
(https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming).
"""

import base64
import binascii
import io
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from impasto.errors import RequestError, RunFailed, Unavailable
from impasto.stores.reader import RangeReader

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK = 64 << 10
"""Plain bytes of a block."""
_TAG = 16
_SEALED = BLOCK + _TAG
_MAGIC = b"IMPASTO1"
_ID, _SALT, KEY = 16, 32, 32
HEADER = len(_MAGIC) + _ID + _SALT
"""Bytes before the first block."""


def read_keys(text: str) -> dict[str, bytes]:
    """Read "id:base64 id:base64 …", the newest key first.

    Raises:
        RequestError: it does not read so; no key is shown.
    """
    keys: dict[str, bytes] = {}
    for word in text.replace(",", " ").split():
        name, _, encoded = word.partition(":")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            key = b""
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,16}", name) or len(key) != KEY or name in keys:
            raise RequestError(
                f"key {len(keys) + 1} for sealing must read id:BASE64 of {KEY} bytes, with an id "
                "of its own of 1 to 16 letters, digits, _, . and -; impasto keys new makes one"
            )
        keys[name] = key
    if not keys:
        raise RequestError("there is no key for sealing: give id:BASE64, the newest first")
    return keys


def plain_size(sealed: int) -> int:
    """Bytes of an object whose sealed form has that size; 0 for what can't be one."""
    body = sealed - HEADER
    return max(0, body - -(-body // _SEALED) * _TAG)


def sealed_size(plain: int) -> int:
    """Bytes of the sealed form of an object."""
    return HEADER + plain + max(1, -(-plain // BLOCK)) * _TAG


def sealed_range(start: int, stop: int) -> tuple[int, int]:
    """Where the blocks that hold plain bytes `[start, stop)` lie, if all of them are whole."""
    return (
        HEADER + start // BLOCK * _SEALED,
        HEADER + max(start // BLOCK + 1, -(-stop // BLOCK)) * _SEALED,
    )


class Seal:
    """Seals and opens the blocks of one object.

    Args:
        header: of the object; a new one from `new_header`.
        place: of the object in its store; its key.
        keys: by id.

    Raises:
        RunFailed: it is no sealed object, or its key is not among them.
    """

    def __init__(self, header: bytes, place: str, keys: Mapping[str, bytes]) -> None:
        if len(header) != HEADER or not header.startswith(_MAGIC):
            raise RunFailed(f"{place!r} is not sealed, or was damaged in the store; move it away")
        self.header, self._place = header, place
        self.key_id = key_id(header)
        if self.key_id not in keys:
            raise RunFailed(
                f"{place!r} was sealed with the key {self.key_id!r}, which is not configured; "
                "keep old keys behind the newest one"
            )
        self._cipher = _cipher(keys[self.key_id], header, place)

    def seal(self, data: bytes, *, block: int, last: bool) -> bytes:
        """Return block number `block` sealed."""
        return self._cipher.encrypt(_nonce(block, last=last), data, None)

    def open(self, data: bytes, *, block: int, last: bool) -> bytes:
        """Return the plain bytes of consecutive sealed blocks, of which `block` is the first.

        Args:
            data: whole blocks.
            block: number of the first.
            last: whether the last of them is the object's last.

        Raises:
            RunFailed: they are not what was sealed there.
        """
        from cryptography.exceptions import InvalidTag

        plain = bytearray()
        for offset in range(0, max(1, len(data)), _SEALED):  # not even an empty object has none
            ends = last and offset + _SEALED >= len(data)
            nonce = _nonce(block + offset // _SEALED, last=ends)
            try:
                plain += self._cipher.decrypt(nonce, data[offset : offset + _SEALED], None)
            except (InvalidTag, ValueError):  # a piece shorter than a tag is the latter
                raise RunFailed(
                    f"{self._place!r} was damaged or exchanged in the store; remove it"
                ) from None
        return bytes(plain)


def new_header(name: str) -> bytes:
    """Begin an object that the key with that id seals."""
    return _MAGIC + name.encode().ljust(_ID, b"\0") + secrets.token_bytes(_SALT)


def key_id(header: bytes) -> str:
    """The id of the key that an object was sealed with."""
    return header[len(_MAGIC) : len(_MAGIC) + _ID].rstrip(b"\0").decode("ascii", "replace")


def check_installed() -> None:
    """Raise Unavailable, one line that names the extra, when the package is missing."""
    try:
        import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    except ImportError:
        raise Unavailable(
            "a sealed store needs: pip install 'impasto[sealed]' (cryptography is missing)"
        ) from None


def _cipher(key: bytes, header: bytes, place: str) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    salt, info = header[-_SALT:], b"impasto sealed object\0" + header[:-_SALT] + place.encode()
    return AESGCM(HKDF(SHA256(), KEY, salt, info).derive(key))


def _nonce(block: int, *, last: bool) -> bytes:
    return block.to_bytes(11, "big") + bytes([last])


class SealedFile(RangeReader):
    """A file as its sealed form, made while it is read.

    Args:
        file: the plain one; seekable.
        seal: of the object that it becomes.
    """

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        plain = file.seek(0, io.SEEK_END)
        super().__init__(sealed_size(plain), self._range)
        self._file, self._seal = file, seal
        self._blocks = max(1, -(-plain // BLOCK))
        self._made: tuple[int, bytes] = (-1, b"")

    def _range(self, at: int, most: int) -> bytes:
        """As far as the header or one block goes."""
        if at < HEADER:
            return self._seal.header[at:][:most]
        block, offset = divmod(at - HEADER, _SEALED)
        return self._block(block)[offset:][:most] if block < self._blocks else b""

    def _block(self, number: int) -> bytes:
        if self._made[0] != number:
            self._file.seek(number * BLOCK)
            last = number == self._blocks - 1
            data = self._file.read(BLOCK)
            self._made = (number, self._seal.seal(data, block=number, last=last))
        return self._made[1]
