"""Run by `make wheel` in an environment with nothing but the wheel: is jaxfwi whole, typed and importable?"""

from importlib.metadata import version
from pathlib import Path

import jax

import jaxfwi

folder = Path(jaxfwi.__file__).parent
assert "site-packages" in folder.parts, f"imported from {folder}, not from the wheel"
assert (folder / "py.typed").is_file(), "py.typed is missing"
print(f"jaxfwi {version('jaxfwi')} with jax {jax.__version__}: the wheel imports")
