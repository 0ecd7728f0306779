"""The threat model points at tests, and the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_HERE = Path(__file__).parent
_PAGE = _HERE.parent / "docs" / "security.md"


def test_every_defence_has_tests_and_every_named_test_exists() -> None:
    written = {
        node.name
        for path in _HERE.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    threats = _PAGE.read_text(encoding="utf-8").partition("## Limits")[0]
    rows = [line for line in threats.splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith("| threat |")]
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        assert set(named) - written == set(), row
