"""The story of a volume, told by the commands a user would type: `python -m host.demo`.

Every step writes something that nobody could have guessed, and passes only if that is read back at the
other end: in the volume's directory on the host, in the guest's share, in a second container.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from host.cli_inspect import print_table
from host.demo_rootfs import make_busybox_rootfs
from host.errors import HostError
from host.vm.programs import PROJECT_ROOT

PYKATA = Path(sys.executable).with_name("pykata")
PLACE = PROJECT_ROOT / "build" / "demo"
SHARE = "/run/kata-containers/shared/containers"
NAME = "demo-data1"
VOLUME = "data1"
COMMAND_TIMEOUT_S = 300.0


class StepFailed(Exception):
    """What a step wanted to see is not there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended and what it wrote to standard output."""

    status: int
    output: str

    def must(self, *, contain: str = "", status: int = 0) -> str:
        """The output, if it contains `contain` and the command ended with `status`; else StepFailed."""
        if self.status != status:
            raise StepFailed(f"exit status {self.status} instead of {status}")
        if contain not in self.output:
            raise StepFailed(f"{contain!r} is not in the output")
        return self.output


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the summary."""

    step: str
    passed: bool
    seconds: float
    reason: str = ""


def pykata(*words: str) -> Answer:
    """Print a `pykata` command, run it, and show what it says."""
    return _run([str(PYKATA), *words], shown=["pykata", *words])


def on_host(*words: str) -> Answer:
    """The same with a command of the host's own."""
    return _run(list(words), shown=list(words))


def _run(command: list[str], *, shown: list[str]) -> Answer:
    click.echo(f"$ {shlex.join(shown)}")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    lines = []
    assert process.stdout
    with process.stdout as output:
        for line in output:
            lines.append(line)
            click.echo(line, nl=False)
    return Answer(process.wait(timeout=COMMAND_TIMEOUT_S), "".join(lines))


@dataclass
class Demo:
    """The steps in their order; each is a method whose docstring is its name in the summary."""

    rootfs: Path
    nonces: dict[str, str] = field(default_factory=dict)

    def nonce(self, name: str) -> str:
        """A fresh word to be written, kept under `name`."""
        self.nonces[name] = secrets.token_hex(8)
        return self.nonces[name]

    def volume(self) -> Path:
        """Where the host keeps the volume's files, as `pykata volume inspect` shows it."""
        shown = subprocess.run(
            [str(PYKATA), "volume", "inspect", VOLUME], capture_output=True, text=True, check=False
        )
        if shown.returncode != 0:
            raise StepFailed(f"there is no volume {VOLUME}")
        return Path(json.loads(shown.stdout)[0]["path"])

    def start(self) -> None:
        """start a container with -v data1:/data1"""
        volume = ["-v", f"{VOLUME}:/{VOLUME}"]
        options = ["-d", "--debug-console", "--name", NAME, *volume]
        pykata("run", *options, str(self.rootfs), "--", "sleep", "3600").must()
        pykata("ps").must(contain=NAME)

    def write(self) -> None:
        """write a file in it"""
        script = f"echo {self.nonce('container')} > /{VOLUME}/from-container"
        pykata("exec", NAME, "--", "sh", "-c", script).must()
        pykata("exec", NAME, "--", "cat", f"/{VOLUME}/from-container").must(contain=self.nonces["container"])

    def host_reads(self) -> None:
        """read it on the host, in the volume's directory"""
        pykata("volume", "inspect", VOLUME).must(contain=VOLUME)
        on_host("cat", f"{self.volume()}/from-container").must(contain=self.nonces["container"])

    def host_writes(self) -> None:
        """write on the host, read in the container"""
        script = f"echo {self.nonce('host')} > {self.volume()}/from-host"
        on_host("sh", "-c", script).must()
        pykata("exec", NAME, "--", "cat", f"/{VOLUME}/from-host").must(contain=self.nonces["host"])

    def guest_share(self) -> None:
        """find it in the guest, in the shared directory"""
        script = f"echo {SHARE}/*-{VOLUME}; cat {SHARE}/*-{VOLUME}/from-*"
        seen = pykata("console", NAME, "--", "sh", "-c", script).must(contain=self.nonces["container"])
        if self.nonces["host"] not in seen:
            raise StepFailed("what the host wrote is not in the guest's share")

    def guest_root(self) -> None:
        """see that the guest's own root has no /data1"""
        if pykata("console", NAME, "--", "ls", f"/{VOLUME}").status == 0:
            raise StepFailed(f"the guest has a /{VOLUME}")
        script = f"ls {SHARE}/*/rootfs/{VOLUME} | wc -l"
        pykata("console", NAME, "--", "sh", "-c", script).must(contain="0")
        click.echo(
            f"# Why: the root there is the guest image's, not the container's. The volume is mounted on\n"
            f"# /{VOLUME} in the container's own mount namespace alone; outside of it, even the container's\n"
            f"# root filesystem shows only the empty mount point."
        )

    def end(self) -> None:
        """stop and remove the container; the volume stays"""
        pykata("rm", "-f", NAME).must()
        on_host("cat", f"{self.volume()}/from-container").must(contain=self.nonces["container"])

    def second(self) -> None:
        """read it back in a second container on the same volume"""
        volume = ["-v", f"{VOLUME}:/{VOLUME}:ro"]
        words = ["cat", f"/{VOLUME}/from-container"]
        pykata("run", "--rm", *volume, str(self.rootfs), "--", *words).must(contain=self.nonces["container"])

    def scsi(self) -> None:
        """run one with a block root filesystem over virtio-scsi"""
        script = f"grep '^/dev/sd.* / ' /proc/mounts && echo {self.nonce('scsi')} | tee /{VOLUME}/from-scsi"
        options = ["--rm", "--rootfs-driver", "virtio-scsi", "-v", f"{VOLUME}:/{VOLUME}"]
        pykata("run", *options, str(self.rootfs), "--", "sh", "-c", script).must(contain=self.nonces["scsi"])
        on_host("cat", f"{self.volume()}/from-scsi").must(contain=self.nonces["scsi"])

    def tmpfs(self) -> None:
        """run one with an ephemeral tmpfs"""
        word = self.nonce("tmpfs")
        script = f"grep ' /scratch tmpfs ' /proc/mounts && echo {word} > /scratch/x && cat /scratch/x"
        options = ["--rm", "--tmpfs", "/scratch:size=16m"]
        pykata("run", *options, str(self.rootfs), "--", "sh", "-c", script).must(contain=word)

    def steps(self) -> list[Callable[[], None]]:
        """All steps, in their order."""
        return [
            *(self.start, self.write, self.host_reads, self.host_writes, self.guest_share, self.guest_root),
            *(self.end, self.second, self.scsi, self.tmpfs),
        ]


def perform(number: int, step: Callable[[], None]) -> Result:
    """Run one step; every failure is a result."""
    title = (step.__doc__ or "").strip()
    click.echo(f"\n== {number}. {title}")
    began = time.monotonic()
    try:
        step()
    except (StepFailed, HostError, OSError, subprocess.SubprocessError) as error:
        click.echo(f"FAILED: {error}")
        return Result(title, False, time.monotonic() - began, str(error))
    return Result(title, True, time.monotonic() - began)


def clean_up() -> None:
    """Remove what a demo has made, this one or an earlier one that was cut short."""
    for words in (("rm", "-f", NAME), ("volume", "rm", VOLUME)):
        subprocess.run([str(PYKATA), *words], capture_output=True, check=False)


def main() -> int:
    """Tell the story and its summary; returns the exit status."""
    PLACE.mkdir(parents=True, exist_ok=True)
    os.environ["PYKATA_DATA_DIR"] = str(PLACE / "data")
    click.echo(f"$ export PYKATA_DATA_DIR={PLACE / 'data'}   # the demo's own volumes")
    clean_up()
    demo = Demo(make_busybox_rootfs(PLACE / "rootfs"))
    try:
        results = [perform(number, step) for number, step in enumerate(demo.steps(), 1)]
    finally:
        clean_up()
    click.echo()
    rows = [(one.step, "passed" if one.passed else "FAILED", f"{one.seconds:.1f}") for one in results]
    print_table([("STEP", "RESULT", "SECONDS"), *rows])
    return 0 if all(one.passed for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
