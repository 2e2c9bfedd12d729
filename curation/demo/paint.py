"""What the synthetic world is painted from: surfaces along the road, things beside it, and the light on them. Pure numpy and OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.floating[Any]]
Colour = tuple[float, float, float]  # blue, green, red, 0-255

GROUND_PERIOD_M: Final = 60.0  # four lane-mark cycles of 15 m
GROUND_ROWS_PER_M: Final = 12
GROUND_COLUMNS_PER_M: Final = 20
GROUND_HALF_WIDTH_M: Final = 20.0
WALL_PERIOD_M: Final = 90.0
WALL_TEXELS_PER_M: Final = 12
MARK_LENGTH_M: Final = 6.0  # GB 5768.3: 6 m of paint and 9 m of gap on roads of 60 km/h and more
MARK_CYCLE_M: Final = 15.0
LANE_WIDTH_M: Final = 3.5
TUNNEL_RADIUS_M: Final = 6.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Lighting:
    """How one time of day and weather lights the world."""

    ambient: Colour  # gain on painted colours, 1 = as painted
    zenith: Colour
    skyline: Colour
    haze: Colour
    haze_range_m: float  # distance at which 63 % of a thing is lost in haze
    clouds: float  # share of sky under cloud, 0-1
    lamps: float  # strength of vehicle and street lamps, 0-1
    beam: float  # strength of the own headlights, 0-1
    exposure_s: float  # blurs what passes
    noise_sigma: float
    wet: float  # mirror of the road, 0-1


_DAYS: Final[dict[tuple[str, str], Lighting]] = {
    ("daytime", "clear"): Lighting(
        ambient=(1.0, 1.04, 1.06), zenith=(205, 150, 92), skyline=(232, 216, 196), haze=(222, 212, 198), haze_range_m=520.0, clouds=0.12,
        lamps=0.0, beam=0.0, exposure_s=0.004, noise_sigma=3.6, wet=0.0,
    ),
    ("daytime", "partly cloudy"): Lighting(
        ambient=(1.0, 1.0, 1.0), zenith=(196, 146, 96), skyline=(228, 216, 204), haze=(218, 212, 204), haze_range_m=480.0, clouds=0.55,
        lamps=0.0, beam=0.0, exposure_s=0.005, noise_sigma=3.6, wet=0.0,
    ),
    ("daytime", "overcast"): Lighting(
        ambient=(0.92, 0.9, 0.86), zenith=(178, 172, 164), skyline=(212, 210, 206), haze=(204, 202, 198), haze_range_m=320.0, clouds=1.0,
        lamps=0.0, beam=0.0, exposure_s=0.008, noise_sigma=4.0, wet=0.0,
    ),
    ("daytime", "rainy"): Lighting(
        ambient=(0.82, 0.78, 0.72), zenith=(150, 144, 134), skyline=(186, 182, 174), haze=(178, 174, 166), haze_range_m=130.0, clouds=1.0,
        lamps=0.45, beam=0.05, exposure_s=0.012, noise_sigma=4.2, wet=0.55,
    ),
    ("daytime", "foggy"): Lighting(
        ambient=(0.92, 0.9, 0.88), zenith=(196, 194, 190), skyline=(206, 204, 200), haze=(204, 202, 198), haze_range_m=48.0, clouds=1.0,
        lamps=0.5, beam=0.0, exposure_s=0.01, noise_sigma=4.0, wet=0.1,
    ),
}  # fmt: skip


def lighting(timeofday: str, weather: str, scene: str) -> Lighting | None:
    """The light of a scene, None where this world has none for it."""
    if scene == "tunnel":
        return Lighting(
            ambient=(0.62, 0.78, 0.9), zenith=(20, 24, 28), skyline=(40, 52, 60), haze=(74, 104, 124), haze_range_m=260.0, clouds=0.0,
            lamps=0.8, beam=0.3, exposure_s=0.016, noise_sigma=4.4, wet=0.0,
        )  # fmt: skip
    if timeofday == "daytime":
        return _DAYS.get((timeofday, weather))
    rainy = weather == "rainy"
    if timeofday == "dawn/dusk" and weather in {"clear", "partly cloudy", "overcast", "rainy"}:
        return Lighting(
            ambient=(0.56, 0.46, 0.46), zenith=(126, 84, 66), skyline=(112, 150, 226), haze=(118, 118, 142),
            haze_range_m=150.0 if rainy else 300.0,
            clouds={"clear": 0.25, "partly cloudy": 0.55}.get(weather, 1.0), lamps=0.75, beam=0.25, exposure_s=0.018, noise_sigma=4.4,
            wet=0.55 if rainy else 0.0,
        )  # fmt: skip
    if timeofday == "night" and weather in {"clear", "partly cloudy", "overcast", "rainy"}:
        lit = scene in {"city street", "residential", "parking lot"}  # street lamps
        return Lighting(
            ambient=(0.2, 0.23, 0.27) if lit else (0.1, 0.095, 0.09), zenith=(20, 13, 10), skyline=(38, 34, 40) if lit else (24, 19, 18),
            haze=(26, 26, 30), haze_range_m=160.0 if rainy else 420.0, clouds=0.3, lamps=1.0, beam=1.0, exposure_s=0.03, noise_sigma=4.8,
            wet=0.65 if rainy else 0.0,
        )  # fmt: skip
    return None


def to_8_bit(values: Plane) -> Image:
    """Values cut to 0-255."""
    cut: Image = np.clip(values, 0, 255).astype(np.uint8)
    return cut


def mottle(rng: np.random.Generator, height: int, width: int, *, cells: tuple[int, int]) -> Plane:
    """Smooth noise in about [-1, 1], height x width, whose last row runs on into its first."""
    total = np.zeros((height, width), np.float32)
    rows, columns = cells
    strength = 0.55
    for _ in range(4):
        grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        wrapped = np.vstack([grid, grid[:1], grid[1:2]])
        tall = cv2.resize(wrapped, (width, height * (rows + 2) // rows), interpolation=cv2.INTER_CUBIC)
        start = height // (2 * rows)
        total += strength * tall[start : start + height]
        rows, columns, strength = min(rows * 3, height), min(columns * 3, width), strength * 0.62
    return total


def _grain(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Plane:
    return rng.standard_normal(shape, np.float32) * np.float32(sigma)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Cross-section of a road in metres, x to the right of the own lane's centre."""

    solid_marks_m: tuple[float, ...]
    dashed_marks_m: tuple[float, ...]
    yellow_marks_m: tuple[float, ...]
    paved_m: tuple[float, float]
    walk_m: float  # width of the pavement outside the kerb; 0 = verge
    left_wall_m: float
    right_wall_m: float
    wall: str  # facades, houses, trees, none


LAYOUTS: Final[dict[str, Layout]] = {
    "highway": Layout(
        solid_marks_m=(-5.25, 5.25, -10.3), dashed_marks_m=(-1.75, 1.75, -13.8), yellow_marks_m=(), paved_m=(-18.0, 7.9), walk_m=0.0,
        left_wall_m=-26.0, right_wall_m=19.0, wall="trees",
    ),
    "city street": Layout(
        solid_marks_m=(5.2, -8.75), dashed_marks_m=(1.75, -5.25), yellow_marks_m=(-1.62, -1.88), paved_m=(-10.9, 7.6), walk_m=4.2,
        left_wall_m=-15.5, right_wall_m=12.5, wall="facades",
    ),
    "residential": Layout(
        solid_marks_m=(), dashed_marks_m=(), yellow_marks_m=(-1.75,), paved_m=(-7.6, 4.4), walk_m=2.2, left_wall_m=-13.5, right_wall_m=10.5,
        wall="houses",
    ),
    "parking lot": Layout(
        solid_marks_m=(3.4, -3.4), dashed_marks_m=(), yellow_marks_m=(), paved_m=(-40.0, 40.0), walk_m=0.0, left_wall_m=-24.0,
        right_wall_m=24.0, wall="facades",
    ),
    "tunnel": Layout(
        solid_marks_m=(-5.25, 5.25 - 3.5), dashed_marks_m=(-1.75,), yellow_marks_m=(), paved_m=(-40.0, 40.0), walk_m=0.0, left_wall_m=-7.0,
        right_wall_m=3.6, wall="none",
    ),
    "undefined": Layout(
        solid_marks_m=(3.3, -5.1), dashed_marks_m=(), yellow_marks_m=(-1.75,), paved_m=(-5.6, 3.8), walk_m=0.0, left_wall_m=-18.0,
        right_wall_m=16.0, wall="trees",
    ),
}  # fmt: skip


def ground_texture(layout: Layout, scene: str, rng: np.random.Generator) -> Plane:
    """Painted ground from above, rows along the road (one period), columns across, x 3 BGR in 0-255."""
    rows, columns = round(GROUND_PERIOD_M * GROUND_ROWS_PER_M), round(2 * GROUND_HALF_WIDTH_M * GROUND_COLUMNS_PER_M)
    across = (np.arange(columns, dtype=np.float32) + 0.5) / GROUND_COLUMNS_PER_M - GROUND_HALF_WIDTH_M
    verge = _verge(rows, columns, rng)
    ground = _pavement(rows, columns, rng) if layout.walk_m else verge.copy()
    paved = (across > layout.paved_m[0]) & (across < layout.paved_m[1])
    ground[:, paved] = _asphalt(rows, across, rng)[:, paved]
    for edge, outward in zip(layout.paved_m, (-1, 1), strict=True):
        if layout.walk_m:
            ground[:, np.abs(across - edge - outward * 0.1) < 0.12] = (150, 156, 158)  # kerb stone
            beyond = (across - edge) * outward > layout.walk_m
            ground[:, beyond] = verge[:, beyond]
    _marks(ground, across, layout, rng)
    if scene == "highway":
        median = (across < -6.3) & (across > -9.3)
        ground[:, median] = verge[:, median]
    if scene == "parking lot":
        _bays(ground, across)
    return ground


def _asphalt(rows: int, across: Plane, rng: np.random.Generator) -> Plane:
    columns = len(across)
    tone = 98 + 10 * mottle(rng, rows, columns, cells=(4, 5)) + _grain(rng, (rows, columns), 11)
    lane_phase = (across + LANE_WIDTH_M / 2) % LANE_WIDTH_M - LANE_WIDTH_M / 2
    tone += (7 * np.exp(-((lane_phase / 0.35) ** 2)) - 5 * np.exp(-(((np.abs(lane_phase) - 0.85) / 0.3) ** 2)))[
        None, :
    ]  # oil and tyre tracks
    canvas = np.ascontiguousarray(tone)
    for _ in range(10):  # repairs
        x, y = int(rng.integers(0, columns)), int(rng.integers(0, rows - 90))
        w, h = int(rng.integers(16, 64)), int(rng.integers(20, 90))
        canvas[y : y + h, x : x + w] += float(rng.uniform(-20, 12))
    for _ in range(16):  # sealed cracks
        begin = rng.uniform((0, 0), (columns, rows))
        steps = begin + np.cumsum(rng.normal(0, 14, (7, 2)) + rng.normal(0, 10, 2), axis=0)
        cv2.polylines(canvas, [steps.astype(np.int32)], isClosed=False, color=58.0, thickness=1, lineType=cv2.LINE_AA)
    return np.stack([canvas * 1.02, canvas, canvas * 0.985], axis=-1).astype(np.float32)


def _verge(rows: int, columns: int, rng: np.random.Generator) -> Plane:
    blotch = mottle(rng, rows, columns, cells=(14, 12))
    fine = _grain(rng, (rows, columns), 15)
    dry = np.clip(0.5 + 0.8 * mottle(rng, rows, columns, cells=(6, 6)), 0, 1)
    base = np.stack([58 + 14 * dry, 112 + 12 * dry, 84 + 46 * dry], axis=-1)
    grass: Plane = np.clip(base + (26 * blotch + fine)[..., None], 8, 235).astype(np.float32)
    return grass


def _pavement(rows: int, columns: int, rng: np.random.Generator) -> Plane:
    tone = 138 + 9 * mottle(rng, rows, columns, cells=(8, 8)) + _grain(rng, (rows, columns), 8)
    tone[:: GROUND_ROWS_PER_M // 2] -= 26
    tone[:, :: GROUND_COLUMNS_PER_M // 2] -= 18
    return np.stack([tone * 0.97, tone, tone * 1.02], axis=-1).astype(np.float32)


def _marks(ground: Plane, across: Plane, layout: Layout, rng: np.random.Generator) -> None:
    rows = ground.shape[0]
    wear = np.clip(0.86 + 0.3 * mottle(rng, rows, 64, cells=(30, 8)), 0.35, 1.0)
    along = (np.arange(rows) + 0.5) / GROUND_ROWS_PER_M
    painted = (along % MARK_CYCLE_M) < MARK_LENGTH_M
    stripes = [(x, np.ones(rows, bool), (228.0, 232.0, 232.0)) for x in layout.solid_marks_m]
    stripes += [(x, painted, (228.0, 232.0, 232.0)) for x in layout.dashed_marks_m]
    stripes += [(x, np.ones(rows, bool), (52.0, 176.0, 226.0)) for x in layout.yellow_marks_m]
    for number, (centre, rows_on, colour) in enumerate(stripes):
        columns = np.flatnonzero(np.abs(across - centre) < 0.085)
        cover = (rows_on[:, None] * wear[:, 7 * number % 56 : 7 * number % 56 + len(columns)])[..., None]
        ground[:, columns] += cover * (np.asarray(colour, np.float32) - ground[:, columns])


def _bays(ground: Plane, across: Plane) -> None:
    along = (np.arange(ground.shape[0]) + 0.5) / GROUND_ROWS_PER_M
    between = np.abs((along % 3.0) - 1.5) < 0.06  # bays of 3 m
    for low, high in ((3.4, 8.6), (-8.6, -3.4), (14.0, 19.0), (-19.0, -14.0)):
        ground[np.ix_(between, (across > low) & (across < high))] = (216, 220, 220)


def wall_texture(kind: str, height_m: float, light: Lighting, rng: np.random.Generator) -> Plane:
    """What stands along the road, rows along it (one period), columns upward from the ground, x 4: premultiplied BGR and alpha, lit."""
    rows, columns = round(WALL_PERIOD_M * WALL_TEXELS_PER_M), round(height_m * WALL_TEXELS_PER_M)
    wall = np.zeros((rows, columns, 4), np.float32)
    if kind == "trees":
        _tree_belt(wall, light, rng)
        return wall
    at = 0
    while at < rows:
        length = int(rng.integers(14, 26) if kind == "facades" else rng.integers(9, 14)) * WALL_TEXELS_PER_M
        length = length if rows - at - length > 8 * WALL_TEXELS_PER_M else rows - at
        gap = int(rng.uniform(0.3, 4.0) if kind == "facades" else rng.uniform(3, 8)) * WALL_TEXELS_PER_M
        _building(wall[at : min(at + length - gap, rows)], kind, light, rng)
        at += length
    return wall


_FACADES: Final = ((164, 176, 184), (136, 144, 150), (126, 142, 160), (174, 178, 178), (112, 122, 138), (186, 192, 198), (124, 126, 126))


def _building(block: Plane, kind: str, light: Lighting, rng: np.random.Generator) -> None:
    length, limit = block.shape[:2]
    if length < 2 * WALL_TEXELS_PER_M:
        return
    storeys = int(rng.integers(4, 10)) if kind == "facades" else int(rng.integers(1, 4))
    storey = round(3.0 * WALL_TEXELS_PER_M)
    top = min(limit - 2, storeys * storey + WALL_TEXELS_PER_M)
    colour = np.asarray(_FACADES[int(rng.integers(len(_FACADES)))], np.float32)
    face = block[:, :top]
    shade = 1 + 0.07 * mottle(rng, length, top, cells=(4, 4)) + _grain(rng, (length, top), 0.03)
    face[..., :3] = colour * shade[..., None] * np.asarray(light.ambient, np.float32) * 0.92
    face[..., 3] = 255
    face[:, -4:, :3] *= 0.72  # roof edge
    pitch, width = round(rng.uniform(2.2, 3.4) * WALL_TEXELS_PER_M), round(rng.uniform(1.1, 1.7) * WALL_TEXELS_PER_M)
    ambient = np.asarray(light.ambient, np.float32)
    for floor in range(top // storey):
        low, high = floor * storey + round(0.8 * WALL_TEXELS_PER_M), floor * storey + round(2.5 * WALL_TEXELS_PER_M)
        shop = floor == 0 and kind == "facades"
        for start in range(pitch // 3, length - width, pitch):
            glass = np.asarray((92, 84, 74), np.float32) * float(rng.uniform(0.5, 1.35)) * ambient
            lit = light.lamps > 0.3 and rng.random() < (0.8 if shop else 0.3) * light.lamps
            if lit:
                glass = np.asarray((120, 190, 232), np.float32) * float(rng.uniform(0.45, 1.0)) * max(light.lamps, 0.5)
            face[start : start + (pitch - 3 if shop else width), low:high, :3] = glass
        if shop:
            sign = np.asarray(rng.uniform(70, 160) + rng.uniform(-45, 45, 3), np.float32) * (ambient if light.lamps < 0.5 else 0.85)
            face[:, storey - 5 : storey + 3, :3] = sign


def _tree_belt(wall: Plane, light: Lighting, rng: np.random.Generator) -> None:
    rows, columns = wall.shape[:2]
    crest = columns * (0.5 + 0.16 * mottle(rng, rows, 4, cells=(9, 2))[:, 1])
    crest += rng.normal(0, 2.2, rows)
    up = np.arange(columns)[None, :]
    inside = (up < crest[:, None]) & (mottle(rng, rows, columns, cells=(60, 12)) + 1.6 * (1 - up / np.maximum(crest[:, None], 1)) > -0.15)
    leaf = 0.72 + 0.4 * mottle(rng, rows, columns, cells=(40, 10)) + _grain(rng, (rows, columns), 0.2)
    leaf *= 0.55 + 0.5 * (up / columns)
    green = np.asarray((44, 96, 74), np.float32) * np.asarray(light.ambient, np.float32)
    wall[..., :3] = np.clip(leaf, 0.08, 2.0)[..., None] * green * inside[..., None]
    wall[..., 3] = inside * 255.0


def tunnel_texture(light: Lighting, rng: np.random.Generator) -> Plane:
    """Lining of the tunnel, rows along it (one ground period), columns around the arch from left foot to right foot, x 3 BGR, lit."""
    rows, columns = round(GROUND_PERIOD_M * GROUND_ROWS_PER_M), round(np.pi * TUNNEL_RADIUS_M * WALL_TEXELS_PER_M)
    angle = (np.arange(columns) + 0.5) / columns * np.pi
    tone = 128 + 16 * mottle(rng, rows, columns, cells=(10, 10)) + _grain(rng, (rows, columns), 7)
    tone[:: GROUND_ROWS_PER_M * 5] *= 0.6  # segment joints every 5 m
    low = np.minimum(angle, np.pi - angle)
    tone *= np.where(low < 0.5, 1.25, 0.8)[None, :]  # tiled up to about 3 m
    tone[:, np.abs(low - 0.5) < 0.012] = 210
    along = (np.arange(rows) + 0.5) / GROUND_ROWS_PER_M
    beat = np.abs((along % 10.0) - 5.0)  # lamps every 10 m
    pool = 0.42 + 0.75 * np.exp(-((beat / 2.6) ** 2))
    lining = np.stack([tone] * 3, axis=-1) * pool[:, None, None] * np.asarray(light.ambient, np.float32)
    for centre in (1.18, np.pi - 1.18):
        lining[np.ix_(beat < 0.75, np.abs(angle - centre) < 0.045)] = (170, 236, 255)
        glow = np.exp(-(((angle - centre) / 0.16) ** 2))[None, :] * np.exp(-((beat / 1.5) ** 2))[:, None]
        lining += glow[..., None] * np.asarray((40, 74, 92), np.float32)
    lining[np.ix_(np.abs((along % 30.0) - 15.0) < 0.5, np.abs(low - 0.3) < 0.05)] = (70, 190, 60)  # escape signs
    return lining.astype(np.float32)


def tree_sprite(rng: np.random.Generator, light: Lighting) -> Image:
    """A tree, height x width x 4: premultiplied BGR and alpha, lit."""
    height, width = 320, 260
    mask = np.zeros((height, width), np.uint8)
    leaf = np.zeros((height, width, 3), np.float32)
    hue = np.asarray((40, 98, 72), np.float32) * rng.uniform(0.8, 1.15, 3).astype(np.float32)
    trunk = np.array([[width // 2 - 7, height], [width // 2 - 4, 150], [width // 2 + 5, 150], [width // 2 + 8, height]], np.int32)
    cv2.fillPoly(mask, [trunk], 255, cv2.LINE_AA)
    cv2.fillPoly(leaf, [trunk], (48, 60, 70), cv2.LINE_AA)
    for _ in range(230):
        turn, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        x, y = width / 2 + 104 * reach * np.cos(turn), 112 + 92 * reach * np.sin(turn)
        radius = int(rng.integers(5, 17))
        bright = 0.55 + 0.55 * (1 - y / 230) + 0.18 * (1 - x / width) + float(rng.normal(0, 0.13))
        cv2.circle(leaf, (int(x), int(y)), radius, tuple(float(v) for v in hue * max(bright, 0.15)), -1, cv2.LINE_AA)
        cv2.circle(mask, (int(x), int(y)), radius, 255, -1, cv2.LINE_AA)
    ragged = (rng.random((height, width)) < 0.06) & (np.arange(height) < 205)[:, None]
    leaf *= (1 + _grain(rng, (height, width), 0.2))[..., None]
    mask[ragged] //= 3
    return _sprite(leaf, mask, light)


def lamp_post_sprite(light: Lighting, *, rightward: bool) -> Image:
    """A street lamp with its arm over the road, lit."""
    height, width = 320, 120
    mask, paint = np.zeros((height, width), np.uint8), np.full((height, width, 3), (126, 130, 130), np.float32)
    bend = np.array([[20, height], [22, 40], [30, 22], [44, 15], [96, 12]], np.int32)
    cv2.polylines(mask, [bend], isClosed=False, color=255, thickness=5, lineType=cv2.LINE_AA)
    cv2.ellipse(mask, (98, 14), (17, 4), 0, 0, 360, 255, -1, cv2.LINE_AA)
    sprite = _sprite(paint, mask, light)
    if light.lamps > 0.6:
        cv2.ellipse(sprite, (98, 16), (15, 4), 0, 0, 360, (190, 238, 255, 255), -1, cv2.LINE_AA)
    return sprite if rightward else np.ascontiguousarray(sprite[:, ::-1])


def sign_sprite(light: Lighting, rng: np.random.Generator) -> Image:
    """A direction sign on two posts whose writing is mere blocks, lit."""
    height, width = 220, 200
    mask, paint = np.zeros((height, width), np.uint8), np.full((height, width, 3), (120, 124, 124), np.float32)
    for x in (40, 160):
        cv2.rectangle(mask, (x - 4, 90), (x + 4, height), 255, -1)
    cv2.rectangle(mask, (6, 6), (194, 118), 255, -1)
    cv2.rectangle(paint, (6, 6), (194, 118), (92, 122, 18), -1)
    cv2.rectangle(paint, (10, 10), (190, 114), (226, 230, 230), 2)
    for line in range(3):
        x = 22
        while x < 160:
            step = int(rng.integers(10, 24))
            cv2.rectangle(paint, (x, 24 + 30 * line), (x + step - 4, 40 + 30 * line), (230, 234, 234), -1)
            x += step
    return _sprite(paint, mask, light)


def post_sprite(light: Lighting) -> Image:
    """A delineator post with its dark band and reflector, lit."""
    mask, paint = np.full((96, 14), 255, np.uint8), np.full((96, 14, 3), (224, 226, 226), np.float32)
    paint[14:40] = (44, 44, 46)
    paint[20:34, 4:10] = (120, 200, 240)
    mask[:3, :3] = mask[:3, -3:] = 0
    return _sprite(paint, mask, light)


CAR_COLOURS: Final = ((206, 208, 208), (42, 42, 44), (128, 130, 132), (52, 46, 150), (140, 92, 44), (186, 196, 206))


def vehicle_face(kind: str, colour: Colour, light: Lighting, *, front: bool) -> Image:
    """The face of a car or truck that looks at the camera, lit; 0.14 of its height is the shadow that it stands in."""
    height, width = 240, 300
    mask, paint = np.zeros((height, width), np.uint8), np.zeros((height, width, 3), np.float32)
    body = np.asarray(colour, np.float32)
    cv2.ellipse(mask, (width // 2, 222), (148, 14), 0, 0, 360, 150, -1, cv2.LINE_AA)  # shadow
    for x in (48, 252):
        cv2.rectangle(mask, (x - 22, 180), (x + 22, 226), 255, -1)
        cv2.rectangle(paint, (x - 22, 180), (x + 22, 226), (24, 24, 24), -1)
    if kind == "truck":
        cv2.rectangle(mask, (14, 4), (286, 204), 255, -1)
        cv2.rectangle(paint, (14, 4), (286, 204), tuple(float(v) for v in body), -1)
        cv2.rectangle(paint, (20, 10), (280, 170), tuple(float(v) for v in body * 0.9), 2)
        cv2.line(paint, (150, 10), (150, 170), tuple(float(v) for v in body * 0.7), 2)
        cv2.rectangle(paint, (14, 176), (286, 204), (50, 52, 54), -1)
        _lamps(paint, front=front, y=188, half=12)
        return _sprite(paint, mask, light)
    cabin = np.array([[66, 100], [88, 22], [106, 12], [194, 12], [212, 22], [234, 100]], np.int32)
    shell = np.array([[18, 200], [14, 130], [30, 102], [66, 92], [234, 92], [270, 102], [286, 130], [282, 200]], np.int32)
    for outline, tone in ((cabin, 0.82), (shell, 1.0)):
        cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA)
        cv2.fillPoly(paint, [outline], tuple(float(v) for v in body * tone), cv2.LINE_AA)
    glass = np.array([[80, 94], [98, 30], [202, 30], [220, 94]], np.int32)
    cv2.fillPoly(paint, [glass], (62, 56, 48), cv2.LINE_AA)
    cv2.fillPoly(paint, [np.array([[84, 90], [98, 34], [140, 34], [118, 90]], np.int32)], (112, 102, 90), cv2.LINE_AA)
    paint[100:140] *= 1.08
    paint[166:204] *= 0.62
    cv2.rectangle(paint, (108, 146), (192, 166), (126, 66, 26), -1)  # blue plate that bears no characters
    if front:
        cv2.rectangle(paint, (92, 116), (208, 140), (30, 30, 30), -1)
    _lamps(paint, front=front, y=120, half=12)
    return _sprite(paint, mask, light)


def _lamps(paint: Plane, *, front: bool, y: int, half: int) -> None:
    colour = (228.0, 232.0, 232.0) if front else (36.0, 34.0, 176.0)
    for x in (50, 250):
        cv2.ellipse(paint, (x, y), (30, half), 0, 0, 360, colour, -1, cv2.LINE_AA)


def vehicle_side(kind: str, colour: Colour, light: Lighting) -> Image:
    """The long side of a car or truck, its near end on the left, lit; 0.14 of its height is shadow."""
    height, width = 240, 640
    mask, paint = np.zeros((height, width), np.uint8), np.zeros((height, width, 3), np.float32)
    body = np.asarray(colour, np.float32) * 0.78
    cv2.ellipse(mask, (width // 2, 222), (316, 12), 0, 0, 360, 150, -1, cv2.LINE_AA)
    if kind == "truck":
        cv2.rectangle(mask, (0, 4), (640, 204), 255, -1)
        cv2.rectangle(paint, (0, 4), (640, 180), tuple(float(v) for v in body), -1)
        cv2.rectangle(paint, (0, 176), (640, 204), (44, 46, 48), -1)
        for x in range(20, 640, 60):
            cv2.line(paint, (x, 10), (x, 170), tuple(float(v) for v in body * 0.88), 2)
    else:
        shell = np.array([[0, 200], [0, 112], [14, 96], [626, 96], [640, 112], [640, 200]], np.int32)
        cabin = np.array([[4, 100], [26, 12], [560, 12], [630, 100]], np.int32)  # upright at both ends, as vans and small cars are
        for outline in (cabin, shell):
            cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA)
            cv2.fillPoly(paint, [outline], tuple(float(v) for v in body), cv2.LINE_AA)
        for low, high in ((40, 200), (214, 392), (406, 546)):
            pane = np.array([[low, 92], [low + 6, 28], [high - 6, 28], [high + (40 if high == 546 else 0), 92]], np.int32)
            cv2.fillPoly(paint, [pane], (66, 60, 54), cv2.LINE_AA)
        cv2.line(paint, (243, 96), (243, 190), tuple(float(v) for v in body * 0.75), 2)
        paint[168:204] *= 0.66
    for x in (110, 520):
        cv2.circle(mask, (x, 190), 36, 255, -1, cv2.LINE_AA)
        cv2.circle(paint, (x, 190), 36, (22, 22, 22), -1, cv2.LINE_AA)
        cv2.circle(paint, (x, 190), 20, (120, 122, 124), -1, cv2.LINE_AA)
    return _sprite(paint, mask, light)


def _sprite(paint: Plane, mask: Image, light: Lighting) -> Image:
    bright = cv2.multiply(paint, (*light.ambient, 0.0), dtype=cv2.CV_8U)
    premultiplied = cv2.multiply(bright, cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), scale=1 / 255)
    sprite: Image = cv2.merge([*cv2.split(premultiplied), mask])
    return sprite


def glow(size_px: int, colour: Colour) -> Image:
    """A lamp's halo on black, size x size x 3, to be added to a picture."""
    axis = np.linspace(-1, 1, size_px, dtype=np.float32)
    radius = np.hypot(axis[:, None], axis[None, :])
    fall = (
        np.clip(1.25 * np.exp(-((radius / 0.16) ** 2)) + 0.34 * np.exp(-((radius / 0.42) ** 2)) - 0.004, 0, 1)
        * np.clip(1 - radius, 0, 1) ** 0.5
    )
    halo = fall[..., None] * np.asarray(colour, np.float32) + np.clip(fall - 0.75, 0, 1)[..., None] * 500
    return to_8_bit(halo)


def sky(width_px: int, height_px: int, horizon_px: int, light: Lighting, rng: np.random.Generator, *, skyline: bool) -> Image:
    """Sky down to the horizon with clouds and far hills or a far city, height x width x 3."""
    down = np.clip(np.arange(height_px, dtype=np.float32) / max(horizon_px, 1), 0, 1)[:, None, None]
    picture = np.asarray(light.zenith, np.float32) * (1 - down**1.4) + np.asarray(light.skyline, np.float32) * down**1.4
    picture = np.repeat(picture, width_px, axis=1)
    small = mottle(rng, height_px // 2, width_px // 2, cells=(7, 5)) + 0.25 * mottle(rng, height_px // 2, width_px // 2, cells=(24, 12))
    drift = cv2.resize(small, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    cover = np.clip((drift + light.clouds * 1.7 - 1.0) * 1.6, 0, 1) * np.clip(1.1 - 0.6 * down[:, :, 0], 0, 1)
    bright = np.asarray(light.skyline, np.float32) * 1.06 + 8
    if light.clouds >= 1.0:
        picture *= (1 + 0.09 * drift)[..., None]
    else:
        picture += cover[..., None] * (bright - picture) * 0.8
    far = 0.035 * height_px * (1 + mottle(rng, width_px, 4, cells=(6, 2))[:, 1])
    if skyline:
        blocks = np.repeat(rng.uniform(0.2, 3.4, width_px // 14 + 1), 14)[:width_px] * 0.03 * height_px
        far = np.maximum(far, blocks)
    rows = np.arange(height_px)[:, None]
    hills = rows > (horizon_px - far)[None, :]
    kept = float(np.exp(-400 / light.haze_range_m))  # of what stands 400 m away
    own = np.asarray((70, 78, 66), np.float32) * np.asarray(light.ambient, np.float32)
    tint = np.asarray(light.haze, np.float32) * (1 - kept) + own * kept
    picture[hills] = tint
    if light.lamps > 0.6 and skyline:
        windows = hills & (rng.random((height_px, width_px)) < 0.03) & (rows < horizon_px)
        picture[windows] = np.asarray((130, 190, 225), np.float32) * light.lamps * 0.7
    return to_8_bit(cv2.GaussianBlur(picture, (0, 0), 0.6))
