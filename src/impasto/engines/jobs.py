"""Commands sent to a Ray cluster through its job API: how a run gets there from outside."""

import asyncio
import importlib.util
import shlex
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from impasto.errors import RequestError, RunFailed, Unavailable

T = TypeVar("T")
_now = time.monotonic
_AGAIN_S = 1.0
_BREAKS = 30
"""Times in a row that the cluster may not answer while a job goes on."""
_NO_AGENT = "No available agent"
"""What Ray answers while the process that begins jobs has not begun itself; it took none then."""
_AGENT_WAIT_S = 60.0
"""For that process of a head that has just been started."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended."""

    exit_code: int | None
    """Of the command; None when the job was stopped, or its command could not be begun or ended."""
    stopped: bool
    why: str
    """One line of Ray's."""


class Jobs:
    """The jobs of one cluster.

    Args:
        url: of the job API, which is the dashboard's: "http://head:8265". A cluster that wants a
            token gets the one that Ray itself finds: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN.

    Raises:
        RequestError: Ray is missing, no cluster answers there, or it wants another token.
    """

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("ray") is None:
            raise Unavailable("submit needs: pip install 'impasto[ray]'")
        if not url.startswith(("http://", "https://")):
            raise RequestError(
                "submit needs the URL of the cluster's job API, such as "
                f"--ray-address http://head:8265, got {url!r}"
            )
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        self._wrong_token = AuthenticationError
        self.url = url
        self._client = self._ask(lambda: JobSubmissionClient(url))

    def submit(self, command: Sequence[str]) -> str:
        """Have the head run a command, whatever its words hold; return the job's id.

        Raises:
            RunFailed: the head is there, but takes no job for a minute.
        """
        line = shlex.join(command)  # what Ray takes is a line for a shell
        until = _now() + _AGENT_WAIT_S
        while True:
            try:
                return self._ask(lambda: str(self._client.submit_job(entrypoint=line)))
            except Unavailable as error:
                if _NO_AGENT not in str(error):
                    raise
                if _now() > until:
                    raise RunFailed(
                        f"the head of the cluster at {self.url} takes no job: the agent that would "
                        f"begin it has not come for {_AGENT_WAIT_S:g} s; where another process has "
                        "its port, ray start --dashboard-agent-listen-port=… gives it its own"
                    ) from error
            time.sleep(_AGAIN_S)

    def follow(self, job: str) -> Generator[str]:
        """Yield the lines that a job writes, until it ends.

        Raises:
            RunFailed: the cluster does not answer any more.
        """
        seen = breaks = 0
        rest = ""
        with asyncio.Runner() as runner:
            while True:
                tail = _after(self._client.tail_job_logs(job), seen)
                try:
                    while text := runner.run(_next(tail)):
                        seen, breaks = seen + len(text), 0
                        *lines, rest = (rest + text).split("\n")
                        yield from lines
                    break
                except (OSError, RuntimeError) as error:  # aiohttp's are OSError, too
                    breaks += 1
                    if breaks == _BREAKS:
                        raise self._silent(job) from error
                    time.sleep(_AGAIN_S)
        if rest:
            yield rest

    def end(self, job: str) -> Ended:
        """Wait until a job has ended, and tell how.

        Raises:
            RunFailed: the cluster does not answer any more.
        """
        breaks = 0
        while True:
            try:
                info: Any = self._let_in(lambda: self._client.get_job_info(job))
            except (OSError, RuntimeError) as error:
                breaks += 1
                if breaks == _BREAKS:
                    raise self._silent(job) from error
            else:
                breaks = 0
                if info.status.is_terminal():
                    why = next(iter((info.message or "").splitlines()), "")
                    return Ended(info.driver_exit_code, info.status == "STOPPED", why)
            time.sleep(_AGAIN_S)

    def _silent(self, job: str) -> RunFailed:
        return RunFailed(
            f"the cluster at {self.url} does not answer any more; the job {job} may go on"
        )

    def stop(self, job: str) -> None:
        """Ask a job to end in good order: SIGTERM, and SIGKILL when the cluster loses patience."""
        self._ask(lambda: self._client.stop_job(job))

    def _let_in(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._wrong_token as error:
            raise Unavailable(
                f"the cluster at {self.url} wants another token: RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN=… give it one"
            ) from error

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return self._let_in(call)
        except (OSError, RuntimeError, ValueError) as error:
            said = " ".join(str(error).split())[:200]
            raise Unavailable(f"no Ray cluster takes jobs at {self.url}: {said}") from error


async def _after(tail: AsyncIterator[str], seen: int) -> AsyncIterator[str]:
    """What comes behind the first `seen` characters."""
    async for text in tail:
        fresh = text[seen:]
        seen = max(0, seen - len(text))
        if fresh:
            yield fresh


async def _next(texts: AsyncIterator[str]) -> str:
    return await anext(texts, "")
