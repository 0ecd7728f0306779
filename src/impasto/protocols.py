"""The seams: what a scorer, an engine and a file elsewhere look like to the rest."""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from impasto.records import Chunk, Frames, Noted, Outcome, Progress, Task


class Scorer(Protocol):
    """Frames in, frames out; built once per worker process, called once per batch.

    What a frame becomes depends on that frame alone: neither on its batch nor on the number of
    threads, so that one worker and a hundred give the same bytes. (`Sequential` says otherwise.)
    """

    batch_size: int
    """Frames that a call handles best; any number from 1 up is accepted."""
    device: str
    """What executes the network, for people: "AMD EPYC (AVX512-BF16)"."""
    notes: list[str]
    """What a person should know of how it went, such as less work at a time for want of memory."""

    def __call__(self, frames: Frames, /) -> Frames:
        """Score uint8 RGB frames (N, H, W, 3) → (N, H, W, 3).

        Raises:
            OutOfMemory: the device has no room even for one frame at a time.
        """
        ...


@runtime_checkable
class Sequential(Protocol):
    """A scorer that starts each frame from the one before; its chunks are scored in their order.

    What a chunk ends with stands in the store beside its segment, so a chunk's bytes depend on the
    frames before it and on nothing else.
    """

    on_step: Callable[[float], None]
    """Hears the share of the present frame that is done, from the thread that scores."""

    def resume(self, state: bytes | None, /) -> None:
        """Go on behind the frame that `state` was taken after; None starts anew."""
        ...

    def state(self) -> bytes:
        """What the next frame starts from."""
        ...


class Engine(Protocol):
    """Where chunks run."""

    name: str

    @property
    def workers(self) -> int:
        """At most at the same time; an engine that grows with its cluster tells how many so far."""
        ...

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress | Noted], None]
    ) -> Generator[Outcome]:
        """Score the chunks, in any order, and yield exactly one outcome for each.

        A bad chunk is a Failed value, never an exception; a lost worker costs its chunk only.
        Closing the generator cancels what has not started and ends the workers.

        The engine takes a chunk when a worker is free for it, not before. An iterator that has
        none may have one later: whoever hears that a chunk failed can put it back before asking
        for the next outcome. So the engine asks again after every outcome that it has yielded, and
        has finished when there is still none and nothing is under way.

        Raises:
            EngineLost: no worker is left. Chunks that were begun have failed; the others have no
                outcome, and may be given to another call.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """An engine that takes seconds to begin and to end, while something else can be done."""

    def prepared(self) -> AbstractContextManager[None]:
        """Begin what the next `map` needs; the end waits until nothing of it is left."""
        ...


class RemoteFile(Protocol):
    """A file that is not on this machine; `str` names it. It is read by range and written whole.

    A failing store raises RunFailed, or RequestError where it refuses the credentials.
    """

    @property
    def suffix(self) -> str:
        """The end of its name, such as ".mp4"."""
        ...

    @property
    def size(self) -> int:
        """Bytes. Raises FileNotFoundError when it is not there."""
        ...

    def open(self) -> BinaryIO:
        """Open it for reading; it has no name, which FFmpeg could follow. Raises as `size` does."""
        ...

    def sha256(self) -> str:
        """Digest of its bytes, in hexadecimal; what was read in order is not read again."""
        ...

    def exists(self) -> bool:
        """Whether it is there now."""
        ...

    def put(self, file: Path, *, force: bool) -> None:
        """Make it of a local file; nobody sees it before it is whole.

        Raises:
            RequestError: it is there already, and `force` is not given.
        """
        ...


File = Path | RemoteFile
"""What media are read from and written to."""
