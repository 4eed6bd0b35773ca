"""Processing of gradients before they become updates: optax transformations for models.

They chain with those of optax, as in ``optax.chain(jf.optimise.smooth(grid, 50.0), optax.adam(10.0))``, and take any
PyTree of arrays. Arrays of the model's size that they need are kept in their state, so that these are arguments of the
compiled program and not constants in it.

`optax.partition` treats parameters differently: a model of labels says which transformation each parameter gets.

>>> import jax.numpy as jnp, optax, jaxfwi as jf
>>> grid = jf.Grid(shape=4, spacing=10.0, dt=1e-3, nt=100)
>>> optimizer = optax.partition(
...     {
...         "fast": optax.chain(jf.optimise.smooth(grid, 20.0), optax.sgd(10.0)),
...         "slow": optax.sgd(1.0),
...         "frozen": optax.set_to_zero(),
...     },
...     jf.Elastic(vp="fast", vs="slow", rho="frozen"),
... )
>>> model = jf.Elastic(
...     vp=jnp.full(4, 2000.0), vs=jnp.full(4, 1000.0), rho=jnp.full(4, 2200.0))
>>> gradient = jf.Elastic(vp=jnp.ones(4), vs=jnp.ones(4), rho=jnp.ones(4))
>>> updates, _ = optimizer.update(gradient, optimizer.init(model), model)
>>> [round(float(x[0]), 3) for x in (updates.vp, updates.vs, updates.rho)]
[-10.0, -1.0, 0.0]
"""

from jaxfwi.optimise.gauss_newton import truncated_gauss_newton
from jaxfwi.optimise.gradients import clip_quantile, mute, smooth, sum_of
from jaxfwi.optimise.preconditioning import precondition

__all__ = ["clip_quantile", "mute", "precondition", "smooth", "sum_of", "truncated_gauss_newton"]
