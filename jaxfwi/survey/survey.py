"""Shots as a PyTree: where the sources and receivers are and what the sources emit."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import concrete_values, is_concrete
from jaxfwi.grid.grid import Grid
from jaxfwi.survey.padding import (
    grouped,
    packed,
    padded_gathers,
    padded_positions,
    padded_wavelet,
    streamer,
    unpadded_data,
)

__all__ = ["Survey"]


class Survey(eqx.Module):
    """Shots. Every leaf leads with the shot axis: ``survey[3]`` is one shot, ``survey[indices]`` a mini-batch,
    ``len(survey)`` their number.

    Positions are metres from the model's first node, in the axis order of the grid: ``(z,)``, ``(z, x)`` or
    ``(z, y, x)``. They may lie anywhere on the grid. Build one by `fixed_spread`, `from_arrays`, `from_lists` or
    `towed_streamer`.

    Shots may have different numbers of receivers: the arrays are padded to the largest, and `receiver_mask` tells real
    receivers from padding. Padded traces are zero in all data and have no part in any gradient; `unpad` leaves them
    out. A padded receiver lies at the place of a real one of its shot. A misfit of your own sees padded traces as zeros
    in both data: mind it where it divides by a trace.

    Args:
        source: positions, ``(shots, sources, ndim)``.
        receiver: positions, ``(shots, receivers, ndim)``.
        wavelet: what each source emits, ``(shots, time, sources)``; or ``(shots, time, sources, components)`` with one
            for each of the simulator's source fields, as for a moment tensor.
        source_lattice, receiver_lattice: set by `on_nodes`: where on each axis all positions lie, 0 for on nodes, 0.5
            for half-way between them; None if somewhere else.
        receiver_mask: ``(shots, receivers)``, True for a real receiver, False for padding; None if all are real.
    """

    source: Array
    receiver: Array
    wavelet: Array
    source_lattice: tuple[float, ...] | None = eqx.field(static=True, default=None)
    receiver_lattice: tuple[float, ...] | None = eqx.field(static=True, default=None)
    receiver_mask: Array | None = None

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

    @classmethod
    def from_lists(cls, source: Any, receiver: Any, wavelet: Any) -> "Survey":
        """A survey from lists of positions shot by shot, as many in each as there are.

        Args:
            source: per shot a list of positions in metres, ``(z,)``, ``(z, x)`` or ``(z, y, x)``; or one position.
            receiver: per shot a list of positions.
            wavelet: ``(time,)`` for all sources, ``(shots, time)``, or per shot ``(time, sources of that shot)``; or
                ``(time, sources of that shot, components)`` with one for each of the simulator's source fields.

        Shots with fewer sources than others are padded with silent ones at the place of their first. A padded source's
        wavelet has a gradient as any other: hold it at zero where you estimate wavelets.

        Raises:
            ValueError: for a shot without a source or a receiver, for two receivers of a shot at the same place, for
                positions or wavelets that are not finite, and for numbers of shots, coordinates or samples that differ.

        >>> import numpy as np
        >>> Survey.from_lists(
        ...     [[20.0, 50.0], [20.0, 90.0]], [[[10.0, 40.0]], [[10.0, 0.0], [10.0, 80.0]]], np.zeros(100))
        Survey(2 shots: 1 source and 1 to 2 receivers each, 100 time samples)
        """
        source, real_source, receiver, real = padded_positions(source, receiver)
        dtype = jnp.result_type(float)
        return cls(
            jnp.asarray(source, dtype),
            jnp.asarray(receiver, dtype),
            padded_wavelet(wavelet, real_source),
            receiver_mask=None if real.all() else jnp.asarray(real),
        )

    @classmethod
    def towed_streamer(
        cls,
        *,
        source_x: Any,
        source_z: Any,
        wavelet: Any,
        first_offset: float,
        receiver_spacing: float,
        receiver_z: Any,
        cable_length: float | None = None,
        receivers: int | None = None,
        direction: Any = 1,
        side: str = "behind",
        source_y: Any = None,
        grid: Grid | None = None,
    ) -> "Survey":
        """A cable of receivers that moves with the source, straight along x.

        Args:
            source_x, source_z: metres, numbers or arrays ``(shots,)``, broadcast against each other and against
                `source_y`, `receiver_z` and `direction`.
            wavelet: ``(time,)`` for all shots, or ``(shots, time)``.
            first_offset: metres along x from the source to the nearest receiver.
            receiver_spacing: metres between receivers.
            receiver_z: depth of the cable in metres.
            cable_length: metres, every receiver owning a `receiver_spacing`: 2560 m at 20 m are 128 receivers.
            receivers: their number, in the stead of `cable_length`.
            direction: 1 (the default): the boat sails to larger x and the cable trails at smaller x; -1 the other way.
            side: where the cable lies, seen from the source in the boat's direction: "behind" (the default) or "ahead",
                receivers in order of offset; or "both", one cable on either side, receivers in order from the last
                behind to the last ahead, one alone where the source is if `first_offset` is zero.
            source_y: metres, in 3D; the cable is at the source's y.
            grid: leaves out receivers beyond the grid's ends in x, where the cable hangs outside the model. By default
                none is left out.

        Raises:
            ValueError: for arguments that cannot be, or a shot that has no receiver on the grid.

        >>> import numpy as np
        >>> survey = Survey.towed_streamer(
        ...     source_x=[60.0, 100.0], source_z=6.0, receiver_z=8.0, first_offset=20.0, receiver_spacing=10.0,
        ...     cable_length=50.0, wavelet=np.zeros(100), grid=Grid((10, 20), 10.0, 1e-3, 100))
        >>> survey
        Survey(2 shots: 1 source and 5 receivers each, 100 time samples)
        >>> survey.receiver[1, :, 1].tolist()
        [80.0, 70.0, 60.0, 50.0, 40.0]
        """
        source = {"source_z": source_z, "source_y": source_y, "source_x": source_x}
        places, cables = streamer(
            {name: x for name, x in source.items() if x is not None},
            receiver_z,
            first_offset,
            receiver_spacing,
            cable_length,
            receivers,
            direction,
            side,
            grid,
        )
        return cls.from_lists(places, cables, wavelet)

    def __len__(self) -> int:
        return self.source.shape[0]

    def __getitem__(self, index: Any) -> "Survey":
        if is_concrete(index):  # numpy minds the bounds, which jax does not
            index = np.arange(len(self))[np.asarray(index, dtype=int) if isinstance(index, list) else index]
        return jax.tree.map(lambda x: x[index], self)

    def check(self) -> None:
        """Raise a ValueError if the arrays do not fit together, or have values that are not finite."""
        arrays = {"source": self.source, "receiver": self.receiver, "wavelet": self.wavelet}
        for name, x in arrays.items():
            if not hasattr(x, "shape") or not jnp.issubdtype(x.dtype, jnp.floating):
                raise ValueError(f"survey {name} must be a floating-point array: build surveys by Survey.from_arrays.")
            if is_concrete(x) and not np.isfinite(np.asarray(x)).all():
                raise ValueError(f"survey {name} has values that are not finite.")
        s, r, w = (x.shape for x in arrays.values())
        shots = s[:-2]
        if (mask := self.receiver_mask) is not None:
            if getattr(mask, "dtype", None) != np.dtype(bool) or mask.shape != r[:-1]:
                raise ValueError(
                    f"survey receiver_mask must be None or bool of shape {r[:-1]}, got "
                    f"{getattr(mask, 'dtype', type(mask).__name__)} of shape {np.shape(mask)}."
                )
            if is_concrete(mask) and not np.asarray(mask).any(axis=-1).all():
                raise ValueError("survey receiver_mask leaves a shot without a receiver: leave the shot out.")
        fits = len(s) == len(r) >= 2 and shots == r[:-2] and s[-1] == r[-1] and len(w) - len(s) in (0, 1)
        if not (fits and w[: len(shots)] == shots and w[len(shots) + 1] == s[-2]):
            raise ValueError(
                "survey source (shots, sources, ndim), receiver (shots, receivers, ndim) and wavelet (shots, time, "
                f"sources) do not fit together: {s}, {r} and {w}."
            )

    def __repr__(self) -> str:
        def counted(n, word):
            return f"{n} {word}{'' if n == 1 else 's'}"

        ndim = getattr(self.source, "ndim", 0)
        fits = getattr(self.receiver, "ndim", 0) == ndim and getattr(self.wavelet, "ndim", 0) in (ndim, ndim + 1)
        if ndim not in (2, 3) or not fits:  # a tree of something else than the arrays of a survey
            return f"Survey({self.source!r}, {self.receiver!r}, {self.wavelet!r})"
        receivers = counted(self.receiver.shape[-2], "receiver")
        if self.receiver_mask is not None:
            receivers = f"up to {receivers}"
            mask = concrete_values(self.receiver_mask)
            if mask is not None and mask.size:
                count = mask.sum(axis=-1)
                least = "" if count.min() == count.max() else f"{count.min()} to "
                receivers = least + counted(count.max(), "receiver")
        each = f"{counted(self.source.shape[-2], 'source')} and {receivers}"
        time = f"{self.wavelet.shape[ndim - 2]} time samples"
        return (
            f"Survey({counted(len(self), 'shot')}: {each} each, {time})"
            if ndim == 3
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

        return dataclasses.replace(self, source_lattice=lattice(self.source), receiver_lattice=lattice(self.receiver))

    def masked(self, data: Any) -> Any:
        """Data with exact zeros in padded traces, whatever stood there: of all shots ``(shots, time, receivers,
        components)``, or of one ``(time, receivers, components)`` if this survey is one. numpy in, numpy out.

        Simulated data are masked, and functions that take observed data mask them.

        Raises:
            ValueError: for data of another shape.
        """
        mask = self.receiver_mask
        if mask is None:
            return data
        if data.ndim != self.receiver.ndim + 1 or (*data.shape[:-3], data.shape[-2]) != mask.shape:
            raise ValueError(
                f"data must be ({'shots, ' * (mask.ndim - 1)}time, receivers, components) to fit a receiver_mask of "
                f"shape {mask.shape}, got shape {data.shape}."
            )
        xp = np if isinstance(data, np.ndarray) and is_concrete(mask) else jnp
        return xp.where(xp.asarray(mask)[..., None, :, None], data, xp.zeros((), data.dtype))

    def unpad(self, data: Any) -> list[np.ndarray]:
        """Data without padding, as they are to be written: per shot ``(time, receivers of that shot, components)``.

        Args:
            data: ``(shots, time, receivers, components)``.

        Raises:
            ValueError: for data of another shape.

        >>> import numpy as np
        >>> survey = Survey.from_lists([[0.0, 0.0]] * 2, [[[0.0, 5.0]], [[0.0, 5.0], [0.0, 9.0]]], np.zeros(30))
        >>> [gather.shape for gather in survey.unpad(np.zeros((2, 30, 2, 1)))]
        [(30, 1, 1), (30, 2, 1)]
        """
        return unpadded_data(data, self._real())

    def pad(self, gathers: Sequence[Any]) -> np.ndarray:
        """Data as simulations give them and misfits need them, with zeros for padding: the inverse of `unpad`.

        Args:
            gathers: per shot ``(time, receivers of that shot, components)``.

        Returns:
            ``(shots, time, receivers, components)``.

        Raises:
            ValueError: for gathers that do not fit the survey or each other.

        >>> import numpy as np
        >>> survey = Survey.from_lists([[0.0, 0.0]] * 2, [[[0.0, 5.0]], [[0.0, 5.0], [0.0, 9.0]]], np.zeros(30))
        >>> survey.pad([np.ones((30, 1, 1)), np.ones((30, 2, 1))])[:, 0, :, 0].tolist()
        [[1.0, 0.0], [1.0, 1.0]]
        """
        return padded_gathers(gathers, self._real())

    def buckets(self, waste: float = 0.25) -> list[tuple[np.ndarray, "Survey"]]:
        """The shots in groups of nearly as many receivers, each padded to its own largest number alone.

        Worth its while where shots differ much, since padding is recorded as real receivers are. Each group is a survey
        of its own, for which programs compile anew: `simulate` and `misfit_and_gradient` take one after the other, and
        misfits and gradients add up.

        Args:
            waste: the largest share of padding among a group's traces, from 0 to below 1.

        Returns:
            Pairs of the shots' indices, in rising order, and their survey; together every shot once. Groups are taken
            from shots in falling order of their numbers of receivers, each as large as `waste` lets it grow. Sources
            at the end of the arrays that are silent in all shots of a group are left out of it.

        Raises:
            ValueError: for a share that cannot be.

        >>> import jax.numpy as jnp, jaxfwi as jf
        >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=150)
        >>> survey = jf.Survey.towed_streamer(
        ...     source_x=[50.0, 250.0, 270.0], source_z=50.0, receiver_z=50.0, first_offset=20.0, receiver_spacing=10.0,
        ...     receivers=20, wavelet=jf.ricker(grid, frequency=15.0), grid=grid)
        >>> simulator, model = jf.Simulator(grid), jf.Acoustic(vp=jnp.full(grid.shape, 2000.0))
        >>> gathers = survey.unpad(jf.simulate(simulator, model, survey))
        >>> total = 0.0
        >>> for indices, bucket in survey.buckets(waste=0.1):
        ...     print(indices, bucket)
        ...     observed = bucket.pad([gathers[i] for i in indices])
        ...     total += jf.misfit_and_gradient(simulator, jf.misfits.l2, model, bucket, observed)[0]
        [1 2] Survey(2 shots: 1 source and 20 receivers each, 150 time samples)
        [0] Survey(1 shot: 1 source and 4 receivers each, 150 time samples)
        """
        groups = grouped(self._real().sum(axis=1), waste)
        # by numpy where values are known: jax would compile each group's indexing anew
        survey = jax.tree.map(np.asarray, self) if is_concrete(*jax.tree.leaves(self)) else self
        return [(group, jax.tree.map(jnp.asarray, survey[group]._cut())) for group in groups]

    def _real(self) -> np.ndarray:
        """Which receivers are real, ``(shots, receivers)``."""
        if self.source.ndim != 3:
            raise ValueError("survey has no shot axis: pass survey[i : i + 1] for one shot.")
        shape = self.receiver.shape[:2]
        return np.full(shape, True) if self.receiver_mask is None else np.asarray(self.receiver_mask)

    def _cut(self) -> "Survey":
        """The same shots with no more padding than the largest of them needs."""
        order, mask = packed(self._real())
        sources = self.source.shape[1]
        if is_concrete(self.wavelet):
            emits = np.asarray(self.wavelet).any(axis=(0, 1, *range(3, self.wavelet.ndim)))
            sources = max(np.flatnonzero(emits), default=0) + 1
        return dataclasses.replace(
            self,
            source=self.source[:, :sources],
            receiver=self.receiver[np.arange(len(order))[:, None], order],
            wavelet=self.wavelet[:, :, :sources],
            receiver_mask=None if mask.all() else mask,
        )


def _finite(name: str, x: Any) -> Array:
    if is_concrete(x) and not np.isfinite(np.asarray(x, dtype=float)).all():
        raise ValueError(f"{name} has values that are not finite.")
    return jnp.asarray(x, dtype=jnp.result_type(float))
