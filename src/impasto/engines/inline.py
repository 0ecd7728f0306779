"""In this process, one chunk after the other: for debugging, and the yardstick for the others."""

from collections.abc import Callable, Generator, Iterable

from impasto.records import Chunk, Outcome, Progress, Task
from impasto.worker import score_chunk


class InlineEngine:
    """Calls `score_chunk` directly."""

    name = "inline"
    workers = 1

    def map(
        self, task: Task, chunks: Iterable[Chunk], on_progress: Callable[[Progress], None]
    ) -> Generator[Outcome]:
        """See `Engine.map`."""
        for chunk in chunks:
            yield score_chunk(task, chunk, on_progress)
