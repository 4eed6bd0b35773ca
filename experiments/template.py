"""An inversion to copy and change. Interrupted, it goes on where it was: python experiments/template.py"""

from pathlib import Path

import numpy as np
import optax
import tqdm

import jaxfwi as jf

out, iterations = Path("runs/template"), 30
out.mkdir(parents=True, exist_ok=True)

# The model: a section of ours, or np.load("vp.npy"), m/s, depth first; and where to start from. The water stays.
grid = jf.Grid(shape=(80, 200), spacing=25.0, dt=2.5e-3, nt=1000)
true = jf.models.marmousi_like(grid)
rock = ~jf.models.water_mask(true)
start = jf.models.smooth(true, grid, length=250.0, mask=rock)

# The survey, in metres; and the data: modelled, or np.load("observed.npy", mmap_mode="r").
receiver_x = np.arange(0.0, 4976.0, 25.0)
survey = jf.Survey.fixed_spread(
    source_x=np.linspace(100.0, 4875.0, 12), source_z=25.0, receiver_x=receiver_x, receiver_z=25.0,
    wavelet=jf.ricker(grid, frequency=5.0),
)  # fmt: skip
simulator = jf.Simulator(grid, space_order=8)
observed = jf.simulate(simulator, jf.Acoustic(vp=true), survey)

problem = jf.Problem(simulator, survey, observed)
limits = {"mask": jf.Acoustic(vp=rock), "bounds": (jf.Acoustic(vp=1400.0), jf.Acoustic(vp=5000.0))}
adam, save = optax.adam(20.0), jf.SaveTo(out / "saved")
states = jf.invert(problem, jf.Acoustic(vp=start), optimizer=adam, iterations=iterations, save=save, **limits)
with open(out / "misfits.txt", "a") as log, tqdm.tqdm(total=iterations) as bar:
    for state in states:
        bar.update(state.iteration - bar.n)  # the first state may be that of an interrupted run
        print(state.iteration, float(state.misfit), file=log, flush=True)

final = state.model.vp
models = {"true": true, "start": start, "result": final}
jf.plot.compare(models, grid, "true", label="P-wave velocity (m/s)").savefig(out / "models.png")
misfits = dict(np.loadtxt(out / "misfits.txt", ndmin=2))
jf.plot.convergence({"Adam": list(misfits.values())}).figure.savefig(out / "misfit.png")
data = {name: jf.simulate(simulator, jf.Acoustic(vp=vp), survey[6:7])[0, ..., 0] for name, vp in models.items()}
figure = jf.plot.compare_gathers(data, grid, "true", receiver_x=receiver_x, title="One shot's data in each model")
figure.savefig(out / "data.png")
