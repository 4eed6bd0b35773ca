"""An inversion to copy and change. Interrupted, it goes on where it was: python experiments/template.py"""

from pathlib import Path

import numpy as np
import optax
import tqdm

import jaxfwi as jf

iterations, out = 30, Path("runs/template")
out.mkdir(parents=True, exist_ok=True)

# The model: a section of ours, or np.load("vp.npy"), m/s, depth first; and where to start from. The water stays.
grid = jf.Grid(shape=(80, 200), spacing=25.0, dt=2.5e-3, nt=1000)
true = jf.models.marmousi_like(grid)
rock = ~jf.models.is_water(true)
start = jf.models.smooth(true, grid, length=250.0, mask=rock)

# The survey, in metres; and the data: modelled, or np.load("observed.npy", mmap_mode="r").
source_x, receiver_x = np.linspace(100.0, 4875.0, 10), np.arange(0.0, 4976.0, 25.0)
lines = {"source_x": source_x, "source_z": 25.0, "receiver_x": receiver_x, "receiver_z": 25.0}
wavelet = 1e3 * jf.ricker(grid, frequency=4.0)  # strong: Adam does not see gradients as small as 1e-8
survey = jf.Survey.fixed_spread(**lines, wavelet=wavelet)
simulator = jf.Simulator(grid, space_order=8)
observed = jf.simulate(simulator, jf.Acoustic(vp=true), survey)

problem = jf.Problem(simulator, survey, observed)
limits = {"mask": jf.Acoustic(vp=rock), "bounds": (jf.Acoustic(vp=1400.0), jf.Acoustic(vp=5000.0))}
adam, save = optax.adam(25.0), jf.SaveTo(out / "saved")
states = jf.invert(problem, jf.Acoustic(vp=start), optimizer=adam, iterations=iterations, save=save, **limits)
with open(out / "misfits.txt", "a") as log, tqdm.tqdm(total=iterations) as bar:
    for state in states:
        bar.update(state.iteration - bar.n)  # the first state may be that of an interrupted run
        print(state.iteration, float(state.misfit), file=log, flush=True)

models = {"true": true, "start": start, "result": state.model.vp}
jf.plot.compare(models, grid, "true", label="P-wave velocity (m/s)").savefig(out / "models.png")
misfits = dict(np.loadtxt(out / "misfits.txt", ndmin=2))
jf.plot.convergence({"Adam": list(misfits.values())}).figure.savefig(out / "misfit.png")
middle = len(survey) // 2
data = {"observed": observed[middle, :, :, 0]}
for name in ("start", "result"):
    data[name] = jf.simulate(simulator, jf.Acoustic(vp=models[name]), survey[[middle]])[0, :, :, 0]
jf.plot.compare_gathers(data, grid, "observed", receiver_x=receiver_x).savefig(out / "data.png")
