import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import impasto
from cli_fakes import FakeRun, a_plan, a_report, a_source
from impasto.cli import main, options
from impasto.cli.reference import reference
from impasto.errors import Interrupted, RequestError, RunFailed, SourceRefused, Way
from impasto.keys import to_json
from impasto.observe.logs import Line, encode
from impasto.records import Check, Failed
from impasto.request import Options
from impasto.stores import Entry

Captured = pytest.CaptureFixture[str]

STYLIZE = ["stylize", "in.mp4", "--style", "starry_night"]


class FakeStore:
    """A store in memory, the age of each object told."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: str, data: bytes, age_days: float = 0) -> None:
        self.objects[key] = (data, datetime.now(UTC) - timedelta(days=age_days))

    def get(self, key: str) -> bytes:
        return self.objects[key][0]

    def delete(self, key: str) -> None:
        del self.objects[key]

    def sweep(self, before: datetime) -> None:
        """Nothing is half written here."""

    def list(self, prefix: str) -> list[Entry]:
        return [
            Entry(key, len(data), modified)
            for key, (data, modified) in self.objects.items()
            if key.startswith(prefix)
        ]


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Put a module of our own at impasto.<name>, for this test."""
    module = ModuleType(f"impasto.{name}")
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, f"impasto.{name}", module)
    monkeypatch.setattr(impasto, name, module, raising=False)


@pytest.fixture(autouse=True)
def settings_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's configuration, styles or runs are touched."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith(("IMPASTO_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    fake = FakeRun()
    stand_in(monkeypatch, "run", Options=Options, stylize=fake, score=fake)
    return fake


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore()
    monkeypatch.setattr("impasto.stores.open_store", lambda *_: fake)
    return fake


def test_every_option_reaches_the_run(run: FakeRun) -> None:
    assert main([
        *STYLIZE, "-o", "out.mkv", "--strength", "0.5", "--keep-colors", "--size", "720p",
        "--start", "1.5", "--end", "90s", "--quality", "best", "--codec", "av1", "--crf", "30",
        "--preset", "8", "--engine", "inline", "--workers", "3", "--device", "cpu", "--precision",
        "f32", "--chunk-frames", "48", "--on-error", "pass-through", "--work", "az://w/x", "--keep",
        "--force", "--quiet",
    ]) == 0  # fmt: skip
    (call,) = run.calls
    assert (call["source"], call["target"]) == (Path("in.mp4"), Path("out.mkv"))
    assert call["style"] == "starry_night"
    assert call["options"] == Options(
        strength=0.5, keep_colors=True, size="720p", start="1.5", end="90s", quality="best",
        codec="av1", crf=30, preset="8", engine="inline", workers=3, device="cpu", precision="f32",
        chunk_frames=48, on_error="pass-through", work="az://w/x", keep=True, force=True,
    )  # fmt: skip


def test_without_options_the_defaults_of_the_run_hold(run: FakeRun) -> None:
    assert main([*STYLIZE, "--quiet"]) == 0
    assert main(["score", "in.mp4", "--model", "m.onnx", "--quiet"]) == 0
    assert [call["options"] for call in run.calls] == [Options(), Options()]
    assert run.calls[1]["model"] == Path("m.onnx")


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (a_report(), 0, ""),
        (a_report(replaced_frames=2), 3, "2 frames could not be scored"),
        (a_report(verified=False, checks=(Check("frame_count", ok=False, expected=3, found=2),)),
         1, "frame_count: expected 3, found 2"),
        (RunFailed("chunk 3 failed twice"), 1, "chunk 3 failed twice"),
        (SourceRefused("in.mp4: not a video"), 2, "in.mp4: not a video"),
        (RequestError("no style 'x'\nsecond line"), 2, "no style 'x'\\nsecond line"),
        (Interrupted("stopped"), 130, "impasto stylize in.mp4 --style starry_night"),
        (KeyboardInterrupt(), 130, "impasto stylize in.mp4 --style starry_night"),
        (PermissionError(13, "Permission denied", "/x\n"), 1, "Permission denied: /x\\n"),
        (MemoryError(), 1, "out of memory"),
        (ZeroDivisionError("oops\x1b[31m"), 1, "ZeroDivisionError: oops\\x1b[31m (a fault of ours"),
    ],
)  # fmt: skip
def test_every_end_of_a_run_has_its_exit_code_and_one_line(
    run: FakeRun, capsys: Captured, outcome: Any, code: int, line: str
) -> None:
    run.outcome = outcome
    assert main([*STYLIZE, "--quiet"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == (1 if line else 0)
    assert line in captured.err
    assert captured.err.startswith("impasto: " if line else "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["stylize"], "missing argument 'SOURCE'"),
        (["stylize", "in.mp4"], "missing option '--style'"),
        ([*STYLIZE, "--blend", "a:1,b:1"], "--style and --blend exclude each other"),
        (["stylize", "in.mp4", "--blend", "a,b"], "--blend reads starry_night:0.7,the_scream:0.3"),
        (["stylize", "in.mp4", "--blend", "a:1,a:1"], "--blend names 'a' twice"),
        (["stylize", "in.mp4", "--blend", "a:0,b:0"], "at least one style with a weight above 0"),
        (["stylize", "in.mp4", "--blend", "a:nan,b:1"], "a number from 0 up, got a:nan"),
        ([*STYLIZE, "--strenght", "1"], "--strenght"),
        ([*STYLIZE, "--strength", "1.5"], "--strength must lie between 0 and 1, got 1.5"),
        ([*STYLIZE, "--strength", "nan"], "--strength must lie between 0 and 1, got nan"),
        ([*STYLIZE, "--strength", "much"], "'--strength': Input should be a valid number"),
        ([*STYLIZE, "--codec", "mpeg1"], "'mpeg1'"),
        ([*STYLIZE, "--engine", "cloud"], "'cloud'"),
        ([*STYLIZE, "--crf", "-1"], "--crf"),
        ([*STYLIZE, "--workers", "0"], "--workers"),
        ([*STYLIZE, "--chunk-frames", "0"], "--chunk-frames must be auto or a number"),
        ([*STYLIZE, "--chunk-frames", "²"], "--chunk-frames must be auto or a number"),
        ([*STYLIZE, "--on-error", "ignore"], "'ignore'"),
        ([*STYLIZE, "more.mp4"], "more.mp4"),
        (["score", "in.mp4"], "missing option '--model'"),
        (["paint", "in.mp4"], "no such command 'paint'"),
        (["styliza", "in.mp4"], "Did you mean 'stylize'"),
        (["styles", "lost"], "no such command 'lost'"),
        (["styles", "show", "x\n\x1b[31m"], "no style"),
        (["styles", "import", "absent.pth", "--name", "mine"], "absent.pth"),
        (["verify", "absent.mp4", "absent.mp4"], "absent.mp4"),
        (["probe", "absent.mp4"], "absent.mp4"),
        (["probe", "http://c/in.mp4"], "is not a place that Impasto reads"),
        (["probe", "concat:a|b"], "concat:a|b"),
        (["compare", "a.mp4", "b.mp4", "-o", "nowhere/c.mp4"], "there is no folder"),
        (["preview", "a.mp4", "--styles", ",", "-o", "s.png"], "--styles names no style"),
        (["preview", "a.mp4", "-o", "s.png"], "--styles names no style"),
        (["preview", "a.mp4", "--blend", "a", "-o", "s.png"], "--blend reads"),
        (["preview", "a.mp4", "--styles", "x", "--strengths", "2", "-o", "s.png"], "--strengths"),
        (["runs", "show", "absent"], "no run 'absent'"),
        (["runs", "clean", "--older-than", "soon"], "--older-than must be a number"),
        (["\udcff"], "udcff"),
    ],
)
@pytest.mark.usefixtures("run", "store")
def test_a_wrong_request_ends_with_2_and_one_line_that_names_it(
    capsys: Captured, arguments: list[str], named: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("impasto: ")
    assert captured.err.count("\n") == 1
    assert "\x1b" not in captured.err
    assert named in captured.err


def test_json_is_one_object_and_progress_goes_to_standard_error(
    run: FakeRun, capsys: Captured
) -> None:
    run.outcome = a_report(target="naïve\n\udcff.mp4", notes=("[red]",))
    assert main([*STYLIZE, "--json"]) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert captured.out.isascii()
    assert told["target"] == "naïve\n\udcff.mp4"
    assert told["chunks"] == {"total": 5, "reused": 1, "retried": 2, "failed": 0}
    assert told["checks"][0]["name"] == "frame_count"
    assert "in.mp4 → starry_night" in captured.err


@pytest.mark.parametrize("arguments", [[*STYLIZE, "--json"], ["stylize", "--json"]])
def test_with_json_a_failure_is_an_object_too(
    run: FakeRun, capsys: Captured, arguments: list[str]
) -> None:
    run.outcome = RequestError("no style 'x'")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["exit_code"] == 2
    assert captured.err.splitlines()[-1] == "impasto: " + json.loads(captured.out)["error"]


@pytest.mark.parametrize("arguments", [["--debug", *STYLIZE], [*STYLIZE, "--debug"]])
def test_debug_adds_the_traceback_wherever_it_stands(
    run: FakeRun, capsys: Captured, arguments: list[str]
) -> None:
    run.outcome = ZeroDivisionError("oops")
    assert main([*arguments, "--quiet"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_the_command_that_resumes_is_quoted_for_a_shell(run: FakeRun, capsys: Captured) -> None:
    run.outcome = Interrupted()
    assert main(["stylize", "my film's\n.mp4", "--style", "s", "--quiet"]) == 130
    assert "impasto stylize $'my film\\'s\\x0a.mp4' --style s" in capsys.readouterr().err


def test_the_summary_goes_to_standard_output_and_quiet_leaves_it_out(
    run: FakeRun, capsys: Captured
) -> None:
    assert main(STYLIZE) == 0
    assert "in.starry_night.mp4" in capsys.readouterr().out
    assert main([*STYLIZE, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(run.calls) == 2


def test_help_is_short_and_ends_with_examples(capsys: Captured) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert len(text.splitlines()) < 40
        assert "impasto stylize holiday.mp4 --style starry_night" in text
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("impasto ")


def test_the_command_line_reference_is_up_to_date() -> None:
    path = Path(__file__).parent.parent / "docs" / "cli.md"
    assert path.read_text(encoding="utf-8") == reference(), (
        "run: python -m impasto.cli.reference docs/cli.md"
    )


def test_the_module_runs_and_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "impasto", "--help"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.startswith(b"Usage")
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert closed.stderr == b""


def test_importing_the_command_line_imports_no_heavy_library() -> None:
    heavy = {"av", "openvino", "torch", "obstore", "onnxruntime"}
    code = f"import sys, impasto.cli; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stdout.strip() == b"[]"


def test_verify_prints_its_checks_and_fails_when_one_does(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    good = Check("frame_count", ok=True, expected=3, found=3)
    bad = Check("timestamps", ok=False, expected=[1], found=[2], note="late")
    found = [good]
    stand_in(monkeypatch, "media.probe", probe=lambda *_, limits: a_source())
    stand_in(monkeypatch, "media.verify", Expectation=dict, verify=lambda *_, **__: tuple(found))
    stand_in(monkeypatch, "request", select_frames=lambda *_: (0, 1), target_size=lambda *_: (2, 2))
    assert main(["verify", "a.mp4", "b.mp4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    found.append(bad)
    assert main(["verify", "a.mp4", "b.mp4", "--json"]) == 1
    captured = capsys.readouterr()
    assert [check["ok"] for check in json.loads(captured.out)["checks"]] == [True, False]
    assert captured.err == (
        "impasto: b.mp4 is not what the source asks for: timestamps: expected 1, found 2 (late)\n"
    )
    assert main(["verify", "a.mp4", "b.mp4"]) == 1
    assert "✗  timestamps" in capsys.readouterr().out


def test_probe_prints_what_the_contract_names(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    stand_in(monkeypatch, "media.probe", probe=lambda *_, limits: a_source())
    assert main(["probe", "a.mp4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["frames"], told["time_base"], told["pts_last"]) == (300, "1/12800", 153088)
    assert (told["rotation"], told["audio_streams"], told["subtitle_streams"]) == (90, 1, 0)
    assert {"pts_first", "variable_frame_rate", "width", "height", "pixel_format", "color",
            "chapters"} <= set(told)  # fmt: skip
    assert main(["probe", "[red]a.mp4"]) == 0
    text = capsys.readouterr().out
    assert "[red]a.mp4" in text
    assert "640 x 360, turned by 90°" in text


def test_a_file_url_is_a_path_and_a_foreign_one_is_refused() -> None:
    assert options.locate("file:///a%20b/c.mp4") == Path("/a b/c.mp4")
    assert options.locate("a b.mp4") == Path("a b.mp4")
    for url in ("http://host/a.mp4", "file://host/a.mp4", "ftp://host/a.mp4"):
        with pytest.raises(RequestError, match=r"is not on this machine|is not a place"):
            options.locate(url)


def put_run(
    store: FakeStore, run_id: str, *, finished: bool, age_days: float = 0, name: str = "in[red].mp4"
) -> None:
    plan = a_plan("feed")
    request = {"source": name, "style": "starry_night", "target": None,
               "options": {"strength": 0.5, "chunk_frames": 60}}  # fmt: skip
    objects = {"spec.json": plan.spec, "plan.json": plan, "request.json": request}
    if finished:
        objects["report.json"] = a_report(run_id=run_id)
    for key, record in objects.items():
        store.put(f"runs/{run_id}/{key}", to_json(record), age_days)
    for index in range(3):
        store.put(f"runs/{run_id}/segments/{index:06d}-ab.mkv", b"0" * 1000, age_days)
    failed = Failed(1, "w0", "killed", log="Traceback\n\x1b[31m[red]")
    line = Line(time="2026-01-02T03:04:05.678+00:00", run=run_id, text=failed.error, level="error",
                worker=failed.worker, chunk=1, attempt=1)  # fmt: skip
    lines = [replace(line, text=text, level="info", printed=True) for text in
             failed.log.splitlines()]  # fmt: skip
    part = b"".join(to_json(each) + b"\n" for each in (*lines, line))
    store.put(f"runs/{run_id}/logs/000001-1.jsonl", part, age_days)


def test_runs_are_listed_with_their_state_the_latest_first(
    store: FakeStore, capsys: Captured
) -> None:
    put_run(store, "aaaa1111", finished=True, age_days=2)
    put_run(store, "bbbb2222", finished=False)
    assert main(["runs", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [row["run_id"] for row in rows] == ["bbbb2222", "aaaa1111"]
    assert [row["state"] for row in rows] == ["unfinished", "done"]
    assert (rows[0]["finished_chunks"], rows[0]["chunks"]) == (3, 5)
    assert main(["runs", "list"]) == 0
    text = capsys.readouterr().out
    assert "3 of 5" in text
    assert "in[red].mp4" in text


def test_a_long_source_takes_no_column_from_the_list(
    store: FakeStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    put_run(store, "aaaa1111", finished=False, name=f"{'long ' * 20}.mp4")
    assert main(["runs", "list"]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["run", "state", "chunks", "source", "style", "age", "size"]
    assert "…" in row
    assert row.rstrip().endswith("kB")


def test_a_run_is_found_by_the_beginning_of_its_id(store: FakeStore, capsys: Captured) -> None:
    put_run(store, "aaaa1111", finished=True)
    put_run(store, "aaaa2222", finished=False)
    assert main(["runs", "show", "aaaa1"]) == 0
    assert "in.starry_night.mp4" in capsys.readouterr().out
    assert main(["runs", "show", "aaaa2222", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] is None
    assert main(["runs", "show", "aaaa"]) == 2
    assert "begins several runs: aaaa" in capsys.readouterr().err


def test_logs_are_printed_harmless(store: FakeStore, capsys: Captured) -> None:
    put_run(store, "aaaa1111", finished=False)
    assert main(["runs", "logs", "aaaa"]) == 0
    text = capsys.readouterr().out
    first, second, third = text.splitlines()
    assert first.endswith("  chunk 1             Traceback  w0")
    assert second.endswith("  chunk 1             \\x1b[31m[red]  w0")
    assert third.endswith("  chunk 1             killed  w0")
    assert "\x1b" not in text
    assert main(["runs", "logs", "aaaa", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(line["chunk"], line["text"]) for line in found["logs"]][-1] == (1, "killed")


def test_lines_of_a_log_stand_below_each_other(store: FakeStore, capsys: Captured) -> None:
    line = Line(time="2026-01-02T03:04:05.678+00:00", run="r", text="x", stage="score")
    again = replace(line, worker="host/123", chunk=12, attempt=2)
    for number, each in enumerate((line, again, replace(again, chunk=3, attempt=1))):
        store.put(f"runs/r/logs/driver-{number:06d}.jsonl", encode(each))
    assert main(["runs", "logs", "r"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [each.split("  ", 1)[1] for each in shown] == [
        "score               x",
        "chunk 12 attempt 2  x  host/123",
        "chunk 3             x  host/123",
    ]


def test_a_run_that_failed_says_so_and_why(store: FakeStore, capsys: Captured) -> None:
    """As a service keeps one that was refused before it had a plan."""
    line = Line(time="2026-01-02T03:04:05.678+00:00", run="r", text="no video", level="error")
    store.put("runs/r/logs/job-r-0-1.jsonl", encode(line))
    request = {"source": "/media/in/a.mp4", "style": "starry_night", "options": {}}
    store.put("runs/r/request.json", to_json(request))
    put_run(store, "bbbb2222", finished=False, age_days=1)
    stopped = replace(line, level="warning", text="stopped with 3 of 5 chunks done", stage="end")
    store.put("runs/bbbb2222/logs/driver-000001.jsonl", encode(stopped), 0.5)
    assert main(["runs", "list", "--json"]) == 0
    failed, unfinished = json.loads(capsys.readouterr().out)["runs"]
    assert (failed["state"], failed["error"], failed["chunks"]) == ("failed", "no video", 0)
    assert (unfinished["state"], unfinished["error"]) == ("unfinished", None)
    assert main(["runs", "list"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:5] == ["r", "failed", "–", "a.mp4", "starry_night"]
    assert main(["runs", "show", "r"]) == 0
    assert "no video" in capsys.readouterr().out


def test_a_run_without_logs_points_to_what_is_known(store: FakeStore, capsys: Captured) -> None:
    store.put("runs/r/request.json", to_json({"source": "a.mp4", "style": "starry_night"}))
    assert main(["runs", "logs", "r"]) == 0
    assert "no logs; impasto runs show r says what" in capsys.readouterr().out


def test_a_log_is_followed_until_the_run_has_ended(store: FakeStore, capsys: Captured) -> None:
    put_run(store, "aaaa1111", finished=False)
    end = Line(time="2026-01-02T03:04:05.678+00:00", run="aaaa1111", text="well", stage="end")
    store.put("runs/aaaa1111/logs/driver-000001.jsonl", to_json(end) + b"\n")
    assert main(["runs", "logs", "aaaa", "--follow", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["text"] == "well"
    assert len(lines) == 4


def test_resume_makes_the_first_call_again(store: FakeStore, run: FakeRun) -> None:
    put_run(store, "aaaa1111", finished=False)
    assert main(["runs", "resume", "aaaa", "--work", "w", "--quiet"]) == 0
    (call,) = run.calls
    assert (call["source"], call["style"]) == (Path("in[red].mp4"), "starry_night")
    assert call["options"] == Options(strength=0.5, chunk_frames=60, work="w")


def test_a_blend_is_resumed_with_the_weights_it_had(
    store: FakeStore, run: FakeRun, capsys: Captured
) -> None:
    put_run(store, "aaaa1111", finished=False)
    request = json.loads(store.get("runs/aaaa1111/request.json"))
    blend = {"starry_night": 0.7, "the_scream": 0.3}
    store.put("runs/aaaa1111/request.json", to_json(request | {"style": blend}))
    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["scorer"] == "starry_night70_the_scream30"
    assert main(["runs", "resume", "aaaa", "--quiet"]) == 0
    assert main(["stylize", "in.mp4", "--blend", "starry_night:0.7,the_scream:.3", "--quiet"]) == 0
    assert [call["style"] for call in run.calls] == [blend, blend]


def test_an_interrupted_resume_says_how_to_go_on(
    store: FakeStore, run: FakeRun, capsys: Captured
) -> None:
    put_run(store, "aaaa1111", finished=False)
    run.outcome = Interrupted("stopped with 1 of 5 chunks done", Way("resume"))
    assert main(["runs", "resume", "aaaa", "--quiet"]) == 130
    assert capsys.readouterr().err == (
        "impasto: stopped with 1 of 5 chunks done; the same command goes on from there: "
        "impasto runs resume aaaa --quiet\n"
    )


def test_a_finished_run_is_not_begun_again(
    store: FakeStore, run: FakeRun, capsys: Captured
) -> None:
    put_run(store, "aaaa1111", finished=True)
    assert main(["runs", "resume", "aaaa"]) == 2
    assert "is finished; its target is in.starry_night.mp4" in capsys.readouterr().err
    assert run.calls == []


def test_a_run_without_a_request_can_not_be_resumed(
    store: FakeStore, run: FakeRun, capsys: Captured
) -> None:
    store.put("runs/aaaa/spec.json", b"{}")
    assert main(["runs", "resume", "aaaa"]) == 2
    assert "kept no request" in capsys.readouterr().err
    assert run.calls == []


def test_clean_removes_old_runs_and_the_networks_only_they_used(
    store: FakeStore, capsys: Captured
) -> None:
    put_run(store, "aaaa1111", finished=True, age_days=9)
    put_run(store, "bbbb2222", finished=True, age_days=1)
    store.put("models/feed.onnx", b"net", 9)
    store.put("models/dead.onnx", b"net", 9)
    before = set(store.objects)
    assert main(["runs", "clean", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == ["aaaa1111"]
    assert set(store.objects) == before
    assert main(["runs", "clean"]) == 0
    assert {key.split("/")[1] for key in store.objects} == {"bbbb2222", "feed.onnx"}
    assert main(["runs", "clean", "--older-than", "12h", "--quiet"]) == 0
    assert store.objects == {}


def test_clean_all_leaves_nothing(store: FakeStore, capsys: Captured) -> None:
    put_run(store, "aaaa1111", finished=False)
    put_run(store, "bbbb2222", finished=True)
    store.put("models/feed.onnx", b"net")
    assert main(["runs", "clean", "--all", "--dry-run"]) == 0
    assert "would remove 2 runs (1 unfinished)" in capsys.readouterr().out
    assert main(["runs", "clean", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unfinished"] == 1
    assert store.objects == {}


def test_ctrl_c_while_the_program_is_loaded_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def hear(event, arguments):\n"
        "    if event == 'import' and arguments[0] == 'impasto.cli.pages':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.addaudithook(hear)\n"
    )
    found = subprocess.run(
        [sys.executable, "-m", "impasto", "doctor"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (130, "impasto: interrupted\n")


def test_doctor_finds_this_installation_ready(capsys: Captured) -> None:
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == []
    assert told["engines"] == {"mpi": None, "ray": None}
    assert told["cpu"]["cores_usable"] >= 1
    assert told["modules"]["openvino"]
    assert told["ffmpeg"]["encoders"]["h264"] == "libx264"
    ways = {extra["install"] for extra in told["extras"]}
    extras = set(metadata("impasto").get_all("Provides-Extra") or []) - {"dev"}
    assert ways == {f"pip install 'impasto[{name}]'" for name in extras}
    assert main(["doctor"]) == 0
    assert "ready" in capsys.readouterr().out


def test_doctor_names_what_is_missing_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("IMPASTO_WORK", "/proc/work")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "ready" not in captured.out
    assert "av can't be imported" in captured.err
    assert "the work folder /proc/work can't be written" in captured.err


def test_training_without_torch_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("impasto.train")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(impasto, "train", raising=False)
    words = ["--content", "d", "--name", "mine", "--perceptual", "v.pth"]
    assert main(["styles", "train", "i.jpg", *words]) == 2
    assert "training needs: pip install 'impasto[train]'" in capsys.readouterr().err
