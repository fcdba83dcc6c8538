"""station.toml: every typo stops the station and is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import (
    PLACE,
    EdgeConfig,
    name_station,
    parse_config,
    read_config,
    render_config,
    require_name,
    require_nameable,
    write_first_config,
)
from edge.errors import ConfigError
from edge.sections import CameraConfig


def test_the_file_that_is_laid_down_says_what_the_defaults_say(tmp_path: Path) -> None:
    camera = CameraConfig(kind="virtual", path='/data/be "lt"\\x', empty="/data/\u00e4", fps=15)
    assert write_first_config(tmp_path, camera)
    assert read_config(tmp_path) == EdgeConfig(camera=camera)
    assert parse_config(render_config(EdgeConfig())) == EdgeConfig()


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    write_first_config(tmp_path, CameraConfig())
    (tmp_path / PLACE).write_text("[broker]\nport = 8883\n")
    assert not write_first_config(tmp_path, CameraConfig(kind="folder"))
    assert read_config(tmp_path).broker.port == 8883
    assert read_config(tmp_path).camera == CameraConfig()


def test_no_file_is_all_defaults(tmp_path: Path) -> None:
    assert read_config(tmp_path) == EdgeConfig()
    assert EdgeConfig().decision.min_frames == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[camera]\nkid = 'x'", "camera.kid"),
        ("[cam]\nkind = 'x'", "cam:"),
        ("[camera]\nkind = 'kinect'", "camera.kind"),
        ("[broker]\nport = '1883'", "broker.port"),
        ("[broker]\nport = 0", "broker.port"),
        ("[broker]\nport = true", "broker.port"),
        ("[broker]\nhost = ''", "broker.host"),
        ("[broker]\npassword = 'secret'", "broker.password"),
        ("[broker]\npassword_file = '/x'", "username"),
        ("[station]\nsite = 'a/b'", "station.site"),
        ("[station]\nline = '#'", "station.line"),
        ("[station]\nstation = ''", "station.station"),
        ("[station]\nstation = 'x\\n'", "station.station"),
        ("[retention]\ngb = nan", "retention.gb"),
        ("[retention]\ngb = -1", "retention.gb"),
        ("[decision]\nmin_frames = 5\nmax_frames = 4", "min_frames"),
        ("[decision]\naggregate = 'mode'", "decision.aggregate"),
        ("[runtime]\nthreads = 0", "runtime.threads"),
        ("[runtime]\nprecision = 'int4'", "runtime.precision"),
        ("[update]\nsource = 'tuf'", "url is no address"),
        ("[update]\nsource = 'tuf'\nurl = 'ftp://x'", "url is no address"),
        ("[update]\nsource = 'usb'", "url names no folder"),
        ("[update]\nca_file = '/x'", "no https address"),
        ("[update]\nring = '../x'", "update.ring"),
        ("[update]\nproducts = ['a/b']", "update.products"),
        ("[runtime", "not TOML"),
        ("a = " + "[" * 50_000, "nested too deeply"),
        ("[broker]\nport = " + "1" * 5000, "thousands of digits"),
        ("[broker]\nport = " + "1" * 4000, "broker.port"),
        ("[broker]\nhost = 'x\\u0000'".replace("'", '"'), "broker.host: it holds"),
        ('[camera]\npath = "a\\nb"', "camera.path: it holds"),
        ('[camera]\n"a\\nb" = 1', "camera.'a\\nb'"),
        ('[station]\nstation = "x\\n"', "station.station"),
        ("[broker]\nport = 1\u0000", "not TOML"),
        ("a = 1\na = 2", "not TOML"),
    ],
)
def test_wrong_value_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / PLACE).parent.mkdir(parents=True)
    (tmp_path / PLACE).write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_config(tmp_path)
    assert words in str(refused.value)
    assert str(tmp_path / PLACE) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_whole_numbers_are_fine_where_a_fraction_is_meant() -> None:
    assert parse_config("[retention]\ngb = 5").retention.gb == 5.0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[station]\nsite = '\xff'\n", "UTF-8"),
        ("[station]\nsite = 'a'\n".encode("utf-16"), "UTF-16"),
        (
            b"[station]\nsite = 'a'\n" + b"# padding\n" * 30_000 + b"[nonsense]\n",
            "larger than 256 KiB",
        ),
    ],
)
def test_file_that_is_no_text_or_too_long(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / PLACE).parent.mkdir(parents=True)
    (tmp_path / PLACE).write_bytes(data)
    with pytest.raises(ConfigError, match=words):
        read_config(tmp_path)


def test_byte_order_mark_of_an_editor(tmp_path: Path) -> None:
    (tmp_path / PLACE).parent.mkdir(parents=True)
    (tmp_path / PLACE).write_bytes(b"\xef\xbb\xbf[station]\nsite = 'a'\n")
    assert read_config(tmp_path).station.site == "a"


def test_a_station_is_named_once(tmp_path: Path) -> None:
    write_first_config(tmp_path, CameraConfig())
    before = (tmp_path / PLACE).read_text()
    name_station(tmp_path, "cell7")
    name_station(tmp_path, "cell7")
    assert (tmp_path / PLACE).read_text() == before.replace(
        '\nstation = "station"', '\nstation = "cell7"'
    )
    require_name(read_config(tmp_path), tmp_path)
    with pytest.raises(ConfigError, match="this station is named cell7 already"):
        name_station(tmp_path, "cell8")


@pytest.mark.parametrize("name", ["", "a/b", "#", "+", "a b", "é", "x" * 33, "a\n", "a:b"])
def test_a_name_that_no_topic_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="--station"):
        require_nameable(tmp_path, name)


def test_a_station_that_nobody_named_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"this station has no name yet: set site, line and station"
    ):
        require_name(EdgeConfig(), tmp_path)
    require_name(parse_config("[broker]\nenabled = false\n"), tmp_path)
