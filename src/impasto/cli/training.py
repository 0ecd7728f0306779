"""The live display of a training: a bar, the losses and the way to a picture of how far it is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from impasto.cli.display import LINE_EVERY_S, MARGIN, Clock, bar
from impasto.cli.look import Glyphs, glyphs
from impasto.cli.text import clean, clock, middle
from impasto.train.step import TrainingStep
from impasto.wording import count, plural

_AVERAGED = 0.1
"""Share of the newest crops' losses in the ones that are shown: single crops differ much."""


@dataclass(frozen=True, slots=True)
class Ears:
    """What a training calls."""

    report: Callable[[str], None]
    on_step: Callable[[TrainingStep], None]


@contextmanager
def follow_training(
    console: Console,
    title: str,
    *,
    quiet: bool = False,
    sparse: bool = False,
    clock_s: Clock = time.monotonic,
) -> Iterator[Ears]:
    """Show a training on `console` while the body lasts; `sparse` asks for lines on a terminal too.

    Quiet, it shows neither the training nor what is reported on the way, such as bad photographs.
    """
    state = _State(title, clock_s)

    def report(line: str) -> None:
        console.print(Text(f"note: {clean(line)}"), soft_wrap=True)

    if quiet:
        yield Ears(_nobody, _nobody)
    elif console.is_terminal and not console.is_dumb_terminal and not sparse:
        with Live(state, console=console, refresh_per_second=4, transient=True):
            yield Ears(report, state.apply)
    else:
        yield Ears(report, _Lines(console, state).tell)


def _nobody(_: object) -> None:
    pass


class _State:
    """How far a training is, as its steps tell."""

    def __init__(self, title: str, clock_s: Clock) -> None:
        self.title = title
        self.clock_s = clock_s
        self.began_s = clock_s()
        self.first: tuple[int, float] | None = None
        self.step: TrainingStep | None = None
        self.losses: dict[str, float] = {}

    def apply(self, step: TrainingStep) -> None:
        """Take a step in."""
        if self.first is None:
            self.first = (step.iteration, self.clock_s())
        for name, value in step.losses.items():
            before = self.losses.get(name, value)
            self.losses[name] = before + _AVERAGED * (value - before)
        self.step = step

    def left_s(self) -> float | None:
        """Seconds to the last iteration, by the pace so far; None before two steps."""
        if self.step is None or self.first is None or self.step.iteration == self.first[0]:
            return None
        passed_s = self.clock_s() - self.first[1]
        pace_s = passed_s / (self.step.iteration - self.first[0])
        return pace_s * (self.step.iterations - self.step.iteration)

    def numbers(self, gap: str) -> str:
        """Iterations, time left, losses: on one line."""
        if self.step is None:
            return "reading"
        step = self.step
        words = [f"{count(step.iteration)} of {plural(step.iterations, 'iteration')}"]
        if (left_s := self.left_s()) is not None:
            words.append(f"{clock(left_s)} left")
        words += [f"{n} {value:.3f}" for n, value in self.losses.items() if n != "total"]
        return gap.join(words)

    def best(self) -> str:
        """The best look at photographs that are not trained on, or nothing."""
        if self.step is None or self.step.best is None:
            return ""
        return f"best on held-out pictures {self.step.best:.3f}, at {self.step.best_iteration}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the present state in the console's width."""
        width = max(20, min(options.max_width, 120) - 2 * MARGIN)
        for row in self._rows(glyphs(console), width):
            line = Text(" " * MARGIN).append_text(row)
            line.truncate(width + MARGIN, overflow="ellipsis")
            yield line

    def _rows(self, signs: Glyphs, width: int) -> Iterator[Text]:
        passed = clock(self.clock_s() - self.began_s)
        head = Text(middle(clean(self.title), width - len(passed) - 2), "style")
        yield Text()
        yield head.append(" " * (width - head.cell_len - len(passed))).append(passed, "soft")
        yield Text()
        if self.step is not None:
            yield bar(self.step.iteration, self.step.iterations, signs, width)
            yield Text(self.numbers(f"  {signs.dot}  "), "soft")
            yield Text(self.best(), "soft")
            yield Text(f"see {middle(clean(self.step.preview), width - 4)}", "soft")
        yield Text()


class _Lines:
    """The display where no terminal is: a line now and then."""

    def __init__(self, console: Console, state: _State) -> None:
        self._console = console
        self._state = state
        self._told_s: float | None = None

    def tell(self, step: TrainingStep) -> None:
        self._state.apply(step)
        now_s = self._state.clock_s()
        last = step.iteration == step.iterations
        if not last and self._told_s is not None and now_s - self._told_s < LINE_EVERY_S:
            return
        if self._told_s is None:
            self._say(f"{self._state.title}: see {step.preview}")
        self._told_s = now_s
        self._say(f"{self._state.title}: {self._state.numbers(', ')}")

    def _say(self, line: str) -> None:
        self._console.print(Text(clean(line)), soft_wrap=True)
