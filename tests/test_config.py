from pathlib import Path

import pytest

from impasto.config import LIMITS, load_settings
from impasto.errors import RequestError
from impasto.settings import Limits


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that nobody's real configuration is read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_and_environment_everything_has_a_default() -> None:
    settings = load_settings({})
    assert settings.limits == Limits()
    assert settings.user_styles.name == "styles"
    assert settings.user_styles.is_absolute()
    assert Path(settings.system_store).is_absolute()


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    file = written(
        tmp_path / "c.toml", 'styles = "/from/file"\nwork = "az://work/x"\n[limits]\nmax_frames = 7'
    )
    settings = load_settings({"IMPASTO_STYLES": "/from/env", "IMPASTO_MAX_PIXELS": "99"}, file)
    assert settings.user_styles == Path("/from/env")
    assert settings.system_store == "az://work/x"
    assert settings.limits == Limits(max_frames=7, max_pixels=99)


def test_an_empty_variable_counts_as_absent() -> None:
    assert load_settings({"IMPASTO_WORK": "", "IMPASTO_MAX_BYTES": ""}) == load_settings({})


def test_the_file_named_by_the_environment_is_read(tmp_path: Path) -> None:
    file = written(tmp_path / "named.toml", "[limits]\nmax_streams = 3")
    assert load_settings({"IMPASTO_CONFIG": str(file)}).limits.max_streams == 3


def test_a_relative_folder_counts_from_the_file_and_a_tilde_is_home(
    tmp_path: Path, home: Path
) -> None:
    file = written(tmp_path / "c.toml", 'styles = "~/mine"\nwork = "w"')
    settings = load_settings({}, file)
    assert settings.user_styles == home / "mine"
    assert settings.system_store == str(tmp_path / "w")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (
            "stiles = '/x'",
            "unknown key 'stiles'; the keys are limits, perceptual, prices, ray_address, serve, ",
        ),
        ("[limits]\nmax_pixel = 1", "unknown key 'max_pixel'; the keys are max_bytes"),
        ("limits = 3", "limits must be a table"),
        ("styles = 3", "styles must be a path or URL in quotes, got 3"),
        ("work = ''", "work must be a path or URL"),
        ("[limits]\nmax_frames = 0", "max_frames must be a whole number above zero, got 0"),
        ("[limits]\nmax_frames = true", "got True"),
        ("[limits]\nmax_frames = 1.5", "got 1.5"),
        ("styles = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_fault(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(RequestError) as refused:
        load_settings({}, written(tmp_path / "c.toml", text))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="can't read the configuration"):
        load_settings({}, tmp_path / "absent.toml")


@pytest.mark.parametrize("value", ["many", "-1", "0", "1e9"])
@pytest.mark.parametrize("variable", LIMITS.values())
def test_a_limit_of_the_environment_is_a_positive_number(variable: str, value: str) -> None:
    with pytest.raises(RequestError, match=f"{variable} must be a whole number above zero"):
        load_settings({variable: value})


def test_what_judges_trainings_is_a_name_or_a_path(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('perceptual = "own.pth"')
    assert load_settings({}, file).perceptual == "own.pth"  # a name, as far as anyone can tell
    (tmp_path / "own.pth").write_bytes(b"")
    assert load_settings({}, file).perceptual == str(tmp_path / "own.pth")
    assert load_settings({"IMPASTO_PERCEPTUAL": "vgg19"}, file).perceptual == "vgg19"
    assert load_settings({}).cache is not None
