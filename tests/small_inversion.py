"""A small inversion in one dimension that several test files run; its shots are the fixture `shots`."""

import jax.numpy as jnp

import jaxfwi as jf

GRID = jf.Grid((16,), 10.0, 2.5e-3, 120)
SIMULATOR = jf.Simulator(GRID, absorber=jf.CPML(width=3))
START = jf.Acoustic(vp=jnp.full(16, 2000.0))
TRUE = jf.Acoustic(vp=2000.0 + 60.0 * jnp.sin(jnp.arange(16.0)))
