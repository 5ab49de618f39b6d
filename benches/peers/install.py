"""Puts peers into a folder of their own, with the package managers' own clients.

What is there already is not installed again. What cannot be installed raises Missing with the reason.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Missing(Exception):
    """Why a peer is not there."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, **more):
    """Runs a command whose output matters only where it fails."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)
    except FileNotFoundError as error:
        raise Missing(f"{error.filename} is not here") from error
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise Missing(f"{Path(command[0]).name}: {said[-1][:200] if said else done.returncode}")


class Folder:
    """The folder --folder."""

    def __init__(self, path, torch):
        self.path, self.torch_python = path, torch
        self.missing = {}

    def once(self, name, install):
        """The path that `install` returns; the reason is remembered where it fails."""
        if name in self.missing:
            raise Missing(self.missing[name])
        try:
            return install()
        except Missing as error:
            self.missing[name] = str(error)
            raise

    def python(self, packages):
        """The interpreter of an environment with these packages."""
        names = [package.split("==")[0] for package in packages if not package.startswith("-")]
        return self.once("-".join(names), lambda: self.environment(self.path / "-".join(names), packages))

    def environment(self, folder, packages):
        found, done = folder / "bin/python", folder / "installed"
        if not done.exists():
            say(f"installing {', '.join(packages)}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                venv.create(folder, with_pip=True)
            except subprocess.CalledProcessError as error:
                raise Missing("python3 cannot make an environment (venv, ensurepip)") from error
            # What stands after --no-deps is installed so.
            cut = packages.index("--no-deps") if "--no-deps" in packages else len(packages)
            for part in filter(None, (packages[:cut], packages[cut:])):
                run([found, "-m", "pip", "install", "-q", *part])
            done.touch()
        return found

    def torch(self):
        """An interpreter that has torch, which is too large to be installed for this."""

        def find():
            try:
                run([self.torch_python, "-c", "import torch"])
            except Missing as error:
                raise Missing(f"{error} (--torch PYTHON names an interpreter that has it)") from error
            return self.torch_python

        return self.once("torch", find)

    def npm(self, name, packages):
        """The folder with these packages in it, without those that they would like besides."""

        def install():
            folder = self.path / name
            done = folder / "installed"
            if not done.exists():
                say(f"installing {', '.join(packages)}")
                folder.mkdir(parents=True, exist_ok=True)
                flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional", "--prefix", folder]
                run(["npm", "install", *flags, *packages])
                done.touch()
            return folder

        return self.once(name, install)

    def crate(self, name):
        """The program of the crate of this name beside this file. It is built from a copy, so that
        its lock file stays out of the repository."""

        def build():
            source, copy, target = HERE / name, self.path / "crates" / name, self.path / "target"
            program = target / f"release/peer-{name}"
            files = ["Cargo.toml", "src/main.rs"]
            same = [(copy / file).exists() and (copy / file).read_bytes() == (source / file).read_bytes() for file in files]
            if all(same) and program.exists():
                return program
            say(f"building {name}, which takes minutes the first time")
            for file in files:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / file, copy / file)
            run(["cargo", "build", "--release", "--quiet", "--target-dir", target], cwd=copy)
            return program

        return self.once(name, build)
