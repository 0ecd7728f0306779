"""The way in and out: arguments to a command, every error to an exit code and one line."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from impasto.cli.summary import print_json
from impasto.cli.text import WAYS, clean, command_line
from impasto.config import find_ranks
from impasto.errors import ImpastoError, Interrupted
from impasto.surroundings import Ranks, forbid_core_dumps

FAILED, WRONG, INTERRUPTED = 1, 2, 130

RESUMABLE = (
    ["stylize"],
    ["score"],
    ["submit"],
    ["runs", "resume"],
    ["styles", "learn"],
    ["styles", "train"],
)
"""Commands that go on where they stopped when they are given again."""


def run(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing is raised."""
    words, debug = _without_debug(arguments)
    _lenient_output()
    forbid_core_dumps()
    try:
        return _finish(_invoke(app, words, debug=debug))
    except BrokenPipeError:  # the reader has what it wanted, as in: impasto styles list | head -1
        return _silence()


def _invoke(app: typer.Typer, words: list[str], *, debug: bool) -> int:
    try:
        command = typer.main.get_command(app)
        result = command.main(words, prog_name="impasto", standalone_mode=False)
    except BrokenPipeError:
        raise
    except SystemExit as leaving:  # Typer's own answer to a broken pipe
        return leaving.code if isinstance(leaving.code, int) else FAILED
    except KeyboardInterrupt:
        result = INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: a surprise is one line, too
        return _failed(error, words, debug=debug)
    code = result if isinstance(result, int) else 0
    return _failed(Interrupted(), words, debug=debug) if code == INTERRUPTED else code


def _failed(error: Exception, words: list[str], *, debug: bool) -> int:
    code, line = explain(error, words)
    ranks = find_ranks(os.environ)
    if ranks is not None and not _speaks(ranks, error):
        return code
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    typer.echo(f"impasto: {line}", err=True)
    if "--json" in words and (ranks is None or ranks.rank == 0):
        print_json({"error": line, "exit_code": code})
    return code


def _speaks(ranks: Ranks, error: Exception) -> bool:
    """Whether this rank is to say what went wrong: the first of a machine does, and surprises.

    What rank 0 has said is not said again, and of wrong arguments it speaks for all.
    """
    if isinstance(error, ImpastoError):
        return not error.told and ranks.local_rank == 0
    return ranks.rank == 0 or not isinstance(error, typer.TyperException)


def explain(error: Exception, words: Sequence[str]) -> tuple[int, str]:
    """The exit code of `error` and what one line says of it."""
    match error:
        case Interrupted() | typer.Abort():
            return INTERRUPTED, _interrupted(error, words)
        case ImpastoError():
            return error.exit_code, clean(error.worded(WAYS))
        case typer.TyperException():  # usage: an unknown option, a missing argument
            return WRONG, _usage(error)
        case OSError():
            where = f": {clean(os.fsdecode(error.filename))}" if error.filename else ""
            return FAILED, f"{error.strerror or type(error).__name__}{where}"
        case MemoryError():
            return FAILED, "this machine is out of memory: try fewer --workers or a smaller --size"
        case _:
            told = clean(str(error).strip().partition("\n")[0])
            return FAILED, f"{type(error).__name__}: {told} (a fault of ours; --debug shows where)"


def _interrupted(error: Exception, words: Sequence[str]) -> str:
    if not any(list(words[: len(command)]) == command for command in RESUMABLE):
        return "interrupted"
    told = clean(error.worded(WAYS)) if isinstance(error, Interrupted) else ""
    told = told or "interrupted; the same command goes on from there"
    return f"{told}: {command_line(['impasto', *words])}"


def _usage(error: typer.TyperException) -> str:
    told = clean(" ".join(error.format_message().split()))
    context: Any = getattr(error, "ctx", None)
    page = f"{context.command_path} --help" if context is not None else "impasto --help"
    return f"{told[:1].lower()}{told[1:].rstrip('.')}; see {page}"


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take --debug out wherever it stands: every command has it, and errors need it first."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return [*kept, *words[end:]], len(kept) < end


def _lenient_output() -> None:
    """A name that the terminal can't encode is escaped instead of raising."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _finish(code: int) -> int:
    sys.stdout.flush()  # here, where a broken pipe can still be caught
    return code


def _silence() -> int:
    """Point standard output nowhere: Python flushes it once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return FAILED
