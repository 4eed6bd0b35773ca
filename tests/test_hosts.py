"""Runs of several processes, for real: joined over loopback, and one of them failing or killed."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxfwi as jf

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "experiments" / "launch.py"
LONG = 240  # seconds, on a busy machine; where a time is asserted, it is measured from the death of a process

SUM = """
    import os, signal, sys, time
    import jax, jax.numpy as jnp
    from jax.sharding import AxisType, PartitionSpec
    import jaxfwi as jf

    jax.config.update("jax_num_cpu_devices", DEVICES)
    START
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("shots",), axis_types=(AxisType.Auto,), devices=devices)

    @jax.jit
    def total(x):
        def of_one(x):
            return jax.lax.psum(x * (1 + jax.lax.axis_index("shots")), "shots")

        return jax.shard_map(of_one, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec())(x)

    process = jax.process_index()
    print(f"sum {float(total(jnp.float32(2.0)))}", flush=True)
"""
LOOP = "while True: float(total(jnp.float32(1.0)))"


@contextlib.contextmanager
def free_port():
    """A port that nobody else takes meanwhile: bound and not listening, as the launcher does it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def environment(**more):
    alone = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMPI_", "JAX_"))}
    return {**alone, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def script(tmp_path, text, start, devices=2):
    """A script file: `SUM`, then `text`."""
    text = textwrap.dedent(SUM).replace("START", start).replace("DEVICES", str(devices)) + textwrap.dedent(text)
    path = tmp_path / "survey.py"
    path.write_text(text)
    return path


@contextlib.contextmanager
def started(*commands, **more):
    """Processes, with output to files, of which none is left at the end."""
    processes = []
    try:
        for command in commands:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            processes.append(subprocess.Popen([sys.executable, *map(str, command)], env=environment(**more), **pipes))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def launch(path, *arguments, processes=2):
    command = [sys.executable, LAUNCH, "--processes", str(processes), path, *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LONG)


# Launcher and SLURM look the same to jax, so the first test is of both.


@pytest.mark.telling
def test_two_processes_by_the_launcher_and_one_alone(tmp_path):
    path = script(
        tmp_path,
        """
        jf.hosts.wait("here")
        print(f"share {jf.hosts.share(5).tolist()} of {jax.process_count()}")
        """,
        "assert jf.hosts.start() is (len(sys.argv) > 1)",
    )
    done = launch(path, "together")
    assert done.returncode == 0, done.stderr
    # 2 (1 + 2 + 3 + 4) over both processes' devices
    lines = done.stdout.splitlines()
    for process, words in ((0, "sum 20.0"), (1, "sum 20.0"), (0, "share [0, 1] of 2"), (1, "share [2, 3, 4] of 2")):
        # gloo writes on the same pipe, and not by whole lines
        assert any(line.startswith(f"[{process}]") and words in line for line in lines), done.stdout
    with started([path]) as (alone,):
        out, _ = alone.communicate(timeout=LONG)
    assert alone.returncode == 0, out
    assert "sum 6.0\nshare [0, 1, 2, 3, 4] of 1" in out


def test_the_script_of_the_documentation(tmp_path):
    text = (ROOT / "docs" / "hosts.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    path = tmp_path / "script.py"
    path.write_text(
        f"import os\nos.chdir({str(tmp_path)!r})\n{code}\nassert observed[[1, 4]].shape == (2, 200, 25, 1)\n"
    )
    done = launch(path)
    assert done.returncode == 0, done.stderr
    written = np.load(tmp_path / "observed.npy")
    names = {"np": np, "jax": jax, "jf": jf}
    exec(code.split("# One file")[0].replace("jf.hosts.start()", ""), names)
    data = np.asarray(jf.simulate(names["simulator"], names["model"], names["survey"]))
    # single precision, whose coefficients are made in single precision there and in double here: measured 7.3e-7
    assert np.abs(written - data).max() < 1e-5 * np.abs(data).max()


def two_by_address(tmp_path, port, text, dead_after, devices=2):
    start = f'assert jf.hosts.start("127.0.0.1:{port}", 2, int(sys.argv[1]){dead_after})'
    path = script(tmp_path, text, start, devices)
    return started([path, 0], [path, 1], JAX_COORDINATOR_BIND_ADDRESS=f"127.0.0.1:{port}")


def check_survivor(survivor, since, sentences):
    """It ends by itself within a minute, not well, and tells."""
    out, _ = survivor.communicate(timeout=LONG)
    assert time.monotonic() - since < 60.0, out
    assert survivor.returncode != 0
    assert any(sentence in re.sub(r"\s+", " ", out) for sentence in sentences), out
    return out


OURS = "survey.py, process {} of 2: another process of this run has died or cannot be reached"
OF_JAX = "most likely indicates that another task died; see the other task logs for more details"

CASES = {
    # victim, what the processes do, option of start
    "in a sum": (1, LOOP, ", dead_after=6.0"),
    "process 0 in a sum": (0, LOOP, ", dead_after=10.0"),
    "while the other waits for it": (1, "time.sleep(1000 * process)\n" + LOOP, ", dead_after=10.0"),
    "while the other waits at a wait": (1, "time.sleep(1000 * process)\njf.hosts.wait('here')", ", dead_after=10.0"),
    "in plain Python": (1, "time.sleep(1000)", ", dead_after=10.0"),
    "in a sum, default": (1, LOOP, ""),
    "in plain Python, default": (1, "time.sleep(1000)", ""),
}
QUICK = ("in a sum", "process 0 in a sum")


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_a_killed_process_ends_the_other(tmp_path, case):
    victim, text, dead_after = CASES[case]
    with free_port() as port, two_by_address(tmp_path, port, text, dead_after) as processes:
        for process in processes:
            while "sum 20.0" not in (line := process.stdout.readline()):
                assert line, f"process ended with {process.wait()}"
        time.sleep(1.0)
        processes[victim].send_signal(signal.SIGKILL)
        since = time.monotonic()
        out = check_survivor(processes[1 - victim], since, [OURS.format(1 - victim), OF_JAX])
        print(f"{case}: {time.monotonic() - since:.1f} s, {'ours' if 'jaxfwi:' in out else 'of jax'}")


def test_an_exception_in_one_process_ends_both(tmp_path):
    text = f"""
        if process == 1:
            raise OSError("the disk is full")
        {LOOP}
    """
    with free_port() as port, two_by_address(tmp_path, port, text, ", dead_after=10.0", 1) as processes:
        # with jax alone both still hang after 150 s: one waits in the sum, the other, ending, for the first
        out, _ = processes[1].communicate(timeout=LONG)
        since = time.monotonic()
        assert processes[1].returncode == 1
        assert "OSError: the disk is full" in out
        assert "survey.py, process 1 of 2: this process ends by the error above" in out
        check_survivor(processes[0], since, [OURS.format(0)])


def plain(tmp_path, text):
    path = tmp_path / "plain.py"
    path.write_text(
        f"import os, signal, sys, time\nos.chdir({str(tmp_path)!r})\nprocess = int(os.environ['SLURM_PROCID'])\n"
        + textwrap.dedent(text)
    )
    return path


@pytest.mark.parametrize(
    ("fate", "status", "sentence"),
    [
        ("sys.exit(3)", 3, "launch: process 1 ended with exit status 3; ending the others."),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            137,
            "launch: process 1 was killed by signal 9 (SIGKILL); ending the others.",
        ),
    ],
)
def test_the_launcher_ends_the_rest(tmp_path, fate, status, sentence):
    path = plain(
        tmp_path,
        f"""
        if process == 1:
            while not (os.path.exists("0") and os.path.exists("2")):
                time.sleep(0.01)
            print("last words")
            {fate}
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as jax does
        print(os.getpid())
        open(str(process), "w").close()
        time.sleep(1000)
        """,
    )
    since = time.monotonic()
    done = launch(path, processes=3)
    assert time.monotonic() - since < 60.0
    assert done.returncode == status
    assert sentence in done.stderr
    assert "[1] last words" in done.stdout
    check_gone(done.stdout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_the_launcher_ends_all(tmp_path, number):
    if number == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends children with their parent")
    path = plain(tmp_path, "print(os.getpid(), flush=True)\ntime.sleep(1000)")
    with started([LAUNCH, "--processes", 2, path]) as (launcher,):
        lines = launcher.stdout.readline() + launcher.stdout.readline()
        launcher.send_signal(number)
        out, _ = launcher.communicate(timeout=LONG)
    assert launcher.returncode == (-9 if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or "interrupted; ending all processes" in out
    check_gone(lines)


def check_gone(lines):
    pids = [int(pid) for pid in re.findall(r"^\[\d\] (\d+)$", lines, re.MULTILINE)]
    assert pids
    for pid in pids:
        for _ in range(100):  # one whose parent was killed ends soon
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            if Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                break  # dead, and not yet collected by whoever adopted it
            time.sleep(0.1)
        else:
            pytest.fail(f"process {pid} is left")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--processes", "0", __file__], "--processes must be at least 1"),
        (["--processes", "2", "nowhere.py"], "there is no file nowhere.py"),
    ],
)
def test_the_launcher_tells_mistakes(arguments, sentence):
    done = subprocess.run([sys.executable, LAUNCH, *arguments], capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 2
    assert sentence in done.stderr


@given(st.integers(0, 200), st.integers(1, 40))
def test_shares(n, processes):
    shares = [jf.hosts.share(n, process, processes) for process in range(processes)]
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(n))
    assert np.ptp([len(share) for share in shares]) <= 1
    assert all(np.issubdtype(share.dtype, np.integer) for share in shares)


def test_alone_a_share_is_all():
    np.testing.assert_array_equal(jf.hosts.share(4), np.arange(4))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: jf.hosts.start("10.0.0.1:4500", 2, 2), r"process must be below processes = 2.* got 2"),
        (lambda: jf.hosts.start("10.0.0.1:4500", 2, -1), r"process must be a whole number .* got -1"),
        (lambda: jf.hosts.start("10.0.0.1:4500", 0, 0), r"processes must be a whole number of at least 1"),
        (lambda: jf.hosts.start("10.0.0.1:4500"), r"belong together, got \('10\.0\.0\.1:4500', None, None\): give all"),
        (lambda: jf.hosts.start(processes=2, process=0), r"belong together"),
        (lambda: jf.hosts.start("10.0.0.1", 2, 0), r"coordinator must be 'host:port'.* got '10\.0\.0\.1'"),
        (lambda: jf.hosts.start("10.0.0.1:0", 2, 0), r"coordinator must be 'host:port'"),
        (lambda: jf.hosts.start(dead_after=0.0), r"dead_after must be at least 1 second, got 0\.0"),
        (lambda: jf.hosts.start(join_within=float("nan")), r"join_within must be at least 1 second, got nan"),
        (lambda: jf.hosts.start("127.0.0.1:4500", 1, 0), r"jax has started its devices already: call .*start at the"),
        (lambda: jf.hosts.start(), r"jax has started its devices already"),
        (lambda: jf.hosts.share(-1), r"n must be a whole number of at least 0, got -1"),
        (lambda: jf.hosts.share(3, 1), r"process and processes belong together, got 1 and None"),
        (lambda: jf.hosts.share(3, 2, 2), r"process must be below processes = 2, .* got 2"),
    ],
)
def test_mistakes_are_told(call, sentence):
    jax.devices()
    with pytest.raises(ValueError, match=sentence):
        call()
    assert not jax.distributed.is_initialized()


def test_mistakes_that_only_a_new_process_can_make():
    program = """
        import socket, sys, threading
        import jaxfwi as jf

        assert jf.hosts.start() is False
        def told(sentence, port):
            try:
                jf.hosts.start(f"127.0.0.1:{port}", 1, 0)
            except RuntimeError as error:
                assert sentence in str(error), error
            else:
                raise AssertionError(sentence)

        free = int(sys.argv[1])
        with socket.create_server(("", 0)) as other:
            told("cannot open the port of 127.0.0.1:", other.getsockname()[1])
        assert jf.hosts.start(f"127.0.0.1:{free}", 1, 0)
        told("processes are joined already: call jaxfwi.hosts.start once", free)
        for timer in set(threading.enumerate()) - {threading.current_thread()}:
            timer.join(timeout=30.0)  # cancelled, not waiting out its 300 s
            assert not timer.is_alive()
        jf.hosts.wait("here")
    """
    with free_port() as port, started(["-c", textwrap.dedent(program), port]) as (process,):
        out, _ = process.communicate(timeout=LONG)
    assert process.returncode == 0, out


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_never_come(process):
    with free_port() as port:
        program = (
            f"import jaxfwi as jf\njf.hosts.start('127.0.0.1:{port}', processes=2, process={process}, join_within=1.5)"
        )
        with started(["-c", program]) as (waiting,):
            out, _ = waiting.communicate(timeout=LONG)
    assert waiting.returncode == 1, out
    assert f"process {process} of 2: the processes did not all meet at 127.0.0.1:{port} within 1.5 s" in out
    assert "Check failure" not in out
