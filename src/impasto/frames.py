"""A folder of frames as a source: joined, once, into a lossless video in the system store.

    sources/<digest>/joined.json         what was noticed
                     video.mp4           what is read from then on, as any video
                     <run id>.reader     a run that reads it

The digest is that of the pictures' names and versions, the folder's place and the rate. So the same
folder finds its video again, after a crash too, and the last run that reads it can remove it.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path

from impasto.errors import OutOfSpace, RequestError, RunFailed, SourceRefused, Way
from impasto.keys import digest, from_json, to_json
from impasto.media.container import reason
from impasto.media.frames import SUFFIX, Unread, join
from impasto.media.publish import publishing
from impasto.records import Source
from impasto.settings import Settings
from impasto.stores import (
    Entry,
    Item,
    Place,
    Store,
    address,
    is_folder,
    items,
    locate,
    open_store,
    read_item,
)

DEFAULT_RATE = Fraction(25)
"""Frames per second where nobody says; FFmpeg's own for pictures."""
KINDS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
_SLOWEST, _FASTEST = Fraction(1, 100), Fraction(1000)
_RATE = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?|[0-9]{1,7}/[0-9]{1,7}")
_NTSC = tuple(Fraction(1000 * whole, 1001) for whole in (24, 30, 48, 60, 120))
"""What 23.976 (23.98), 29.97 and so on are short for (SMPTE ST 2029, ST 170)."""
_MOST = 500_000
"""Pictures: the names of so many take some hundred megabytes."""
_GAPS_TOLD = 5
_ROOT = "sources"
_READER = ".reader"


@dataclass(frozen=True)
class Folder:
    """A folder of frames, as it was when it was listed."""

    place: Place
    pictures: tuple[Item, ...]
    """In the order in which they are shown."""

    @property
    def bytes(self) -> int:
        """Of all pictures."""
        return sum(picture.bytes for picture in self.pictures)

    @cached_property
    def version(self) -> str:
        """Digest of what the pictures are called and of what is in them, by the store's word."""
        return digest([(picture.name, picture.version) for picture in self.pictures])

    def changed(self) -> bool:
        """Whether its pictures are others by now."""
        try:
            return _ordered(self.place) != self.pictures
        except FileNotFoundError:
            return True


@dataclass(frozen=True, slots=True)
class _Joined:
    """What was noticed when pictures were joined: joined.json."""

    pictures: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinedFolder:
    """A folder and its video."""

    folder: Folder
    rate: Fraction
    video: Place
    key: str
    """Prefix in the system store."""
    notes: tuple[str, ...]
    """What a person should know: gaps in the numbering, what the video does not hold."""


def find_folder(place: Place, rate: str | float | None = None) -> Folder | None:
    """Return the folder of frames at `place`, or None where a file is, or nothing.

    Raises:
        RequestError: a rate for a file, a rate that can't be read; or as `list_folder` does.
        RunFailed: a store fails.
    """
    if not is_folder(place):
        if rate is not None:
            raise RequestError(
                f"a rate is for a folder of frames, and {str(place)!r} is none; a video has its own"
            )
        return None
    parse_rate(rate)
    if isinstance(place, Path) and place.name in {"", ".."}:
        place = place.resolve()  # the target is named after it
    return list_folder(place)


def list_folder(place: Place) -> Folder:
    """Return the folder of frames at `place`.

    Raises:
        SourceRefused: it can't be read, or holds no pictures, too many, or the same frame twice.
        RunFailed, RequestError: a store fails.
    """
    try:
        pictures = _ordered(place)
    except OSError as error:
        raise SourceRefused(f"can't read the folder {str(place)!r}: {reason(error)}") from error
    if not pictures:
        kinds = ", ".join(sorted(KINDS))
        raise SourceRefused(f"the folder {str(place)!r} holds no pictures ({kinds})")
    by_stem: dict[str, str] = {}
    for picture in pictures:
        twin = by_stem.setdefault(Path(picture.name).stem, picture.name)
        if twin != picture.name:
            raise SourceRefused(
                f"{twin!r} and {picture.name!r} in {str(place)!r} are one frame twice; keep one"
            )
    return Folder(place, pictures)


def video_at(
    source: str | Place,
    settings: Settings,
    *,
    rate: str | float | None = None,
    work: str | None = None,
) -> Place:
    """Return the video at a path or URL; of a folder of frames, what they are joined into.

    Args:
        source: path or URL of a file or a folder.
        settings: limits, stores and credentials.
        rate: of a folder's frames per second.
        work: URL or path of the system store; None takes the configured one.

    Raises:
        RequestError, RunFailed: as `find_folder` and `join_folder` do.
    """
    place = locate(source, settings.access, or_folder=True)
    folder = find_folder(place, rate)
    if folder is None:
        return place
    store = open_store(work or settings.system_store, settings.access)
    return join_folder(folder, store, rate, settings).video


def join_folder(
    folder: Folder,
    store: Store,
    rate: str | float | None,
    settings: Settings,
    stop: Callable[[str], None] = lambda _: None,
) -> JoinedFolder:
    """Join the pictures of a folder into a video in the system store, unless it is there already.

    Args:
        folder: the pictures.
        store: the system store.
        rate: frames per second, as `parse_rate` takes it.
        settings: limits and credentials.
        stop: called before each picture with what was done last; may raise to stop.

    Raises:
        RequestError: a picture that can't be used, or a limit that is broken.
        RunFailed: the folder changed meanwhile, or a store fails.
    """
    per_s, name = parse_rate(rate), str(folder.place)
    place = address(folder.place)
    key = f"{_ROOT}/{digest([place, folder.version, per_s, version('av')])[:32]}"
    url = f"{store.url}/{key}/video{SUFFIX}"
    video, record = locate(url, settings.access), f"{key}/joined.json"
    gaps = _gaps([picture.name for picture in folder.pictures])
    if store.exists(f"{key}/video{SUFFIX}"):
        kept = from_json(store.get(record), _Joined)
        return JoinedFolder(folder, per_s, video, key, (*gaps, *kept.notes))
    if isinstance(video, Path):
        video.parent.mkdir(parents=True, exist_ok=True)
    unread = [
        Unread(f"{name}/{one.name}", one.bytes, _reader(folder.place, one))
        for one in folder.pictures
    ]

    def on_picture(number: int) -> None:
        stop(f"{number} of {len(unread)} pictures were joined")

    try:
        # What another run of the same folder has put there meanwhile are the same bytes.
        with publishing(video, force=False, resumed=True) as unfinished:
            notes = join(
                unread, unfinished, rate=per_s, limits=settings.limits, on_picture=on_picture
            )
            if folder.changed():
                raise RunFailed(f"{name!r} changed during the run; run again")
            # The record goes first: a video that is listed always has one.
            store.put(record, to_json(_Joined(len(unread), notes)))
    except OutOfSpace as error:
        raise OutOfSpace(
            f"{error.args[0].partition(';')[0]}, which the frames of {name!r} are joined into; "
            "make room there, or take another system store",
            Way("resume"),
        ) from error
    return JoinedFolder(folder, per_s, locate(url, settings.access), key, (*gaps, *notes))


def _reader(folder: Place, picture: Item) -> Callable[[], bytes]:
    return lambda: read_item(folder, picture)


def claim(store: Store, joined: JoinedFolder, run_id: str, found: Source) -> None:
    """Note that a run reads a video, which stays until `release`.

    Args:
        store: the system store.
        joined: the video.
        run_id: of the run.
        found: the video's probe, which must have a frame for each picture, at its time.

    Raises:
        RunFailed: it has not, or is damaged.
    """
    ledger, count = found.ledger, len(joined.folder.pictures)
    times_s = [pts * ledger.time_base for pts in ledger.pts]
    if found.damage or times_s != [number / joined.rate for number in range(count)]:
        raise RunFailed(
            f"{str(joined.video)!r} does not hold the {count} frames of "
            f"{str(joined.folder.place)!r}; remove it and run again"
        )
    store.put(f"{joined.key}/{run_id}{_READER}", b"")


def release(store: Store, joined: JoinedFolder, run_id: str) -> None:
    """Note that a run needs a video no more; the last one removes it."""
    store.delete(f"{joined.key}/{run_id}{_READER}")
    entries = list(store.list(joined.key))
    if not any(entry.key.endswith(_READER) for entry in entries):
        for entry in entries:
            store.delete(entry.key)


def unused(store: Store, is_kept: Callable[[str], bool], before: datetime) -> list[Entry]:
    """What of joined folders is older than `before`, and of no run that is kept."""
    groups: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in store.list(_ROOT):
        groups[entry.key.split("/")[1]].append(entry)
    found: list[Entry] = []
    for entries in groups.values():
        names = (entry.key.rpartition("/")[2] for entry in entries)
        readers = [name.removesuffix(_READER) for name in names if name.endswith(_READER)]
        if max(entry.modified for entry in entries) < before and not any(map(is_kept, readers)):
            found += entries
    return found


def parse_rate(rate: str | float | None) -> Fraction:
    """Read frames per second: "24", "23.976" or "30000/1001"; None is 25.

    23.976, 29.97 and 59.94 are short for 24000/1001, 30000/1001 and 60000/1001.

    Raises:
        RequestError: another form, or out of bounds.
    """
    if rate is None:
        return DEFAULT_RATE
    text = rate.strip() if isinstance(rate, str) else f"{rate:.12g}"
    top, _, bottom = text.partition("/")
    if not _RATE.fullmatch(text) or (bottom and not int(bottom)):
        raise RequestError(f"rate reads 24, 23.976 or 30000/1001 frames a second, got {rate!r}")
    value = Fraction(top) / int(bottom or 1)
    if not _SLOWEST <= value <= _FASTEST:
        raise RequestError(
            f"rate must lie between {_SLOWEST} and {_FASTEST} frames a second, got {rate!r}"
        )
    digits = len(text.partition(".")[2])
    meant = (rate for rate in _NTSC if digits >= 2 and round(rate, digits) == value)
    return next(meant, value)


def _ordered(place: Place) -> tuple[Item, ...]:
    pictures = (item for item in items(place) if _is_picture(item.name))
    found = list(islice(pictures, _MOST + 1))
    if len(found) > _MOST:
        raise SourceRefused(f"the folder {str(place)!r} holds more than {_MOST} pictures")
    return tuple(sorted(found, key=lambda item: (_natural(item.name), item.name)))


def _is_picture(name: str) -> bool:
    """Whether a name is that of a picture, and neither hidden nor half written."""
    return Path(name).suffix.lower() in KINDS and not name.startswith((".", "~"))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts frame_2 before frame_10."""
    parts = re.split("([0-9]+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _gaps(names: Sequence[str]) -> list[str]:
    """Say which numbers are missing between the first and the last, where all are of one form."""
    numbered = [re.fullmatch("(.*?)([0-9]+)([^0-9]*)", Path(name).stem) for name in names]
    if not all(numbered) or len({(m[1], m[3]) for m in numbered if m}) != 1:
        return []
    numbers = [int(found[2]) for found in numbered if found]
    missing = [(before + 1, after - 1) for before, after in pairwise(numbers) if after - before > 1]
    if not missing:
        return []
    count = sum(last - first + 1 for first, last in missing)
    word = "numbers are" if count > 1 else "number is"
    between = f"between {names[0]!r} and {names[-1]!r}"
    return [f"{count} {word} missing {between}, without a pause for them: {_ranges(missing)}"]


def _ranges(missing: Iterable[tuple[int, int]]) -> str:
    told = [str(first) if first == last else f"{first}–{last}" for first, last in missing]
    return ", ".join(told[:_GAPS_TOLD]) + (", …" if len(told) > _GAPS_TOLD else "")
