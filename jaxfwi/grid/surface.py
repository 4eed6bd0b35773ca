"""A free surface for staggered first derivatives: rows near it that keep the accuracy and lose no energy.

At the surface (the first row of nodes) normal stress and pressure vanish, and so does the traction between the rows.
The derivative D from nodes to half-way and the derivative E back are changed in a few rows so that ``H E = -D^T G`` for
fields that vanish at the surface, with diagonal H and G, the volumes of the rows. The discrete energy weighed with
these volumes is then conserved, waves are stable under the interior's time step, and source and receiver can be swapped
(summation by parts on staggered grids: O'Reilly, Lundquist, Dunham & Nordstrom 2017, Journal of Computational Physics
346, 572-589). At order 2 this is stress imaging (Levander 1988, Geophysics 53, 1425-1436), which at higher orders would
be accurate to first order only.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxfwi.grid.stencils import staggered_derivative

__all__ = ["Surface", "surface"]


class Surface(NamedTuple):
    """Changes of the staggered derivatives under a free surface, for unit spacing.

    Rows and columns count from the surface. The changes are relative to stencils that take fields to be zero above it.
    """

    to_half: np.ndarray  # (rows half-way, rows of nodes)
    to_nodes: np.ndarray  # (rows of nodes, rows half-way)
    node_volumes: tuple[float, ...]  # H
    half_volumes: tuple[float, ...]  # G


@lru_cache
def surface(order: int) -> Surface:
    """The derivatives of an even interior `order`, near the surface exact for polynomials of degree up to order / 2 and
    at most 3: a solution is then in error by the fourth power of the spacing.

    ``Q = G D`` in its first rows, and H and G, solve linear equations: D and E are exact for polynomials, E's first row
    up to the traction at the surface. Among all solutions they are nearest to the stencils of the interior. With so
    many rows their largest singular value is that of the interior.
    """
    d = staggered_derivative(order)
    reach = len(d)
    degree = min(reach, 3)
    rows = max({1: 1, 2: 4, 3: 7}[degree], reach)
    columns = rows + reach
    plain = np.zeros((columns + reach - 1, columns + 2 * reach))  # rows half-way, columns nodes
    for j in range(len(plain)):
        for k, c in enumerate(d, start=1):
            plain[j, j + k] += c
            if j + 1 >= k:
                plain[j, j + 1 - k] -= c
    node, half = np.arange(columns) - rows / 2, np.arange(len(plain)) + 0.5 - rows / 2  # the middle is the origin
    # unknowns: Q (rows x columns), G (rows), H (columns)
    size, equations, values = rows * columns, [], []
    for power in range(degree + 1):
        slope_node, slope_half = (power * x ** max(power - 1, 0) for x in (node, half))
        for j in range(rows):  # D is exact
            equation = np.zeros(size + rows + columns)
            equation[j * columns : (j + 1) * columns] = node**power
            equation[size + j] = -slope_half[j]
            equations.append(equation)
            values.append(0.0)
        for i in range(columns):  # E is exact
            equation = np.zeros(size + rows + columns)
            equation[i:size:columns] = half[:rows] ** power
            equation[size + rows + i] = slope_node[i]
            equations.append(equation)
            at_surface = (-rows / 2) ** power if i == 0 else 0.0
            values.append(-plain[rows:, i] @ half[rows:] ** power - at_surface)
    near = np.concatenate([plain[:rows, :columns].ravel(), np.ones(rows + columns)])
    matrix = np.array(equations)
    solution = near + np.linalg.lstsq(matrix, np.array(values) - matrix @ near, rcond=1e-11)[0]
    q, g, h = solution[:size].reshape(rows, columns), solution[size : size + rows], solution[size + rows :]
    whole = plain[:, :columns].copy()
    whole[:rows] = q
    to_half = q / g[:, None] - plain[:rows, :columns]
    to_nodes = plain[:, :columns].T - whole.T / h[:, None]
    return Surface(to_half, to_nodes, tuple(h.tolist()), tuple(g.tolist()))
