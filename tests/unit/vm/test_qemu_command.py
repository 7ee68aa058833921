"""The command line as a whole: any change to it must be seen here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from host.network import PublishedPort
from host.vm.config import GuestImage, VmConfig
from host.vm.disks import Disk
from host.vm.kernel_params import kernel_command_line
from host.vm.qemu_command import HostOffer, blockdev_options, qemu_command, quote
from host.vm.vsock import DaemonVsock, KernelVsock

OFFER = HostOffer(Path("/bin/qemu"), "tcg", DaemonVsock(Path("/run/vm/vhost-vsock.sock")), 7, 2596000)

Q35 = VmConfig(
    name="one",
    run_dir=Path("/run/vm"),
    image=GuestImage(Path("/images"), "image"),
    memory_mib=1024,
    cpus=2,
    share_dir=Path("/share"),
    scsi=True,
    network="user",
    published_ports=(PublishedPort(8080, 80),),
    kernel_params=("agent.log=debug",),
)
MICROVM = VmConfig(
    name="two",
    run_dir=Path("/run/vm"),
    image=GuestImage(Path("/images"), "initrd"),
    machine="microvm",
    shared_fs="virtio-fs",
    share_dir=Path("/share"),
    cold_disks=(Disk("data", Path("/disks/a,b"), "qcow2"), Disk("more", Path("/disks/c"), read_only=True)),
)

KERNEL_WORDS = (
    "tsc=reliable no_timer_check noreplace-smp rcupdate.rcu_expedited=1 "
    "i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1 "
    "console=ttyS0 cryptomgr.notests net.ifnames=0 iommu=off"
)


def test_q35() -> None:
    kernel = (
        f"{KERNEL_WORDS} reboot=k tsc_early_khz=2596000 "
        "root=/dev/vda rootfstype=ext4 ro rootflags=data=ordered,errors=remount-ro "
        "quiet panic=1 nr_cpus=2 agent.use_vsock=true scsi_mod.scan=none agent.log=debug"
    )
    expected = """
        /bin/qemu -name sandbox-one -nodefaults -no-user-config -no-reboot -display none
        -machine q35,usb=off,sata=off,smbus=off,vmport=off,memory-backend=memory0
        -accel tcg -cpu max -smp 2 -m 1024M
        -object memory-backend-memfd,id=memory0,size=1024M,share=on -rtc base=utc
        -kernel /images/vmlinuz -initrd /images/initramfs.cpio.zst -append KERNEL
        -chardev file,id=console0,path=/run/vm/console.log -serial chardev:console0
        -chardev socket,id=qmp0,fd=7,server=on,wait=off -mon chardev=qmp0,mode=control
        -device pci-bridge,bus=pcie.0,id=pci-bridge-0,chassis_nr=1,shpc=on,addr=2,romfile=
        -device virtio-scsi-pci,id=scsi0,romfile=
        -object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0,romfile=
        -chardev socket,id=char-vsock,path=/run/vm/vhost-vsock.sock
        -device vhost-user-vsock-pci,id=vsock0,chardev=char-vsock,romfile=
        -fsdev local,id=share0,path=/share,security_model=none,multidevs=remap
        -device virtio-9p-pci,fsdev=share0,mount_tag=kataShared,romfile=
        -blockdev
        driver=raw,node-name=drive-root,read-only=on,file.driver=file,file.filename=/images/rootfs.ext4
        -device virtio-blk-pci,drive=drive-root,serial=root,share-rw=on,romfile=
        -netdev user,id=network-0,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80
        -device virtio-net-pci,netdev=network-0,mac=52:54:00:12:34:56,romfile=
    """
    assert qemu_command(Q35, OFFER) == [kernel if word == "KERNEL" else word for word in expected.split()]


def test_microvm() -> None:
    kernel = f"{KERNEL_WORDS} reboot=t tsc_early_khz=2596000 quiet panic=1 nr_cpus=1 agent.use_vsock=true"
    expected = """
        /bin/qemu -name sandbox-two -nodefaults -no-user-config -no-reboot -display none
        -machine microvm,acpi=on,ioapic2=on,auto-kernel-cmdline=off,memory-backend=memory0
        -accel tcg -cpu max -smp 1 -m 512M
        -object memory-backend-memfd,id=memory0,size=512M,share=on
        -global virtio-mmio.force-legacy=false -rtc base=utc
        -kernel /images/vmlinuz -initrd /images/initrd.cpio.zst -append KERNEL
        -chardev file,id=console0,path=/run/vm/console.log -serial chardev:console0
        -chardev socket,id=qmp0,fd=7,server=on,wait=off -mon chardev=qmp0,mode=control
        -object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-device,rng=rng0
        -chardev socket,id=char-vsock,path=/run/vm/vhost-vsock.sock
        -device vhost-user-vsock-device,id=vsock0,chardev=char-vsock
        -chardev socket,id=char-fs,path=/run/vm/vhost-fs.sock
        -device vhost-user-fs-device,chardev=char-fs,tag=kataShared
        -blockdev driver=qcow2,node-name=drive-data,read-only=off,file.driver=file,file.filename=/disks/a,,b
        -device virtio-blk-device,drive=drive-data,serial=data,share-rw=on
        -blockdev driver=raw,node-name=drive-more,read-only=on,file.driver=file,file.filename=/disks/c
        -device virtio-blk-device,drive=drive-more,serial=more,share-rw=on
    """
    assert qemu_command(MICROVM, OFFER) == [kernel if word == "KERNEL" else word for word in expected.split()]


def test_with_kvm_and_the_kernels_vsock() -> None:
    offer = dataclasses.replace(OFFER, accelerator="kvm", vsock=KernelVsock(cid=77, fd=9), tsc_khz=None)
    command = qemu_command(Q35, offer)
    assert command[command.index("-accel") : command.index("-smp")] == ["-accel", "kvm", "-cpu", "host"]
    assert "vhost-vsock-pci,id=vsock0,guest-cid=77,vhostfd=9,romfile=" in command
    assert not any("vhost-user-vsock" in word for word in command)
    assert "tsc_early_khz" not in command[command.index("-append") + 1]


def test_the_users_kernel_words_come_last() -> None:
    config = dataclasses.replace(Q35, kernel_params=("loglevel=7", "agent.log=trace"))
    assert kernel_command_line(config, None).endswith(" loglevel=7 agent.log=trace")


def test_scan_is_switched_off_only_with_a_controller() -> None:
    assert "scsi_mod.scan=none" not in kernel_command_line(dataclasses.replace(Q35, scsi=False), None)


@pytest.mark.parametrize(("value", "quoted"), [("/plain", "/plain"), ("/a,b,c", "/a,,b,,c")])
def test_quote(value: str, quoted: str) -> None:
    assert quote(Path(value)) == quoted


def test_blockdev_options_of_a_file(tmp_path: Path) -> None:
    assert blockdev_options(Disk("d", tmp_path / "d.img", read_only=True)) == {
        "driver": "raw",
        "node-name": "drive-d",
        "read-only": True,
        "file": {"driver": "file", "filename": str(tmp_path / "d.img")},
    }
