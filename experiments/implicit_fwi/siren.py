"""A network of sines: a smooth function of coordinates."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Siren(eqx.Module):
    """A network of sines from coordinates to one number (Sitzmann et al. 2020, Advances in Neural Information
    Processing Systems 33, 7462-7473).

    A layer is ``sin(omega (W x + b))``. The first one's weights are drawn from ±1/inputs, the others' from
    ±sqrt(6/inputs)/omega, which gives every layer the same distribution. The last one has no sine; its weights, drawn
    like the others', make an output that is small.

    Args:
        inputs: coordinates.
        width: of the layers.
        layers: of sines.
        omega: by which arguments are multiplied: the larger it is, the finer the structure it begins with.
        key: a random key of jax.
    """

    weights: list[Array]
    biases: list[Array]
    omega: float = eqx.field(static=True)

    def __init__(self, inputs: int, width: int, layers: int, omega: float, key: Array):
        sizes = [inputs, *[width] * layers, 1]
        of_weights, of_biases = (jax.random.split(k, layers + 1) for k in jax.random.split(key))
        limits = [1 / inputs] + [np.sqrt(6 / n) / omega for n in sizes[1:-1]]
        self.weights = [
            jax.random.uniform(k, (n, m), jnp.float32, -limit, limit)
            for k, n, m, limit in zip(of_weights, sizes[:-1], sizes[1:], limits, strict=True)
        ]
        self.biases = [
            jax.random.uniform(k, (m,), jnp.float32, -1, 1) / np.float32(np.sqrt(n))
            for k, n, m in zip(of_biases, sizes[:-1], sizes[1:], strict=True)
        ]
        self.biases[-1] = jnp.zeros(1)
        self.omega = omega

    def __call__(self, x: Array) -> Array:
        """The output at coordinates ``(..., inputs)``, without that axis."""
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jnp.sin(self.omega * (x @ weight + bias))
        return (x @ self.weights[-1] + self.biases[-1])[..., 0]
