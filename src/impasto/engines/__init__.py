"""Where chunks run. Each engine lives in its own file and knows nothing of the others."""

from impasto.errors import RequestError
from impasto.protocols import Engine

_LATER = ("mpi", "ray", "azureml")


def open_engine(name: str, *, workers: int | None = None) -> Engine:
    """Return the engine called `name`.

    Args:
        name: "inline" (in this process) or "local" (worker processes on this machine).
        workers: how many; the engine's own choice when None.

    Raises:
        RequestError: an unknown engine, or a number of workers that it can't have.
    """
    if workers is not None and workers < 1:
        raise RequestError(f"workers must be at least 1, got {workers}")
    match name:
        case "inline":
            from impasto.engines.inline import InlineEngine

            if workers not in {None, 1}:
                raise RequestError(f"engine 'inline' has 1 worker, got {workers}; use 'local'")
            return InlineEngine()
        case "local":
            from impasto.engines.local import LocalEngine

            return LocalEngine(workers)
        case _ if name in _LATER:
            raise RequestError(f"engine {name!r} is not in this version; use 'local'")
        case _:
            raise RequestError(f"unknown engine {name!r}; use 'inline' or 'local'")
