"""The command `estimate`: time, money and chunks of a run, before it is begun."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from impasto.cli import summary
from impasto.cli.look import glyphs, out
from impasto.cli.options import (
    CUT,
    FILE,
    MACHINE,
    PICTURE,
    Json,
    Quiet,
    Rate,
    Source,
    locate,
    parse_blend,
    parse_chunk_frames,
    settings,
)
from impasto.cli.pages import Command
from impasto.cli.text import clean, pace, span
from impasto.errors import RequestError
from impasto.fleet import BOOT_S, Bill, Fleet, Price, find_price
from impasto.records import Codec
from impasto.wording import plural

if TYPE_CHECKING:
    from impasto.estimate import Estimate

MONEY, FLEET = "Money", "Fleet"
NAMES = {
    "boot": "boot",
    "start_up": "start-up",
    "scoring": "scoring",
    "chunks": "chunks' own",
    "lost": "lost to preemptions",
    "waiting": "waiting for the last",
    "driver": "probe, stitch, verify",
}

EXAMPLES = """
# on this machine
impasto estimate film.mp4 --style starry_night
# on eight machines like it
impasto estimate film.mp4 --style starry_night --nodes 8 --price 0.50 \\
  --spot-price 0.10 --preemptions-per-hour 0.2 --gap 00:20:00
# on machines that are not here, of known speed
impasto estimate film.mp4 --style starry_night --nodes 8 --fps 140 --price large
"""


class _Estimate(Command):
    one_of = ("--style", "--blend")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(cls=_Estimate, epilog=EXAMPLES)(estimate)


def estimate(
    source: Source,
    *,
    style: Annotated[
        str | None,
        typer.Option("--style", metavar="STYLE", help="A name from `impasto styles list`.",
                     rich_help_panel=PICTURE),
    ] = None,
    blend: Annotated[
        str | None,
        typer.Option("--blend", metavar="A:0.7,B:0.3", help="Several styles at once, by weight.",
                     rich_help_panel=PICTURE),
    ] = None,
    quality: Annotated[
        Literal["fast", "balanced", "best"],
        typer.Option("--quality", help="Which network, where a style has several.",
                     rich_help_panel=PICTURE),
    ] = "balanced",
    size: Annotated[
        str, typer.Option("--size", metavar="1280x720|720p|source", help="Size of the target.",
                          rich_help_panel=PICTURE),
    ] = "source",
    rate: Rate = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="From here on.",
                                 rich_help_panel=CUT),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Up to here.", rich_help_panel=CUT)
    ] = None,
    codec: Annotated[
        Codec | None, typer.Option("--codec", help="Video codec; default: h264, or vp9 in WebM.",
                                   rich_help_panel=FILE),
    ] = None,
    crf: Annotated[
        int | None, typer.Option("--crf", metavar="N", help="Quality of the encoder: lower is "
                                 "better.", min=0, max=63, rich_help_panel=FILE),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="P", help="Speed of the encoder.",
                                 rich_help_panel=FILE),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="auto|cpu|cuda:0…", help="What executes the network.",
                          rich_help_panel=MACHINE),
    ] = "auto",
    precision: Annotated[
        Literal["auto", "f32", "bf16", "f16"],
        typer.Option("--precision", help="auto: the fastest that looks the same.",
                     rich_help_panel=MACHINE),
    ] = "auto",
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", metavar="N", help="Machines like this one, to be booted; default: "
                     "this machine.", rich_help_panel=FLEET),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help="Processes that score on each node; default: "
                     "by this machine's cores.", rich_help_panel=FLEET),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", metavar="F", help="Frames a second of a node; default: measured "
                     "here, in a few seconds.", rich_help_panel=FLEET),
    ] = None,
    boot: Annotated[
        str | None,
        typer.Option("--boot", metavar="TIME", help="Until a new node runs its first process; "
                     f"default: {BOOT_S:.0f}s, and 0 for this machine.", rich_help_panel=FLEET),
    ] = None,
    chunk_frames: Annotated[
        str, typer.Option("--chunk-frames", metavar="N|auto", help="auto: what suits the fleet.",
                          rich_help_panel=FLEET),
    ] = "auto",
    preemptions_per_hour: Annotated[
        float,
        typer.Option("--preemptions-per-hour", metavar="R", help="How often a spot node is taken "
                     "away.", rich_help_panel=FLEET),
    ] = 0.0,
    gap: Annotated[
        str | None,
        typer.Option("--gap", metavar="TIME", help="Between one job and the next: keep nodes, or "
                     "let them go?", rich_help_panel=FLEET),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option("--price", metavar="P", help="Of a node for an hour: a number, or a name in "
                     "[prices] of the configuration.", rich_help_panel=MONEY),
    ] = None,
    spot_price: Annotated[
        float | None,
        typer.Option("--spot-price", metavar="P", help="Likewise, of a spot node.",
                     rich_help_panel=MONEY),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:  # fmt: skip
    """Say what a run would take and cost, on this machine or a fleet.

    The source is probed, and a few of its frames are scored to measure this machine. How the rest
    follows is told in docs/scaling.md.
    """
    from impasto.engines import open_engine
    from impasto.estimate import Terms
    from impasto.estimate import estimate as compute
    from impasto.request import Options, parse_time

    if (style is None) == (blend is None):
        raise RequestError("give one of --style and --blend; see: impasto styles list")
    around = settings()
    usual = open_engine("local", workers=workers).workers
    terms = Terms(
        fleet=Fleet(
            nodes=1 if nodes is None else nodes,
            workers_per_node=usual,
            boot_s=float(parse_time(boot)) if boot else 0.0 if nodes is None else BOOT_S,
            preemptions_per_hour=preemptions_per_hour,
        ),
        price=_price(price, spot_price, around.prices),
        gap_s=float(parse_time(gap)) if gap else None,
        fps=fps,
    )
    options = Options(
        size=size, rate=rate, start=start, end=end, quality=quality, codec=codec, crf=crf,
        preset=preset, device=device, precision=precision,
        chunk_frames=parse_chunk_frames(chunk_frames),
    )  # fmt: skip
    chosen = style if style is not None else parse_blend(blend or "")
    film = locate(source, or_folder=True)
    found = compute(film, style=chosen, options=options, settings=around, terms=terms)
    if json:
        summary.print_json(found)
    elif not quiet:
        _show(out(), found)
    return 0


def _price(price: str | None, spot_price: float | None, prices: dict[str, Price]) -> Price | None:
    known = find_price(price, prices) if price is not None else None
    if spot_price is None:
        return known
    if known is None:
        raise RequestError("--spot-price needs --price beside it, to compare with")
    return Price(known.per_hour, spot_price)


def _show(console: Console, found: "Estimate") -> None:
    fleet, signs = found.fleet, glyphs(console)
    gap = f" {signs.dot} "
    rate, unit = pace(found.fps)
    how = f"measured here in {clean(found.precision)}" if found.measured else "as given"
    console.print()
    summary.say(console, (clean(found.source), "name"), (f"  {clean(found.style)}", "style"))
    facts = [plural(found.frames, "frame"), f"{found.width} x {found.height}",
             f"{rate} {unit} a node, {how}"]  # fmt: skip
    summary.say(console, (gap.join(facts), "soft"))
    console.print()
    bills = {f"{plural(fleet.nodes, 'node')}, on demand": found.on_demand}
    if found.spot is not None:
        bills["spot"] = found.spot
    summary.show(console, _compared(bills))
    console.print()
    table = summary.grid()
    table.add_row("goes to", summary.bars(_node_shares(found.on_demand), signs.full))
    table.add_row("binds", _binding(found))
    if found.idle is not None:
        table.add_row("between", _between(found))
    summary.show(console, table)
    console.print()


def _compared(bills: dict[str, Bill]) -> Table:
    """One column for each way to pay."""
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_column(style="soft", no_wrap=True)
    for _ in bills:
        table.add_column(no_wrap=True)
    table.add_row("", *(Text(name, style="heading") for name in bills))
    table.add_row("time", *(span(each.wall_s) for each in bills.values()))
    table.add_row("node-hours", *(f"{each.node_hours:.3g}" for each in bills.values()))
    if any(each.cost is not None for each in bills.values()):
        table.add_row("cost", *(_money(each.cost) for each in bills.values()))
    table.add_row("chunks", *(_chunks(each) for each in bills.values()))
    if any(each.node_s["lost"] for each in bills.values()):
        lost = (each.node_s["lost"] / each.node_hours / 36 for each in bills.values())
        table.add_row("lost", *(f"{share:.1f} %" for share in lost))
    return table


def _chunks(found: Bill) -> str:
    down = f", down to {found.shortest}" if found.shortest < found.chunk_frames else ""
    return f"{found.chunks} of {plural(found.chunk_frames, 'frame')}{down}"


def _money(cost: float | None) -> str:
    if cost is None:
        return "no price"
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.2g}"


def _node_shares(found: Bill) -> dict[str, tuple[float, str]]:
    whole = found.node_hours * 3600
    return {
        NAMES[name]: (seconds, f"{100 * seconds / whole:.0f} %")
        for name, seconds in found.node_s.items()
    }


def _binding(found: "Estimate") -> str:
    share = found.time_share
    match found.binds:
        case "driver":
            words = "probe, stitch and verify are one machine's: more nodes won't help"
            number = share["driver"]
        case "boot" | "start_up" as name:
            words, number = (
                f"{NAMES[name]}: fewer nodes cost less and are hardly slower",
                share[name],
            )
        case stage:
            words, number = f"{stage}: more nodes are faster", share["scoring"]
    return f"{words} ({100 * number:.0f} % of the time)"


def _between(found: "Estimate") -> str:
    idle, price = found.idle, found.on_demand.cost
    assert idle is not None
    per_s = None if price is None else price / found.on_demand.node_hours / 3600
    warm, cold = (
        plural(round(seconds), "node-second") if per_s is None else _money(seconds * per_s)
        for seconds in (idle.node_s_warm, idle.node_s_cold)
    )
    if idle.keep_warm:
        return (f"keep the nodes warm: {span(idle.gap_s)} idle cost {warm}, "
                f"booting again {cold} and {span(idle.timeout_s)} of waiting")  # fmt: skip
    return (f"scale to zero: {span(idle.gap_s)} idle would cost {warm}, booting again {cold}; "
            f"let nodes go after {span(idle.timeout_s)} idle")  # fmt: skip
