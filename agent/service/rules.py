"""Where one agent must behave in two ways: the points on which the API generations differ.

Each generation's values stand in its own file, `kata1` and `kata2`; the calls ask for a rule by name
and never for the generation itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.errors import AgentError, Generation, StatusCode

ANY_METHOD = "*"

Codes = Mapping[str, Mapping[type[AgentError], StatusCode]]


@dataclass(frozen=True, slots=True)
class CopyRules:
    """What CopyFile may do, and with which permissions."""

    root: str  # nothing is copied anywhere else
    mode_bits: int  # of what the host sends, those that a copied file or directory gets
    owner_gets_parents: bool  # directories made on the way; else they are root's


@dataclass(frozen=True, slots=True)
class ProcessorRules:
    """How OnlineCPUMem is meant."""

    count_is_total: bool  # the CPUs that are to be online in the end; else those to be added
    may_go_on_behind: bool  # unless the host says that it waits, it is answered at once
    timeout_s: float  # for CPUs to be plugged in


@dataclass(frozen=True, slots=True)
class UpdateRules:
    """What UpdateContainer takes, of names such as "memory" and "memory.swappiness"."""

    needs_resources: bool  # else a request without any changes nothing
    ignored: frozenset[str]
    unknown_cpus_mean_all: bool  # else they are waited for: they may be about to be plugged in


@dataclass(frozen=True, slots=True)
class Rules:
    """The behaviour that hosts of one generation expect.

    `codes` holds the status codes that one method's own rule fixes, by method (or `ANY_METHOD`) and
    by error; `agent.errors` has the say on all others.
    """

    generation: Generation
    codes: Codes
    needs_sandbox: frozenset[str]  # methods that are refused before CreateSandbox
    empty_exec_id_is_init: bool  # else "" is an exec id like any other
    init_answers_to_exec_id: bool  # init goes by its request's exec id, not only by the container's
    only_sigkill_goes_to_all: bool  # of signals without exec id; else all of them do
    handled_signal_fields: tuple[
        str, ...
    ]  # of /proc/PID/status: what spares init's SIGTERM from becoming SIGKILL
    empty_write_closes_stdin: bool
    write_after_close_is_dropped: bool  # else it is an error
    refuses_pid_namespace: bool  # a spec that brings a pid namespace entry
    shared_pid_namespace_must_exist: bool
    destroy_shuts_down: bool
    network_replaces: bool  # addresses and routes that are not named go; a neighbour must be new
    unknown_service_is_invalid: bool  # else it is unimplemented, as gRPC has it
    names_device_handlers: bool
    acpi_spares_memory_probe: bool  # no probe is told of where ACPI announces memory
    reseed_is_best_effort: bool  # bytes that cannot be counted as entropy are mixed in all the same
    oom_spares_sandbox_container: bool  # GetOOMEvent tells nothing of the one that has the sandbox's id
    updates: UpdateRules
    copies: CopyRules
    processors: ProcessorRules

    def recode(self, method: str, error: AgentError) -> StatusCode | None:
        """The code that `method`'s own rule gives `error`, or None if it has no rule for it."""
        for kind in type(error).__mro__:
            for key in (method, ANY_METHOD):
                code = self.codes.get(key, {}).get(kind)
                if code is not None:
                    return code
        return None
