"""Shots as a PyTree: the positions of sources and receivers, and the wavelets of the sources."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import check_grid, is_concrete
from jaxfwi.grid.grid import Grid
from jaxfwi.survey import padding
from jaxfwi.survey.checks import check_arrays, described, full_arrays
from jaxfwi.survey.positions import fixed_spread, lattice, towed_streamer

__all__ = ["Survey"]


class Survey(eqx.Module):
    """Shots. Every array has the shot axis first: ``survey[3]`` is one shot, ``survey[indices]`` a mini-batch,
    ``len(survey)`` the number of shots.

    Positions are metres from the model's first node, in the axis order of the grid: ``(z,)``, ``(z, x)`` or
    ``(z, y, x)``. They may lie anywhere on the grid. Make a survey by `fixed_spread`, `from_arrays`, `from_lists` or
    `towed_streamer`.

    Shots may have different numbers of receivers: the arrays are padded to the largest shot, and `receiver_mask` says
    which receivers are real. Padded traces are zero in all data and take no part in any gradient; `unpad` leaves them
    out. A padded receiver lies at the position of a real one of its shot. A misfit of your own sees padded traces as
    zeros in both data: be careful where it divides by the size of a trace.

    Args:
        source: positions, ``(shots, sources, ndim)``.
        receiver: positions, ``(shots, receivers, ndim)``.
        wavelet: of each source, ``(shots, time, sources)``; or ``(shots, time, sources, components)`` with one
            component for each of the simulator's source fields, as for a moment tensor.
        source_lattice, receiver_lattice: set by `on_nodes`: for each axis 0 if all positions lie on nodes, 0.5 if all
            lie half-way between nodes; None if they lie anywhere else.
        receiver_mask: ``(shots, receivers)``, True for a real receiver, False for padding; None if all are real.

    >>> import numpy as np, jaxfwi as jf
    >>> source, receiver = [[20.0, 50.0], [20.0, 90.0]], [[10.0, 0.0], [10.0, 40.0]]
    >>> survey = jf.Survey.from_arrays(source, receiver, np.zeros(100))
    >>> len(survey), survey[1]
    (2, Survey(one shot: 1 source and 2 receivers, 100 time samples))
    """

    source: Array
    receiver: Array
    wavelet: Array
    source_lattice: tuple[float, ...] | None = eqx.field(static=True, default=None)
    receiver_lattice: tuple[float, ...] | None = eqx.field(static=True, default=None)
    receiver_mask: Array | None = None

    @classmethod
    def from_arrays(cls, source: Any, receiver: Any, wavelet: Any) -> "Survey":
        """Make a survey from arrays. A spread or a wavelet that all shots share is given once.

        Args:
            source: ``(shots, ndim)`` for one source a shot, or ``(shots, sources, ndim)``.
            receiver: ``(receivers, ndim)`` for a spread that all shots share, or ``(shots, receivers, ndim)``.
            wavelet: ``(time,)`` for all sources, ``(shots, time)``, ``(shots, time, sources)``, or ``(shots, time,
                sources, components)`` with one component for each of the simulator's source fields.

        Raises:
            ValueError: for shapes that do not fit together, or positions that are not finite.

        >>> import numpy as np, jaxfwi as jf
        >>> jf.Survey.from_arrays(
        ...     source=[[20.0, 50.0], [20.0, 90.0]],
        ...     receiver=[[10.0, 0.0], [10.0, 40.0], [10.0, 80.0]],
        ...     wavelet=np.zeros(100))
        Survey(2 shots: 1 source and 3 receivers each, 100 time samples)
        """
        return cls(*full_arrays(source, receiver, wavelet))

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
        """Make a survey of one source per shot, and receivers that all shots share.

        Args:
            source_z, source_y, source_x: metres, numbers or arrays ``(shots,)``, broadcast against each other. Leave x
                out in 1D, y in 2D.
            receiver_z, receiver_y, receiver_x: metres, numbers or arrays ``(receivers,)``.
            wavelet: ``(time,)`` for all shots, or ``(shots, time)``.

        Raises:
            ValueError: for coordinates that do not fit together.

        >>> import numpy as np, jaxfwi as jf
        >>> jf.Survey.fixed_spread(
        ...     source_x=[100.0, 200.0], source_z=20.0,
        ...     receiver_x=np.arange(0, 300, 10.0), receiver_z=20.0,
        ...     wavelet=np.zeros(50))
        Survey(2 shots: 1 source and 30 receivers each, 50 time samples)
        """
        source, receiver = fixed_spread((source_z, source_y, source_x), (receiver_z, receiver_y, receiver_x))
        return cls.from_arrays(source, receiver, wavelet)

    @classmethod
    def from_lists(cls, source: Any, receiver: Any, wavelet: Any) -> "Survey":
        """Make a survey from lists of positions, one list per shot, which may differ in length.

        Shots with fewer sources than others are padded with silent sources at the position of their first. The wavelet
        of a padded source has a gradient like any other: keep it at zero if you estimate wavelets.

        Args:
            source: per shot a list of positions in metres, ``(z,)``, ``(z, x)`` or ``(z, y, x)``; or one position.
            receiver: per shot a list of positions.
            wavelet: ``(time,)`` for all sources, ``(shots, time)``, or per shot ``(time, sources of that shot)`` or
                ``(time, sources of that shot, components)`` with one component for each of the simulator's source
                fields.

        Raises:
            ValueError: for a shot without a source or a receiver, for two receivers of a shot at the same position, for
                positions or wavelets that are not finite, and for numbers of shots, coordinates or samples that differ.

        >>> import numpy as np, jaxfwi as jf
        >>> jf.Survey.from_lists(
        ...     [[20.0, 50.0], [20.0, 90.0]],
        ...     [[[10.0, 40.0]], [[10.0, 0.0], [10.0, 80.0]]],
        ...     np.zeros(100))
        Survey(2 shots: 1 source and 1 to 2 receivers each, 100 time samples)
        """
        source, real_source, receiver, real = padding.padded_positions(source, receiver)
        dtype = jnp.result_type(float)
        return cls(
            jnp.asarray(source, dtype),
            jnp.asarray(receiver, dtype),
            padding.padded_wavelet(wavelet, real_source),
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
        """Make a survey with a cable of receivers that moves with the source, straight along x.

        Args:
            source_x, source_z: metres, numbers or arrays ``(shots,)``, broadcast against each other and against
                `source_y`, `receiver_z` and `direction`.
            wavelet: ``(time,)`` for all shots, or ``(shots, time)``.
            first_offset: metres along x from the source to the nearest receiver.
            receiver_spacing: metres between receivers.
            receiver_z: depth of the cable in metres.
            cable_length: metres, of which each receiver takes up one `receiver_spacing`: 2560 m at 20 m are 128
                receivers.
            receivers: their number, instead of `cable_length`.
            direction: 1 (the default): the boat sails to larger x and the cable trails at smaller x; -1 the other way.
            side: where the cable lies, seen from the source in the boat's direction: "behind" (the default) or "ahead",
                with receivers in order of offset; or "both", one cable on either side, with receivers in order from the
                last behind to the last ahead. If `first_offset` is zero, "both" has only one receiver at the source.
            source_y: metres, in 3D; the cable is at the source's y.
            grid: if given, receivers beyond the grid's ends in x are left out, where the cable hangs outside the model.

        Raises:
            ValueError: for invalid arguments, or a shot that has no receiver on the grid.

        >>> import numpy as np, jaxfwi as jf
        >>> survey = jf.Survey.towed_streamer(
        ...     source_x=[60.0, 100.0], source_z=6.0, receiver_z=8.0,
        ...     first_offset=20.0, receiver_spacing=10.0, cable_length=50.0,
        ...     wavelet=np.zeros(100), grid=jf.Grid((10, 20), 10.0, 1e-3, 100))
        >>> survey
        Survey(2 shots: 1 source and 5 receivers each, 100 time samples)
        >>> survey.receiver[1, :, 1].tolist()
        [80.0, 70.0, 60.0, 50.0, 40.0]
        """
        source = {"source_z": source_z, "source_y": source_y, "source_x": source_x}
        sources, cables = towed_streamer(
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
        return cls.from_lists(sources, cables, wavelet)

    def __len__(self) -> int:
        return self.source.shape[0]

    def __getitem__(self, index: Any) -> "Survey":
        if is_concrete(index):  # numpy raises an error for an index out of bounds, jax does not
            index = np.arange(len(self))[np.asarray(index, dtype=int) if isinstance(index, list) else index]
        return jax.tree.map(lambda x: x[index], self)

    def check(self) -> None:
        """Raise a ValueError if the arrays do not fit together, or have values that are not finite.

        >>> import numpy as np, jaxfwi as jf
        >>> source = np.zeros((2, 1, 2), int)
        >>> jf.Survey(source, np.zeros((2, 5, 2)), np.zeros((2, 100, 1))).check()
        Traceback (most recent call last):
        ValueError: survey source must be a floating-point array: build surveys by Survey.from_arrays.
        """
        check_arrays(self.source, self.receiver, self.wavelet, self.receiver_mask)

    def __repr__(self) -> str:
        return described(self.source, self.receiver, self.wavelet, self.receiver_mask)

    def on_nodes(self, grid: Grid) -> "Survey":
        """The same survey, marked as having its sources, its receivers or both on nodes, if that is so; or on some axes
        half-way between nodes, as some fields of staggered equations lie.

        A position that is known to lie on a node needs one node instead of 8, 64 or 512. `simulate`, `invert` and the
        methods of `Problem` mark surveys by themselves: call this before you `vmap` or `jit` a simulator yourself.
        Positions marked so can no longer be differentiated.

        >>> import numpy as np, jaxfwi as jf
        >>> survey = jf.Survey.from_arrays([[20.0, 50.0]], [[10.0, 43.0]], np.zeros(100))
        >>> marked = survey.on_nodes(jf.Grid((10, 20), 10.0, 1e-3, 100))
        >>> marked.source_lattice, marked.receiver_lattice
        ((0.0, 0.0), None)
        """
        check_grid(grid)
        source, receiver = lattice(self.source, grid), lattice(self.receiver, grid)
        return dataclasses.replace(self, source_lattice=source, receiver_lattice=receiver)

    def masked(self, data: Any) -> Any:
        """Data with exact zeros in padded traces, whatever values they had.

        Simulated data are masked already, and functions that take observed data mask them.

        Args:
            data: of all shots ``(shots, time, receivers, components)``; or ``(time, receivers, components)`` if this
                survey is one shot.

        Returns:
            Data of the same shape, a numpy array if they are.

        Raises:
            ValueError: for data of another shape.

        >>> import numpy as np, jaxfwi as jf
        >>> receivers = [[[0.0, 5.0]], [[0.0, 5.0], [0.0, 9.0]]]
        >>> survey = jf.Survey.from_lists([[0.0, 0.0]] * 2, receivers, np.zeros(30))
        >>> survey.masked(np.ones((2, 30, 2, 1)))[:, 0, :, 0].tolist()
        [[1.0, 0.0], [1.0, 1.0]]
        """
        return data if self.receiver_mask is None else padding.masked_data(data, self.receiver_mask)

    def unpad(self, data: Any) -> list[np.ndarray]:
        """Data without padding, for writing them: per shot ``(time, receivers of that shot, components)``.

        Args:
            data: ``(shots, time, receivers, components)``.

        Raises:
            ValueError: for data of another shape.

        >>> import numpy as np, jaxfwi as jf
        >>> receivers = [[[0.0, 5.0]], [[0.0, 5.0], [0.0, 9.0]]]
        >>> survey = jf.Survey.from_lists([[0.0, 0.0]] * 2, receivers, np.zeros(30))
        >>> [gather.shape for gather in survey.unpad(np.zeros((2, 30, 2, 1)))]
        [(30, 1, 1), (30, 2, 1)]
        """
        return padding.unpadded_data(data, self._real_receivers())

    def pad(self, gathers: Sequence[Any]) -> np.ndarray:
        """Data as simulations return and misfits take them, with zeros for padding: the inverse of `unpad`.

        Args:
            gathers: per shot ``(time, receivers of that shot, components)``.

        Returns:
            ``(shots, time, receivers, components)``.

        Raises:
            ValueError: for gathers that do not fit the survey or each other.

        >>> import numpy as np, jaxfwi as jf
        >>> receivers = [[[0.0, 5.0]], [[0.0, 5.0], [0.0, 9.0]]]
        >>> survey = jf.Survey.from_lists([[0.0, 0.0]] * 2, receivers, np.zeros(30))
        >>> survey.pad([np.ones((30, 1, 1)), np.ones((30, 2, 1))])[:, 0, :, 0].tolist()
        [[1.0, 0.0], [1.0, 1.0]]
        """
        return padding.padded_gathers(gathers, self._real_receivers())

    def buckets(self, waste: float = 0.25) -> list[tuple[np.ndarray, "Survey"]]:
        """The shots in groups with similar numbers of receivers, each padded only to its own largest shot.

        This pays off where shots differ much, since padding costs as much to record as real receivers do. Each group is
        a survey of its own, for which programs are compiled anew: simulate one after the other, and add up misfits and
        gradients.

        Args:
            waste: the largest fraction of padding among the traces of a group, from 0 to below 1.

        Returns:
            Pairs of the shots' indices, in rising order, and their survey; together every shot once. Groups are filled
            with shots in falling order of their numbers of receivers, each as far as `waste` allows. Sources at the end
            of the arrays that are silent in all shots of a group are left out of it.

        Raises:
            ValueError: for an invalid fraction.

        >>> import jaxfwi as jf
        >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=150)
        >>> survey = jf.Survey.towed_streamer(
        ...     source_x=[50.0, 250.0, 270.0], source_z=50.0, receiver_z=50.0,
        ...     first_offset=20.0, receiver_spacing=10.0,
        ...     receivers=20, wavelet=jf.ricker(grid, frequency=15.0), grid=grid)
        >>> for indices, bucket in survey.buckets(waste=0.1):
        ...     print(indices, bucket)
        [1 2] Survey(2 shots: 1 source and 20 receivers each, 150 time samples)
        [0] Survey(1 shot: 1 source and 4 receivers each, 150 time samples)
        """
        groups = padding.grouped_by_size(self._real_receivers().sum(axis=1), waste)
        # By numpy where there are values: jax would compile the indexing of each group anew.
        survey = jax.tree.map(np.asarray, self) if is_concrete(*jax.tree.leaves(self)) else self
        cut = [padding.without_common_padding(survey[group], survey[group]._real_receivers()) for group in groups]
        return [(group, jax.tree.map(jnp.asarray, bucket)) for group, bucket in zip(groups, cut, strict=True)]

    def _real_receivers(self) -> np.ndarray:
        """Which receivers are real, ``(shots, receivers)``."""
        if self.source.ndim != 3:
            raise ValueError("survey has no shot axis: pass survey[i : i + 1] for one shot.")
        shape = self.receiver.shape[:2]
        return np.full(shape, True) if self.receiver_mask is None else np.asarray(self.receiver_mask)
