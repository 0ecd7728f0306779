"""Uploads of small videos and pictures into the media store."""

import hashlib
import tempfile
from dataclasses import dataclass
from typing import Annotated, BinaryIO, cast

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from impasto.errors import LimitExceeded, NotFound
from impasto.service.api.access import BackendDep, Uploader
from impasto.service.api.backend import Backend
from impasto.service.api.forms import FILE_NAME
from impasto.service.api.models import MediaPath, StoredFile, StoredList, Upload
from impasto.service.api.paths import home_of
from impasto.service.api.places import AGAIN_S, Place, Places
from impasto.service.api.problems import documented
from impasto.service.submissions import check_path

PATH = "/v1/uploads"
_IN_MEMORY_BYTES = 1 << 20
"""Beyond it an upload waits on disk."""
_HEAD_BYTES = 1 << 10
_TS_PACKET = 188

router = APIRouter(tags=["uploads"])

_BODY = {
    "requestBody": {
        "required": True,
        "description": "The file's bytes, as they are.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    PATH,
    status_code=201,
    summary="Upload a video or picture",
    responses={200: {"model": Upload, "description": "It was there already."},
               **documented(413, 415, 422, 429)},
    openapi_extra=_BODY,
)  # fmt: skip
async def upload(
    request: Request,
    response: Response,
    who: Uploader,
    backend: BackendDep,
    name: Annotated[
        str,
        Query(
            min_length=1,
            max_length=100,
            pattern=FILE_NAME,
            description="Its name, without a folder.",
            examples=["holiday.mp4"],
        ),
    ],
) -> Upload:
    """Put a file under your own prefix of the media store, to name it as a run's source.

    What it is decides its content: MP4, MOV, Matroska, WebM, AVI, MPEG-TS, JPEG, PNG and WebP are
    taken. The same bytes under the same name again change nothing.
    """
    places: Places = request.app.state.uploads
    with places.take(who.user) as place:
        place.bytes = int(request.headers.get("content-length", 0))
        room = _Room(backend, places, who.user)
        await run_in_threadpool(room.refuse, place.bytes, like=name)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as spooled:
            file = cast("BinaryIO", spooled)
            kind, sha256 = await _take(request, place, file)
            path = f"{home_of(who.user)}{sha256[:16]}/{name}"
            request.state.subject = path
            taken, new = await run_in_threadpool(_keep, room, file, path)
    if not new:
        response.status_code = 200
    return Upload(path=path, bytes=taken, type=kind, sha256=sha256)


@router.get(PATH, summary="List uploads")
def list_uploads(who: Uploader, backend: BackendDep) -> StoredList:
    """What lies under your own prefix of the media store: uploads, and what was painted of them."""
    found = backend.service.media.list(home_of(who.user).rstrip("/"))
    files = [
        StoredFile(path=each.key, bytes=each.bytes, modified_at=each.modified.timestamp())
        for each in found
    ]
    return StoredList(files=sorted(files, key=lambda file: file.path))


@router.delete(PATH, status_code=204, summary="Remove an upload", responses=documented(404))
def remove_upload(
    request: Request,
    who: Uploader,
    backend: BackendDep,
    path: Annotated[MediaPath, Query()],
) -> Response:
    """Remove a file under your own prefix; a run that still waits for it will fail."""
    request.state.subject = path
    media = backend.service.media
    if not path.startswith(home_of(who.user)) or not media.exists(path):
        raise NotFound(f"there is no {path!r} among your uploads")
    media.delete(path)
    return Response(status_code=204)


def media_type(head: bytes) -> str:
    """What a file that begins with `head` is: the containers of the probe, and still pictures.

    Raises:
        HTTPException: 415; none of those.
    """
    for kind, found in (
        ("image/jpeg", head.startswith(b"\xff\xd8\xff")),
        ("image/png", head.startswith(b"\x89PNG\r\n\x1a\n")),
        ("image/webp", head[:4] == b"RIFF" and head[8:12] == b"WEBP"),
        ("video/x-msvideo", head[:4] == b"RIFF" and head[8:12] == b"AVI "),
        ("video/quicktime", head[4:12] == b"ftypqt  " or head[4:8] in {b"moov", b"mdat", b"wide"}),
        ("video/mp4", head[4:8] == b"ftyp"),
        ("video/webm", head.startswith(b"\x1aE\xdf\xa3") and b"webm" in head[:64]),
        ("video/x-matroska", head.startswith(b"\x1aE\xdf\xa3")),
        ("video/mp2t", len(head) > 2 * _TS_PACKET and head[::_TS_PACKET][:3] == b"GGG"),
    ):
        if found:
            return kind
    raise HTTPException(
        415, "this is no video or picture that Impasto opens: mp4, mov, mkv, webm, avi, ts, "
        "jpeg, png and webp are"
    )  # fmt: skip


async def _take(request: Request, place: Place, file: BinaryIO) -> tuple[str, str]:
    """Write the body to `file`; return what it is, and its SHA-256."""
    digest, head, size = hashlib.sha256(), b"", 0
    async for part in request.stream():
        if len(head) < _HEAD_BYTES:
            head += part[:_HEAD_BYTES]
            if len(head) >= _HEAD_BYTES:
                media_type(head)  # before the rest is taken
        size += len(part)
        place.bytes = max(place.bytes, size)  # a chunked body announces nothing
        digest.update(part)
        await run_in_threadpool(file.write, part)
    return media_type(head), digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Room:
    """What a user's uploads may still take, with those that are under way."""

    backend: Backend
    places: Places
    user: str

    def refuse(self, size: int, *, like: str = "") -> None:
        """See that there is room for an upload of `size` bytes, which is under way itself.

        It was counted first and the store is looked at now, so of two at once none is forgotten.

        Args:
            size: of it.
            like: its name; where an upload of that name and size lies there, it may come again.

        Raises:
            LimitExceeded: there is not.
        """
        most = self.backend.service.runs.quota.stored_upload_bytes
        entries = list(self.backend.service.media.list(home_of(self.user).rstrip("/")))
        if like and any(one.bytes == size and one.key.endswith(f"/{like}") for one in entries):
            return
        stored = sum(entry.bytes for entry in entries)
        if stored + size > most:
            raise LimitExceeded(
                f"your uploads have {stored} bytes, and with this one more than the {most} that "
                "are allowed; remove some",
                retry_after_s=0.0,
            )
        if stored + self.places.bytes_of(self.user) > most:
            raise LimitExceeded(
                f"your uploads have {stored} bytes, and with those under way more than the {most} "
                "that are allowed; wait for them, or remove some",
                retry_after_s=AGAIN_S,
            )


def _keep(room: _Room, file: BinaryIO, path: str) -> tuple[int, bool]:
    """Put the file into the media store; return its size, and whether it is new there."""
    media = room.backend.service.media
    check_path(path, name="name")
    size = file.seek(0, 2)
    if not media.exists(path):
        room.refuse(size)
    return size, media.upload(path, file)
