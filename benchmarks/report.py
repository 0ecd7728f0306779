"""Results as Markdown: a claim, its spread, and beside it whether the output was right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def render(results: dict[str, Any]) -> str:
    """Return the Markdown page of what `run.py` measured."""
    parts = [_head(results)]
    for name, write in _PARTS.items():
        if results.get(name):
            parts.append(write(results[name]))
    return "\n\n".join(parts) + "\n"


def _head(results: dict[str, Any]) -> str:
    found, asked = results["machine"], results["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    rows = [
        ("processor", f"{found['processor']}, {found['cores']} cores"),
        ("instructions", ", ".join(found["instructions"]) or "not told"),
        ("memory", f"{found['memory_gb']} GB"),
        ("system", found["system"]),
        ("load before", f"{found['load_before']}"),
        ("clip", asked["clip"]),
        ("network", asked["network"]),
        ("weights", asked["weights"]),
        ("versions", versions),
    ]
    note = "\n\nA smoke run: its numbers mean nothing." if results["quick"] else ""
    return f"# Speed and memory, {results['date']}{note}\n\n" + _table(("", ""), rows)


def _end_to_end(found: dict[str, Any]) -> str:
    ours, theirs, alone = found["ours"], found["baseline"], found["network_alone"]
    checks = found["checks"]
    rows = [
        (
            "reference's method (JPEG files, PyTorch eager fp32)",
            _spread(theirs["frames_per_s"]),
            _spread(theirs["peak_mb"], 0),
            _right(checks["baseline_psnr_db"], checks["baseline_checks"]),
        ),
        (
            f"Impasto (OpenVINO {ours['precision']})",
            _spread(ours["frames_per_s"]),
            _spread(ours["peak_mb"], 0),
            _right(checks["ours_psnr_db"], checks["ours_checks"]),
        ),
        ("ratio", _spread(found["ratio"], 1), "", "per round"),
        (
            "its network alone, same batch and streams",
            _spread(alone["frames_per_s"]),
            "",
            f"{_db(checks['network_psnr_db'])} before coding",
        ),
        ("share of that reached", _spread(alone["share_reached"]), "", "start to proof"),
    ]
    head = ("file to finished file", "frames/s", "peak MB", "is it right?")
    words = (
        "Median (least–most) over the rounds; ours counts the start of the process, the baseline's "
        "is left out, and its rate is that of a shorter clip. PSNR is of the finished file against "
        "PyTorch fp32 on the same frames, losses of coding included."
    )
    return "\n\n".join(["## End to end", words, _table(head, rows), _stages(ours, theirs)])


def _right(psnr_db: float | None, checks: dict[str, bool]) -> str:
    failed = [name.replace("_", " ") for name, good in checks.items() if not good]
    proof = f"**not right: {', '.join(failed)}**" if failed else f"all {len(checks)} checks ok"
    return f"{_db(psnr_db)}; {proof}"


def _stages(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    names = [*theirs["stage_share"], *ours["stage_share"]]
    rows = [
        (name, _share(theirs["stage_share"].get(name)), _share(ours["stage_share"].get(name)))
        for name in dict.fromkeys(names)
    ]
    return (
        "Busy time by stage, of the whole; ours run at the same time, so they overlap.\n\n"
        + _table(("stage", "reference's method", "Impasto"), rows)
    )  # fmt: skip


def _shipped(found: dict[str, Any]) -> str:
    alone = found["network_alone"]
    rows = [
        ("file to proven file", _spread(found["frames_per_s"], 1)),
        ("the network alone", _spread(alone["frames_per_s"], 1)),
        ("share of that reached", _spread(alone["share_reached"])),
        ("verified", _ok(found["verified"])),
        *((f"busy: {name}", _share(share)) for name, share in found["stage_share"].items()),
    ]
    return (
        f"## A style that ships: {found['style']}\n\nQuality balanced, {found['precision']}.\n\n"
        + _table(("", "frames/s"), rows)
    )  # fmt: skip


def _tiers(found: list[dict[str, Any]]) -> str:
    rows = [
        (
            each["network"],
            each["size"],
            each["precision"],
            f"{each['frames_per_s']['max']:.1f}",
            _spread(each["frames_per_s"], 1),
            _spread(each["ratio"], 1),
            f"{each['psnr_db']:.1f} dB",
        )
        for each in found
    ]
    weights = dict.fromkeys(
        f"{each['network']}: {each['weights']}" for each in found if each["network"] != "standard"
    )
    words = (
        "The networks alone, on all cores, in turn; the ratio is to the standard network's turn of "
        "the same round. PSNR is of one frame against PyTorch fp32 with the same weights "
        f"({'; '.join(weights)})."
    )
    head = ("network", "size", "precision", "best frames/s", "median", "ratio", "is it right?")
    return "\n\n".join(["## The qualities", words, _table(head, rows)])


def _memory(found: dict[str, Any]) -> str:
    rows = [
        (f"{frames} frames", f"{peak:.0f} MB")
        for frames, peak in zip(found["frames"], found["peak_mb"], strict=True)
    ]
    rows += [("ratio", f"{found['ratio']:.3f}"), ("verified", _ok(found["verified"]))]
    return "## Memory and length\n\n" + _table(("clip", "peak of all processes"), rows)


def _start_up(found: dict[str, Any]) -> str:
    rows = [
        ("to the first frame", _spread(found["first_frame_s"], 2)),
    ]
    return "## From start to the first frame\n\n" + _table(("", "seconds"), rows)


def _finish(found: dict[str, Any]) -> str:
    rows = [
        ("clip", f"{found['frames']} frames, {found['length_s']:.0f} s"),
        ("stitch", f"{found['stitch_s']:.1f} s"),
        ("verify", f"{found['verify_s']:.1f} s"),
        ("scoring it at the rate above", f"{found['scoring_s']:.0f} s"),
        ("stitch and verify as a share of that", f"{100 * found['share']:.1f} %"),
        ("probe", f"{found['probe_s']:.1f} s"),
        ("whole run with a network that does nothing",
         f"{found['whole_run_frames_per_s']:.0f} frames/s"),
        ("verified", _ok(found["verified"])),
    ]  # fmt: skip
    return "## What comes after scoring\n\n" + _table(("", ""), rows)


def _workers(found: list[dict[str, Any]]) -> str:
    rows = [
        (each["engine"], str(each["workers"]), _spread(each["frames_per_s"]),
         _ok(each["verified"]))
        for each in found
    ]  # fmt: skip
    head = ("engine", "workers", "frames/s", "verified")
    return "## Workers\n\nAll cores, divided among them.\n\n" + _table(head, rows)


def _overhead(found: dict[str, Any]) -> str:
    rows = [
        (
            f"{each['engine']}, {each['workers']}",
            _spread(each["score_s"], 1),
            _spread(each["start_up_s"], 1),
            _spread(each["waiting_s"], 1),
            f"{_share(each['overhead']['median'])} (at most {_share(each['limit'])})",
            _ok(each["same_bytes"] and each["verified"]),
        )
        for each in found["engines"]
    ]
    ratio = found["two_against_one"]
    words = (
        f"{found['frames']} frames. Overhead is what scoring took beyond the chunks' own seconds, "
        "as a share of these; the bytes are those of the first engine. Two local workers reach "
        f"{_spread(ratio)} of the speed of one."
    )
    head = ("engine, workers", "scoring", "start-up", "waiting", "overhead", "same bytes, verified")
    return "\n\n".join(["## What engines add", words, _table(head, rows)])


def _watching(found: dict[str, Any]) -> str:
    rows = [
        (kind, f"{each['objects']:,}", f"{each['first_start_s']:.2f}", f"{each['scan_s']:.2f}",
         f"{each['scan_cpu_s']:.2f}", str(each["scans_until_run"]), f"{each['memory_mb']:.0f}")
        for kind, each in found.items()
    ]  # fmt: skip
    head = ("store", "objects", "first start, s", "scan, s", "of a processor, s",
            "scans until a run", "MB")  # fmt: skip
    return "## Watching a prefix\n\n" + _table(head, rows)


def _service(found: dict[str, Any]) -> str:
    submissions, pages = found["submissions"], found["pages"]
    followers, memory = found["followers"], found["memory"]
    rows = [
        (f"submissions accepted and on disk, {submissions['clients']} clients at a time",
         f"{submissions['per_s']:.0f} a second",
         f"{submissions['median_ms']:.1f} ms, 95 % within {submissions['p95_ms']:.1f} ms"),
        ("of a processor, for each", "", f"{submissions['cpu_ms']:.1f} ms"),
        (f"accepted before a SIGKILL: {submissions['accepted']:,}; missing after a new start",
         f"{submissions['lost_when_killed']}", ""),
        (f"a page of 50 out of {pages['queued']:,} queued runs", "",
         f"{pages['median_ms']:.1f} ms, 95 % within {pages['p95_ms']:.1f} ms"),
        (f"until {followers['heard']} of {followers['followers']} followers have heard of the end",
         "", f"{followers['all_heard_ms']:.0f} ms"),
        (f"{memory['runs']:,} runs that make nothing", f"{memory['runs_per_s']:.1f} a second",
         f"{memory['mb_after_a_fifth']:.0f} MB early, {memory['mb_after_all']:.0f} MB after all"),
    ]  # fmt: skip
    words = "A service on SQLite, over HTTP on this machine."
    return f"## Service\n\n{words}\n\n" + _table(("what", "rate", "took"), rows)


_PARTS: dict[str, Any] = {
    "end_to_end": _end_to_end,
    "shipped": _shipped,
    "tiers": _tiers,
    "memory": _memory,
    "start_up": _start_up,
    "finish": _finish,
    "workers": _workers,
    "overhead": _overhead,
    "watching": _watching,
    "service": _service,
}


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _spread(found: dict[str, Any], digits: int = 2) -> str:
    return f"{found['median']:.{digits}f} ({found['min']:.{digits}f}–{found['max']:.{digits}f})"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _db(value: float | None) -> str:
    return "frames missing" if value is None else f"{value:.1f} dB"


def _ok(good: bool) -> str:
    return "ok" if good else "**wrong**"
