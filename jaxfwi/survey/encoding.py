"""Source encoding: many shots summed to one, each with a random code."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxfwi._checks import as_integer, check_grid, is_concrete, is_number, set_fields
from jaxfwi.grid.grid import Grid
from jaxfwi.survey.survey import Survey

__all__ = ["Encoding"]


@dataclass(frozen=True)
class Encoding:
    """Sums shots to a super-shot: all their sources fire in one simulation, each with a random code (Krebs et al. 2009,
    Geophysics 74, WCC177-WCC188).

    A code multiplies by a random sign, or delays, or both. This is the same linear map of wavelets and of observed
    data, so that the observed data of the super-shot are those that its sources would have given. One simulation then
    serves many shots. Its gradient contains cross-talk between them, which new codes in every iteration average out:
    over random signs its expectation is the gradient of the single shots, for `misfits.l2`.

    All shots must share one spread of receivers.

    Args:
        polarity: whether to draw random signs.
        longest_delay: delays are drawn from 0 to this many seconds, in whole time steps; what they push beyond the end
            of the record is cut off, of wavelets and data alike. By default there are no delays.
        realisations: the number of super-shots in an iteration of an inversion, each of new shots and with new codes;
            their misfits are averaged. More mean less cross-talk, at a multiple of the cost. They are batched and
            shared among devices as shots are.
        keep_codes_for: the number of iterations of an inversion for which shots and codes stay as they are, for
            optimisers that compare gradients of successive iterations, such as L-BFGS.

    Raises:
        ValueError: for invalid arguments.

    >>> import jax, jax.numpy as jnp, jaxfwi as jf
    >>> grid = jf.Grid(shape=(20, 30), spacing=10.0, dt=1e-3, nt=200)
    >>> survey = jf.Survey.fixed_spread(
    ...     source_x=[60.0, 150.0, 240.0], source_z=50.0,
    ...     receiver_x=[50.0, 250.0], receiver_z=50.0,
    ...     wavelet=jf.ricker(grid, frequency=15.0))
    >>> encoding, observed = jf.Encoding(), jnp.ones((3, 200, 2, 1))
    >>> super_shot, observed = encoding(jax.random.key(0), survey, observed, grid)
    >>> super_shot, observed.shape
    (Survey(1 shot: 3 sources and 2 receivers each, 200 time samples), (1, 200, 2, 1))
    """

    polarity: bool = True
    longest_delay: float = 0.0
    realisations: int = 1
    keep_codes_for: int = 1

    def __post_init__(self):
        numbers = {name: as_integer(name, getattr(self, name), 1) for name in ("realisations", "keep_codes_for")}
        set_fields(self, **numbers)
        if not is_number(self.longest_delay) or not 0 <= self.longest_delay < np.inf:
            raise ValueError(f"longest_delay must be zero or more seconds, got {self.longest_delay!r}.")

    def codes(self, key: Array, shots: int, grid: Grid) -> tuple[Array, Array]:
        """The random codes of so many shots: signs, and delays in time steps, each ``(shots,)``.

        >>> import jax, jaxfwi as jf
        >>> grid = jf.Grid(shape=100, spacing=10.0, dt=1e-3, nt=200)
        >>> signs, delays = jf.Encoding(longest_delay=0.1).codes(jax.random.key(0), 5, grid)
        >>> bool((abs(signs) == 1).all()), bool((delays <= 100).all())
        (True, True)
        """
        check_grid(grid)
        of_signs, of_delays = jax.random.split(key)
        signs = jax.random.rademacher(of_signs, (shots,), jnp.int32) if self.polarity else jnp.ones(shots, jnp.int32)
        return signs, jax.random.randint(of_delays, (shots,), 0, int(self.longest_delay / grid.dt + 1e-6) + 1)

    def __call__(self, key: Array, survey: Survey, observed: Any, grid: Grid) -> tuple[Survey, Array]:
        """One super-shot of all shots of a survey, and its data.

        Args:
            key: a random key of jax; the same key gives the same codes.
            survey: the shots.
            observed: their data ``(shots, time, receivers, components)``.
            grid: gives the time step.

        Returns:
            A survey of one shot that has all the sources, and data ``(1, time, receivers, components)``.

        Raises:
            ValueError: if receivers differ from shot to shot.
        """
        self.check(survey)
        shots = len(survey)
        signs, delays = self.codes(key, shots, grid)
        wavelets = jax.vmap(_encoded)(survey.wavelet, signs, delays)  # (shots, time, sources[, components])
        wavelet = jnp.moveaxis(wavelets, 0, 1)
        wavelet = wavelet.reshape(1, wavelet.shape[0], -1, *wavelet.shape[3:])
        observed = jnp.asarray(observed)

        def add(total, shot):
            return total + _encoded(*shot), None

        summed, _ = jax.lax.scan(add, jnp.zeros_like(observed[0]), (observed, signs, delays))
        source = survey.source.reshape(1, -1, survey.source.shape[-1])
        return replace(survey, source=source, receiver=survey.receiver[:1], wavelet=wavelet), summed[None]

    def check(self, survey: Survey) -> None:
        """Raise a ValueError if the shots do not share one spread of receivers."""
        receiver = survey.receiver
        if survey.receiver_mask is not None or (is_concrete(receiver) and np.ptp(np.asarray(receiver), axis=0).any()):
            raise ValueError(
                "encoding sums shots whose receivers differ, as a streamer's do, but a sum can be compared with data "
                "only where every shot has been recorded: leave encoding out and use mini-batches "
                "(shots_per_iteration), or keep the shots and receivers that form a fixed spread."
            )


def _encoded(x: Array, sign: Array, delay: Array) -> Array:
    """A wavelet or the data of a shot, time first, delayed and multiplied by the sign."""
    before = jnp.arange(len(x)) < delay
    delayed = jnp.roll(x, delay, axis=0)
    return jnp.where(before.reshape(-1, *(1,) * (x.ndim - 1)), jnp.zeros((), x.dtype), delayed) * sign.astype(x.dtype)
