"""Synthetic dashcam pictures by true perspective: a road that passes at the scene's speed, with known truth. Pure: no file, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from curation.demo import paint
from curation.demo.paint import Image, Layout, Lighting, Plane
from curation.errors import UsageError
from curation.schema import SCENE, TIMEOFDAY, WEATHER

RENDERER_VERSION: Final = "1"  # change it with every change of a picture: make_fleet renders again then

_CAMERA_HEIGHT_M: Final = 1.35  # behind a car's mirror
_FOCAL_OF_WIDTH: Final = 0.62  # 78 degrees across, as common recorders
_HORIZON_OF_HEIGHT: Final = 0.46
_NEAREST_M: Final = 2.6
_FARTHEST_M: Final = 240.0
_GROUND_LEVELS: Final = 10
_WALL_LEVELS: Final = 12
_SHADOW: Final = 0.1  # share of a vehicle's picture below the ground line: its shadow
_LAMP_HEIGHT_M: Final = 8.5
_GAIN_ONE: Final = 128  # gain maps are 8 bit: 128 = unchanged, 255 = twice as bright


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a rendered clip shows: the ground truth, in BDD100K values."""

    timeofday: str = "daytime"
    weather: str = "clear"
    scene: str = "highway"
    speed_mps: float = 16.0
    traffic: int = 6
    camera: Literal["front", "back"] = "front"

    def __post_init__(self) -> None:
        known = self.timeofday in TIMEOFDAY and self.weather in WEATHER and self.scene in SCENE
        drawable = known and self.scene in paint.LAYOUTS and paint.lighting(self.timeofday, self.weather, self.scene) is not None
        if not drawable:
            raise UsageError(
                "this world has no such scene",
                subject=f"scene {self.timeofday} / {self.weather} / {self.scene}",
                fix="take another combination of BDD100K values; snow and petrol stations are not drawn",
            )
        if not 0 <= self.speed_mps <= 60 or not 0 <= self.traffic <= 40:
            raise UsageError(
                f"speed_mps is {self.speed_mps}, traffic {self.traffic}",
                subject="scene",
                fix="keep speed_mps in [0, 60] and traffic in [0, 40]",
            )

    @property
    def ego_motion(self) -> str:
        """`moving` or `stationary`, as in the manifest."""
        return "moving" if self.speed_mps > 0 else "stationary"


@dataclass(frozen=True, slots=True, kw_only=True)
class _View:
    """The pinhole camera."""

    width: int
    height: int

    @property
    def focal(self) -> float:
        return _FOCAL_OF_WIDTH * self.width

    @property
    def centre(self) -> float:
        return self.width / 2

    @property
    def horizon(self) -> int:
        return round(_HORIZON_OF_HEIGHT * self.height)


class _Surface:
    """A plane or arch that runs along the road: a periodic texture, fetched through maps that never change.

    Driving on by d metres is looking up the same maps in the texture rolled by d. Each level of the texture is blurred to the
    footprint that a pixel has at its distance, so that far lane marks neither flicker nor alias.
    """

    def __init__(
        self,
        texture: Plane,
        *,
        rows_per_m: int,
        across: Plane,
        distance_m: Plane,
        footprint: Plane,
        inside: npt.NDArray[np.bool_],
        across_blur: Sequence[float],
        smear_rows: float,
        haze: Sequence[Plane] = (),
        per_octave: int = 1,
    ) -> None:
        self._rows, columns = texture.shape[:2]
        self._rows_per_m = rows_per_m
        self._texture = _levels(texture, across_blur, smear_rows, haze, per_octave)
        level = np.clip(np.rint(per_octave * np.log2(np.maximum(footprint, 1e-3))), 0, len(across_blur) - 1)
        map_x = np.where(inside, level * columns + np.clip(across, 0, columns - 1), -8).astype(np.float32)
        map_y = np.where(inside, (distance_m * rows_per_m) % self._rows, -8).astype(np.float32)
        self._map = cv2.convertMaps(map_x, map_y, cv2.CV_16SC2)

    def fetch(self, driven_m: float) -> Image:
        """What the camera sees of it after `driven_m`."""
        start = round(driven_m * self._rows_per_m) % self._rows
        window = self._texture[start : start + self._rows + 1]
        seen: Image = cv2.remap(window, *self._map, interpolation=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return seen


def _levels(texture: Plane, across_blur: Sequence[float], smear_rows: float, haze: Sequence[Plane], per_octave: int) -> Image:
    """The texture's levels side by side, twice over (and a row) along the road, so that any window of one period can be cut."""
    rows, columns = texture.shape[:2]
    flat = cv2.convertScaleAbs(np.clip(texture, 0, 255))
    joined = np.empty((2 * rows + 1, len(across_blur) * columns, texture.shape[2]), np.uint8)
    for level, across in enumerate(across_blur):
        tall = max(1, round(min(max(2.0 ** (level / per_octave), smear_rows), rows * 0.9)))
        wide = max(1, round(across))
        pad = tall // 2 + 1
        blurred = (
            flat if (wide, tall) == (1, 1) else cv2.blur(np.concatenate([flat[-pad:], flat, flat[:pad]]), (wide, tall))[pad : pad + rows]
        )
        joined[:rows, level * columns : (level + 1) * columns] = cv2.transform(blurred, haze[level]) if haze else blurred
    joined[rows : 2 * rows] = joined[:rows]
    joined[2 * rows] = joined[0]
    return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wall:
    """A surface with the part of the picture that it can cover."""

    surface: _Surface
    rows: slice
    columns: slice

    def draw(self, frame: Image, driven_m: float) -> None:
        fetched = self.surface.fetch(driven_m)
        region = frame[self.rows, self.columns]
        _over(region, fetched)


def _over(region: Image, layer: Image) -> None:
    """Lay premultiplied BGR and alpha over a region, in place."""
    through = cv2.cvtColor(cv2.bitwise_not(cv2.extractChannel(layer, 3)), cv2.COLOR_GRAY2BGR)
    cv2.add(cv2.multiply(region, through, scale=1 / 255), cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR), dst=region)


def _pixels(view: _View, rows: slice, columns: slice) -> tuple[Plane, Plane]:
    """Rays of pixels as (right, up) per metre of depth."""
    v, u = np.mgrid[rows, columns].astype(np.float32)
    return (u + 0.5 - view.centre) / view.focal, (view.horizon - v - 0.5) / view.focal


def _ground(view: _View, texture: Plane, light: Lighting, speed_mps: float) -> _Surface:
    right, up = _pixels(view, slice(view.horizon, view.height), slice(0, view.width))
    depth = np.minimum(_CAMERA_HEIGHT_M / -up, _FARTHEST_M * 3)
    x = right * depth
    fold = np.abs((np.abs(x) - 14.0) % 12.0 - 6.0) + 13.5  # beyond the texture the verge repeats, mirrored
    x = np.where(np.abs(x) < paint.GROUND_HALF_WIDTH_M - 0.5, x, np.sign(x) * fold)
    footprint = depth**2 / (_CAMERA_HEIGHT_M * view.focal) * paint.GROUND_ROWS_PER_M
    blur = [
        math.sqrt(2.0**k / paint.GROUND_ROWS_PER_M * _CAMERA_HEIGHT_M / view.focal) * paint.GROUND_COLUMNS_PER_M
        for k in range(_GROUND_LEVELS)
    ]
    return _Surface(
        texture, rows_per_m=paint.GROUND_ROWS_PER_M, across=(x + paint.GROUND_HALF_WIDTH_M) * paint.GROUND_COLUMNS_PER_M - 0.5,
        distance_m=depth, footprint=footprint, inside=np.ones(depth.shape, bool), across_blur=blur,
        smear_rows=speed_mps * light.exposure_s * paint.GROUND_ROWS_PER_M,
    )  # fmt: skip


def _hazed(distance_m: float, light: Lighting) -> Plane:
    """Matrix that loses premultiplied BGR and alpha in haze as far as `distance_m` does."""
    kept = math.exp(-distance_m / light.haze_range_m)
    matrix = np.diag([kept, kept, kept, 1.0])
    matrix[:3, 3] = (1 - kept) * np.asarray(light.haze) / 255
    return matrix


def _wall(view: _View, texture: Plane, x_m: float, light: Lighting, speed_mps: float) -> _Wall:
    columns = slice(0, view.width // 2) if x_m < 0 else slice(view.width // 2, view.width)
    right, up = _pixels(view, slice(0, view.height), columns)
    depth = x_m / np.where(right * x_m > 0, right, np.sign(x_m) * 1e-6)
    y = _CAMERA_HEIGHT_M + up * depth
    height_m = texture.shape[1] / paint.WALL_TEXELS_PER_M
    inside = (y >= 0) & (y < height_m - 0.1) & (depth < _FARTHEST_M)
    rows = np.flatnonzero(inside.any(axis=1))
    used = slice(int(rows[0]), int(rows[-1]) + 1)
    footprint = depth**2 / (abs(x_m) * view.focal) * paint.WALL_TEXELS_PER_M
    blur = [math.sqrt(2.0 ** (k / 2) * paint.WALL_TEXELS_PER_M * abs(x_m) / view.focal) for k in range(_WALL_LEVELS)]
    surface = _Surface(
        texture, rows_per_m=paint.WALL_TEXELS_PER_M, across=y[used] * paint.WALL_TEXELS_PER_M, distance_m=depth[used],
        footprint=footprint[used], inside=inside[used], across_blur=blur,
        smear_rows=speed_mps * light.exposure_s * paint.WALL_TEXELS_PER_M,
        haze=[_hazed(wide / paint.WALL_TEXELS_PER_M * view.focal, light) for wide in blur], per_octave=2,
    )  # fmt: skip
    return _Wall(surface=surface, rows=used, columns=columns)


def _arch(view: _View, light: Lighting, speed_mps: float, rng: np.random.Generator, axis_m: float) -> _Surface:
    """Lining of a tunnel whose axis lies `axis_m` right of the camera, on the road."""
    right, up = _pixels(view, slice(0, view.height), slice(0, view.width))
    a, b, c = right**2 + up**2 + 1e-9, up * _CAMERA_HEIGHT_M - right * axis_m, _CAMERA_HEIGHT_M**2 + axis_m**2 - paint.TUNNEL_RADIUS_M**2
    depth = (-b + np.sqrt(b**2 - a * c)) / a
    x, y = right * depth - axis_m, _CAMERA_HEIGHT_M + up * depth
    angle = np.arctan2(y, -x)
    texture = paint.tunnel_texture(light, rng)
    footprint = np.minimum(depth, 9e3) ** 2 / (5.0 * view.focal) * paint.GROUND_ROWS_PER_M
    blur = [max(1.0, 2.0**k / 8) for k in range(_GROUND_LEVELS)]
    return _Surface(
        texture, rows_per_m=paint.GROUND_ROWS_PER_M, across=angle / np.pi * texture.shape[1], distance_m=np.minimum(depth, 9e3),
        footprint=footprint, inside=y >= -0.02, across_blur=blur,
        smear_rows=speed_mps * light.exposure_s * paint.GROUND_ROWS_PER_M,
    )  # fmt: skip


def beam_at(x_m: float, z_m: float) -> float:
    """Share of the own headlights' strength on something upright at `x_m`, `z_m`, in [0, 1]."""
    return math.exp(-((x_m / (1.6 + 0.16 * z_m)) ** 2)) / (1 + (z_m / 26) ** 2)


def _ground_light(view: _View, light: Lighting, *, lit_road: bool) -> tuple[Image, Image]:
    """Gain (128 = 1) and added haze for the ground, each rows below the horizon x width x 3."""
    right, up = _pixels(view, slice(view.horizon, view.height), slice(0, view.width))
    depth = np.minimum(_CAMERA_HEIGHT_M / -up, 2000.0)
    x = right * depth
    spread = np.exp(-(((x - 0.4) / (1.3 + 0.17 * depth)) ** 2)) / (1 + (depth / 15) ** 2.4)
    beam = light.beam * 0.8 * spread * (1 - np.exp(-((depth / 3.4) ** 3)))
    kept = np.exp(-depth / light.haze_range_m)
    gain = (np.asarray(light.ambient, np.float32) * (1.25 if lit_road else 1.0) + beam[..., None] * np.asarray((0.86, 0.97, 1.0))) * kept[
        ..., None
    ]
    haze = (1 - kept)[..., None] * np.asarray(light.haze, np.float32)
    return np.clip(gain * _GAIN_ONE, 0, 255).astype(np.uint8), np.clip(haze, 0, 255).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Thing:
    """Something upright that faces the camera, standing at the road."""

    x_m: float
    width_m: float
    height_m: float
    foot: float  # share of the picture below the ground line: shadow
    levels: tuple[Image, ...]


def _thing(x_m: float, width_m: float, height_m: float, picture: Image, *, foot: float = 0.0) -> _Thing:
    levels = [picture]
    while min(levels[-1].shape[:2]) > 12:
        levels.append(cv2.pyrDown(levels[-1]))
    return _Thing(x_m=x_m, width_m=width_m, height_m=height_m, foot=foot, levels=tuple(levels))


def _patch(frame: Image, quad: Plane, levels: Sequence[Image], *, gain: float, light: Lighting, z_m: float) -> None:
    """Lay a picture into the convex quadrilateral `quad` (top left, top right, bottom right, bottom left; pixels)."""
    low, high = quad.min(axis=0), quad.max(axis=0)
    x0, y0 = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
    x1, y1 = min(frame.shape[1], math.ceil(high[0])), min(frame.shape[0], math.ceil(high[1]))
    if x1 <= x0 or y1 <= y0 or high[0] - low[0] < 0.8:
        return
    tall = float(quad[2:, 1].max() - quad[:2, 1].min())
    pick = min(len(levels) - 1, max(0, round(math.log2(max(levels[0].shape[0] / max(tall, 1.0), 1.0)))))
    source = levels[pick]
    height, width = source.shape[:2]
    target = quad - np.asarray((x0, y0), np.float32)
    if quad[0, 1] == quad[1, 1]:
        matrix = cv2.getAffineTransform(np.asarray([[0, 0], [width, 0], [0, height]], np.float32), target[[0, 1, 3]])
        layer = cv2.warpAffine(source, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    else:
        corners = np.asarray([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        layer = cv2.warpPerspective(source, cv2.getPerspectiveTransform(corners, target), (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
    kept = math.exp(-z_m / light.haze_range_m)
    if kept * gain < 0.97 or gain > 1.03:
        layer = cv2.multiply(layer, (kept * gain, kept * gain, kept * gain, 1.0))
    if kept < 0.97:
        alpha = cv2.cvtColor(cv2.extractChannel(layer, 3), cv2.COLOR_GRAY2BGR)
        lost = [(1 - kept) * value / 255 for value in light.haze]
        region = frame[y0:y1, x0:x1]
        _over(region, layer)
        cv2.add(region, cv2.multiply(alpha, (*lost, 0.0)), dst=region)
        return
    _over(frame[y0:y1, x0:x1], layer)


def _glow(frame: Image, halo: Image, x: float, y: float, size: float) -> None:
    """Add a halo of `size` pixels around (x, y)."""
    half = size / 2
    x0, y0, x1, y1 = (
        max(0, math.floor(x - half)),
        max(0, math.floor(y - half)),
        min(frame.shape[1], math.ceil(x + half)),
        min(frame.shape[0], math.ceil(y + half)),
    )
    if x1 <= x0 or y1 <= y0:
        return
    scale = size / halo.shape[0]
    matrix = np.asarray([[scale, 0, x - half - x0], [0, scale, y - half - y0]], np.float32)
    flags = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
    spot = cv2.warpAffine(halo, matrix, (x1 - x0, y1 - y0), flags=flags)
    region = frame[y0:y1, x0:x1]
    cv2.add(region, spot, dst=region)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vehicle:
    """A car or truck in traffic: its near end is `start_m` ahead at the start."""

    start_m: float
    speed_mps: float  # along the own direction; oncoming traffic is negative
    length_m: float
    sway_m: float
    near: _Thing
    side: tuple[Image, ...]
    lamps: Literal["head", "tail", "none"]


class _Showroom:
    """Paints each kind and colour of vehicle once."""

    def __init__(self, light: Lighting, rng: np.random.Generator) -> None:
        self._light, self._rng = light, rng
        self._painted: dict[tuple[str, paint.Colour, bool], tuple[_Thing, _Thing, _Thing]] = {}

    def vehicle(self, *, x_m: float, start_m: float, speed_mps: float, front: bool, parked: bool = False) -> _Vehicle:
        """A vehicle of random kind and colour in the lane at `x_m`."""
        kind = "truck" if self._rng.random() < 0.16 and not parked else "car"
        colour = paint.CAR_COLOURS[int(self._rng.integers(len(paint.CAR_COLOURS)))]
        width_m, height_m, length_m = (2.5, 3.5, 9.0) if kind == "truck" else (1.86, 1.5, 4.6)
        face, right, left = self._faces(kind, colour, front=front)
        lamps: Literal["head", "tail", "none"] = "none" if parked else ("head" if front else "tail")
        near = _Thing(x_m=x_m, width_m=width_m, height_m=height_m / (1 - _SHADOW), foot=_SHADOW, levels=face.levels)
        return _Vehicle(
            start_m=start_m, speed_mps=speed_mps, length_m=length_m, sway_m=float(self._rng.uniform(0, 1.5)) * (not parked), near=near,
            side=(right if x_m > 0 else left).levels, lamps=lamps,
        )  # fmt: skip

    def _faces(self, kind: str, colour: paint.Colour, *, front: bool) -> tuple[_Thing, _Thing, _Thing]:
        key = (kind, colour, front)
        if key not in self._painted:
            side = paint.vehicle_side(kind, colour, self._light)
            pictures = (paint.vehicle_face(kind, colour, self._light, front=front), np.ascontiguousarray(side[:, ::-1]), side)
            first, second, third = (_thing(0, 1, 1, picture) for picture in pictures)
            self._painted[key] = (first, second, third)
        return self._painted[key]


class _World:
    """Everything of one clip that is painted once; `picture` then shows it from any point of the drive."""

    def __init__(self, scene: Scene, view: _View, seed: int) -> None:
        rng = np.random.default_rng(seed)
        light = paint.lighting(scene.timeofday, scene.weather, scene.scene)
        assert light is not None  # noqa: S101 - Scene refuses what has no light
        self.scene, self.view, self.light = scene, view, light
        layout = paint.LAYOUTS[scene.scene]
        lit_road = scene.scene in {"city street", "residential", "parking lot"} and light.lamps > 0.6
        texture = paint.ground_texture(layout, scene.scene, rng)
        if lit_road or scene.scene == "tunnel":
            texture *= _lamp_pools(texture.shape[0], 10.0 if scene.scene == "tunnel" else 30.0)
        self._ground = _ground(view, texture, light, scene.speed_mps)
        self._ground_gain, self._ground_haze = _ground_light(view, light, lit_road=lit_road)
        skyline = scene.scene in {"city street", "parking lot", "residential"}
        self._sky = paint.sky(view.width, view.height, view.horizon, light, rng, skyline=skyline)
        self._arch = _arch(view, light, scene.speed_mps, rng, -1.7) if scene.scene == "tunnel" else None
        self._walls = _walls(view, layout, light, scene.speed_mps, rng)
        self._rail = _wall(view, _rail_texture(light), -6.2, light, scene.speed_mps) if scene.scene == "highway" else None
        self._beside = _beside(scene, layout, light, rng)
        self._traffic = _traffic(scene, light, rng)
        lamp = max(light.lamps, 0.01)
        self._halos = {
            "tail": paint.glow(96, (26 * lamp, 30 * lamp, 225 * lamp)),
            "head": paint.glow(160, (225 * lamp, 240 * lamp, 250 * lamp)),
            "street": paint.glow(128, (120 * lamp, 186 * lamp, 220 * lamp)),
        }

    def picture(self, driven_m: float, elapsed_s: float) -> Image:
        """The world as light falls on the lens, before rain, bonnet and sensor."""
        view, heading = self.view, 1 if self.scene.camera == "front" else -1
        driven_m *= heading
        frame = self._sky.copy() if self._arch is None else self._arch.fetch(driven_m)
        ground = cv2.multiply(self._ground.fetch(driven_m), self._ground_gain, scale=1 / _GAIN_ONE)
        below = frame[view.horizon :]
        if self._arch is None:
            cv2.add(ground, self._ground_haze, dst=below)
        else:
            hidden = cv2.compare(cv2.cvtColor(below, cv2.COLOR_BGR2GRAY), 0, cv2.CMP_EQ)
            cv2.copyTo(ground, hidden, below)
        for wall in self._walls:
            wall.draw(frame, driven_m)
        standing = [(z, item) for z, item in self._standing(driven_m, elapsed_s) if z < _FARTHEST_M]
        standing.sort(key=lambda pair: -pair[0])
        beyond = [pair for pair in standing if self._rail is not None and _x_of(pair[1]) < -6.2]
        for z, item in beyond:
            self._draw(frame, z, item)
        if self._rail is not None:
            self._rail.draw(frame, driven_m)
        for z, item in standing:
            if self._rail is None or _x_of(item) >= -6.2:
                self._draw(frame, z, item)
        if self.light.wet > 0:
            _mirror(frame, view, self.light.wet)
        return frame

    def _standing(self, driven_m: float, elapsed_s: float) -> Iterator[tuple[float, _Thing | _Vehicle]]:
        for thing, at_m, period_m in self._beside:
            first = (at_m - driven_m) % period_m
            while first < 170:
                if first > 1.5:
                    yield first, thing
                first += period_m
        for vehicle in self._traffic:
            own = self.scene.speed_mps * (1 if self.scene.camera == "front" else -1)
            moved = (vehicle.speed_mps - own) * elapsed_s + vehicle.sway_m * math.sin(elapsed_s * 0.9 + vehicle.start_m)
            yield (vehicle.start_m + moved + 12) % 180 - 12, vehicle

    def _draw(self, frame: Image, z: float, item: _Thing | _Vehicle) -> None:
        if isinstance(item, _Vehicle):
            self._draw_vehicle(frame, z, item)
            return
        view, scale = self.view, self.view.focal / z
        left = view.centre + (item.x_m - item.width_m / 2) * scale
        top, bottom = view.horizon + (_CAMERA_HEIGHT_M - item.height_m) * scale, view.horizon + _CAMERA_HEIGHT_M * scale
        quad = np.asarray(
            [[left, top], [left + item.width_m * scale, top], [left + item.width_m * scale, bottom], [left, bottom]], np.float32
        )
        _patch(frame, quad, item.levels, gain=self._gain(item.x_m, z), light=self.light, z_m=z)
        if self.light.lamps > 0.6 and item.height_m == _LAMP_HEIGHT_M:
            lamp_x = view.centre + (item.x_m - math.copysign(1.1, item.x_m)) * scale
            _glow(frame, self._halos["street"], lamp_x, top + 0.4 * scale, max(9.0, 4.2 * scale))

    def _draw_vehicle(self, frame: Image, z: float, vehicle: _Vehicle) -> None:
        view, near = self.view, vehicle.near
        far_z = z + vehicle.length_m
        if far_z < _NEAREST_M + 0.3:
            return
        edge = near.x_m - math.copysign(near.width_m * 0.47, near.x_m)
        if abs(near.x_m) > 1.2 and z < 60:
            self._draw_side(frame, max(z, _NEAREST_M), far_z, edge, vehicle)
        if z < _NEAREST_M:
            return
        scale = view.focal / z
        top = view.horizon + (_CAMERA_HEIGHT_M - near.height_m * (1 - near.foot)) * scale
        bottom = view.horizon + (_CAMERA_HEIGHT_M + near.height_m * near.foot) * scale
        left, right = view.centre + (near.x_m - near.width_m / 2) * scale, view.centre + (near.x_m + near.width_m / 2) * scale
        quad = np.asarray([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        _patch(frame, quad, near.levels, gain=self._gain(near.x_m, z), light=self.light, z_m=z)
        if vehicle.lamps == "none" or self.light.lamps < 0.2:
            return
        lamp_y = top + (bottom - top) * (0.78 if near.height_m > 3 else 0.5)
        size = max(7.0, 0.95 * scale) if vehicle.lamps == "tail" else max(16.0, 2.6 * scale)
        for share in (0.17, 0.83):
            _glow(frame, self._halos[vehicle.lamps], left + share * (right - left), lamp_y, size)

    def _draw_side(self, frame: Image, z0: float, z1: float, x: float, vehicle: _Vehicle) -> None:
        view, near = self.view, vehicle.near
        corners = []
        for z, y in ((z0, 1 - near.foot), (z1, 1 - near.foot), (z1, -near.foot), (z0, -near.foot)):
            corners.append((view.centre + x * view.focal / z, view.horizon + (_CAMERA_HEIGHT_M - near.height_m * y) * view.focal / z))
        order = [corners[1], corners[0], corners[3], corners[2]] if x > 0 else corners  # left to right in the picture
        _patch(frame, np.asarray(order, np.float32), vehicle.side, gain=self._gain(near.x_m, z0) * 0.9, light=self.light, z_m=z0)

    def _gain(self, x_m: float, z_m: float) -> float:
        ambient = sum(self.light.ambient) / 3
        return min(8.0, 1 + self.light.beam * 0.75 * beam_at(x_m, z_m) / ambient)


def _x_of(item: _Thing | _Vehicle) -> float:
    return item.near.x_m if isinstance(item, _Vehicle) else item.x_m


def _lamp_pools(rows: int, spacing_m: float) -> Plane:
    along = (np.arange(rows, dtype=np.float32) + 0.5) / paint.GROUND_ROWS_PER_M
    beat = np.abs(along % spacing_m - spacing_m / 2) / spacing_m
    return (0.6 + 0.8 * np.exp(-((beat / 0.2) ** 2)))[:, None, None].astype(np.float32)


def _rail_texture(light: Lighting) -> Plane:
    rows, columns = round(paint.WALL_PERIOD_M * paint.WALL_TEXELS_PER_M), round(1.0 * paint.WALL_TEXELS_PER_M)
    rail = np.zeros((rows, columns, 4), np.float32)
    rail[::48, :9] = rail[1::48, :9] = (*(110 * value for value in light.ambient), 255)
    for column, tone in ((5, 118), (6, 168), (7, 128), (8, 176), (9, 150)):
        rail[:, column] = (*(tone * value for value in light.ambient), 255)
    return rail


def _walls(view: _View, layout: Layout, light: Lighting, speed_mps: float, rng: np.random.Generator) -> tuple[_Wall, ...]:
    if layout.wall == "none":
        return ()
    height_m = {"facades": 28.0, "houses": 11.0, "trees": 9.0}[layout.wall]
    sides = (layout.left_wall_m, layout.right_wall_m)
    return tuple(_wall(view, paint.wall_texture(layout.wall, height_m, light, rng), x, light, speed_mps) for x in sides)


def _beside(scene: Scene, layout: Layout, light: Lighting, rng: np.random.Generator) -> tuple[tuple[_Thing, float, float], ...]:
    """Things along the road, each with its place and the period at which it returns, m."""
    placed: list[tuple[_Thing, float, float]] = []
    left, right = layout.paved_m
    if scene.scene == "tunnel":
        return ()
    trees = [paint.tree_sprite(rng, light) for _ in range(3)]
    spread = {"highway": 9, "city street": 8, "residential": 10, "undefined": 12}.get(scene.scene, 0)
    for index in range(spread):
        x = rng.uniform(right + 1.6, right + 3.0) if index % 2 else -rng.uniform(1.6, 3.0) + left
        if scene.scene in {"highway", "undefined"}:
            x = rng.uniform(right + 3.5, right + 9) if index % 2 else left - rng.uniform(3, 7)
        tall = float(rng.uniform(4.5, 8.5))
        placed.append((_thing(float(x), tall * 0.8, tall, trees[index % 3]), float(index * 120 / spread + rng.uniform(0, 5)), 120.0))
    if scene.scene in {"city street", "residential", "parking lot", "highway"}:
        posts = ((right + 0.8, 0.0), (left - 0.8, 15.0)) if scene.scene != "parking lot" else ((11.3, 0.0), (-11.3, 15.0))
        for x, at in posts if light.lamps < 0.6 or scene.scene != "highway" else ():
            sprite = paint.lamp_post_sprite(light, rightward=x < 0)
            placed.append((_thing(x - math.copysign(0.9, x), 3.2, _LAMP_HEIGHT_M, sprite), at + 4.0, 30.0))
    if scene.scene == "highway":
        placed.append((_thing(right + 0.7, 0.15, 1.0, paint.post_sprite(light)), 7.0, 50.0))
        placed.append((_thing(right + 3.2, 4.6, 5.2, paint.sign_sprite(light, rng)), 90.0, 300.0))
    if scene.scene == "undefined":
        placed += [(_thing(x, 0.15, 1.0, paint.post_sprite(light)), at, 25.0) for x, at in ((right + 0.6, 3.0), (left - 0.6, 14.0))]
    return tuple(placed)


def _traffic(scene: Scene, light: Lighting, rng: np.random.Generator) -> tuple[_Vehicle, ...]:
    front_camera = scene.camera == "front"
    own = scene.speed_mps if front_camera else -scene.speed_mps
    vehicles: list[_Vehicle] = []
    showroom = _Showroom(light, rng)
    same = {"highway": (0.0, 3.5, -3.5), "city street": (0.0, 3.5), "tunnel": (0.0, -3.5)}.get(scene.scene, (0.0,))
    oncoming = {"highway": (-11.9, -15.6), "city street": (-3.5, -7.0), "residential": (-3.6,), "undefined": (-3.5,)}.get(scene.scene, ())
    for index in range(scene.traffic):
        start = 16 + index * 150 / max(scene.traffic, 1) + float(rng.uniform(0, 8))
        if oncoming and index % 2:
            speed = -max(scene.speed_mps, 8.0) * float(rng.uniform(0.8, 1.1)) * (1 if front_camera else -1)
            x = oncoming[index // 2 % len(oncoming)]
            vehicles.append(showroom.vehicle(x_m=x, start_m=start, speed_mps=speed, front=front_camera))
            continue
        lane = same[index // 2 % len(same)]
        speed = own if lane == 0 else own * float(rng.uniform(0.85, 1.12))
        if scene.scene == "parking lot":
            continue
        vehicles.append(showroom.vehicle(x_m=lane, start_m=start, speed_mps=speed, front=not front_camera))
    if scene.scene in {"parking lot", "residential", "city street"}:
        rows = {"parking lot": (6.0, -6.0), "residential": (3.4,), "city street": (6.5,)}[scene.scene]
        for index in range(scene.traffic * 2):
            x = rows[index % len(rows)]
            step = 180 / max(scene.traffic * 2, 1)
            vehicles.append(showroom.vehicle(x_m=x, start_m=3 + index * step, speed_mps=0.0, front=bool(rng.integers(2)), parked=True))
    return tuple(vehicles)


def _mirror(frame: Image, view: _View, wet: float) -> None:
    """Lay the blurred mirror image of what stands above the road on the wet road."""
    below = frame[view.horizon :]
    rows = min(view.horizon, below.shape[0])
    above = frame[view.horizon - rows : view.horizon]
    small = cv2.resize(above, (view.width // 4, rows // 4), interpolation=cv2.INTER_AREA)
    small = cv2.blur(cv2.flip(small, 0), (3, 15))
    mirrored = cv2.resize(small, (view.width, rows), interpolation=cv2.INTER_LINEAR)
    region = below[:rows]
    cv2.addWeighted(region, 1 - 0.55 * wet, mirrored, 0.62 * wet, 0, dst=region)


class _Lens:
    """What lies between the world and the file: shake, drops, bonnet, vignette, sensor noise."""

    def __init__(self, scene: Scene, view: _View, light: Lighting, seed: int) -> None:
        self._rng = np.random.default_rng((seed, 1))
        self._scene, self._view = scene, view
        self._bonnet = _bonnet(view, light) if scene.camera == "front" else None
        self._vignette = _vignette(view)
        size = (view.height + 64, view.width + 64)
        noise = self._rng.standard_normal((*size, 1), np.float32) * light.noise_sigma
        noise = noise + self._rng.standard_normal((*size, 3), np.float32) * (light.noise_sigma * 0.3)
        self._lift = cv2.convertScaleAbs(np.maximum(noise, 0))
        self._drop = cv2.convertScaleAbs(np.minimum(noise, 0))
        rainy = scene.weather == "rainy" and scene.scene != "tunnel"
        self._streaks = [_streaks(view, light, self._rng, scene.speed_mps) for _ in range(4)] if rainy else []
        self._drops = _droplets(view, self._rng) if rainy else None

    def see(self, world: Image, index: int, elapsed_s: float) -> Image:
        """The frame that the recorder would store."""
        frame = world
        if self._streaks:
            dx, dy = (int(value) for value in self._rng.integers(0, (self._view.width, self._view.height)))
            frame = cv2.add(frame, np.roll(self._streaks[index % len(self._streaks)], (dy, dx), axis=(0, 1)))
        if self._scene.speed_mps > 0:
            frame = self._shaken(frame, elapsed_s)
        if self._drops is not None:
            there, here, shade = self._drops
            flat = frame.reshape(-1, 3)
            flat[there] = np.clip(flat[here] * shade[:, None], 0, 255).astype(np.uint8)
        if self._bonnet is not None:
            _over(frame[-self._bonnet.shape[0] :], self._bonnet)
        frame = cv2.multiply(frame, self._vignette, scale=1 / 255)
        y, x = (int(value) for value in self._rng.integers(0, 64, 2))
        window = (slice(y, y + self._view.height), slice(x, x + self._view.width))
        noisy: Image = cv2.subtract(cv2.add(frame, self._lift[window]), self._drop[window])
        return noisy

    def _shaken(self, frame: Image, elapsed_s: float) -> Image:
        strength = self._view.width / 960 * min(1.0, 0.4 + self._scene.speed_mps / 25)
        jolt = self._rng.normal(0, 0.35, 2)
        dx = strength * (1.1 * math.sin(elapsed_s * 5.1) + float(jolt[0]))
        dy = strength * (1.6 * math.sin(elapsed_s * 8.3 + 1) + float(jolt[1]))
        roll = strength * 0.0012 * math.sin(elapsed_s * 3.7)
        centre, horizon = self._view.centre, self._view.horizon
        matrix = np.asarray([[1, -roll, dx + roll * horizon], [roll, 1, dy - roll * centre]], np.float32)
        size = (self._view.width, self._view.height)
        moved: Image = cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return moved


def _vignette(view: _View) -> Image:
    right, up = _pixels(view, slice(0, view.height), slice(0, view.width))
    fall = 1 / (1 + 0.36 * (right**2 + up**2)) ** 1.3
    return np.repeat(np.clip(255 * fall, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _bonnet(view: _View, light: Lighting) -> Image:
    """The own bonnet along the lower edge, rows x width x 4 premultiplied."""
    rows = round(0.13 * view.height)
    layer = np.zeros((rows, view.width, 4), np.float32)
    across = (np.arange(view.width) + 0.5 - view.centre * 1.02) / (0.6 * view.width)
    edge = rows * (0.12 + 0.62 * across**2)
    down = np.arange(rows)[:, None] - edge[None, :]
    inside = np.clip(down + 0.5, 0, 1)
    mirror = np.exp(-np.maximum(down, 0) / (0.3 * rows)) * (0.9 - 0.45 * np.abs(across))
    crease = 0.1 * np.exp(-(((np.abs(across) - 0.28 - 0.001 * down) / 0.012) ** 2))
    shine = np.asarray(light.skyline, np.float32) * 0.5
    body = np.asarray((34, 32, 32), np.float32) * np.asarray(light.ambient, np.float32)
    layer[..., :3] = (body + shine * (mirror + crease)[..., None] * 0.62) * inside[..., None]
    layer[..., 3] = inside * 255
    return np.clip(layer, 0, 255).astype(np.uint8)


def _streaks(view: _View, light: Lighting, rng: np.random.Generator, speed_mps: float) -> Image:
    """Falling rain on black; streaks fan out from the point that the vehicle drives towards."""
    layer = np.zeros((view.height, view.width), np.uint8)
    unit = view.width / 960
    for _ in range(260):
        x, y = float(rng.uniform(0, view.width)), float(rng.uniform(0, view.height))
        length = unit * float(rng.uniform(8, 30))
        lean = (x - view.centre) / view.width * min(1.2, speed_mps / 14)
        end = (round(x + lean * length), round(y + length))
        cv2.line(layer, (round(x), round(y)), end, int(rng.integers(14, 46)), 1, cv2.LINE_AA)
    tint = np.asarray(light.skyline, np.float32) / 255 + 0.25
    return paint.to_8_bit(cv2.GaussianBlur(layer, (0, 0), 0.7)[..., None] * tint)


def _droplets(view: _View, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Plane]:
    """Drops on the windscreen: each pixel of a drop, the pixel that it refracts (upside down), and how bright."""
    unit = view.width / 960
    source = np.arange(view.height * view.width).reshape(view.height, view.width)
    shade = np.zeros((view.height, view.width), np.float32)
    for _ in range(240):
        radius = unit * float(np.clip(rng.lognormal(1.45, 0.5), 2.2, 15))
        cx, cy = float(rng.uniform(0, view.width)), float(rng.uniform(0, view.height * 0.9))
        x0, x1 = max(0, int(cx - radius)), min(view.width, int(cx + radius) + 1)
        y0, y1 = max(0, int(cy - 1.2 * radius)), min(view.height, int(cy + 1.2 * radius) + 1)
        v, u = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        du, dv = (u - cx) / radius, (v - cy) / (1.15 * radius)
        inside = du**2 + dv**2 < 1
        sx = np.clip(cx - du * 6 * radius, 0, view.width - 1).astype(int)
        sy = np.clip(cy - dv * 7 * radius, 0, view.height * 0.88).astype(int)
        rim = np.clip(1.16 - 0.55 * (du**2 + dv**2) ** 2 + 0.25 * dv, 0.45, 1.35)
        source[y0:y1, x0:x1] = np.where(inside, sy * view.width + sx, source[y0:y1, x0:x1])
        shade[y0:y1, x0:x1] = np.where(inside, rim, shade[y0:y1, x0:x1])
    there = np.flatnonzero(shade.ravel())
    return there, source.ravel()[there], shade.ravel()[there]


def render(scene: Scene, *, width_px: int, height_px: int, fps: Fraction | int, duration_s: float, seed: int) -> Iterator[Image]:
    """`round(fps * duration_s)` frames, each height_px x width_px x 3 BGR, 8 bit; equal arguments give equal frames.

    Raises:
        UsageError: the size is odd or below 64 x 36, or `fps` or `duration_s` is not above 0.
    """
    if not (fps > 0 and duration_s > 0) or width_px < 64 or height_px < 36 or width_px % 2 or height_px % 2:
        raise UsageError(
            f"{width_px}x{height_px} px at {fps} frames/s for {duration_s} s cannot be rendered",
            subject="render",
            fix="give an even size of at least 64x36 and positive fps and duration_s",
        )
    return _frames(scene, _View(width=width_px, height=height_px), fps=fps, count=round(fps * duration_s), seed=seed)


def _frames(scene: Scene, view: _View, *, fps: Fraction | int, count: int, seed: int) -> Iterator[Image]:
    world = _World(scene, view, seed)
    lens = _Lens(scene, view, world.light, seed)
    for index in range(count):
        elapsed_s = float(index / fps)
        yield lens.see(world.picture(scene.speed_mps * elapsed_s, elapsed_s), index, elapsed_s)
