"""Machines made of files, as the kernel shows them."""

from __future__ import annotations

import pytest


class Machine:
    """A `/proc` and a `/sys` in a folder."""

    def __init__(self, root) -> None:
        self.proc, self.sys = root / "proc", root / "sys"
        self.cgroups = self.sys / "fs/cgroup"
        self.proc.mkdir()
        self.sys.mkdir()

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def memory(self, total, available):
        """Write amounts, in MiB."""
        self.write(
            self.proc / "meminfo",
            f"MemTotal:       {total * 1024} kB\nMemFree:        1 kB\nMemAvailable:   {available * 1024} kB\n",
        )

    def process(self, pid, *, anon=0, swap=0):
        """Write amounts, in MiB."""
        folder = self.proc / str(pid)
        self.write(
            folder / "status",
            f"Name:\tllama-server\nVmRSS:\t  999999 kB\nRssAnon:\t  {anon * 1024} kB\nRssFile:\t   77 kB\n"
            f"RssShmem:\t  0 kB\nVmSwap:\t  {swap * 1024} kB\n",
        )

    def card(self, number, *, vendor, address="0000:03:00.0", **files):
        """A card with the files of its driver, `__` for a slash."""
        device = self.sys / f"class/drm/card{number}/device"
        self.write(device / "vendor", f"{vendor}\n")
        self.write(device / "device", "0x744c\n")
        self.write(device / "uevent", f"DRIVER=x\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}\n")
        for name, text in files.items():
            self.write(device / name.replace("__", "/"), f"{text}\n")
        (self.sys / f"class/drm/card{number}-DP-1").mkdir()

    def descriptor(self, pid, number, text, target="/dev/dri/renderD128"):
        folder = self.proc / str(pid)
        self.write(folder / f"fdinfo/{number}", text)
        (folder / "fd").mkdir(exist_ok=True)
        (folder / f"fd/{number}").symlink_to(target)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)
