"""The program of one shot: pad the model, couple sources and receivers, run the time loop, record."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.blocks import Split
from jaxfwi.grid.frame import Frame
from jaxfwi.grid.linear import varying_like
from jaxfwi.grid.stencils import pad_axis, slice_axis
from jaxfwi.simulation.coupling import Coupling, couple, shift
from jaxfwi.simulation.memory import MemoryStrategy
from jaxfwi.simulation.propagation import Inputs, Places, Propagation
from jaxfwi.survey.survey import Survey

__all__ = ["OneShot"]


@dataclass(frozen=True)
class OneShot:
    """The data of one shot as a function of model and shot. Hashable and static: a program is compiled for it.

    Input is taken as checked. Where the grid is split over devices, `data` and `block_data` are for the inside of a
    `jax.shard_map` over the mesh axis of the split; what they compute from are then coefficients, of which each device
    has its block.

    Args:
        propagation: the time step on the padded grid, or on a block of it.
        frame: the whole padded grid.
        memory: how the gradient is paid for.
    """

    propagation: Propagation
    frame: Frame
    memory: MemoryStrategy

    @property
    def split(self) -> Split | None:
        """How the padded grid is cut into blocks; None if it is not."""
        return self.propagation.frame.split

    @property
    def spec(self) -> PartitionSpec:
        """How the argument of `data` and `block_data` lies on the devices that share a grid: whole, or in blocks."""
        return PartitionSpec() if self.split is None else self.split.spec

    def prepared(self, model: WaveEquation) -> Any:
        """The argument of `data` and `block_data`: the model itself, or its coefficients if the grid is split."""
        return model if self.split is None else self.coefficients(model)

    def data(self, prepared: Any, shot: Survey, corner: Array | None = None) -> Array:
        """Data of the shot ``(time, receivers, components)``.

        Args:
            prepared: made by `prepared`.
            shot: one shot.
            corner: first cell of this shot's cutout of a larger model and survey; None if they are of this grid.
        """
        return self.sum_of_blocks(self.block_data(prepared, shot, corner))

    def block_data(self, prepared: Any, shot: Survey, corner: Array | None = None) -> Array:
        """This block's contribution to the data: all of them, unless the grid is split.

        Differentiate this, and take `sum_of_blocks` beside it: without ``check_vma``, JAX's derivative of that sum
        inside of a `jax.shard_map` is wrong by the number of blocks.
        """
        if corner is not None:
            prepared, shot = self._cut_out(prepared, shot, corner)
        places, inputs = self.inputs(prepared if self.split else self.coefficients(prepared), shot)
        return self.on_samples(self.memory.run(self.propagation, places, inputs), shot)

    def sum_of_blocks(self, data: Array) -> Array:
        """The data, from the contributions of all blocks."""
        return data if self.split is None else self.split.total(data)

    def joined_blocks(self, prepared: Any) -> Any:
        """Coefficients of the whole grid, joined from the blocks on all devices. A model stays as it is."""
        split = self.split
        if split is None:
            return prepared
        return jax.tree.map(lambda x: lax.all_gather(x, split.name, axis=split.axis, tiled=True), prepared)

    def coefficients(self, model: WaveEquation) -> dict[str, Array]:
        """The equation's coefficients on the whole padded grid, with the model's edge copied outwards.

        Those that depend on the copied edge are held fixed in derivatives, unless the absorber is differentiated. If
        the grid is split they leave out the margin along that axis, which each block adds for itself, and end on zeros
        that make the blocks equal.
        """
        frame, split = self.frame, self.split
        dtype = jnp.result_type(*jax.tree.leaves(model))
        padded = jax.tree.map(lambda x: jnp.pad(x.astype(dtype), frame.pads, mode="edge"), model)
        coefficients = padded.coefficients(frame.grid.dt, frame.free_surface)
        coefficients = {name: jnp.pad(x, frame.margins) for name, x in coefficients.items()}
        if not self.propagation.differentiate_absorber:
            whole = replace(self.propagation, frame=frame)
            for name, x in coefficients.items():
                owned = whole.owned_coefficients(name)
                coefficients[name] = lax.stop_gradient(x).at[owned].set(x[owned])
        if split is not None:
            axis, (_, _, spare) = split.axis, frame.room(split)
            inside = {n: slice_axis(x, axis, frame.reach, frame.cells[axis]) for n, x in coefficients.items()}
            coefficients = {name: pad_axis(x, axis, 0, spare) for name, x in inside.items()}
        return coefficients

    def inputs(self, coefficients: dict[str, Array], shot: Survey) -> tuple[Places, Inputs]:
        """The inputs of the time loop: the nodes of sources and receivers, and all that data can be differentiated by.

        Args:
            coefficients: of the padded grid, or of this device's block of it without the margin along the split axis.
            shot: one shot.
        """
        p, ndim = self.propagation, self.frame.grid.ndim
        dtype = jnp.result_type(*jax.tree.leaves(coefficients))
        driven = [p.equation.driven(ndim)[name] for name in p.source_fields]
        recorded = [p.equation.recorded(ndim)[name] for name in p.receiver_fields]
        volumes = p.equation.row_volumes(self.frame.order) if self.frame.free_surface else ((), ())
        source = self._couplings(shot.source, shot.source_lattice, driven, volumes)
        receiver = self._couplings(shot.receiver, shot.receiver_lattice, recorded)
        if self.split is not None:
            r, axis = self.frame.reach, self.split.axis
            coefficients = {name: pad_axis(x, axis, r, r) for name, x in coefficients.items()}
        inputs = Inputs(
            coefficients,
            self._wavelets(shot.wavelet.astype(dtype)),
            {f: c.weight.astype(dtype) for f, c in source.items()},
            {f: c.weight.astype(dtype) for f, c in receiver.items()},
        )
        inputs = varying_like(inputs, inputs)  # else each step backwards would sum cotangents over devices
        return Places({f: c.place for f, c in source.items()}, {f: c.place for f, c in receiver.items()}), inputs

    def on_samples(self, recorded: Array, shot: Survey) -> Array:
        """The recorded time loop at the times of the samples, ``n dt``, with zeros in padded traces."""
        early = self._recorded_early
        if early.any():
            recorded = jnp.where(early, half_a_step_on(recorded), recorded)[: self.frame.grid.nt]
        return shot.masked(recorded)

    def _couplings(
        self, position: Array, lattice: Any, names: Iterable[Iterable[str]], volumes: tuple = ((), ())
    ) -> dict[str, Coupling]:
        """The coupling of points to each of the fields named, on this block's grid."""
        fields = self.propagation.equation.fields(self.frame.grid.ndim)
        out = {
            f: couple(position, self.frame, lattice, fields[f], volumes[fields[f].half[0]])
            for some in names
            for f in some
        }
        if self.split is None:
            return out
        block = self.propagation.frame
        origin = [self.split.index * n if axis == self.split.axis else 0 for axis, n in enumerate(block.cells)]
        return {f: shift(c, origin, block.shape, block.margins) for f, c in out.items()}

    def _wavelets(self, wavelet: Array) -> tuple[Array, ...]:
        """The wavelet of each source field, at the times at which it is driven."""
        equation, names = self.propagation.equation, self.propagation.source_fields
        ndim, out = self.frame.grid.ndim, []
        more = 2 if self._recorded_early.any() else 0  # steps that record half a step before the last samples
        for i, name in enumerate(names):
            samples = wavelet[..., i] if wavelet.ndim == 3 else wavelet
            first = next(iter(equation.driven(ndim)[name]))
            samples = half_a_step_on(samples) if equation.fields(ndim)[first].driven_at else samples
            out.append(jnp.pad(samples, ((0, more), (0, 0))))
        return tuple(out)

    @property
    def _recorded_early(self) -> np.ndarray:
        """Which components of the data are recorded half a step before the time of their sample."""
        equation, ndim = self.propagation.equation, self.frame.grid.ndim
        fields, recorded = equation.fields(ndim), equation.recorded(ndim)
        names = self.propagation.receiver_fields
        return np.array([any(fields[f].recorded_at for f in recorded[name]) for name in names])

    def _cut_out(self, model: WaveEquation, shot: Survey, corner: Array) -> tuple[WaveEquation, Survey]:
        """Model and shot on this grid, which begins at cell `corner` of theirs."""
        grid = self.frame.grid
        model = jax.tree.map(lambda x: lax.dynamic_slice(x, corner, grid.shape), model)
        origin = corner * jnp.asarray(grid.spacing, shot.source.dtype)
        return model, replace(shot, source=shot.source - origin, receiver=shot.receiver - origin)


def half_a_step_on(samples: Array) -> Array:
    """Samples ``(time, ...)`` half a step later, from four neighbours, with zeros before the first and after the last.

    The error is ``3/128 (omega dt)^4`` of a wave of frequency omega.
    """
    rest = [(0, 0)] * (samples.ndim - 1)
    x = jnp.pad(samples, [(1, 2), *rest])
    n = len(samples)
    return (9.0 * (x[1 : n + 1] + x[2 : n + 2]) - (x[:n] + x[3 : n + 3])) / 16.0
