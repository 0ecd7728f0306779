"""Words for people: untrusted text made harmless, and quantities made readable."""

import shlex
import unicodedata
from collections.abc import Iterable, Sequence

from rich.cells import cell_len

from impasto.errors import Kind

UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories that move a cursor, turn a line's direction or can't be encoded."""

WAYS: dict[Kind, str] = {
    "overwrite": "--force overwrites it",
    "retarget": "-o names another",
    "target": "try -o {about!r}",
    "resume": "the same command goes on from there",
    "restart": "--restarts N does so by itself",
    "stop": "Ctrl-C again stops at once",
    "logs": "see impasto runs logs {about}",
    "styles": "see: impasto styles list",
}
"""Ways out of an error, on the command line."""


def clean(text: str) -> str:
    """`text` on one line, with everything that could steer a terminal shown as an escape.

    Covers control codes (C0, C1), escape sequences, line separators, invisible and bidirectional
    marks, and the lone surrogates that stand for undecodable bytes of a file name. It does not
    touch Rich's markup: wrap the result in rich.text.Text, which does not read any.
    """
    return "".join(
        _visible(char) if unicodedata.category(char) in UNSAFE else char for char in text
    )


def _visible(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def command_line(words: Iterable[str]) -> str:
    """The words as one line that a shell reads back, control codes in ANSI-C quotes."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if clean(word) == word:
        return shlex.quote(word)
    # A file name of undecodable bytes holds surrogates: give the shell the bytes themselves.
    body = "".join(
        "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
        if unicodedata.category(char) in UNSAFE
        else {"'": "\\'", "\\": "\\\\"}.get(char, char)
        for char in word
    )
    return f"$'{body}'"


def size(number: float) -> str:
    """Bytes for people, in powers of a thousand: "84.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def span(seconds: float) -> str:
    """A length of time with two units at most: "7.3 s", "3 min 28 s", "2 h 05 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days"


def pace(frames_per_s: float) -> tuple[str, str]:
    """How fast frames come, and the unit: "16.6" and "fps", "23" and "s a frame"."""
    if frames_per_s >= 0.1:
        return f"{frames_per_s:.1f}", "fps"
    return f"{1 / frames_per_s:.0f}", "s a frame"


def age(seconds: float) -> str:
    """How long ago something was, with one unit: "7 s", "12 min", "3 h", "2 days"."""
    for unit, unit_s, below_s in (("s", 1, 60), ("min", 60, 3600), ("h", 3600, 48 * 3600)):
        if seconds < below_s:
            return f"{max(0.0, seconds) // unit_s:.0f} {unit}"
    return f"{seconds // 86400:.0f} days"


def clock(seconds: float) -> str:
    """A length of time as a clock shows it, without jumps in width: "0:07", "1:02:03"."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{rest // 60}:{rest % 60:02d}"


def middle(text: str, width: int) -> str:
    """`text` cut in its middle to `width` columns: both ends of a file name tell it apart."""
    if cell_len(text) <= width:
        return text
    left, right = text[: len(text) // 2], text[len(text) // 2 :]
    while left and right and cell_len(left) + cell_len(right) >= width:
        left, right = (left[:-1], right) if len(left) > len(right) else (left, right[1:])
    return f"{left}\N{HORIZONTAL ELLIPSIS}{right}"


def unique_length(names: Sequence[str]) -> int:
    """How many characters tell run ids apart; every command takes the beginning of one."""
    return next(
        length
        for length in range(8, max(map(len, names), default=0) + 9)
        if len({name[:length] for name in names}) == len(names)
    )
