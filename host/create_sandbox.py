"""The request that makes a sandbox in a fresh guest."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import Message

from host.agent_messages import Messages
from host.container_config import SHM_SIZE_BYTES, check_identifier
from host.storages import DEFAULT_MSIZE, sandbox_storages

HOSTNAME_MAX = 64  # bytes that the kernel keeps, __NEW_UTS_LEN


def create_sandbox_request(
    messages: Messages,
    sandbox_id: str,
    *,
    shared_fs: str | None,
    hostname: str = "",
    dns: Iterable[str] = (),
    kernel_modules: Iterable[str] = (),
    shm_size: int = SHM_SIZE_BYTES,
    msize: int = DEFAULT_MSIZE,
    dax: bool = False,
    share_pid_namespace: bool = False,
) -> Message:
    """The CreateSandbox request. `shared_fs` is "9p", "virtio-fs" or None; sizes are bytes.

    `dns` holds lines of resolv.conf(5); a kernel module is "NAME PARAMETER...". Raises InvalidInput.
    """
    check_identifier("sandbox", sandbox_id)
    storages = sandbox_storages(shared_fs, shm_size=shm_size, msize=msize, dax=dax)
    modules = [words for module in kernel_modules if (words := module.split())]
    return messages.CreateSandboxRequest(
        sandbox_id=sandbox_id,
        hostname=hostname[:HOSTNAME_MAX],
        dns=list(dns),
        storages=[storage.message(messages) for storage in storages],
        sandbox_pidns=share_pid_namespace,
        kernel_modules=[messages.KernelModule(name=words[0], parameters=words[1:]) for words in modules],
    )
