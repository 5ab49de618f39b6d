"""What the programs of peers share: when the process began, the reference's outputs, a run's times."""

import json
import os
import time

# The caller says when it started this process, so that the interpreter and imports count.
STARTED = float(os.environ.get("PEER_STARTED", time.time()))

import numpy as np  # noqa: E402


def compare(names, outputs, arrays, tolerance):
    """What is wrong with outputs beside the reference's, out.NAME; None if nothing is."""
    for name, got in zip(names, outputs):
        want = arrays[f"out.{name}"]
        got = np.asarray(got, np.float64)
        if got.size != want.size:
            return f"{name} has the shape {got.shape}, expected {want.shape}"
        want = want.astype(np.float64)
        difference = np.abs(got.reshape(want.shape) - want)
        if not np.all(difference <= tolerance + tolerance * np.abs(want)):
            return f"{name} differs by up to {np.nanmax(difference):.3g}"
    return None


def driver():
    """The Vulkan driver that this process has loaded."""
    with open("/proc/self/maps") as maps:
        names = {os.path.basename(line.split()[-1]) for line in maps if "libvulkan_" in line}
    return ", ".join(sorted(names)) or None


def since_start():
    """Seconds since the process began."""
    return time.time() - STARTED


def timed(runs, run):
    """Milliseconds of each of `runs` runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def measure(about, run, check, runs):
    """Runs once, checks what came out, then times `runs` runs."""
    outputs = run()
    first = since_start()
    mismatch = check(outputs)
    return {"about": about, "first_s": first, "ms": timed(runs, run), "mismatch": mismatch, "driver": driver()}


def finish(report):
    print(json.dumps(report), flush=True)
    # Without destructors: those of some drivers crash at exit.
    os._exit(0)
