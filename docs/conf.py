"""How Sphinx builds these pages: `make docs`."""

import hashlib
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

project = "jaxfwi"
author = "The jaxfwi authors"
copyright = "2026, the jaxfwi authors"
version = release = version_of("jaxfwi")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    # Our own, in _extensions:
    "formulas",
    "gallery",
    "notebooks",
    "offline",
    "public_names",
    "reference",
    "repository_pages",
]
exclude_patterns = ["_build", "repository/notebooks"]
html_theme = "furo"
html_title = "jaxfwi"
html_logo = html_favicon = "_static/logo.svg"
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1864ab", "color-brand-content": "#1864ab"},
    "dark_css_variables": {"color-brand-primary": "#74c0fc", "color-brand-content": "#74c0fc"},
}
copybutton_prompt_text = r">>> |\.\.\. "  # is left out of what is copied
copybutton_prompt_is_regexp = True
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# Docstrings: of Google's form, with single backticks around names, which become links where they are known.
default_role = "py:obj"
napoleon_use_param = False  # keeps what is said of several arguments at once in one place
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_maximum_signature_line_length = 130
# Names in single backticks are often arguments, which are no targets, and types of other packages are described
# elsewhere; all other references must be found.
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:class", r"jaxfwi\.grid\.(absorber\.Slab|blocks\.Split)"),  # which a `Derivative` is made of by the engine
    ("py:class", r"jaxfwi\.shots\.problem\.Model"),  # a type variable: the type of the model that is given
    ("py:class", r"(collections|jax|jaxlib|matplotlib|numpy|optax|os|pathlib)\..*"),
]

# Pages with code are run, each in a kernel of its own. What they gave is kept until the page, the package or what it
# needs changes.
_package = hashlib.sha256("".join(version_of(name) for name in ("jax", "jaxlib", "optax", "matplotlib")).encode())
for file in sorted((HERE.parent / "jaxfwi").rglob("*.py")):
    _package.update(file.read_bytes())
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed" / _package.hexdigest()[:16])
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_in_temp = True  # pages write files
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
