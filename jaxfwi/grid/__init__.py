"""Cells and no physics: the grid, its finite differences, the absorbing layer around it, blocks of it on devices."""
