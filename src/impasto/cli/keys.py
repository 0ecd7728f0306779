"""Commands on the keys that stores are sealed with."""

import base64
import datetime as dt
import secrets

import typer

from impasto.cli import pages, summary
from impasto.cli.look import out
from impasto.cli.options import Json, Quiet, Work, settings
from impasto.errors import RequestError
from impasto.wording import plural

app = typer.Typer(
    cls=pages.Group,
    help="Keys of stores that are encrypted at rest.",
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("new", cls=pages.Command)
def new_key() -> int:
    """Print a new random key with today in its id, to stand before the others."""
    from impasto.stores.sealing import KEY

    name = f"{dt.datetime.now(dt.UTC).date()}-{secrets.token_hex(2)}"  # several a day, too
    typer.echo(f"{name}:{base64.b64encode(secrets.token_bytes(KEY)).decode()}")
    return 0


@app.command("rotate", cls=pages.Command)
def rotate(work: Work = None, json: Json = False, quiet: Quiet = False) -> int:
    """Seal anew, with the newest key, what older keys sealed; not while a run goes on."""
    from impasto.stores import open_store
    from impasto.stores.sealed import SealedStore

    chosen = settings()
    store = open_store(work or chosen.system_store, chosen.access)
    if not isinstance(store, SealedStore):
        raise RequestError(
            f'{store.url} is not sealed: give it seal_env in [stores."{store.url}"] of the '
            "configuration"
        )
    count = sum(1 for _ in store.reseal())
    if json:
        summary.print_json({"store": store.url, "sealed": count})
    elif not quiet:
        summary.say(out(), f"sealed {plural(count, 'object')} anew")
    return 0
