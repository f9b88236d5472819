"""The machine, and the versions of everybody."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.interop.peers import PEERS, why_not

PACKAGES = ("glasshell", "cryptography", "asyncssh", "paramiko", "uvloop")
PROGRAMS = {"openssh-9.2": ("ssh", "-V"), "openssh-10.6": ("ssh", "-V"), "tshark": ("tshark", "--version")}


def machine() -> dict[str, str]:
    """Names and values, in the order in which they are printed."""
    found = {
        "processor": f"{os.cpu_count()} × {_processor()}, for both ends and the line between them",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    found |= {name: _package(name) for name in PACKAGES}
    found |= {name: _program(name, *line) for name, line in PROGRAMS.items()}
    return {name: value for name, value in found.items() if value}


def load_average() -> str:
    """How busy the machine is, besides."""
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def _processor() -> str:
    try:
        match = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        match = None
    return match[1].strip().removesuffix(" Processor") if match else platform.machine()


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _program(name: str, program: str, option: str) -> str:
    if why_not(name):
        return ""
    line = PEERS[name].place.command(program, option)
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=30)
    return (done.stdout + done.stderr).strip().splitlines()[0].split(",")[0].rstrip(".")
