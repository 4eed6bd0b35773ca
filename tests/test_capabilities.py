"""The page of capabilities: all figures are there and within their bounds, and some are measured anew."""

import pytest
from capabilities import CAPABILITIES, CASES, PAGE, read
from devices import on_devices

# what compiles soonest; other tests have the rest, in larger cases
ALWAYS = {
    ("Acoustic", 1, "BoundarySaving", name) for name in ("gradient", "jvp", "Hessian product", "devices", "domains")
}
CELLS = [(*case, name) for case in CASES for name in CAPABILITIES]


def test_every_figure_is_on_the_page_and_within_its_bound():
    figures = read()
    assert set(figures) == set(CELLS)
    assert not {key: figure for key, figure in figures.items() if not figure < CAPABILITIES[key[-1]].bound}
    text = PAGE.read_text()
    for name, capability in CAPABILITIES.items():
        assert f"- **{name}**: {capability.meaning}. Bound {capability.bound:.0e}." in text


@pytest.mark.parametrize(
    "cell", [pytest.param(c, marks=[pytest.mark.slow] * (c not in ALWAYS), id=" ".join(map(str, c))) for c in CELLS]
)
@on_devices(2)
def test_a_figure_measured_anew(cell):
    *case, name = cell
    figure = CAPABILITIES[name].figure(*case)
    assert figure < CAPABILITIES[name].bound, figure
