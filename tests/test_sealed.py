"""A sealed store: nothing of an object shows, and nothing of it can be changed unnoticed."""

from __future__ import annotations

import base64
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.access import Access
from impasto.cli import main
from impasto.config import load_settings
from impasto.errors import RequestError, RunFailed
from impasto.run import score
from impasto.stores import Store, StoredFile, locate, open_store
from impasto.stores.sealed import SealedStore
from impasto.stores.sealing import (
    BLOCK,
    HEADER,
    Seal,
    SealedFile,
    new_header,
    plain_size,
    read_keys,
    sealed_size,
)
from painting import PLAIN, model_in, settings_in

_TAG = 16
_TELL = b"plan.json: nothing of this may show; "
_EDGES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 7]


def _words(*names: str) -> str:
    """Keys of those names, as they are configured."""
    return " ".join(f"{n}:{base64.b64encode(n.encode().ljust(32, b'.')).decode()}" for n in names)


def _open(folder: Path, *names: str, below: str = "") -> Store:
    seal = _words(*(names or ("first",)))
    return open_store(str(folder / below), [Access(url=str(folder), seal=seal)])


def _spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# --- what is sealed ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", _EDGES)
def test_any_size_comes_back_whole_and_by_any_range(size: int, tmp_path: Path) -> None:
    data = os.urandom(size)
    store = _open(tmp_path)
    store.put("a", data)
    assert store.get("a") == data
    assert store.head("a").bytes == size
    assert (tmp_path / "a").stat().st_size == sealed_size(size)
    for start in {0, 1, size // 2, size - 1} & set(range(size)):
        for stop in {start + 1, min(size, start + BLOCK), size}:
            assert store.get_range("a", start, stop) == data[start:stop]


def test_what_a_killed_process_had_begun_to_seal_is_swept(tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.put("a", b"whole")
    for name in ("a#1", ".a-0123abcd.part"):
        (tmp_path / name).write_bytes(b"ha")
    later = datetime.now(UTC) + timedelta(hours=1)
    store.sweep(later)
    store.sweep_uploads(later)
    assert [entry.key for entry in store.list()] == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@given(st.integers(0, 10 * BLOCK))
def test_sizes_are_told_without_reading(size: int) -> None:
    assert plain_size(sealed_size(size)) == size


@given(st.integers(0, 3 * BLOCK), st.lists(st.integers(1, 2 * BLOCK), max_size=6))
def test_a_file_is_sealed_the_same_however_it_is_read(size: int, steps: list[int]) -> None:
    data = os.urandom(size)
    seal = Seal(new_header("k"), "a/b", {"k": bytes(32)})
    file = SealedFile(io.BytesIO(data), seal)
    whole = file.readall()
    assert len(whole) == sealed_size(size)
    assert seal.open(whole[HEADER:], block=0, last=True) == data
    for step in steps:
        at = step % (len(whole) + 1)
        file.seek(at)
        some = file.read(step)
        assert some + file.readall() == whole[at:]


def test_a_large_file_is_uploaded_in_little_memory_and_read_by_range(tmp_path: Path) -> None:
    plain = tmp_path / "film"
    plain.write_bytes(os.urandom(17 << 20))
    store = _open(tmp_path / "store")
    with plain.open("rb") as file:
        assert store.upload("in/film.mp4", file)
        assert not store.upload("in/film.mp4", file)
        assert store.upload("in/film.mp4", file, new=False)
    found = locate(str(tmp_path / "store" / "in" / "film.mp4"),
                   [Access(url=str(tmp_path / "store"), seal=_words("first"))])  # fmt: skip
    assert isinstance(found, StoredFile)
    with found.open() as file:
        file.seek(9 << 20)
        assert file.read(100) == plain.read_bytes()[9 << 20 :][:100]
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["film.mp4"]


def test_nothing_of_an_object_shows_on_the_disk(tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.put("runs/a", _TELL * 5000)
    store.put("runs/b", _TELL * 5000)
    one, other = ((tmp_path / "runs" / name).read_bytes() for name in "ab")
    assert _TELL[:8] not in one
    blocks = {data[at : at + 16] for data in (one, other) for at in range(HEADER, len(data), 16)}
    assert len(blocks) == -(-(len(one) - HEADER) // 16) * 2  # and no piece is like another


# --- what is changed --------------------------------------------------------------------------

_DAMAGED = "was damaged or exchanged in the store"


@pytest.mark.parametrize("at", [8, 30, HEADER, HEADER + BLOCK, HEADER + BLOCK + _TAG + 5, -1])
def test_a_flipped_bit_is_an_error(at: int, tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.put("a", bytes(2 * BLOCK))
    _spoil(tmp_path / "a", at)
    with pytest.raises(RunFailed, match=rf"'a' (was damaged|was sealed with|{_DAMAGED})"):
        store.get("a")


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_an_end_that_was_cut_off_is_an_error(blocks: int, tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.put("a", bytes(3 * BLOCK))
    path = tmp_path / "a"
    path.write_bytes(path.read_bytes()[: HEADER + blocks * (BLOCK + _TAG)])
    with pytest.raises(RunFailed, match=_DAMAGED):
        store.get("a")
    size = store.head("a").bytes
    with pytest.raises(RunFailed, match="was damaged"):
        store.get_range("a", max(0, size - 1), size + (not blocks))


def test_blocks_that_changed_places_are_an_error(tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.put("a", os.urandom(3 * BLOCK))
    path, step = tmp_path / "a", BLOCK + _TAG
    data = path.read_bytes()
    first, second = data[HEADER : HEADER + step], data[HEADER + step : HEADER + 2 * step]
    path.write_bytes(data[:HEADER] + second + first + data[HEADER + 2 * step :])
    with pytest.raises(RunFailed, match=_DAMAGED):
        store.get("a")
    with pytest.raises(RunFailed, match=_DAMAGED):
        store.get_range("a", 0, 1)


def test_an_object_in_anothers_place_is_an_error(tmp_path: Path) -> None:
    store = _open(tmp_path)
    store.put("runs/a", b"mine")
    store.put("runs/b", b"theirs")
    (tmp_path / "runs" / "b").replace(tmp_path / "runs" / "a")
    with pytest.raises(RunFailed, match=_DAMAGED):
        store.get("runs/a")


def test_blocks_of_another_object_are_an_error(tmp_path: Path) -> None:
    store = _open(tmp_path)
    for name in "ab":
        store.put(name, os.urandom(2 * BLOCK))
    a, b = (tmp_path / name for name in "ab")
    a.write_bytes(a.read_bytes()[: HEADER + BLOCK + _TAG] + b.read_bytes()[HEADER + BLOCK + _TAG :])
    with pytest.raises(RunFailed, match=_DAMAGED):
        store.get("a")


def test_what_was_never_sealed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"slipped in" * 100)
    (tmp_path / "b").write_bytes(b"")
    store = _open(tmp_path)
    for name in "ab":
        with pytest.raises(RunFailed, match=f"'{name}' is not sealed, or was damaged"):
            store.get(name)


# --- keys -------------------------------------------------------------------------------------


def test_old_objects_stay_readable_under_new_keys_and_are_sealed_anew(tmp_path: Path) -> None:
    old = _open(tmp_path, "2025")
    large = os.urandom(17 << 20)
    old.put("runs/a", b"old")
    old.put("runs/large", large)
    both = _open(tmp_path, "2026", "2025")
    both.put("runs/b", b"new")
    assert both.get("runs/a") == b"old"
    with pytest.raises(RunFailed, match="sealed with the key '2026', which is not configured"):
        old.get("runs/b")
    assert isinstance(both, SealedStore)
    assert sorted(both.reseal()) == ["runs/a", "runs/large"]
    assert list(both.reseal()) == []
    new = _open(tmp_path, "2026")
    assert (new.get("runs/a"), new.get("runs/b")) == (b"old", b"new")
    assert new.get("runs/large") == large


def test_an_object_opens_from_wherever_its_store_is_opened(tmp_path: Path) -> None:
    _open(tmp_path).put("runs/a/plan", b"1")
    assert _open(tmp_path, below="runs/a").get("plan") == b"1"
    _open(tmp_path, below="runs").put("b", b"2")
    assert _open(tmp_path).get("runs/b") == b"2"
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert _open(moved).get("runs/b") == b"2"


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:b", "a:" + "A" * 44, f"{'x' * 17}:{'A' * 43}=", f"a:{'A' * 43}= a:{'B' * 43}="],
)
def test_keys_that_are_none_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(RequestError, match="for sealing") as refusal:
        read_keys(text)
    assert "AAAA" not in str(refusal.value)


def test_the_configuration_names_a_folder_and_the_variable_with_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[stores."{tmp_path}/store"]\nseal_env = "SEAL"\n')
    settings = load_settings({"SEAL": _words("k")}, file)
    store = open_store(str(tmp_path / "store"), settings.access)
    store.put("a", _TELL)
    assert _TELL not in (tmp_path / "store" / "a").read_bytes()
    assert _words("k") not in repr(settings)
    with pytest.raises(RequestError, match="needs its secret in SEAL, which is not set"):
        open_store(str(tmp_path / "store"), load_settings({}, file).access)
    file.write_text(f'[stores."{tmp_path}"]\nkey = "x"\n')
    with pytest.raises(RequestError, match="unknown key 'key'; the keys are seal, seal_env"):
        load_settings({}, file)


def test_a_run_on_a_sealed_store_makes_the_same_target_and_shows_nothing(
    media: Callable[[str], Path], tmp_path: Path
) -> None:
    source, bytes_of = media("cfr_24"), []
    for seal in (None, _words("k")):
        folder = tmp_path / str(seal is None)
        folder.mkdir()
        settings = settings_in(folder)
        store = settings.system_store
        score(
            source,
            model=model_in(folder),
            target=folder / "out.mp4",
            options=replace(PLAIN, engine="local", workers=1, keep=True),
            settings=replace(settings, access=(Access(url=store, seal=seal),)),
        )
        kept = b"".join(path.read_bytes() for path in Path(store).rglob("*") if path.is_file())
        assert (b"time_base" in kept, b"matroska" in kept) == (seal is None, seal is None)
        bytes_of.append((folder / "out.mp4").read_bytes())
    assert bytes_of[0] == bytes_of[1]


def test_keys_are_made_and_changed_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "new"]) == 0
    new = capsys.readouterr().out.strip()
    assert main(["keys", "new"]) == 0
    assert len(read_keys(f"{new} {capsys.readouterr().out}")) == 2
    folder = tmp_path / "store"
    _open(folder, "old").put("a", b"1")
    config = tmp_path / "config.toml"
    config.write_text(f'work = "{folder}"\n[stores."{folder}"]\nseal_env = "SEAL"\n')
    monkeypatch.setenv("IMPASTO_CONFIG", str(config))
    monkeypatch.setenv("SEAL", f"{new} {_words('old')}")
    assert main(["keys", "rotate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"store": str(folder), "sealed": 1}
    assert main(["keys", "rotate"]) == 0
    assert "sealed 0 objects anew" in capsys.readouterr().out
    assert main(["keys", "rotate", "--work", str(tmp_path)]) == 2
    assert "is not sealed: give it seal_env" in capsys.readouterr().err


def test_without_its_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(RequestError, match=r"needs: pip install 'impasto\[sealed\]'"):
        _open(tmp_path)
