"""All tests run in double precision; a test of single precision passes float32 arrays."""

import jax

jax.config.update("jax_enable_x64", True)
