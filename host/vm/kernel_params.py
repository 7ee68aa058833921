"""The guest kernel's command line.

Words and their order follow the Kata runtime (virtcontainers/qemu_amd64.go, qemu_arch_base.go and
kernel parameter code of 1.x). Left out: words for systemd, since the agent is the init of our
image, and `pci=lastbus=0`, which buys nothing measurable here. `ttyS0` is the one console.
"""

from __future__ import annotations

from host.vm.config import Machine, VmConfig

_CLOCK_AND_SMP = ("tsc=reliable", "no_timer_check", "noreplace-smp", "rcupdate.rcu_expedited=1")
# No keyboard, no mouse: do not look for them (linux/drivers/input/serio/i8042.c).
_NO_PS2 = ("i8042.direct=1", "i8042.dumbkbd=1", "i8042.nopnp=1", "i8042.noaux=1")
_COMMON = ("console=ttyS0", "cryptomgr.notests", "net.ifnames=0", "iommu=off")
# How `reboot` ends the machine: by the keyboard controller, or by a triple fault where there is none.
# A kernel that panics reboots after one second, and `-no-reboot` turns that into QEMU's exit.
_BY_MACHINE: dict[Machine, tuple[str, ...]] = {"q35": ("reboot=k",), "microvm": ("reboot=t",)}


def kernel_command_line(config: VmConfig, tsc_khz: int | None) -> str:
    """The command line for a machine of this configuration; the user's own words come last.

    `tsc_khz` is the frequency of the processor's time-stamp counter, where the kernel must be told.
    """
    words = [*_CLOCK_AND_SMP, *_NO_PS2, *_COMMON, *_BY_MACHINE[config.machine]]
    if tsc_khz is not None:
        words.append(f"tsc_early_khz={tsc_khz}")
    if config.image.rootfs is not None:
        words += ["root=/dev/vda", "rootfstype=ext4", "ro", "rootflags=data=ordered,errors=remount-ro"]
    words += ["quiet", "panic=1", f"nr_cpus={config.cpus}", "agent.use_vsock=true"]
    if config.scsi:
        # The guest finds no SCSI disk by itself; the agent's write to `scan` makes one appear.
        words.append("scsi_mod.scan=none")
    return " ".join([*words, *config.kernel_params])
