"""Shots of unequal size: positions, wavelets and data padded to arrays, and shots grouped by size.

Padded positions are those of the first source or receiver of their shot, so that whatever depends on where positions
lie is not affected by padding.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import in_metres, is_concrete

__all__ = [
    "grouped_by_size",
    "masked_data",
    "padded_gathers",
    "padded_positions",
    "padded_wavelet",
    "unpadded_data",
    "without_common_padding",
]


def padded_positions(source: Any, receiver: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lists of positions, one list per shot, as arrays padded to the longest list: the sources ``(shots, most, ndim)``,
    which of them are real ``(shots, most)``, and the same of the receivers. `Survey.from_lists` documents the errors.
    """
    source, receiver = (np.asarray(x) if hasattr(x, "ndim") else list(x) for x in (source, receiver))
    if len(source) != len(receiver):
        raise ValueError(
            f"source has {len(source)} shots but receiver has {len(receiver)}: give each one list of positions per "
            "shot."
        )
    if not len(source):
        raise ValueError("a survey needs a shot: source and receiver are empty.")
    # A single position may be given instead of a list with one position.
    source = [[s] if _is_list(s) and len(s) and not any(map(_is_list, s)) else s for s in source]
    ndim = 0
    if _is_list(source[0]) and len(source[0]):  # otherwise _points raises the error
        first = source[0][0]
        ndim = len(first) if _is_list(first) else 0
        if not 1 <= ndim <= 3:
            raise ValueError(f"positions must be (z,), (z, x) or (z, y, x), got {first!r} as the first source.")
    sources = [_points("source", i, x, ndim) for i, x in enumerate(source)]
    receivers = [_points("receiver", i, x, ndim) for i, x in enumerate(receiver)]
    for shot, points in enumerate(receivers):
        seen: dict[tuple, int] = {}
        for i, point in enumerate(map(tuple, points.tolist())):
            if seen.setdefault(point, i) != i:
                raise ValueError(
                    f"shot {shot} has receiver {i} at the place of receiver {seen[point]}, {in_metres(point)}: leave "
                    "one of them out, their traces are the same."
                )
    return *_padded(sources), *_padded(receivers)


def _is_list(x: Any) -> bool:
    """Whether x is a list or an array, not a number."""
    return hasattr(x, "__len__") and getattr(x, "ndim", 1) > 0


def _points(name: str, shot: int, given: Any, ndim: int) -> np.ndarray:
    """The positions of one shot as an array ``(n, ndim)``, checked."""
    if not _is_list(given):
        raise ValueError(f"shot {shot} has {name} {given!r}: give a list of positions.")
    if not len(given):
        raise ValueError(f"shot {shot} has no {name}: give it one, or leave the shot out.")
    for i, point in enumerate(given):
        if not _is_list(point) or len(point) != ndim or any(map(_is_list, point)):
            raise ValueError(
                f"shot {shot} has {name} {i} at {point!r} where the first source has {ndim} coordinates: positions "
                "must be (z,), (z, x) or (z, y, x), the same for all."
            )
    points = np.asarray(given, dtype=float)
    for i in np.flatnonzero(~np.isfinite(points).all(axis=1)):
        raise ValueError(f"shot {shot} has {name} {i} at {in_metres(points[i])}: positions must be finite.")
    return points


def _padded(points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of all shots in one array, and which of them are real."""
    counts = np.array([len(p) for p in points])
    real = np.arange(counts.max()) < counts[:, None]
    out = np.repeat(np.stack([p[0] for p in points])[:, None], counts.max(), axis=1)
    out[real] = np.concatenate(points)
    return out, real


def padded_wavelet(wavelet: Any, real: np.ndarray) -> Array:
    """The wavelets of all sources, ``(shots, time, sources)`` or with components after that, zero for padded sources.

    Args:
        wavelet: ``(time,)``, ``(shots, time)``, or per shot ``(time, sources of that shot)``, or ``(time, sources of
            that shot, components)``.
        real: which of the sources are real, ``(shots, sources)``.
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


def unpadded_data(data: Any, real: np.ndarray) -> list[np.ndarray]:
    """The data of each shot's real receivers; see `Survey.unpad`."""
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


def grouped_by_size(counts: np.ndarray, waste: float) -> list[np.ndarray]:
    """Indices of shots in groups, from the largest shots to the smallest.

    A group takes shots in falling order of their counts, for as long as padding them to its largest wastes no more than
    this fraction.

    >>> [group.tolist() for group in grouped_by_size(np.array([3, 10, 9, 3]), 0.25)]
    [[1, 2], [0, 3]]
    """
    if not 0.0 <= waste < 1.0:
        raise ValueError(f"waste must be a fraction from 0 to below 1, got {waste}.")
    groups, total = [], 0
    for shot in np.argsort(-counts, kind="stable"):
        total += counts[shot]
        if groups and total >= (1.0 - waste) * counts[groups[-1][0]] * (len(groups[-1]) + 1):
            groups[-1].append(shot)
        else:
            groups.append([shot])
            total = counts[shot]
    return [np.sort(group) for group in groups]


def masked_data(data: Any, mask: Any) -> Any:
    """Data with exact zeros in padded traces, which the mask of real receivers tells. `Survey.masked` documents it."""
    if data.ndim != mask.ndim + 2 or (*data.shape[:-3], data.shape[-2]) != mask.shape:
        raise ValueError(
            f"data must be ({'shots, ' * (mask.ndim - 1)}time, receivers, components) to fit a receiver_mask of "
            f"shape {mask.shape}, got shape {data.shape}."
        )
    xp = np if isinstance(data, np.ndarray) and is_concrete(mask) else jnp
    return xp.where(xp.asarray(mask)[..., None, :, None], data, xp.zeros((), data.dtype))


def without_common_padding(survey: Any, real: np.ndarray) -> Any:
    """The same shots, padded only as far as the largest of them needs; `real` tells real receivers from padding."""
    order = np.argsort(~real, axis=1, kind="stable")[:, : real.sum(axis=1).max()]  # real receivers first
    mask = np.take_along_axis(real, order, axis=1)
    sources = survey.source.shape[1]
    if is_concrete(survey.wavelet):
        audible = np.asarray(survey.wavelet).any(axis=(0, 1, *range(3, survey.wavelet.ndim)))
        sources = max(np.flatnonzero(audible), default=0) + 1
    return replace(
        survey,
        source=survey.source[:, :sources],
        receiver=survey.receiver[np.arange(len(order))[:, None], order],
        wavelet=survey.wavelet[:, :, :sources],
        receiver_mask=None if mask.all() else mask,
    )
