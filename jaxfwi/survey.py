"""Shots as a PyTree: where the sources and receivers are and what the sources emit."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi.checks import known
from jaxfwi.grid import Grid

__all__ = ["Survey"]


class Survey(eqx.Module):
    """Shots. Every leaf leads with the shot axis: ``survey[3]`` is one shot, ``survey[indices]`` a mini-batch,
    ``len(survey)`` their number.

    Positions are metres from the model's first node, in the axis order of the grid: ``(z,)``, ``(z, x)`` or
    ``(z, y, x)``. They may lie anywhere on the grid. Build one by `fixed_spread` or `from_arrays`.

    Args:
        source: positions, ``(shots, sources, ndim)``.
        receiver: positions, ``(shots, receivers, ndim)``.
        wavelet: what each source emits, ``(shots, time, sources)``; or ``(shots, time, sources, components)`` with one
            for each of the simulator's source fields, as for a moment tensor.
        source_lattice, receiver_lattice: set by `on_nodes`: where on each axis all positions lie, 0 for on nodes, 0.5
            for half-way between them; None if somewhere else.
    """

    source: Array
    receiver: Array
    wavelet: Array
    source_lattice: tuple[float, ...] | None = eqx.field(static=True, default=None)
    receiver_lattice: tuple[float, ...] | None = eqx.field(static=True, default=None)

    @classmethod
    def from_arrays(cls, source: Any, receiver: Any, wavelet: Any) -> "Survey":
        """A survey from arrays, with what all shots share given once.

        Args:
            source: ``(shots, ndim)`` for one source a shot, or ``(shots, sources, ndim)``.
            receiver: ``(receivers, ndim)`` for a spread that all shots share, or ``(shots, receivers, ndim)``.
            wavelet: ``(time,)`` for all, ``(shots, time)``, ``(shots, time, sources)``, or ``(shots, time, sources,
                components)`` with one for each of the simulator's source fields.

        Raises:
            ValueError: for shapes that do not fit together, or positions that are not finite.

        >>> import numpy as np
        >>> Survey.from_arrays([[20.0, 50.0], [20.0, 90.0]], [[10.0, 0.0], [10.0, 40.0], [10.0, 80.0]], np.zeros(100))
        Survey(2 shots: 1 source and 3 receivers each, 100 time samples)
        """
        source, receiver, wavelet = (
            _finite(n, x) for n, x in (("source", source), ("receiver", receiver), ("wavelet", wavelet))
        )
        source = source[:, None] if source.ndim == 2 else source
        if source.ndim != 3:
            raise ValueError(f"source must be (shots, ndim) or (shots, sources, ndim), got shape {source.shape}.")
        shots, sources, ndim = source.shape
        receiver = jnp.broadcast_to(receiver, (shots, *receiver.shape)) if receiver.ndim == 2 else receiver
        if receiver.ndim != 3 or receiver.shape[0] != shots or receiver.shape[2] != ndim:
            raise ValueError(
                f"receiver must be (receivers, {ndim}) or ({shots}, receivers, {ndim}) to fit source "
                f"{source.shape}, got shape {receiver.shape}."
            )
        if 0 in source.shape or 0 in receiver.shape:
            raise ValueError(
                f"a survey needs a shot, a source and a receiver, got source {source.shape} and receiver "
                f"{receiver.shape}."
            )
        if wavelet.ndim == 1 or (wavelet.ndim == 2 and len(wavelet) == shots):
            wavelet = jnp.broadcast_to(wavelet[..., None], (shots, wavelet.shape[-1], sources))
        if wavelet.ndim not in (3, 4) or wavelet.shape[:3:2] != (shots, sources):
            raise ValueError(
                f"wavelet must be (time,), ({shots}, time), ({shots}, time, {sources}) or ({shots}, time, {sources}, "
                f"components) to fit source {source.shape}, got shape {wavelet.shape}."
            )
        return cls(source, receiver, wavelet)

    @classmethod
    def fixed_spread(
        cls,
        *,
        source_z: Any,
        receiver_z: Any,
        wavelet: Any,
        source_x: Any = None,
        receiver_x: Any = None,
        source_y: Any = None,
        receiver_y: Any = None,
    ) -> "Survey":
        """One source a shot, and receivers that all shots share.

        Args:
            source_z, source_y, source_x: metres, numbers or arrays ``(shots,)``, broadcast against each other. x is
                left out in 1D, y in 2D.
            receiver_z, receiver_y, receiver_x: metres, numbers or arrays ``(receivers,)``.
            wavelet: ``(time,)`` for all shots, or ``(shots, time)``.

        Raises:
            ValueError: for coordinates that do not fit together.

        >>> import numpy as np
        >>> Survey.fixed_spread(
        ...     source_x=[100.0, 200.0], source_z=20.0, receiver_x=np.arange(0, 300, 10.0), receiver_z=20.0,
        ...     wavelet=np.zeros(50))
        Survey(2 shots: 1 source and 30 receivers each, 50 time samples)
        """

        def points(name, *coordinates):
            given = [np.atleast_1d(np.asarray(c, dtype=float)) for c in coordinates if c is not None]
            try:
                return np.stack(np.broadcast_arrays(*given), axis=-1)
            except ValueError:
                raise ValueError(
                    f"{name} coordinates must broadcast to one length, got shapes {[c.shape for c in given]}."
                ) from None

        if (source_x is None) != (receiver_x is None) or (source_y is None) != (receiver_y is None):
            raise ValueError(
                "sources and receivers must have the same coordinates: give x (and y) for both or for neither."
            )
        if source_y is not None and source_x is None:
            raise ValueError("a y coordinate needs an x coordinate: in 2D give z and x.")
        source = points("source", source_z, source_y, source_x)
        return cls.from_arrays(source, points("receiver", receiver_z, receiver_y, receiver_x), wavelet)

    def __len__(self) -> int:
        return self.source.shape[0]

    def __getitem__(self, index: Any) -> "Survey":
        if known(index):  # numpy minds the bounds, which jax does not
            index = np.arange(len(self))[np.asarray(index, dtype=int) if isinstance(index, list) else index]
        return jax.tree.map(lambda x: x[index], self)

    def check(self) -> None:
        """Raise a ValueError if the arrays do not fit together, or have values that are not finite."""
        arrays = {"source": self.source, "receiver": self.receiver, "wavelet": self.wavelet}
        for name, x in arrays.items():
            if not hasattr(x, "shape") or not jnp.issubdtype(x.dtype, jnp.floating):
                raise ValueError(f"survey {name} must be a floating-point array: build surveys by Survey.from_arrays.")
            if known(x) and not np.isfinite(np.asarray(x)).all():
                raise ValueError(f"survey {name} has values that are not finite.")
        s, r, w = (x.shape for x in arrays.values())
        shots = s[:-2]
        fits = len(s) == len(r) >= 2 and shots == r[:-2] and s[-1] == r[-1] and len(w) - len(s) in (0, 1)
        if not (fits and w[: len(shots)] == shots and w[len(shots) + 1] == s[-2]):
            raise ValueError(
                "survey source (shots, sources, ndim), receiver (shots, receivers, ndim) and wavelet (shots, time, "
                f"sources) do not fit together: {s}, {r} and {w}."
            )

    def __repr__(self) -> str:
        def counted(n, word):
            return f"{n} {word}{'' if n == 1 else 's'}"

        if getattr(self.source, "ndim", 0) < 2:
            return f"Survey({self.source!r}, {self.receiver!r}, {self.wavelet!r})"
        each = f"{counted(self.source.shape[-2], 'source')} and {counted(self.receiver.shape[-2], 'receiver')}"
        time = f"{self.wavelet.shape[self.source.ndim - 2]} time samples"
        return (
            f"Survey({counted(len(self), 'shot')}: {each} each, {time})"
            if self.source.ndim == 3
            else f"Survey(one shot: {each}, {time})"
        )

    def on_nodes(self, grid: Grid) -> "Survey":
        """The same survey with the knowledge that its positions lie on nodes, or on some axes half-way between nodes as
        some fields of staggered equations do; for the sources, for the receivers or for both.

        `simulate`, `misfit_and_gradient` and `invert` find this out by themselves. Call it before you `vmap` or `jit` a
        simulator yourself: a position known to be on a node costs one node instead of 8, 64 or 512. Such positions
        cannot be differentiated any more.
        """

        def lattice(position):
            scaled = np.asarray(position, dtype=float).reshape(-1, grid.ndim) / np.asarray(grid.spacing)
            # as close as the position's own precision can tell
            slack = 4 * np.finfo(position.dtype).eps * np.maximum(1.0, np.abs(scaled))
            found = [
                [offset for offset in (0.0, 0.5) if np.all(np.abs(x - offset - np.round(x - offset)) <= e)]
                for x, e in zip(scaled.T, slack.T, strict=True)
            ]
            return tuple(offsets[0] for offsets in found) if all(found) else None

        return Survey(self.source, self.receiver, self.wavelet, lattice(self.source), lattice(self.receiver))


def _finite(name: str, x: Any) -> Array:
    if known(x) and not np.isfinite(np.asarray(x, dtype=float)).all():
        raise ValueError(f"{name} has values that are not finite.")
    return jnp.asarray(x, dtype=jnp.result_type(float))
