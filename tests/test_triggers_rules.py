"""The rule table, sidecars, trigger files and schedules: what is asked for, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.errors import RequestError
from impasto.service.queue import Queue
from impasto.service.records import Submission
from impasto.service.submissions import check
from impasto.service.triggers import names
from impasto.service.triggers.rules import Rule, match, read_rules, read_sidecar, target_for
from impasto.service.triggers.schedule import Schedule, read_schedules
from impasto.service.triggers.trigger_file import Trigger, is_trigger_file, read_trigger
from trigger_site import IN, TS, Site, settings

UDNIE = {"style": "udnie"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.database.close()


def rule(**table: Any) -> Rule:
    return read_rules([{**UDNIE, **table}], where="serve.rules")[0]


def target(key: str, **table: Any) -> str:
    found = rule(**table)
    return target_for(key, found.wish, prefix=found.prefix)


@pytest.mark.parametrize(
    ("prefix", "pattern", "key", "matches"),
    [
        ("in", "", "in/a.mp4", True),
        ("in", "", "in/deep/down/A.MOV", True),
        ("in", "", "in/a.jpg", False),
        ("in", "", "in", False),
        ("in", "", "inn/a.mp4", False),
        ("/in/", "", "in/a.mp4", True),
        ("", "", "a.mp4", True),
        ("", "", "uploads/ann/1/a.mp4", False),
        ("uploads", "", "uploads/ann/1/a.mp4", True),
        ("in", "*.mkv", "in/a.mp4", False),
        ("in", "*.mkv", "in/deep/a.MKV", True),
        ("in", "news-*", "in/news-1.mp4", True),
        ("in", "news-*", "in/news-1.txt", False),
        ("in", "*.jpg", "in/a.jpg", True),
        ("in", "news/*.mp4", "in/news/a.mp4", True),
        ("in", "news/*.mp4", "in/old/news/a.mp4", False),
        ("in", "[ab]?.mp4", "in/a1.mp4", True),
    ],
)
def test_a_rule_matches_by_prefix_and_pattern(
    prefix: str, pattern: str, key: str, matches: bool
) -> None:
    table = {"prefix": prefix} | ({"pattern": pattern} if pattern else {})
    assert rule(**table).matches(key) is matches


def test_the_folder_of_uploads_is_the_apis() -> None:
    from impasto.service.api import paths

    assert names.UPLOADS == paths.UPLOADS


def test_the_first_rule_that_matches_counts() -> None:
    rules = read_rules(
        [{"prefix": "in/news", "style": "udnie"}, {"prefix": "in", "style": "mondrian"}],
        where="serve.rules",
    )
    for key, style in [("in/news/a.mp4", "udnie"), ("in/a.mp4", "mondrian")]:
        found = match(rules, key)
        assert found is not None
        assert found.wish.style == style
    assert match(rules, "out/a.mp4") is None


@pytest.mark.parametrize(
    ("table", "key", "expected"),
    [
        ({"prefix": "in"}, "in/a.mp4", "painted/a.udnie.mp4"),
        ({"prefix": "x/in"}, "x/in/a.b.mp4", "x/painted/a.b.udnie.mp4"),
        ({"prefix": "in"}, "in/deep/a.mp4", "painted/deep/a.udnie.mp4"),
        ({"prefix": ""}, "a.mp4", "painted/a.udnie.mp4"),
        ({"prefix": "in"}, "in/a.avi", "painted/a.udnie.mkv"),
        ({"prefix": "in"}, "in/a.MP4", "painted/a.udnie.mp4"),
        ({"prefix": "in", "target": "out/{stem}.{ext}"}, "in/a.mp4", "out/a.mp4"),
        ({"prefix": "in", "target": "{prefix}/{stem}-{style}.mkv"}, "in/a.mp4", "in/a-udnie.mkv"),
        ({"prefix": "in", "target": "../../{stem}.{ext}"}, "in/a.mp4", "a.mp4"),
    ],
)  # fmt: skip
def test_a_target_is_named_by_its_template(table: dict[str, Any], key: str, expected: str) -> None:
    assert target(key, **table) == expected


def test_videos_of_one_stem_or_one_folder_have_targets_of_their_own() -> None:
    keys = ["in/a.b.mp4", "in/a.c.mp4", "in/a.mp4", "in/x/a.mp4", "in/a.mkv"]
    assert len({target(key, prefix="in") for key in keys}) == len(keys)


def test_blends_and_models_have_names_in_targets() -> None:
    rules = read_rules(
        [{"prefix": "b", "blend": {"udnie": 3, "mondrian": 1}}, {"model": "models/denoise.onnx"}],
        where="serve.rules",
    )
    assert target_for("b/a.mp4", rules[0].wish, prefix="b") == "painted/a.udnie75_mondrian25.mp4"
    assert target_for("a.mp4", rules[1].wish, prefix="") == "painted/a.denoise.mp4"


def test_options_reach_the_run(site: Site) -> None:
    table = {"prefix": "in", "blend": {"udnie": 0.7, "mondrian": 0.3}, "strength": 0.5,
             "size": "720p", "keep_colors": True, "user": "newsroom", "priority": 7}  # fmt: skip
    triggers = site.triggers(settings(watch=[{"prefix": "in"}], rules=[table]))
    site.put("in/a.ts")
    site.settle(triggers)
    run = site.only_run()
    assert run.style == {"udnie": 0.7, "mondrian": 0.3}
    assert run.options == {"strength": 0.5, "size": "720p", "keep_colors": True}
    assert (run.user, run.priority) == ("newsroom", 7)


WRONG = [
    ({}, "needs a style"),
    ({"style": "udnie", "stile": "x"}, "unknown key 'stile'"),
    ({"style": "udnie", "workers": 8}, "unknown key 'workers'"),
    ({"style": "udnie", "work": "elsewhere"}, "unknown key 'work'"),
    ({"style": "udnie", "model": "m.onnx"}, "exclude each other"),
    ({"style": "../../etc/passwd"}, "a style's name"),
    ({"style": 3}, "style must be text"),
    ({"style": ""}, "style must be text"),
    ({"blend": "udnie:0.5"}, "blend reads"),
    ({"blend": {"udnie": -1}}, "serve.rules 1"),
    ({"model": "../m.onnx"}, "model"),
    ({"style": "udnie", "strength": 2}, "strength must lie between"),
    ({"style": "udnie", "strength": "much"}, "strength"),
    ({"style": "udnie", "codec": "divx"}, "codec"),
    ({"style": "udnie", "prefix": "az://media/in"}, "prefix"),
    ({"style": "udnie", "prefix": "in/../.."}, "is no path"),
    ({"style": "udnie", "target": "out/a.mp4"}, "{stem}"),
    ({"style": "udnie", "target": "{stem.__class__}"}, "unknown {stem.__class__}"),
    ({"style": "udnie", "target": "{stem}{"}, "brace"),
    ({"style": "udnie", "priority": 1000}, "priority"),
    ({"style": "udnie", "priority": True}, "priority"),
    ("udnie", "must be a table"),
]


@pytest.mark.parametrize(("table", "says"), WRONG)
def test_a_wrong_rule_is_refused_before_the_service_starts(table: Any, says: str) -> None:
    with pytest.raises(RequestError, match=r"^serve.rules 1") as refused:
        read_rules([table], where="serve.rules")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"watch": [{"style": "udnie"}]}, "serve.watch 1 needs a prefix"),
        ({"watch": [{"prefix": "in"}]}, "serve.watch 1 needs a style"),
        ({"watch": [{"prefix": "in", "stile": "udnie"}]}, "unknown key 'stile'"),
        ({"triggers": {"interval": 3}}, "interval"),
        ({"triggers": {"interval_s": 0}}, "interval_s must be at least"),
        ({"triggers": {"settle_s": float("nan")}}, "settle_s must be at least"),
    ],
)
def test_wrong_settings_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as refused:
        settings(**table)
    assert says in str(refused.value)


def test_a_sidecar_overrides_the_rule(site: Site) -> None:
    triggers = site.triggers()
    text = b'style = "mondrian"\nstrength = 0.25\ntarget = "out/{stem}.{ext}"\n'
    site.put("in/a.toml", data=text)
    site.put("in/a.ts", "in/b.ts")
    site.settle(triggers)
    a, b = sorted(site.all_runs(), key=lambda run: run.source)
    assert (a.style, a.options, a.target) == ("mondrian", {"strength": 0.25}, "out/a.ts")
    assert (b.style, b.options) == ("starry_night", {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"style = starry_night", "in/a.toml is not TOML"),
        (b"\xff\xfe", "in/a.toml is not TOML"),
        (b"a = " + b"[" * 30_000, "in/a.toml is not TOML"),
        (b"stile = 'x'", "in/a.toml: unknown key 'stile'"),
        (b"prefix = 'x'", "in/a.toml: unknown key 'prefix'"),
        (b"user = 'root'", "in/a.toml: unknown key 'user'"),
        (b"engine = 'local'", "in/a.toml: unknown key 'engine'"),
        (b"strength = 7", "in/a.toml: strength must lie between"),
        (b"model = '/etc/passwd'", "in/a.toml: model"),
        (b"target = '/../../{stem}.sh\\n'", "in/a.toml"),
        (b" " * 100_000, "in/a.toml has over"),
    ],
)
def test_a_bad_sidecar_is_a_failed_run_that_says_why(site: Site, text: bytes, says: str) -> None:
    triggers = site.triggers()
    site.put("in/a.toml", data=text)
    site.put("in/a.ts")
    site.settle(triggers, 6)
    run = site.only_run()
    assert (run.state, run.source, run.attempts) == ("failed", "in/a.ts", 0)
    assert run.error is not None
    assert run.error.startswith(says)
    assert "\n" not in run.error
    assert not triggers.faults()


def test_a_sidecar_that_was_mended_starts_the_run_that_was_refused(site: Site) -> None:
    triggers = site.triggers()
    site.put("in/a.toml", data=b"stile = 'mondrian'")
    site.put("in/a.ts")
    site.settle(triggers)
    site.settle(site.triggers())
    assert site.only_run().state == "failed"
    site.put("in/a.toml", data=b"style = 'mondrian'")
    site.settle(triggers, 5)
    refused, made = site.all_runs()
    assert (refused.state, made.state, made.style) == ("failed", "queued", "mondrian")
    site.put("in/a.toml", data=b"style = 'udnie'")  # it is painted: no second time
    site.settle(triggers, 5)
    assert len(site.all_runs()) == 2


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_sidecar_is_read_or_refused_in_one_line(text: bytes) -> None:
    (watched,) = IN.rules
    said = ""
    try:
        wish = read_sidecar(text, watched, where="a.toml")
    except RequestError as error:
        said = str(error)
    else:
        check(watched.submission("in/a.mp4", wish, origin="watch"))
    assert "\n" not in said


def test_a_picture_in_the_folder_style_defines_a_style(site: Site) -> None:
    rules = [{"prefix": "in", "style": "monet"}]
    triggers = site.triggers(settings(watch=[{"prefix": "in"}], rules=rules))
    site.put("in/style/monet.jpg", "in/style/other.png", "in/a.ts", "in/b.ts", "in/c.ts")
    site.put("in/b.toml", data=b"style = 'other'")
    site.put("in/c.toml", data=b"style = 'udnie'")
    site.settle(triggers, 6)
    a, b, c = sorted(site.all_runs(), key=lambda run: run.source)
    assert (a.style, a.target) == ("in/style/monet.jpg", "painted/a.monet.ts")
    assert (b.style, b.target) == ("in/style/other.png", "painted/b.other.ts")
    assert (c.style, c.target) == ("udnie", "painted/c.udnie.ts")


def test_the_job_learns_the_painting_and_paints_in_its_style(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    from impasto import run
    from impasto.service import job
    from impasto.settings import Settings

    seen: dict[str, Any] = {}

    def learn(painting: Path, **how: Any) -> str:
        seen.update(how, painting=painting.read_bytes(), name=painting.name)
        return "monet-1234"

    def stylize(source: str, *, style: str, **_: Any) -> None:
        seen.update(style=style, video=source)

    monkeypatch.setattr(job, "learn_painting", learn)
    monkeypatch.setattr(run, "stylize", stylize)
    site.put("in/style/monet.jpg", data=b"a picture")
    site.put("in/a.ts")
    order = job.Order(
        media=site.media.url, system=str(site.media.url) + "-system", source="in/a.ts",
        style="in/style/monet.jpg", model=None, target=None, options={"quality": "fast"},
        engine="inline", workers=None, resumed=False,
    )  # fmt: skip
    core = Settings(user_styles=Path(site.media.url), system_store=order.system)
    job._make(order, core, lambda event: None)
    assert (seen["style"], seen["painting"], seen["name"]) == (
        "monet-1234", b"a picture", "monet.jpg",
    )  # fmt: skip
    assert seen["quality"] == "fast"
    assert str(seen["source"]) == seen["video"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"in/a.mp4", "in/a.mp4"),
        (b"\xef\xbb\xbfin/a.mp4\r\n", "in/a.mp4"),
        (b"\n# the film of today\n  in/my film.mp4  \nin/other.mp4", "in/my film.mp4"),
        (b"az://media/in/a.mp4", "in/a.mp4"),
        (b"/in/frames/", "in/frames"),
    ],
)
def test_a_trigger_file_names_a_path_of_the_media_store(text: bytes, key: str) -> None:
    assert read_trigger(text, media_url="az://media") == Trigger(key)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "names nothing"),
        (b"# nothing\n", "names nothing"),
        (b"../../etc/passwd", "no path within"),
        (b"http://169.254.169.254/latest", "outside the media store"),
        (b"az://other/in/a.mp4", "outside the media store"),
        (b"in/\x00a.mp4", "no path within"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"x" * 5000, "at most 4096 bytes"),
    ],
)
def test_a_trigger_file_can_not_lead_elsewhere(text: bytes, says: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_trigger(text, media_url="az://media")
    assert says in str(refused.value)


def test_trigger_files_are_known_by_their_names() -> None:
    assert all(map(is_trigger_file, ["in/trigger.txt", "trigger-0815.txt", "x/Trigger 1.TXT"]))
    assert not any(map(is_trigger_file, ["in/trigger.mp4", "triggers/a.txt", "my-trigger.txt"]))


def test_a_trigger_file_starts_the_run_that_it_names_once_and_stays(site: Site) -> None:
    triggers = site.triggers()
    site.put("archive/a.ts")
    site.put("in/trigger1.txt", data=b"archive/a.ts\n")
    site.settle(triggers)
    site.settle(site.triggers())
    run = site.only_run()
    assert (run.source, run.style, run.origin) == ("archive/a.ts", "starry_night", "trigger_file")
    assert run.target == "painted/archive/a.starry_night.ts"
    assert site.media.exists("in/trigger1.txt")


def test_a_trigger_file_and_the_watch_give_one_run(site: Site) -> None:
    site.put("in/a.ts")
    site.put("in/trigger.txt", data=b"in/a.ts")
    site.settle(site.triggers(), 6)
    assert site.only_run().source == "in/a.ts"


def test_what_a_trigger_file_names_is_waited_for_until_it_is_whole(
    site: Site, media: Callable[[str], Path]
) -> None:
    whole = media("cfr_24").read_bytes()
    triggers = site.triggers()
    site.put("archive/a.mp4", data=whole[: len(whole) // 2])
    site.put("archive/b.ts.part")
    site.put("archive/empty.ts", data=b"")
    for number, named in enumerate(("a.mp4", "b.ts.part", "empty.ts"), 1):
        site.put(f"in/trigger{number}.txt", data=f"archive/{named}".encode())
    site.settle(triggers, 10)
    assert not site.all_runs()
    site.put("archive/a.mp4", data=whole)
    site.put("archive/empty.ts")
    site.settle(triggers, 2)
    assert site.sources() == ["archive/a.mp4", "archive/empty.ts"]
    site.settle(site.triggers(), 4)
    assert len(site.all_runs()) == 2
    assert all(run.state == "queued" for run in site.all_runs())


def test_a_video_that_grows_while_a_trigger_file_names_it_becomes_one_run_at_last(
    site: Site,
) -> None:
    triggers = site.triggers()
    site.put("in/trigger.txt", data=b"archive/a.ts")
    for size in range(1, 6):
        site.put("archive/a.ts", data=TS * size)
        site.settle(triggers, 1)
    assert not site.all_runs()
    site.settle(triggers, 4)
    assert site.only_run().source == "archive/a.ts"


def test_a_folder_that_is_still_uploaded_is_waited_for(site: Site) -> None:
    triggers = site.triggers()
    site.put("in/trigger.txt", data=b"shots/harbour")
    site.put("shots/harbour/.hidden")
    site.put("shots/harbour/0001.png.part")
    site.settle(triggers, 4)
    assert not site.all_runs(), "and it is not refused for holding no pictures"
    site.media.delete("shots/harbour/0001.png.part")
    for number in range(1, 6):
        site.put(f"shots/harbour/{number:04}.png")
        site.settle(triggers, 1)
    site.put("shots/harbour/0006.png", data=b"")
    site.settle(triggers, 4)
    assert not site.all_runs()
    site.put("shots/harbour/0006.png")
    site.settle(triggers, 4)
    assert (site.only_run().source, site.only_run().state) == ("shots/harbour", "queued")


def test_a_damaged_video_that_a_trigger_file_names_becomes_a_run_after_all(
    site: Site, media: Callable[[str], Path]
) -> None:
    triggers = site.triggers()
    site.put("archive/a.mp4", data=media("cfr_24").read_bytes()[:-100])
    site.put("in/trigger.txt", data=b"archive/a.mp4")
    site.settle(triggers, 4)
    assert not site.all_runs()
    site.now += 3600
    site.settle(triggers)
    assert site.only_run().source == "archive/a.mp4"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"in/folder", "the folder '"),
        (b"archive/a.ts\nrate = 24", "the trigger file sets a rate, and 'archive/a.ts' is a video"),
        (b"in/frames\nrate: fast", "rate reads 24, 23.976 or 30000/1001"),
        (b"in/frames\nspeed = 24", "the trigger file sets 'speed', and only rate"),
        (b"in/nothing.mp4", "'in/nothing.mp4', which the trigger file names, is not there"),
        (b"../x", "'../x' is no path within the media store"),
    ],
)
def test_a_trigger_file_that_can_not_be_followed_is_a_failed_run(
    site: Site, text: bytes, says: str
) -> None:
    triggers = site.triggers()
    site.put("in/frames/0001.png", "in/frames/0002.png", "in/folder/notes.txt", "archive/a.ts")
    site.put("in/trigger.txt", data=text)
    site.settle(triggers, 6)
    run = site.only_run()
    assert (run.state, run.source, run.origin) == ("failed", "in/trigger.txt", "trigger_file")
    assert run.error is not None
    assert run.error.startswith(says)


@pytest.mark.parametrize(
    ("more", "rate"),
    [
        (b"", None), (b"\nrate = 24", "24"), (b"\n# fast\nRate: 50/2  # PAL\n", "50/2"),
        (b"\nother.mp4\nrate=5\nrate=23.976", "23.976"),
    ],
)  # fmt: skip
def test_a_trigger_file_may_say_the_rate_of_frames(more: bytes, rate: str | None) -> None:
    assert read_trigger(b"in/frames/" + more, media_url="media") == Trigger("in/frames", rate)


def test_a_folder_of_frames_becomes_one_run_for_each_version_of_it(site: Site) -> None:
    triggers = site.triggers()
    site.put("shots/v1.2/frame_1.png", "shots/v1.2/frame_2.png", "in/frames/1.png")
    site.put("in/trigger.txt", data=b"shots/v1.2\nrate = 24")
    site.settle(triggers)
    site.put("in/trigger-again.txt", data=b"shots/v1.2/\nrate = 24")
    site.settle(site.triggers(), 6)
    run = site.only_run()
    assert (run.source, run.origin, run.options) == ("shots/v1.2", "trigger_file", {"rate": "24"})
    assert run.target == "painted/shots/v1.2.starry_night.mp4"
    site.put("shots/v1.2/frame_3.png")
    site.settle(triggers)
    assert len(site.all_runs()) == 1, "the trigger file has not come again"
    site.put("in/trigger.txt", data=b"shots/v1.2\nrate = 24\n")
    site.settle(triggers)
    older, newer = site.all_runs()
    assert (older.state, newer.state) == ("cancelled", "queued")
    assert newer.target == run.target
    assert newer.options == {"rate": "24", "force": True}


def test_rules_and_sidecars_say_the_rate_of_frames_and_videos_keep_their_own(site: Site) -> None:
    rules = settings(rules=[{**UDNIE, "prefix": "in", "rate": 23.976}], watch=[{"prefix": "in"}])
    for name in ("a", "b", "c.d"):
        site.put(f"in/{name}/1.png")
        site.put(f"in/trigger {name}.txt", data=f"in/{name}".encode())
    site.put("in/trigger a.txt", data=b"in/a\nrate = 12")
    site.put("in/c.d.toml", data=b"rate = 30\nstyle = 'the_scream'")
    site.put("in/c.toml", data=b"style = 'of another'")
    site.put("in/film.ts")
    site.settle(site.triggers(rules), 6)
    found = {run.source: run.options.get("rate") for run in site.all_runs()}
    assert found == {"in/a": "12", "in/b": 23.976, "in/c.d": 30, "in/film.ts": None}


def test_a_folder_that_was_refused_for_its_sidecar_is_taken_when_its_trigger_file_comes_again(
    site: Site,
) -> None:
    triggers = site.triggers()
    site.put("in/a/1.png")
    site.put("in/a.toml", data=b"rate = 'fast'")
    site.put("in/trigger.txt", data=b"in/a")
    site.settle(triggers)
    assert "rate reads 24" in (site.only_run().error or "")
    site.put("in/a.toml", data=b"rate = 24")
    site.settle(triggers)
    site.put("in/trigger.txt", data=b"in/a\n")
    site.settle(triggers)
    assert [run.state for run in site.all_runs()] == ["failed", "queued"]


def test_a_run_over_a_folder_makes_what_it_tells_and_no_other_run_comes_of_it(site: Site) -> None:
    site.runs.submit(Submission(source="in/frames", style="udnie", user="alice"))
    queue = Queue(site.runs, "p")
    (handed,) = queue.take(1)
    queue.tell(handed, "plan", {}, resolved_target="in/frames.udnie.mp4")
    site.put("in/frames.udnie.mp4")
    site.settle(site.triggers(), 6)
    assert site.sources() == ["in/frames"]


def schedule(**table: Any) -> Schedule:
    return read_schedules([{**UDNIE, **table}], where="serve.schedules")[0]


@pytest.mark.parametrize(
    ("table", "now", "due"),
    [
        ({"every": "1h"}, "2024-05-05T10:59:59", "2024-05-05T10:00:00"),
        ({"every": "1h"}, "2024-05-05T11:00:00", "2024-05-05T11:00:00"),
        ({"every": "1d"}, "2024-05-05T11:00:00", "2024-05-05T00:00:00"),
        ({"cron": "0 3 * * *"}, "2024-05-05T02:59:59", "2024-05-04T03:00:00"),
        ({"cron": "0 3 * * *"}, "2024-05-05T03:00:00", "2024-05-05T03:00:00"),
        ({"cron": "0 3 * * mon"}, "2024-05-05T03:00:00", "2024-04-29T03:00:00"),
        # in Berlin it is two hours later in summer, and one in winter
        ({"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, "2024-07-01T12:00:00",
         "2024-07-01T01:00:00"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Berlin"}, "2024-12-01T12:00:00",
         "2024-12-01T02:00:00"),
    ],
)  # fmt: skip
def test_a_schedule_knows_when_it_was_due_last(table: dict[str, Any], now: str, due: str) -> None:
    found = schedule(**table).last_due(datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert found == datetime.fromisoformat(due).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "needs cron"),
        ({"cron": "0 3 * * *", "every": "1h"}, "needs cron"),
        ({"cron": "sometimes"}, "five fields"),
        ({"cron": "0 0 30 2 *"}, "never comes"),
        ({"cron": "61 * * * *"}, "five fields"),
        ({"every": "1s"}, "every reads"),
        ({"every": "1 hour"}, "every reads"),
        ({"every": 3600}, "every must be text"),
        ({"cron": "0 3 * * *", "timezone": "Mars"}, "timezone"),
        ({"cron": "0 3 * * *", "timezone": "../../etc/passwd"}, "timezone"),
        ({"every": "1h", "timezone": "Europe/Berlin"}, "timezone belongs to cron"),
        ({"every": "1h", "crom": "x"}, "unknown key 'crom'"),
    ],
)
def test_a_wrong_schedule_is_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=r"^serve.schedules 1") as refused:
        schedule(**table)
    assert says in str(refused.value)


HOURLY = settings(schedules=[{"every": "1h", "prefix": "in", "style": "udnie"}])


def next_hour(site: Site) -> None:
    site.now += 3600 - site.now % 3600


def test_a_schedule_makes_runs_of_everything_new_when_it_is_due(site: Site) -> None:
    triggers = site.triggers(HOURLY)
    site.put("in/a.ts", "in/b.ts")
    site.settle(triggers, 5)
    assert not site.all_runs()
    next_hour(site)
    site.settle(triggers)
    assert site.sources() == ["in/a.ts", "in/b.ts"]
    assert {run.origin for run in site.all_runs()} == {"schedule"}
    site.put("in/c.ts")
    site.settle(triggers, 5)
    assert len(site.all_runs()) == 2
    next_hour(site)
    site.settle(triggers)
    assert site.sources() == ["in/a.ts", "in/b.ts", "in/c.ts"]


def test_what_comes_while_a_schedule_is_served_waits_for_the_next_time(site: Site) -> None:
    triggers = site.triggers(HOURLY)
    triggers.tick()
    next_hour(site)
    site.put("in/a.ts")
    site.settle(triggers, 1)
    site.put("in/b.ts")
    site.settle(triggers, 5)
    assert site.sources() == ["in/a.ts"]


def test_missed_times_are_made_up_for_once(site: Site) -> None:
    site.triggers(HOURLY).tick()
    site.now += 100 * 3600
    site.put("in/a.ts")
    triggers = site.triggers(HOURLY)
    site.settle(triggers)
    site.put("in/b.ts")
    site.settle(triggers, 5)
    site.settle(site.triggers(HOURLY), 5)
    assert site.sources() == ["in/a.ts"]


def test_two_processes_serve_a_due_time_once(site: Site) -> None:
    first, second = site.triggers(HOURLY), site.triggers(HOURLY)
    first.tick(), second.tick()
    next_hour(site)
    site.put("in/a.ts")
    site.settle(first)
    site.put("in/b.ts")  # too late for this hour, whoever looks
    site.settle(second, 5)
    assert site.sources() == ["in/a.ts"]


def test_a_schedule_that_is_interrupted_is_served_by_the_next_start(site: Site) -> None:
    triggers = site.triggers(HOURLY)
    triggers.tick()
    next_hour(site)
    site.put("in/a.ts")
    triggers.tick()  # it has looked once, and is killed
    site.settle(site.triggers(HOURLY))
    assert site.only_run().source == "in/a.ts"
