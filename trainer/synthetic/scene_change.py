"""How the scene of a product may change between training and production, or over the years: the
light, the camera's settings, where it stands, its lens, its depth, and the table.

What the seed draws stays: the parts, their poses, their defects, and the small variation of the
light from image to image. So two scenes of one seed show the same parts, image by image.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from edge.errors import ConfigError

if TYPE_CHECKING:  # `trainer --help` names the keys, and loads no library for it
    from trainer.synthetic.surface import Light

WHITE_BALANCE_K = 4600.0  # that the camera of every seed is set to
RED_M, GREEN_M, BLUE_M = 610e-9, 535e-9, 465e-9  # where the channels see most
SECOND_RADIATION_M_K = 1.438777e-2  # h c / k of Planck's law


@dataclass(frozen=True)
class SceneChange:
    """What differs from the scene that the seed draws. The default: nothing.

    light: degrees that the lamp is turned around the table. elevation: degrees that it is raised.
    exposure, gain: factors of the camera's own; gain brings its noise. white_balance: kelvin that
    the camera is set to. distance, focal: factors. distortion: k1 of the lens, left in the images.
    depth_noise: factor of the error of a stereo match. table: number of another table, 0: the own.
    """

    light: float = 0.0
    elevation: float = 0.0
    exposure: float = 1.0
    gain: float = 1.0
    white_balance: float = WHITE_BALANCE_K
    distance: float = 1.0
    focal: float = 1.0
    distortion: float = 0.0
    depth_noise: float = 1.0
    table: int = 0

    def lit(self, light: Light) -> Light:
        """The light of an image with the lamp where it is now."""
        return replace(
            light,
            azimuth=light.azimuth + math.radians(self.light),
            elevation=light.elevation + math.radians(self.elevation),
        )

    def channel_factors(self) -> tuple[float, float, float]:
        """What red, green and blue are multiplied with, before the camera's curve and its limit."""
        level = self.exposure * self.gain
        red, green, blue = white_balance_factors(self.white_balance)
        return level * red, level * green, level * blue

    def color_noise(self) -> float:
        """Factor of the noise at a given gray level: where light is amplified, fewer photons make
        that level, and their shot noise grows with the root of the gain.
        """
        return math.sqrt(self.gain)

    def plain(self) -> dict[str, float | int]:
        """Every key and its value, for a file."""
        return asdict(self)


UNCHANGED = SceneChange()


@dataclass(frozen=True)
class Key:
    """What `--scene` takes for one key: from least to largest; usual: without a value, and in
    `all`.
    """

    least: float
    largest: float
    usual: float
    unit: str


KEYS = MappingProxyType({
    "light": Key(-180, 180, 40, "degrees"),
    "elevation": Key(-15, 20, -8, "degrees"),
    "exposure": Key(0.25, 4, 1.3, "times"),
    "gain": Key(0.25, 16, 1.6, "times"),
    "white_balance": Key(2500, 10000, 5600, "kelvin"),
    "distance": Key(0.9, 1.25, 1.05, "times"),
    "focal": Key(0.9, 1.25, 1.02, "times"),
    "distortion": Key(-0.1, 0.1, -0.03, "as k1"),
    "depth_noise": Key(0, 5, 1.5, "times"),
    "table": Key(0, 999, 1, "as a number"),
})  # fmt: skip
ALL = "all"
# gain and exposure multiply: together they make the image as bright as the usual exposure alone
TOGETHER = MappingProxyType(
    {
        **{name: key.usual for name, key in KEYS.items()},
        "exposure": KEYS["exposure"].usual / KEYS["gain"].usual,
    }
)


def parse_scene(text: str) -> SceneChange:
    """A scene as `--scene` is given it: KEY=VALUE, or KEY alone for its usual change, separated by
    commas; `all` changes everything, and a key with a value beside it overrides its own.

    Raises: ConfigError naming the first key that is unknown, named twice, no number or beyond its
        limits.
    """
    values: dict[str, float] = {}
    named: set[str] = set()
    for item in (item.strip() for item in text.split(",") if item.strip()):
        name, has_value, given = (piece.strip() for piece in item.partition("="))
        if name in named:
            raise ConfigError(f"--scene {text}: {name} stands there twice: keep one")
        named.add(name)
        if name == ALL and not has_value:
            values = {**TOGETHER, **values}
        else:
            values[name] = _value(text, name, given if has_value else None)
    if not named:
        raise ConfigError(f"--scene {text!r} changes nothing: {_known()}")
    table = int(values.pop("table", 0))
    return SceneChange(**values, table=table)


def white_balance_factors(kelvin: float) -> tuple[float, float, float]:
    """What a camera multiplies red, green and blue with when it is set to another color temperature
    than WHITE_BALANCE_K, by Wien's approximation of Planck's law; green stays.
    """

    def against_green(wavelength_m: float) -> float:
        apart = 1 / wavelength_m - 1 / GREEN_M
        return math.exp(SECOND_RADIATION_M_K * apart * (1 / kelvin - 1 / WHITE_BALANCE_K))

    return against_green(RED_M), 1.0, against_green(BLUE_M)


def _value(text: str, name: str, given: str | None) -> float:
    if name not in KEYS:
        raise ConfigError(f"--scene {text}: there is no {name or 'key'} to change: {_known()}")
    key = KEYS[name]
    if given is None:
        return key.usual
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not key.least <= value <= key.largest or (name == "table" and value != int(value)):
        raise ConfigError(
            f"--scene {name}={given}: write a number from {key.least:g} to {key.largest:g},"
            f" {key.unit}"
        )
    return value


def _known() -> str:
    return f"choose from {', '.join(KEYS)}, or {ALL}"
