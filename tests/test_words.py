"""Every way out of an error is said in the words of whoever asked: command line, HTTP, Python."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from impasto.cli import text
from impasto.errors import IN_PYTHON, TAKEN, Kind, OutOfSpace, RequestError, RunFailed, Way, worded
from impasto.media.publish import refuse
from impasto.service import words
from impasto.wording import did_you_mean, plural

KINDS = get_args(Kind)


@pytest.mark.parametrize("said", [IN_PYTHON, text.WAYS, words.WAYS], ids=["python", "cli", "api"])
def test_every_way_out_has_words_at_every_edge(said: Mapping[Kind, str]) -> None:
    assert set(said) == set(KINDS)
    for kind in KINDS:
        assert worded("it failed", [Way(kind, "{x}")], said).startswith("it failed")


@pytest.mark.parametrize("kind", KINDS)
def test_the_api_speaks_of_nothing_that_only_a_command_line_has(kind: Kind) -> None:
    told = words.in_api_words(RequestError("it failed", Way(kind)))
    assert not any(word in told for word in ("--", " -o", "impasto ", "Ctrl-C", "command"))


def test_an_existing_target_is_told_to_each_in_its_own_words(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.touch()
    with pytest.raises(RequestError) as caught:
        refuse(target, force=False)
    error, exists = caught.value, f"{str(target)!r} exists"
    assert str(error) == f"{exists}; force overwrites it, name another target"
    assert error.worded(text.WAYS) == f"{exists}; --force overwrites it, -o names another"
    assert words.in_api_words(error) == (
        f'{exists}; "force": true in "options" overwrites it, "target" names another'
    )


def test_a_way_that_is_none_here_is_left_out() -> None:
    lost = RunFailed("no worker is left", Way("resume"), Way("restart"))
    assert words.in_api_words(lost) == (
        "no worker is left; POST /v1/runs/{run_id}/retry goes on from there"
    )
    assert words.in_api_words(RunFailed("it failed", Way("restart"))) == "it failed"


def test_an_error_keeps_its_ways_from_process_to_process() -> None:
    error = pickle.loads(pickle.dumps(OutOfSpace("no space left", *TAKEN)))  # noqa: S301
    assert (str(error), error.ways) == (str(OutOfSpace("no space left", *TAKEN)), TAKEN)


def test_things_are_counted_in_words() -> None:
    assert [plural(n, "chunk") for n in (0, 1, 2, 12_345)] == [
        "0 chunks", "1 chunk", "2 chunks", "12,345 chunks"
    ]  # fmt: skip


def test_a_name_that_was_meant_is_found() -> None:
    assert did_you_mean("strengh", ["strength", "size"]) == "did you mean strength?"
    assert did_you_mean("x", ["strength", "size"]) == ""
