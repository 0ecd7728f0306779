"""Perceptual networks: found where they are, fetched and checked where they are not, read."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="networks need torch: pip install 'impasto[train]'")

from impasto.errors import RequestError  # noqa: E402 - after the skip above
from impasto.nets.perceptual import (  # noqa: E402
    PUBLISHED,
    Published,
    find_perceptual,
    load_perceptual,
)
from shared_data import path_of  # noqa: E402

WEIGHTS = bytes(range(256)) * 9000


class _Home(http.server.BaseHTTPRequestHandler):
    """A server of WEIGHTS: whole, with a flipped bit, cut short, too long, or not at all."""

    def do_GET(self) -> None:
        body = {
            "/whole": WEIGHTS,
            "/flipped": b"\x80" + WEIGHTS[1:],
            "/short": WEIGHTS[:-1],
            "/long": WEIGHTS + b"more",
            "/broken-off": WEIGHTS[:100_000],
        }.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        told = len(WEIGHTS) if self.path == "/broken-off" else len(body)
        self.send_header("Content-Length", str(told))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Home) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def published(url: str) -> dict[str, Published]:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    return {"net": Published("net.pth", url, digest, len(WEIGHTS), "MIT", "a network")}


def test_a_network_is_fetched_once_and_then_found(tmp_path: Path, home: str) -> None:
    lines: list[str] = []
    for _ in range(2):
        path = find_perceptual(
            "net", cache=tmp_path, report=lines.append, published=published(f"{home}/whole")
        )
        assert path == tmp_path / "perceptual" / "net.pth"
        assert path.read_bytes() == WEIGHTS
    assert len(lines) == 1
    assert [each.name for each in path.parent.iterdir()] == ["net.pth"]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("flipped", "digest is not the one"),
        ("short", "has only 2303999"),
        ("long", "has more"),
        ("broken-off", "has only 100000"),
        ("nowhere", "404"),
    ],
)
def test_what_is_fetched_badly_is_never_kept(
    tmp_path: Path, home: str, way: str, said: str
) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        find_perceptual("net", cache=tmp_path, published=published(f"{home}/{way}"))
    assert "\n" not in str(caught.value)
    assert f"put it at {tmp_path / 'perceptual' / 'net.pth'}" in str(caught.value)
    assert list((tmp_path / "perceptual").iterdir()) == []


def test_offline_the_error_says_where_to_get_it_and_where_to_put_it(tmp_path: Path) -> None:
    networks = published("http://127.0.0.1:9/net.pth")
    with pytest.raises(RequestError, match="can't be fetched") as caught:
        find_perceptual("net", cache=tmp_path, published=networks)
    assert "http://127.0.0.1:9/net.pth" in str(caught.value)
    for given in ({"cache": tmp_path, "fetch": False}, {"cache": None}):
        with pytest.raises(RequestError, match="not on this machine"):
            find_perceptual("net", published=networks, **given)


def test_a_damaged_one_in_the_cache_is_fetched_again(tmp_path: Path, home: str) -> None:
    path = tmp_path / "perceptual" / "net.pth"
    path.parent.mkdir()
    path.write_bytes(WEIGHTS[::-1])
    found = find_perceptual("net", cache=tmp_path, published=published(f"{home}/whole"))
    assert found.read_bytes() == WEIGHTS


def test_a_file_of_ones_own_needs_no_cache(tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    own.write_bytes(b"")
    assert find_perceptual(own, cache=None) == own
    with pytest.raises(RequestError, match="one of: compressed, vgg19"):
        find_perceptual(tmp_path / "other.pth", cache=None)


def test_the_published_ones_are_pinned() -> None:
    for network in PUBLISHED.values():
        assert network.url.startswith("https://")
        assert len(network.sha256) == 64
        assert network.bytes > 1_000_000
    # torchvision writes the first digits of the digest into the name.
    assert PUBLISHED["vgg19"].sha256[:8] in PUBLISHED["vgg19"].file


def test_the_default_is_the_compressed_vgg19(tmp_path: Path) -> None:
    there = path_of("weights/perceptual/cd16x_SE4.pth")
    default = PUBLISHED["compressed"]
    assert hashlib.sha256(there.read_bytes()).hexdigest() == default.sha256
    (tmp_path / "perceptual").mkdir()
    (tmp_path / "perceptual" / default.file).write_bytes(there.read_bytes())
    net = load_perceptual(find_perceptual(cache=tmp_path, fetch=False))
    assert net.names[-1] == "4_1"
    features = net(torch.full((1, 3, 32, 32), 99.0), ("1_2", "4_1"))
    assert features["1_2"].shape == (1, 16, 32, 32)
    assert features["4_1"].shape == (1, 128, 4, 4)


_FIRST = {"features.0.weight": torch.zeros(8, 3, 3, 3), "features.0.bias": torch.zeros(8)}
WRONG = {
    "unknown keys": {"layer1.weight": torch.zeros(1)},
    "no mapping": [torch.zeros(1)],
    "no mapping within": {"model": 3},
    "no tensor": {"features.0.weight": "a", "features.0.bias": 1},
    "no bias": {"features.0.weight": torch.zeros(8, 3, 3, 3)},
    "a bias too long": _FIRST | {"features.0.bias": torch.zeros(9)},
    "a gap": _FIRST
    | {"features.10.weight": torch.zeros(8, 4, 3, 3), "features.10.bias": torch.zeros(8)},
}


@pytest.mark.parametrize("damage", ["text", *WRONG])
def test_a_wrong_perceptual_network_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "vgg.pth"
    if damage == "text":
        path.write_text("no network")
    else:
        torch.save(WRONG[damage], path)
    with pytest.raises(RequestError, match="perceptual network") as caught:
        load_perceptual(path)
    assert "\n" not in str(caught.value)
