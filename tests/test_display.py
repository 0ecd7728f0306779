import io
import subprocess
import threading

import pytest
from rich.console import Console

from cli_fakes import a_report, a_source, done, planned, progress
from impasto.cli import summary
from impasto.cli.display import Picture, Title, follow
from impasto.cli.look import THEME
from impasto.cli.progress import RunProgress, State
from impasto.cli.text import age, clean, clock, command_line, middle, size, span
from impasto.records import Check, Event, Failed, Noted, StageBegan

HOSTILE = "a[red]b[/red]\n\x1b[31m\x9b2J\u202egpj\udcff.mp4"


class FakeClock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def console(width: int = 80, *, terminal: bool, encoding: str = "utf-8") -> Console:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    return Console(
        file=stream,
        width=width,
        height=24,
        theme=THEME,
        markup=False,
        highlight=False,
        force_terminal=terminal,
        color_system=None,
        legacy_windows=False,
        _environ={},
    )


def written(screen: Console) -> str:
    screen.file.flush()
    raw = screen.file.buffer.getvalue()  # type: ignore[attr-defined]
    return str(raw.decode(screen.encoding))


def scripted(steps: list[tuple[float, Event]], *, title: str = "in.mp4", width: int = 80,
             encoding: str = "utf-8") -> list[str]:  # fmt: skip
    """The last picture of a run in which each event happens that many seconds after the one before.

    The picture is asked for by hand, so that no test waits for the thread that draws.
    """
    screen, now = console(width, terminal=False, encoding=encoding), FakeClock()
    with follow(screen, Title(title, "starry_night"), quiet=True, clock_s=now) as (state, tell):
        picture = Picture(Title(title, "starry_night"), state, threading.Lock(), now)
        for after_s, event in steps:
            now.now_s += after_s
            tell(event)
        screen.print(picture)
    return written(screen).splitlines()


RUN: list[tuple[float, Event]] = [
    (0, StageBegan("probe")),
    (0.5, StageBegan("plan")),
    (0.5, planned(5, reused=(0,))),
    (0, StageBegan("score")),
    (2, progress(1, 30)),
    (2, progress(2, 30)),
    (1, done(1)),
]


def test_the_picture_shows_frames_rate_time_left_and_the_stage_that_binds() -> None:
    text = "\n".join(scripted(RUN))
    assert "in.mp4 → starry_night" in text
    assert "0:06" in text  # since the run began
    assert "✓ probe 0.5 s" in text
    assert "150 of 300 frames" in text  # the reused chunk's 60 are done, too
    assert "18.0 fps" in text  # 90 frames in 5 seconds, none of them reused
    assert "0:08 left" in text
    assert "score binds 83 %" in text
    assert "50 %" in text
    assert "2 of 5 chunks" in text
    assert "1 reused" in text


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    steps = [*RUN, (0.0, Noted("n" * 300)), (0.0, Failed(3, "w", "e" * 300))]
    lines = scripted(steps, width=width, title="x" * 300)
    assert max(len(line) for line in lines) <= width
    assert "0:06" in "\n".join(lines)


def test_chunk_states_have_signs_that_differ_without_colour() -> None:
    steps = [*RUN, (0.0, Failed(3, "w0", "killed"))]
    strip = next(line for line in scripted(steps) if "▓" in line)
    assert [box[0] for box in strip.split()] == ["▓", "█", "█", "✗", "░"]
    assert strip.split()[2] == "████████▒▒▒▒▒▒▒"  # half of its frames


def test_many_chunks_are_compressed_and_a_failed_one_stays_visible() -> None:
    steps: list[tuple[float, Event]] = [(0.0, planned(1000, frames=2)), (0.0, StageBegan("score"))]
    steps += [(0.01, done(index, 2)) for index in range(500)]
    steps += [(0.01, Failed(700, "w0", "killed"))]
    strip = next(line for line in scripted(steps) if "█" in line).strip()
    assert len(strip) == 76
    assert strip.count("█") == 38
    assert strip.count("✗") == 1


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = "\n".join(scripted(RUN, encoding="ascii"))
    assert text.isascii()
    assert "in.mp4 -> starry_night" in text
    assert "\\u" not in text


def test_hostile_names_and_errors_can_not_steer_the_terminal() -> None:
    steps = [*RUN, (0.0, Noted(HOSTILE)), (0.0, Failed(3, HOSTILE, HOSTILE))]
    text = "\n".join(scripted(steps, title=HOSTILE, width=200))
    assert "[red]b[/red]" in text
    assert not set(text) & {"\x1b", "\x9b", "\u202e"}
    assert "\\n\\x1b[31m\\x9b2J\\u202egpj\\udcff.mp4" in text


def test_on_a_terminal_the_picture_is_drawn_and_taken_away_again() -> None:
    screen = console(terminal=True)
    with follow(screen, Title("in.mp4", "starry_night"), clock_s=FakeClock()) as (_, tell):
        for _, event in RUN:
            tell(event)
    text = written(screen)
    assert "150 of 300 frames" in text
    assert "\x1b[?25h" in text  # the cursor is shown again


def test_without_a_terminal_a_line_comes_every_ten_seconds_at_most() -> None:
    screen, now = console(terminal=False), FakeClock()
    with follow(screen, Title("in.mp4", "starry_night"), clock_s=now) as (_, tell):
        tell(StageBegan("score"))
        tell(planned(5))
        for frames in range(1, 61):
            now.now_s += 1
            tell(progress(0, frames))
    lines = written(screen).splitlines()
    assert len(lines) == 7  # at once, then after 10, 20, … 60 seconds
    assert lines[-1] == "in.mp4 → starry_night: score 60 of 300 frames, 1.0 fps, 4:00 left"


def test_without_a_terminal_notes_and_failures_are_told_at_once() -> None:
    screen = console(terminal=False)
    with follow(screen, Title("in.mp4", "s"), clock_s=FakeClock()) as (_, tell):
        tell(StageBegan("probe"))
        tell(Noted(HOSTILE))
        tell(Failed(3, "w0", "killed"))
    lines = written(screen).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("note: a[red]b")
    assert lines[2] == "chunk 3 failed on w0: killed"


def test_quiet_writes_nothing() -> None:
    screen = console(terminal=True)
    with follow(screen, Title("in.mp4", "s"), quiet=True) as (_, tell):
        for _, event in RUN:
            tell(event)
    assert written(screen) == ""


def test_a_failed_attempt_gives_its_frames_back_and_work_done_twice_counts_for_the_rate() -> None:
    state = RunProgress()
    state.apply(planned(2), now_s=0)
    state.apply(progress(0, 40), now_s=4)
    state.apply(Failed(0, "w0", "killed"), now_s=4)
    assert state.frames_done == 0
    assert state.states == [State.FAILED, State.WAITING]
    state.apply(progress(0, 20), now_s=6)
    assert state.frames_done == 20
    assert state.rate(6) == pytest.approx(10)
    assert state.states == [State.RUNNING, State.WAITING]


def test_the_rate_follows_the_recent_past() -> None:
    state = RunProgress()
    state.apply(planned(20), now_s=0)
    for second in range(1, 61):  # one frame a second, and then ten
        state.apply(progress(0, second), now_s=second)
    for second in range(1, 31):
        state.apply(progress(1, 10 * second), now_s=60 + second)
    assert state.rate(90) == pytest.approx(10)


def test_before_the_first_frame_there_is_no_rate_and_no_binding_stage() -> None:
    state = RunProgress()
    assert state.rate(0) is None
    state.apply(planned(2, reused=(0,)), now_s=0)
    assert (state.rate(5), state.left_s(5), state.binding()) == (None, None, None)


def test_the_summary_says_what_was_made_how_fast_and_what_was_proven() -> None:
    screen = console(terminal=False)
    summary.report(screen, a_report(notes=("tone-mapped",)), a_source())
    text = written(screen)
    for words in ("✓ in.starry_night.mp4", "300 frames, 25.000 fps, 12.0 s", "1 min 13 s",
                  "20.5 frames a second", "5 · 1 reused · 2 retried", "✓ 1 check", "tone-mapped",
                  "local · 2 workers · openvino · bf16 · AMD EPYC"):  # fmt: skip
        assert words in text


def test_the_summary_names_the_checks_that_failed_and_hostile_text_stays_text() -> None:
    screen = console(120, terminal=False)
    wrong = Check("frame_count", ok=False, expected=300, found=HOSTILE)
    summary.report(screen, a_report(verified=False, checks=(wrong,), target=HOSTILE,
                                    notes=(HOSTILE,), device=HOSTILE), a_source())  # fmt: skip
    text = written(screen)
    assert "1 of 1 check failed" in text
    assert "frame_count: expected 300, found a[red]b" in text
    assert not set(text) & {"\x1b", "\x9b", "\u202e"}


@pytest.mark.parametrize(
    ("seconds", "words", "shown"),
    [
        (0.04, "0.0 s", "0:00"),
        (59.94, "59.9 s", "1:00"),
        (59.96, "1 min 00 s", "1:00"),
        (3599.6, "1 h 00 min", "1:00:00"),
        (200_000, "2 days", "55:33:20"),
    ],
)
def test_spans_of_time_are_readable(seconds: float, words: str, shown: str) -> None:
    assert (span(seconds), clock(seconds)) == (words, shown)


def test_ages_have_one_unit() -> None:
    told = [age(s) for s in (-1, 59.9, 60, 7199, 200_000)]
    assert told == ["0 s", "59 s", "1 min", "1 h", "2 days"]


def test_sizes_are_readable() -> None:
    assert [size(n) for n in (0, 999, 84_200_000, 10**13)] == ["0 B", "999 B", "84.2 MB", "10.0 TB"]


@pytest.mark.parametrize("text", ["", "abc", "naïve.mp4", "日本語の動画.mp4"])
def test_ordinary_names_are_left_alone(text: str) -> None:
    assert clean(text) == text


def test_a_cut_name_keeps_both_ends_and_fits_in_columns() -> None:
    assert middle("abcdefghij.mp4", 9) == "abcd….mp4"
    assert middle("日本語の動画.mp4", 10) == "日本語…mp4"


def test_a_command_for_a_shell_stands_on_one_line_and_reads_back() -> None:
    words = ["plain", "two words", "it's", "new\nline", "\x1b[31m'\\", "\udcff"]
    line = command_line(words)
    assert "\n" not in line
    assert "\x1b" not in line
    echoed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    )
    assert echoed.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1] == words
