"""An objective as a function of one flat vector, for optimisers outside of jax."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import check_kind
from jaxfwi.equations.base import WaveEquation
from jaxfwi.inversion.objective import (
    Objective,
    check_limits,
    check_regularisation,
    current_model,
    model_of,
    objective_of,
    split_numbers,
)
from jaxfwi.shots.problem import Problem, admitted, gradient_of_shot, plan_of
from jaxfwi.shots.programs import sum_over_shots

__all__ = ["AsVector"]


class AsVector:
    """Misfit and penalty as a function of one flat vector, in double precision, for optimisers outside of jax as
    SciPy's L-BFGS-B (Byrd et al. 1995, SIAM Journal on Scientific Computing 16, 1190-1208).

    Called with a vector it returns the objective and its gradient, both multiplied by `scale`. Cells that are masked
    out are not in the vector.

    Args:
        problem: what was recorded and how it is compared.
        start, regularisation, to_model, mask, bounds: as for `invert`.
        scale: by default 1 / the misfit at the start, so that tolerances mean something.

    Attributes:
        start: the vector to start from.
        bounds: lower and upper limits, arrays of its length, infinite where there is none: ``zip(*bounds)`` is what
            SciPy takes.

    Raises:
        ValueError: as `invert`.

    >>> import jax.numpy as jnp, scipy.optimize, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 20), spacing=10.0, dt=1e-3, nt=200)
    >>> wavelet = jf.ricker(grid, frequency=15.0)
    >>> survey = jf.Survey.from_arrays([[50.0, 50.0]], [[50.0, 150.0]], wavelet)
    >>> simulator, vp = jf.Simulator(grid), jnp.full(grid.shape, 1500.0)
    >>> observed = jf.simulate(simulator, jf.Acoustic(vp=vp + 50.0), survey)
    >>> problem = jf.Problem(simulator, survey, observed)
    >>> objective = jf.AsVector(
    ...     problem, jf.Acoustic(vp=vp),
    ...     bounds=(jf.Acoustic(vp=1400.0), jf.Acoustic(vp=1700.0)))
    >>> found = scipy.optimize.minimize(
    ...     objective, objective.start, jac=True, method="L-BFGS-B",
    ...     bounds=list(zip(*objective.bounds)),
    ...     options={"maxiter": 3})
    >>> bool(found.fun < 1.0), objective.unknowns(found.x).vp.shape
    (True, (20, 20))
    """

    def __init__(
        self,
        problem: Problem,
        start: Any,
        *,
        regularisation: Callable | None = None,
        to_model: Callable | None = None,
        mask: Any = None,
        bounds: tuple[Any, Any] | None = None,
        scale: float | None = None,
    ):
        check_kind("problem", problem, Problem, "(simulator, survey, observed, ...)")
        numbers, rest = split_numbers(start)
        model = model_of(to_model, start)
        problem = admitted(problem, model)
        lower, upper = check_limits(mask, bounds, numbers)
        check_regularisation(regularisation, model)
        self._plan = plan_of(problem, type(model), model)
        free = None if mask is None else jax.tree.map(lambda m: np.asarray(m) != 0, mask)
        of_shot = gradient_of_shot(problem, model, self._plan)
        self._objective = objective_of(of_shot, self._plan, to_model, rest, regularisation, free)
        self._shares = self._plan.shares()
        leaves, self._structure = jax.tree.flatten(numbers)
        self._leaves = [np.asarray(x) for x in leaves]
        self._free = [m.ravel().astype(bool) for m in self._each(mask, True)]
        self.start = self._flat(self._leaves)
        self.bounds = tuple(
            self._flat(self._each(like, missing)) for like, missing in ((lower, -np.inf), (upper, np.inf))
        )
        self.scale = 1.0
        if scale is None:
            misfit_at_start = abs(self(self.start)[0])
            scale = 1.0 / misfit_at_start if misfit_at_start > 0 else 1.0
        self.scale = float(scale)

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        unknowns = self._plan.replicated(self._numbers(vector))
        model = current_model(self._objective, unknowns)
        misfit, slope = sum_over_shots(self._objective.of_shot, self._plan, model, self._shares)
        misfit, penalty, gradient = _gradient(self._objective, unknowns, misfit, slope)
        value = float(misfit) + float(penalty)
        return self.scale * value, self.scale * self._flat([np.asarray(x) for x in jax.tree.leaves(gradient)])

    def unknowns(self, vector: np.ndarray) -> Any:
        """The unknowns of a vector."""
        return eqx.combine(jax.tree.map(jnp.asarray, self._numbers(vector)), self._objective.rest)

    def model(self, vector: np.ndarray) -> WaveEquation:
        """The model of a vector."""
        return model_of(self._objective.to_model, self.unknowns(vector))

    def _numbers(self, vector: np.ndarray) -> Any:
        out, begin = [], 0
        for leaf, free in zip(self._leaves, self._free, strict=True):
            new = leaf.ravel().copy()
            new[free] = vector[begin : begin + free.sum()]
            begin += free.sum()
            out.append(new.reshape(leaf.shape))
        return jax.tree.unflatten(self._structure, out)

    def _each(self, like: Any, missing: Any) -> list[np.ndarray]:
        given = [missing] * len(self._leaves) if like is None else jax.tree.leaves(like)
        return [np.broadcast_to(np.asarray(x), leaf.shape) for x, leaf in zip(given, self._leaves, strict=True)]

    def _flat(self, leaves: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([x.ravel()[free].astype(float) for x, free in zip(leaves, self._free, strict=True)])


@eqx.filter_jit
def _gradient(objective: Objective, unknowns: Any, misfit: Array, slope: Any) -> tuple[Array, Array, Any]:
    return objective.gradient(unknowns, misfit, slope)
