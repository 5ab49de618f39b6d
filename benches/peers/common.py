"""What the programs of peers share: when the process began, the reference's outputs, a run's times."""

import json
import os
import time


def process_start():
    """When this process began, from the kernel, so that the interpreter and imports count."""
    try:
        with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
            ticks = int(stat.read().rsplit(")", 1)[1].split()[19])
            age = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
            return time.time() - age
    except OSError:
        return time.time()


STARTED = process_start()

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


def measure(about, run, check, runs):
    """Runs once, checks what came out, then times `runs` runs."""
    outputs = run()
    first = time.time() - STARTED
    mismatch = check(outputs)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return {"about": about, "first_s": first, "ms": times, "mismatch": mismatch, "driver": driver()}


def finish(report):
    print(json.dumps(report), flush=True)
    # Without destructors: those of some drivers crash at exit.
    os._exit(0)
