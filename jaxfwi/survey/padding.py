"""Shots of unequal size: lists of positions, wavelets and data padded to arrays; the cable of a towed streamer; shots
grouped by size.

Padding takes the place of its shot's first position, so that nothing that depends on where positions lie sees it.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import as_integer, is_concrete
from jaxfwi.grid.grid import Grid

__all__ = ["grouped", "packed", "padded_gathers", "padded_positions", "padded_wavelet", "streamer", "unpadded_data"]


def padded_positions(source: Any, receiver: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lists of positions, one per shot, as arrays ``(shots, most, ndim)``, sources first, each followed by which of
    them are real, ``(shots, most)``. `Survey.from_lists` says what is refused.
    """
    source, receiver = (np.asarray(x) if hasattr(x, "ndim") else list(x) for x in (source, receiver))
    if len(source) != len(receiver):
        raise ValueError(
            f"source has {len(source)} shots but receiver has {len(receiver)}: give each one list of positions per "
            "shot."
        )
    if not len(source):
        raise ValueError("a survey needs a shot: source and receiver are empty.")
    # one position alone may stand for a list of one
    source = [[s] if _listed(s) and len(s) and not any(map(_listed, s)) else s for s in source]
    ndim = 0
    if _listed(source[0]) and len(source[0]):  # else its error comes below
        first = source[0][0]
        ndim = len(first) if _listed(first) else 0
        if not 1 <= ndim <= 3:
            raise ValueError(f"positions must be (z,), (z, x) or (z, y, x), got {first!r} as the first source.")
    sources = [_points("source", i, x, ndim) for i, x in enumerate(source)]
    receivers = [_points("receiver", i, x, ndim) for i, x in enumerate(receiver)]
    for shot, points in enumerate(receivers):
        seen: dict[tuple, int] = {}
        for i, point in enumerate(map(tuple, points.tolist())):
            if seen.setdefault(point, i) != i:
                raise ValueError(
                    f"shot {shot} has receiver {i} at the place of receiver {seen[point]}, {_metres(point)}: leave one "
                    "of them out, their traces are the same."
                )
    return *_padded(sources), *_padded(receivers)


def _listed(x: Any) -> bool:
    """Whether x is a list or an array, and not a number."""
    return hasattr(x, "__len__") and getattr(x, "ndim", 1) > 0


def _points(name: str, shot: int, given: Any, ndim: int) -> np.ndarray:
    """The positions ``(n, ndim)`` of one shot."""
    if not _listed(given):
        raise ValueError(f"shot {shot} has {name} {given!r}: give a list of positions.")
    if not len(given):
        raise ValueError(f"shot {shot} has no {name}: give it one, or leave the shot out.")
    for i, point in enumerate(given):
        if not _listed(point) or len(point) != ndim or any(map(_listed, point)):
            raise ValueError(
                f"shot {shot} has {name} {i} at {point!r} where the first source has {ndim} coordinates: positions "
                "must be (z,), (z, x) or (z, y, x), the same for all."
            )
    points = np.asarray(given, dtype=float)
    for i in np.flatnonzero(~np.isfinite(points).all(axis=1)):
        raise ValueError(f"shot {shot} has {name} {i} at {_metres(points[i])}: positions must be finite.")
    return points


def _padded(points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array([len(p) for p in points])
    real = np.arange(counts.max()) < counts[:, None]
    out = np.repeat(np.stack([p[0] for p in points])[:, None], counts.max(), axis=1)
    out[real] = np.concatenate(points)
    return out, real


def padded_wavelet(wavelet: Any, real: np.ndarray) -> Array:
    """What sources emit, ``(shots, time, sources)`` or with components after that, zero where a source is not real.

    Args:
        wavelet: ``(time,)``, ``(shots, time)``, or per shot ``(time, sources of that shot)``, or ``(time, sources of
            that shot, components)``.
        real: which of the sources are, ``(shots, sources)``.
    """
    shots, most = real.shape
    if not hasattr(wavelet, "ndim"):
        each = [np.asarray(w, dtype=float) for w in wavelet]
        wavelet = each if any(w.ndim for w in each) else np.asarray(each)
    shared = not isinstance(wavelet, list) and wavelet.ndim == 1
    if not shared and len(wavelet) != shots:
        raise ValueError(f"wavelet has {len(wavelet)} shots but source has {shots}: give each as many.")
    if isinstance(wavelet, list):
        like = wavelet[0]
        for shot, w in enumerate(wavelet):
            if (w.ndim, w.shape[:1], w.shape[2:]) != (like.ndim, like.shape[:1], like.shape[2:]):
                raise ValueError(
                    f"shot {shot} has a wavelet of shape {w.shape} where the first shot has {like.shape}: all shots "
                    "must have the same time samples and components."
                )
        wavelet = np.stack(wavelet) if like.ndim == 1 else wavelet
    dtype = jnp.result_type(float)
    if not isinstance(wavelet, list) and wavelet.ndim in (1, 2):
        out = jnp.where(real[:, None], jnp.asarray(wavelet, dtype)[..., None], 0.0)
    elif np.ndim(wavelet[0]) in (2, 3):
        each = [np.asarray(w, dtype=float) for w in wavelet]
        padded = np.zeros((shots, len(each[0]), most, *each[0].shape[2:]))
        for shot, (w, n) in enumerate(zip(each, real.sum(axis=1), strict=True)):
            if w.shape[1] != n:
                raise ValueError(f"shot {shot} has a wavelet of shape {w.shape} but {n} sources: give (time, {n}).")
            padded[shot, :, :n] = w
        out = jnp.asarray(padded, dtype)
    else:
        raise ValueError("wavelet must be (time,), (shots, time), or per shot (time, sources of that shot).")
    if is_concrete(out):
        for shot, sample, source in np.argwhere(~np.isfinite(np.asarray(out)))[:1, :3]:
            raise ValueError(
                f"shot {shot} has a wavelet that is not finite, from source {source} at sample {sample}: mend it."
            )
    return out


def streamer(
    source: dict[str, Any],
    receiver_z: Any,
    first_offset: float,
    receiver_spacing: float,
    cable_length: float | None,
    receivers: int | None,
    direction: Any,
    side: str,
    grid: Grid | None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sources ``(shots, ndim)`` at these coordinates, from z to x, and the receivers of each shot: the cable of
    `Survey.towed_streamer`.
    """
    given = source | {"receiver_z": receiver_z, "direction": direction}
    for name, x in given.items():
        if np.ndim(x) > 1 or not np.isfinite(np.asarray(x, dtype=float)).all():
            raise ValueError(f"{name} must be a finite number, or one per shot, got {x!r}.")
    try:
        *place, depth, heading = np.broadcast_arrays(*(np.atleast_1d(np.asarray(x, float)) for x in given.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {np.shape(x)}" for name, x in given.items())
        raise ValueError(f"a towed streamer needs one number for all shots, or one per shot: got {shapes}.") from None
    if not np.isin(heading, (-1.0, 1.0)).all():
        raise ValueError(f"direction must be 1 to sail to larger x, or -1 to sail to smaller x, got {direction}.")
    if not 0.0 < receiver_spacing < np.inf:
        raise ValueError(f"receiver_spacing must be positive metres, got {receiver_spacing}.")
    if not 0.0 <= first_offset < np.inf:
        raise ValueError(f"first_offset must be metres of zero or more, got {first_offset}: side says which way.")
    if grid is not None and grid.ndim != len(place):
        raise ValueError(f"grid has {grid.ndim} axes: give source_y for three, leave it out for two.")
    offset = first_offset + receiver_spacing * np.arange(_channels(receiver_spacing, cable_length, receivers))
    # along the boat's way; at no offset both sides have the same receiver
    sides = {"behind": -offset, "ahead": offset, "both": np.union1d(-offset, offset)}
    if side not in sides:
        raise ValueError(f'side must be "behind", "ahead" or "both", got {side!r}.')
    x = place[-1][:, None] + heading[:, None] * sides[side]
    kept = np.full(x.shape, True)
    if grid is not None:
        slack = 1e-4 * grid.spacing[-1]  # as a simulator has
        kept = (x >= -slack) & (x <= grid.extent[-1] + slack)
    places, cables = np.stack(place, axis=-1), []
    for shot, (line, k) in enumerate(zip(x, kept, strict=True)):
        if grid is not None and not k.any():
            raise ValueError(
                f"shot {shot} has no receiver on the grid: its source is at {_metres(places[shot])}, its cable from "
                f"x = {line.min():g} to {line.max():g} m, the grid from 0 to {grid.extent[-1]:g} m. Leave the shot "
                "out, or turn direction or side."
            )
        cables.append(np.stack(np.broadcast_arrays(depth[shot], *places[shot, 1:-1], line[k]), axis=-1))
    return places, cables


def _channels(spacing: float, length: float | None, receivers: int | None) -> int:
    """How many receivers a cable has: every one owns a spacing."""
    if (length is None) == (receivers is None):
        raise ValueError(
            f"give one of cable_length and receivers, got cable_length={length} and receivers={receivers}."
        )
    if length is None:
        return as_integer("receivers", receivers, 1)
    count = length / spacing
    if not (np.isfinite(count) and round(count) >= 1 and abs(count - round(count)) < 1e-6 * count):
        raise ValueError(
            f"cable_length must be a whole number of receiver_spacing = {spacing:g} m, got {length} m: give receivers "
            "in its stead."
        )
    return round(count)


def unpadded_data(data: Any, real: np.ndarray) -> list[np.ndarray]:
    """Per shot the data of its real receivers; see `Survey.unpad`."""
    data = np.asarray(data)
    if data.ndim != 4 or data.shape[:3:2] != real.shape:
        raise ValueError(
            f"data must be (shots, time, receivers, components) with {real.shape[0]} shots and {real.shape[1]} "
            f"receivers, got shape {data.shape}."
        )
    return [gather if r.all() else gather[:, r] for gather, r in zip(data, real, strict=True)]


def padded_gathers(gathers: Any, real: np.ndarray) -> np.ndarray:
    """The inverse of `unpadded_data`; see `Survey.pad`."""
    each = [np.asarray(gather) for gather in gathers]
    if len(each) != len(real):
        raise ValueError(f"there are {len(each)} gathers but the survey has {len(real)} shots.")
    for shot, (gather, r) in enumerate(zip(each, real, strict=True)):
        if gather.shape != (*each[0].shape[:1], r.sum(), *each[0].shape[2:3]) or gather.ndim != 3:
            raise ValueError(
                f"the gather of shot {shot} must be (time, {r.sum()}, components), with as many samples and components "
                f"as the first, got shape {gather.shape}."
            )
    out = np.zeros((len(each), len(each[0]), real.shape[1], each[0].shape[2]), np.result_type(*each))
    for padded, gather, r in zip(out, each, real, strict=True):
        padded[:, r] = gather
    return out


def grouped(counts: np.ndarray, waste: float) -> list[np.ndarray]:
    """Indices of shots in groups, from the largest shots to the smallest: each takes shots in falling order of their
    counts for as long as padding them to its largest wastes no more than this share.

    >>> [group.tolist() for group in grouped(np.array([3, 10, 9, 3]), 0.25)]
    [[1, 2], [0, 3]]
    """
    if not 0.0 <= waste < 1.0:
        raise ValueError(f"waste must be a share from 0 to below 1, got {waste}.")
    groups, total = [], 0
    for shot in np.argsort(-counts, kind="stable"):
        total += counts[shot]
        if groups and total >= (1.0 - waste) * counts[groups[-1][0]] * (len(groups[-1]) + 1):
            groups[-1].append(shot)
        else:
            groups.append([shot])
            total = counts[shot]
    return [np.sort(group) for group in groups]


def packed(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per shot the indices of its real receivers, in order, then padding, as many as the largest shot has; and which of
    these are real.
    """
    order = np.argsort(~real, axis=1, kind="stable")[:, : real.sum(axis=1).max()]
    return order, np.take_along_axis(real, order, axis=1)


def _metres(point: Any) -> str:
    return f"({', '.join(f'{x:g}' for x in point)}) m"
