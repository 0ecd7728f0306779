"""impasto serve: runs for many, from a watched store and over HTTP."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

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
    run(chosen, core, config_file=config, say=_say)
    return 0


def _say(line: str) -> None:
    typer.echo(line, err=True)
