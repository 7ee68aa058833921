"""The sandbox: what it consists of, and who may do what when. State and decisions, no I/O.

All methods are synchronous and run on the loop thread: they decide, the caller awaits.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from agent.errors import AlreadyExists, NotFound, WrongState
from agent.linux.namespaces import NamespaceKind
from agent.sandbox.shared_storages import SharedStorages

ContainerT = TypeVar("ContainerT")


class SandboxState(enum.Enum):
    """The life of a sandbox; after STOPPING it may start anew."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class UnknownContainer(NotFound):
    """No container of that id; its status code depends on the generation and the method."""


@dataclass(slots=True)
class Member(Generic[ContainerT]):
    """A container's place in the sandbox, taken from its creation's first step until it is gone.

    `lock` orders what changes the container; `teardown` undoes all that its creation has done.
    """

    id: str
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    container: ContainerT | None = None
    teardown: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    removal: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class PidNamespace:
    """Where a container's processes live: `path` to join, or None for a namespace of its own.

    `of_agent` means no namespace at all: the container sees the guest's own processes (Kata 1.x
    `agent_pidns`).
    """

    path: str | None = None
    of_agent: bool = False


class Sandbox(Generic[ContainerT]):
    """The one sandbox of this agent, and the containers in it."""

    def __init__(self) -> None:
        self.state = SandboxState.ABSENT
        self.id = ""
        self.hostname = ""
        self.namespaces: Mapping[NamespaceKind, str] = {}  # the path that containers join
        self.pid_namespace: str | None = None
        self.shares_pid_namespace = False  # for all containers, by CreateSandbox (Kata 1.x)
        self.guest_hooks: Mapping[str, list[dict[str, object]]] = {}
        self.teardown = contextlib.AsyncExitStack()
        self.storages = SharedStorages()
        self._members: dict[str, Member[ContainerT]] = {}

    @property
    def is_running(self) -> bool:
        """Whether containers may be created."""
        return self.state is SandboxState.RUNNING

    def begin(self, sandbox_id: str, hostname: str) -> None:
        """Take the sandbox's place. Raises AlreadyExists unless there is no sandbox."""
        if self.state is not SandboxState.ABSENT:
            name = f'"{self.id}" ' if self.id else ""
            raise AlreadyExists(f"the sandbox {name}exists already (it is {self.state.value})")
        self.state = SandboxState.STARTING
        self.id = sandbox_id
        self.hostname = hostname

    def begin_stopping(self) -> contextlib.AsyncExitStack:
        """Let nobody in any more; returns what CreateSandbox has to have undone."""
        self.state = SandboxState.STOPPING
        teardown, self.teardown = self.teardown, contextlib.AsyncExitStack()
        return teardown

    def clear(self) -> None:
        """Forget the sandbox; a new one may begin. Containers are not touched."""
        self.state = SandboxState.ABSENT
        self.id = self.hostname = ""
        self.namespaces = {}
        self.pid_namespace = None
        self.shares_pid_namespace = False
        self.guest_hooks = {}
        self.teardown = contextlib.AsyncExitStack()

    def check_id_is_free(self, container_id: str) -> None:
        """Raises AlreadyExists if a container has the id, or is being created or removed under it."""
        if container_id in self._members:
            raise AlreadyExists(f'container "{container_id}" already exists')

    def reserve(self, container_id: str) -> Member[ContainerT]:
        """A place for a new container. Raises AlreadyExists; WrongState while the sandbox ends."""
        self.check_id_is_free(container_id)
        if self.state is SandboxState.STOPPING:
            raise WrongState(f'container "{container_id}" cannot be created: the sandbox is being destroyed')
        member = self._members[container_id] = Member(container_id)
        return member

    def forget(self, member: Member[ContainerT]) -> None:
        """Give a place back; idempotent."""
        if self._members.get(member.id) is member:
            del self._members[member.id]

    def member(self, container_id: str) -> Member[ContainerT]:
        """The place of a container that has been created. Raises UnknownContainer."""
        member = self._members.get(container_id)
        if member is None or member.container is None:
            raise UnknownContainer(f'container "{container_id}" not found')
        return member

    def keep_storage(self, mount_point: str) -> None:
        """Let a storage that a container uses outlive its containers: it goes with the sandbox.

        A sandbox that is ending keeps nothing.
        """
        if self.state is not SandboxState.STOPPING and self.storages.keep(mount_point):
            self.teardown.push_async_callback(self.storages.let_go, mount_point)

    def container(self, container_id: str) -> ContainerT:
        """The container. Raises UnknownContainer."""
        container = self.member(container_id).container
        assert container is not None  # member() returns no other
        return container

    def members(self) -> list[Member[ContainerT]]:
        """All places, those under creation among them, oldest first."""
        return list(self._members.values())

    def choose_pid_namespace(self, member: Member[ContainerT], *, shared: bool, strict: bool) -> PidNamespace:
        """The pid namespace of a new container; `shared` is what its request asks for.

        The sandbox's namespace is its pause process's, else that of its first container. `strict`: a
        container that comes later and finds none is refused with WrongState (Kata 2 to 4); without it,
        it gets a namespace of its own.
        """
        if not (shared or self.shares_pid_namespace):
            return PidNamespace()
        others = any(other is not member for other in self._members.values())
        if self.pid_namespace is None and others and strict:
            raise WrongState(f'container "{member.id}": the sandbox has no pid namespace to share')
        return PidNamespace(path=self.pid_namespace)
