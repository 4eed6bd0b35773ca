"""A plan of who computes which shots: batches, processor cores, devices and hosts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxfwi._checks import is_concrete
from jaxfwi.equations.base import WaveEquation
from jaxfwi.grid.grid import Grid
from jaxfwi.shots.aperture import Aperture, cutouts
from jaxfwi.shots.devices import On, chosen_devices, mesh_of, split_of, usable_cores
from jaxfwi.shots.observed import check_finite, is_array, rows_of
from jaxfwi.simulation.shot import OneShot
from jaxfwi.simulation.simulator import Simulator
from jaxfwi.survey.survey import Survey

__all__ = ["Layout", "Plan", "Shots", "planned"]


class Shots(NamedTuple):
    """All that differs from shot to shot; every leaf leads with the shot axis."""

    survey: Survey
    observed: Any = None
    corner: Any = None  # first cell of the cutout, if there is an aperture
    counts: Any = None  # False for the copies that fill up the last share, if there are any
    weights: Any = None  # of the data, if there are any

    def compared(self, data: Any) -> Any:
        """Data as a misfit sees them: zero in padded traces, and weighted."""
        data = self.survey.masked(data)
        return data if self.weights is None else data * self.weights


@dataclass(frozen=True)
class Layout:
    """The static part of a plan: a program is compiled for it.

    Args:
        batch: shots computed at once on a device by `vmap`; None while it is yet to be chosen.
        mesh: the devices, along an axis "shots" and, if grids are split, another; None for the one that jax would
            choose.
    """

    batch: int | None = 1
    mesh: Mesh | None = None

    @property
    def shares(self) -> int:
        """Equal shares of the shots in one program, one a device."""
        return 1 if self.mesh is None else self.mesh.shape["shots"]


@dataclass(frozen=True)
class Plan:
    """Shots, and who computes them.

    Args:
        layout: for the program.
        one_shot: the program of one of the shots.
        shots: all of them, wherever they were given.
        device: one of this host's that compute.
        traced: whether this happens inside a program of the user's.
        cores: how many programs run side by side, where a whole processor is one device to jax.
        side_by_side: how many shares have one memory: those of all cores, or of all devices that are cores.
    """

    layout: Layout
    one_shot: OneShot
    shots: Shots
    device: Any
    traced: bool
    cores: int
    side_by_side: int

    def with_shots(self, survey: Survey, observed: Any) -> "Plan":
        """The same plan for other shots, as many as are computed in a call, and alike."""
        return replace(self, shots=Shots(survey, observed))

    def shares(self, indices: np.ndarray | None = None) -> list[Shots]:
        """All shots or some, where they will be computed: a share for each core, each of a number of shots that divides
        evenly over its devices. Copies of the first shot fill up the last share.

        Of observed data outside jax, as a memory-mapped file, only these shots are read, and each host reads those of
        its own devices only.
        """
        n = len(self.shots.survey) if indices is None else len(indices)
        fill = -n % (self.cores * self.layout.shares)
        order = np.arange(n) if indices is None else np.asarray(indices)
        order = np.concatenate([order, np.repeat(order[:1], fill)])
        counts = np.arange(n + fill) < n
        return [
            self._share(some, counted if fill else None)
            for some, counted in zip(np.split(order, self.cores), np.split(counts, self.cores), strict=True)
        ]

    def _share(self, order: np.ndarray, counts: np.ndarray | None) -> Shots:
        def on_devices(x, rows=rows_of):
            return self._by_rows((len(order), *x.shape[1:]), lambda some: rows(x, order[some]))

        shots = jax.tree.map(on_devices, self.shots._replace(observed=None))
        if self.shots.observed is not None:
            shots = shots._replace(observed=on_devices(self.shots.observed, self._read))
        if counts is None:
            return shots
        return shots._replace(counts=self._by_rows(counts.shape, lambda some: counts[some]))

    def _read(self, observed: Any, order: np.ndarray) -> Any:
        rows = rows_of(observed, order)
        if not is_array(observed):
            check_finite(self.shots.survey[order].masked(rows))
        return rows

    def replicated(self, tree: Any) -> Any:
        """A model, or any numbers, where they will be computed with: the same on all devices."""
        mesh = self.layout.mesh
        if self.traced or mesh is None:
            return jax.tree.map(_as_array, tree)
        everywhere = NamedSharding(mesh, PartitionSpec())

        def replicate(x):
            if isinstance(x, jax.Array) and x.sharding == everywhere:  # not only equivalent: that is another program
                return x
            values = _as_array(x) if getattr(x, "is_fully_addressable", True) else np.asarray(x)
            return jax.make_array_from_callback(np.shape(x), everywhere, lambda _: values)

        return jax.tree.map(replicate, tree)

    def _by_rows(self, shape: tuple[int, ...], rows: Callable[[Any], Any]) -> Any:
        """An array of which each device gets its share of shots; ``rows(slice)`` reads them."""
        if self.traced or self.layout.mesh is None:
            return _as_array(rows(slice(None)))
        by_shots = NamedSharding(self.layout.mesh, PartitionSpec("shots"))

        def on_device(index: Any) -> jax.Array:
            return _as_array(rows(index[0]))

        return jax.make_array_from_callback(shape, by_shots, on_device)


def planned(
    simulator: Simulator,
    equation: type[WaveEquation],
    shared: Any,
    shots: Shots,
    aperture: Aperture,
    on: On,
    at_once: int | None = None,
) -> Plan:
    """Decide who computes which shots.

    Args:
        simulator: grid, order, boundaries.
        equation: type of the model.
        shared: the model, or a PyTree of all that shots share.
        shots: all shots, checked.
        aperture: metres, as for `jaxfwi.Problem`.
        on: devices, batch and domains.
        at_once: shots of a mini-batch; all of the survey if None.
    """
    n = len(shots.survey) if at_once is None else at_once
    # under jit even new arrays of constants are traced: one tells
    traced = not is_concrete(*jax.tree.leaves((shared, shots)), jnp.zeros(()))
    chosen = chosen_devices(on.devices, shared, traced)
    own = [d for d in chosen or jax.local_devices() if d.process_index == jax.process_index()]
    on_cpu = own[0].platform == "cpu"
    batch = on.batch or (1 if traced or on_cpu else None)
    split = split_of(simulator.frame, on.domains)
    if split is not None and chosen is None:
        raise ValueError(f"domains = {on.domains} needs as many devices: pass devices=jax.devices().")
    if split is not None and aperture is not None:
        raise ValueError("domains and aperture both cut the model: an aperture makes it small, so leave domains out.")
    mesh = None if chosen is None else mesh_of(chosen, split)
    if aperture is not None:
        size, corner = cutouts(simulator.grid, shots.survey, aperture)
        grid = simulator.grid
        simulator = replace(simulator, grid=Grid(size, grid.spacing, grid.dt, grid.nt))
        shots = shots._replace(corner=corner)
    cores = min(n, usable_cores()) if on_cpu and chosen is None and not traced else 1
    side_by_side = cores if chosen is None else (len(own) if on_cpu else 1)
    one_shot = simulator.one_shot(equation, split)
    return Plan(Layout(batch, mesh), one_shot, shots, own[0], traced, cores, side_by_side)


def _as_array(x: Any) -> jax.Array:
    # with an explicit dtype, so that a number's type that jax only inferred makes no other program
    return jnp.asarray(x, jnp.result_type(x))
