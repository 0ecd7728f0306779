"""What the parts of a service share: its stores, its database, its runs."""

import dataclasses
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from impasto.errors import TAKEN, Conflict, RequestError
from impasto.frames import list_folder
from impasto.service.database import Database
from impasto.service.records import ServiceRun, Submission
from impasto.service.runs import Along, Runs
from impasto.service.settings import ServeSettings
from impasto.service.submissions import check
from impasto.settings import Settings
from impasto.stores import Store, StoredFile, is_folder
from impasto.train.paintings import is_painting

_STYLES_S = 2.0
"""How long a style that was found is taken to be there."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that takes requests; what carries runs out is beside it, in `dispatch`."""

    settings: ServeSettings
    """The table [serve]."""
    core: Settings
    """The rest of the configuration: the user's own styles, limits on media, prices."""
    database: Database
    runs: Runs
    media: Store
    system: Store

    def submit(
        self, submission: Submission, *, also: Along | None = None
    ) -> tuple[ServiceRun, bool]:
        """Accept a run of a source that is there, in a style that is known; see `Runs.submit`.

        Everybody who has a run to make calls this: the API, the watch, events, schedules.

        Raises:
            RequestError: a wrong submission, an unknown style, or no such source.
            Conflict: there is something at its target.
            LimitExceeded: as `Runs.submit` does.
        """
        check(submission)
        self._check_style(submission)
        if submission.source_bytes is None:
            size = self._size_of_source(submission.source)
            submission = dataclasses.replace(submission, source_bytes=size)
        if submission.model is not None:
            self._size(submission.model)
        if self._taken(submission) and not self.runs.known(submission):
            raise Conflict(f"{submission.target!r} exists", *TAKEN)
        return self.runs.submit(submission, also=also)

    def _taken(self, submission: Submission) -> bool:
        """Whether the run would find something at its target, which it looks for again."""
        target = submission.target
        return (
            target is not None and not submission.options.get("force") and self.media.exists(target)
        )

    def _size(self, path: str) -> int:
        try:
            return self.media.head(path).bytes
        except FileNotFoundError:
            raise RequestError(f"there is no {path!r} in the media store") from None

    def _size_of_source(self, path: str) -> int:
        """Bytes of a video, or of all frames in a folder."""
        place = StoredFile(self.media, path)
        if is_folder(place):
            return list_folder(place).bytes
        try:
            return place.size
        except FileNotFoundError:
            raise RequestError(f"there is no {path!r} in the media store") from None

    def _check_style(self, submission: Submission) -> None:
        if isinstance(submission.style, str) and is_painting(submission.style):
            self._size(submission.style)
            return
        names = [submission.style] if isinstance(submission.style, str) else submission.style or ()
        for name in names:
            _find(name, self.core.user_styles, int(time.monotonic() / _STYLES_S))


@lru_cache(maxsize=64)
def _find(name: str, user_styles: Path, _period: int) -> None:
    """See that there is a style of that name; remembered within a period, for each costs a look
    into every style's folder.

    Raises:
        RequestError: there is none, which is not remembered.
    """
    from impasto.styles import read_style

    read_style(name, user_styles=user_styles)
