"""Positions: of fixed spreads and towed streamers; and whether positions lie on nodes."""

from typing import Any

import numpy as np

from jaxfwi._checks import as_integer, check_grid, in_metres
from jaxfwi.grid.grid import Grid

__all__ = ["fixed_spread", "lattice", "towed_streamer"]


def fixed_spread(source: tuple[Any, Any, Any], receiver: tuple[Any, Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The positions of `Survey.fixed_spread`: sources ``(shots, ndim)`` and receivers ``(receivers, ndim)``.

    Args:
        source, receiver: coordinates z, y and x, None for those left out.
    """
    if any((s is None) != (r is None) for s, r in zip(source, receiver, strict=True)):
        raise ValueError(
            "sources and receivers must have the same coordinates: give x (and y) for both or for neither."
        )
    _, y, x = source
    if y is not None and x is None:
        raise ValueError("a y coordinate needs an x coordinate: in 2D give z and x.")
    return _points("source", source), _points("receiver", receiver)


def _points(name: str, coordinates: tuple[Any, Any, Any]) -> np.ndarray:
    given = [np.atleast_1d(np.asarray(c, dtype=float)) for c in coordinates if c is not None]
    try:
        return np.stack(np.broadcast_arrays(*given), axis=-1)
    except ValueError:
        raise ValueError(
            f"{name} coordinates must broadcast to one length, got shapes {[c.shape for c in given]}."
        ) from None


def lattice(position: Any, grid: Grid) -> tuple[float, ...] | None:
    """For each axis 0 if all positions lie on nodes, 0.5 if all lie half-way between nodes; None if any axis is
    neither.
    """
    scaled = np.asarray(position, dtype=float).reshape(-1, grid.ndim) / np.asarray(grid.spacing)
    # up to the precision of the positions themselves
    slack = 4 * np.finfo(position.dtype).eps * np.maximum(1.0, np.abs(scaled))
    found = [
        [offset for offset in (0.0, 0.5) if np.all(np.abs(x - offset - np.round(x - offset)) <= e)]
        for x, e in zip(scaled.T, slack.T, strict=True)
    ]
    return tuple(offsets[0] for offsets in found) if all(found) else None


def towed_streamer(
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
    """The positions of `Survey.towed_streamer`: sources ``(shots, ndim)``, and the receivers of each shot.

    Args:
        source: coordinates by name, from z to x. The other arguments are those of `Survey.towed_streamer`.
    """
    if grid is not None:
        check_grid(grid)
    given = source | {"receiver_z": receiver_z, "direction": direction}
    for name, x in given.items():
        if np.ndim(x) > 1 or not np.isfinite(np.asarray(x, dtype=float)).all():
            raise ValueError(f"{name} must be a finite number, or one per shot, got {x!r}.")
    try:
        *coordinates, depth, heading = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(x, float)) for x in given.values())
        )
    except ValueError:
        shapes = ", ".join(f"{name} {np.shape(x)}" for name, x in given.items())
        raise ValueError(f"a towed streamer needs one number for all shots, or one per shot: got {shapes}.") from None
    if not np.isin(heading, (-1.0, 1.0)).all():
        raise ValueError(f"direction must be 1 to sail to larger x, or -1 to sail to smaller x, got {direction}.")
    if not 0.0 < receiver_spacing < np.inf:
        raise ValueError(f"receiver_spacing must be positive metres, got {receiver_spacing}.")
    if not 0.0 <= first_offset < np.inf:
        raise ValueError(f"first_offset must be metres of zero or more, got {first_offset}: side says which way.")
    if grid is not None and grid.ndim != len(coordinates):
        raise ValueError(f"grid has {grid.ndim} axes: give source_y for three, leave it out for two.")
    offset = first_offset + receiver_spacing * np.arange(_receiver_count(receiver_spacing, cable_length, receivers))
    # Along the boat's course. If the first offset is 0, both sides have that receiver in common.
    sides = {"behind": -offset, "ahead": offset, "both": np.union1d(-offset, offset)}
    if side not in sides:
        raise ValueError(f'side must be "behind", "ahead" or "both", got {side!r}.')
    x = coordinates[-1][:, None] + heading[:, None] * sides[side]
    kept = np.full(x.shape, True)
    if grid is not None:
        slack = 1e-4 * grid.spacing[-1]  # the same as a simulator allows
        kept = (x >= -slack) & (x <= grid.extent[-1] + slack)
    sources, cables = np.stack(coordinates, axis=-1), []
    for shot, (line, k) in enumerate(zip(x, kept, strict=True)):
        if grid is not None and not k.any():
            raise ValueError(
                f"shot {shot} has no receiver on the grid: its source is at {in_metres(sources[shot])}, its cable from "
                f"x = {line.min():g} to {line.max():g} m, the grid from 0 to {grid.extent[-1]:g} m. Leave the shot "
                "out, or turn direction or side."
            )
        cables.append(np.stack(np.broadcast_arrays(depth[shot], *sources[shot, 1:-1], line[k]), axis=-1))
    return sources, cables


def _receiver_count(spacing: float, length: float | None, receivers: int | None) -> int:
    """The number of receivers of a cable, of whose length each receiver takes up one spacing."""
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
            "instead."
        )
    return round(count)
