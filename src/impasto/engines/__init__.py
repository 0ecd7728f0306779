"""Where chunks run. Each engine lives in its own file and knows nothing of the others."""

from collections.abc import Callable

from impasto.errors import RequestError
from impasto.protocols import Engine
from impasto.records import Report
from impasto.surroundings import Ranks, Surroundings

_LATER = ("azureml",)


def open_engine(
    name: str | None, *, workers: int | None = None, surroundings: Surroundings | None = None
) -> Engine:
    """Return the engine called `name`.

    Args:
        name: "inline" (in this process), "local" (worker processes on this machine), "mpi" (the
            ranks of an MPI job) or "ray" (actors of a Ray cluster); None takes "mpi" among ranks,
            or else "local".
        workers: how many; the engine's own choice when None.
        surroundings: whether this process is one of several, and how to start such.

    Raises:
        RequestError: an unknown engine, one whose package is missing, or a number of workers that
            it can't have.
    """
    around = surroundings or Surroundings()
    if workers is not None and workers < 1:
        raise RequestError(f"workers must be at least 1, got {workers}")
    if name is None:
        name = "mpi" if _among_ranks(None, around.ranks) else "local"
    match name:
        case "inline":
            from impasto.engines.inline import InlineEngine

            if workers not in {None, 1}:
                raise RequestError(f"engine 'inline' has 1 worker, got {workers}; use 'local'")
            return InlineEngine()
        case "local":
            from impasto.engines.local import LocalEngine

            return LocalEngine(workers, around.hidden)
        case "mpi":
            from impasto.engines.mpi import MpiEngine

            shared = _among_ranks("mpi", around.ranks, workers)
            return MpiEngine(
                workers, around.ranks if shared else None, around.mpiexec, around.hidden
            )
        case "ray":
            from impasto.engines.ray import RayEngine

            return RayEngine(workers, around.ray, around.hidden)
        case _ if name in _LATER:
            raise RequestError(f"engine {name!r} is not in this version; use 'local'")
        case _:
            raise RequestError(f"unknown engine {name!r}; use 'inline', 'local', 'mpi' or 'ray'")


def together(
    lead: Callable[[], Report],
    name: str | None,
    workers: int | None = None,
    ranks: Ranks | None = None,
) -> Report:
    """Call `lead`, or on a rank above 0 score for rank 0 while that does; return its report.

    Args:
        lead: makes the run.
        name: of the engine, as asked for.
        workers: as asked for.
        ranks: this process's place, where it was not started alone.

    Raises:
        ImpastoError: what `lead` raises, on every rank.
    """
    if ranks is None or not _among_ranks(name, ranks, workers):
        return lead()
    from impasto.engines.ranks import collectively

    return collectively(lead, ranks)


def follows(name: str | None, workers: int | None = None, ranks: Ranks | None = None) -> bool:
    """Whether this process only scores for another, which speaks for all; see `together`."""
    return ranks is not None and ranks.rank > 0 and _among_ranks(name, ranks, workers)


def _among_ranks(name: str | None, ranks: Ranks | None, workers: int | None = None) -> bool:
    """Whether this process is one rank of the run; a lone one is, where "mpi" is asked for."""
    if ranks is None or name not in {None, "mpi"}:
        return False
    return ranks.size != 1 or (name == "mpi" and workers in {None, 1})
