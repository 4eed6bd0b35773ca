"""A free surface for staggered first derivatives: rows near it that keep the accuracy and lose no energy.

At the surface (the first row of nodes) normal stress and pressure vanish, and so does the traction between the rows.
The derivative D from nodes to half-way and the derivative E back are changed in a few rows so that ``H E = -D^T G`` for
fields that vanish at the surface, with diagonal H and G, the volumes of the rows. The discrete energy weighted with
these volumes is then conserved, waves are stable under the interior's time step, and source and receiver can be swapped
(summation by parts on staggered grids: O'Reilly, Lundquist, Dunham & Nordstrom 2017, Journal of Computational Physics
346, 572-589). At order 2 this is stress imaging (Levander 1988, Geophysics 53, 1425-1436), which at higher orders would
be accurate to first order only.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxfwi.grid.stencils import staggered_derivative

__all__ = ["Surface", "plain_rows", "surface"]


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
    at most 3: the error of a solution then falls with the fourth power of the spacing.

    The unknowns are ``Q = G D`` in its first rows, G and H. Among the solutions of `_exactness` they are the nearest to
    the stencils of the interior. With so many rows their largest singular value is that of the interior.
    """
    reach = order // 2
    degree = min(reach, 3)
    rows = max({1: 1, 2: 4, 3: 7}[degree], reach)
    columns = rows + reach
    plain = plain_rows(order, (columns + reach - 1, columns + 2 * reach), to_half=True)
    matrix, values = _exactness(plain, rows, columns, degree)
    near = np.concatenate([plain[:rows, :columns].ravel(), np.ones(rows + columns)])
    solution = near + np.linalg.lstsq(matrix, values - matrix @ near, rcond=1e-11)[0]
    q, g, h = _unknowns(solution, rows, columns)
    full = plain[:, :columns].copy()
    full[:rows] = q
    to_half = q / g[:, None] - plain[:rows, :columns]
    to_nodes = plain[:, :columns].T - full.T / h[:, None]
    return Surface(to_half, to_nodes, tuple(h.tolist()), tuple(g.tolist()))


def _exactness(plain: np.ndarray, rows: int, columns: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear equations for the unknowns, a matrix and its right side: D and E are exact for polynomials up to a degree,
    E's first row up to the traction at the surface.
    """
    node, half = np.arange(columns) - rows / 2, np.arange(len(plain)) + 0.5 - rows / 2  # the origin is in the middle
    equations, values = [], []
    for power in range(degree + 1):
        slope_node, slope_half = (power * x ** max(power - 1, 0) for x in (node, half))
        for j in range(rows):  # D
            equation = np.zeros(rows * columns + rows + columns)
            q, g, _ = _unknowns(equation, rows, columns)
            q[j], g[j] = node**power, -slope_half[j]
            equations.append(equation)
            values.append(0.0)
        for i in range(columns):  # E
            equation = np.zeros(rows * columns + rows + columns)
            q, _, h = _unknowns(equation, rows, columns)
            q[:, i], h[i] = half[:rows] ** power, slope_node[i]
            at_surface = (-rows / 2) ** power if i == 0 else 0.0
            equations.append(equation)
            values.append(-plain[rows:, i] @ half[rows:] ** power - at_surface)
    return np.array(equations), np.array(values)


def _unknowns(vector: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views of Q, G and H in the vector of all unknowns."""
    q, g, h = np.split(vector, [rows * columns, rows * columns + rows])
    return q.reshape(rows, columns), g, h


def plain_rows(order: int, shape: tuple[int, int], to_half: bool) -> np.ndarray:
    """The first rows of the plain derivative's matrix for unit spacing, for fields that are zero above the first row.

    >>> plain_rows(2, (2, 3), to_half=True).tolist()
    [[-1.0, 1.0, 0.0], [0.0, -1.0, 1.0]]
    """
    out, first = np.zeros(shape), 0 if to_half else -1
    for i in range(shape[0]):
        for k, c in enumerate(staggered_derivative(order), start=1):
            for j, value in ((i + first + k, c), (i + first + 1 - k, -c)):
                if 0 <= j < shape[1]:
                    out[i, j] += value
    return out
