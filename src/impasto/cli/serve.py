"""impasto serve: runs for many, from a watched store and over HTTP."""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from impasto.cli.text import clean
from impasto.config import load_settings
from impasto.errors import RequestError


def serve(
    *,
    media: Annotated[
        str | None,
        typer.Option("--media", metavar="URL", help="The media store: sources and targets."),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option("--system", metavar="URL", help="The system store: plans, segments, logs."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="URL",
                     help="sqlite:///PATH, or postgresql://… for several processes."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Address to listen on.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="PORT", help="Likewise; 0 takes a free one.")
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option("--watch", metavar="PREFIX", help="Paint every new video below this prefix."),
    ] = None,
    style: Annotated[
        str | None, typer.Option("--style", metavar="NAME", help="In this style, with --watch.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration, with [serve].")
    ] = None,
) -> int:  # fmt: skip
    """Serve runs to many users: over HTTP, and from a watched prefix of the media store."""
    if watch is None and style is not None:
        raise RequestError("--style goes with --watch PREFIX; runs over HTTP name their own")
    for package in ("dbos", "fastapi", "sqlalchemy", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"serve needs: pip install 'impasto[serve]' ({package} is missing)")
    from impasto.service.serve import serve as run
    from impasto.service.settings import read_settings

    core = load_settings(os.environ, config)
    table = dict(core.serve)
    if watch is not None:
        how = {} if style is None else {"style": style}  # without one the rules say it
        table["watch"] = [*table.get("watch", []), {"prefix": watch, **how}]
    chosen = read_settings(
        table, media=media, system=system, database=database, host=host, port=port
    )
    _log_to_stderr()
    run(chosen, core, config_file=config, say=_say)
    return 0


class _OneLine(logging.Formatter):
    """A message is one line whatever strangers have put into it; a traceback follows by lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return clean(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - likewise
        return "\n".join(map(clean, super().formatException(ei).splitlines()))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    ours = logging.getLogger("impasto")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False


def _say(line: str) -> None:
    typer.echo(line, err=True)
