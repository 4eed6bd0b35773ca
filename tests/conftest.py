"""All tests run in double precision; a test of single precision passes float32 arrays.

Programs are compiled at LLVM's lowest level, where the environment does not say otherwise: they run for a moment, and
compiling them is most of the time. ``XLA_FLAGS= make test`` compiles as users do.
"""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # before jax is imported

import jax

jax.config.update("jax_enable_x64", True)
