"""Keys of the media store: which can be a video that somebody put there."""

from impasto.errors import RequestError

VIDEOS = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .3gp .3g2 .mj2".split()
)  # what the demuxers on the allow-list open
STILLS = frozenset({".jpg", ".jpeg", ".png", ".webp"})
UPLOADS = "uploads"
"""Where the API puts what comes over HTTP, for runs that are asked for there."""
SIDECAR = ".toml"
STYLE_FOLDER = "style"
"""Below a rule's prefix: the pictures in it are paintings, and their stems names of styles."""

_UNFINISHED = frozenset(
    ".part .partial .tmp .temp .crdownload .download .filepart .opdownload .uploading".split()
)
"""What browsers and copying tools call a file until it is whole."""
_MAX_KEY = 1024
"""Bytes: the bound of S3; Azure's counts characters."""


def last_part(key: str) -> str:
    """The last part of a key."""
    return key[key.rfind("/") + 1 :]


def suffix(key: str) -> str:
    """A key's extension in small letters, with its dot."""
    name = last_part(key)
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def without_suffix(key: str) -> str:
    """A key without its extension."""
    kind = suffix(key)
    return key[: -len(kind)] if kind else key


def is_unfinished(key: str) -> bool:
    """Whether a name says that the object is hidden, or still being written."""
    name = last_part(key)
    return (
        key.startswith(".")
        or "/." in key
        or name.startswith("~")
        or name.endswith("~")
        or "#" in name  # obstore stages clip.mp4 on disk as clip.mp4#1
        or suffix(key) in _UNFINISHED
    )


def below(prefix: str, key: str) -> str | None:
    """The part of `key` below a prefix of whole path parts; None where it lies elsewhere."""
    if not prefix:
        return key
    return key[len(prefix) + 1 :] if key.startswith(f"{prefix}/") else None


def check_key(key: str) -> str:
    """Return `key` when it can name an object.

    Raises:
        RequestError: it is empty or too long, climbs, or holds what no path does.
    """
    parts = key.split("/")
    printable = all(character.isprintable() for character in key)
    if (
        not key
        or len(key.encode(errors="replace")) > _MAX_KEY
        or not printable
        or {"", ".", ".."} & set(parts)
    ):
        raise RequestError(f"{key[:200]!r} is no path within the media store")
    return key


def check_prefix(text: str) -> str:
    """Return a prefix without slashes around it; "" is the whole store.

    Raises:
        RequestError: it is a URL, or no path within the store.
    """
    if "://" in text:
        raise RequestError(f"a prefix is a path within the media store, got {text!r}")
    inner = text.strip().strip("/")
    return check_key(inner) if inner else ""
