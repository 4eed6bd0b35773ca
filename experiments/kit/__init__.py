"""What the experiments share.

An experiment is a script: it puts the folder above its own on its path, says what it computes by a case, what it is
asked for by a dataclass, and ends on `main`. It needs these rooms, none of which knows of any experiment:

- ``results``: a folder of results, tables, and errors that are one sentence;
- ``measure``: time, memory, errors;
- ``case``: the command line, models of the user's, the case that they make;
- ``drive``: stages, modelling, inversions that go on where they were left;
- ``draw``: figures.

``encoded`` is the case that the experiments of encoded inversion have in common.
"""

from kit.case import Case, Inversion, Models, Options, Scene, fixed_cells, load_model, read_config, scene
from kit.draw import draw_convergence, draw_gathers, draw_models, draw_residuals
from kit.drive import compare_data, cost_of, finish, invert, main, make, observe, progress, run
from kit.measure import (
    PeakMemory,
    cores,
    difference,
    environment,
    model_error,
    ssim,
    timed,
    use_compilation_cache,
)
from kit.results import Results, UserError, ending_on_errors, table, user_errors

__all__ = [
    "Case",
    "Inversion",
    "Models",
    "Options",
    "PeakMemory",
    "Results",
    "Scene",
    "UserError",
    "compare_data",
    "cores",
    "cost_of",
    "difference",
    "draw_convergence",
    "draw_gathers",
    "draw_models",
    "draw_residuals",
    "ending_on_errors",
    "environment",
    "finish",
    "fixed_cells",
    "invert",
    "load_model",
    "main",
    "make",
    "model_error",
    "observe",
    "progress",
    "read_config",
    "run",
    "scene",
    "ssim",
    "table",
    "timed",
    "use_compilation_cache",
    "user_errors",
]
