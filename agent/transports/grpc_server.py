"""gRPC, the wire of Kata 1.x: grpc.aio on a unix socket, answered by a Dispatcher.

Importing this module loads grpc (10 MB, and more than a second in an emulated guest): the listener
does so when the first gRPC peer connects. The handlers are generic and pass bytes through, so grpc
knows nothing of our messages.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine
from typing import Any, TypeAlias

import grpc
import grpc.aio

from agent.errors import Generation, Status
from agent.transports.dispatch import MAX_MESSAGE_BYTES, STOPPING, Dispatcher, answer
from agent.transports.listen_address import remove_socket_file

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}

_Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"


class GrpcServer:
    """grpc.aio's server behind a socket file that only this process's relay is to reach.

    Not an abstract socket: containers share the agent's network namespace, and one without any
    capability can connect to such a socket; it has no path to this file.
    """

    def __init__(self, dispatcher: Dispatcher, directory: str) -> None:
        """`directory` is made, for its owner alone, if it does not exist."""
        self._calls = _Calls(dispatcher)
        self._directory = directory
        # Agents started by hand may share the directory; in a guest there is one, process 1.
        name = "grpc.sock" if os.getpid() == 1 else f"grpc-{os.getpid()}.sock"
        self._path = os.path.join(directory, name)
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((self._calls,))

    async def start(self) -> None:
        """Begin to serve. Raises OSError (the directory), RuntimeError (grpc cannot listen)."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        os.chmod(self._directory, 0o700)
        remove_socket_file(self._path)
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()

    async def connect(self) -> socket.socket:
        """A connection to the server, for the relay. Raises OSError."""
        upstream = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            await asyncio.get_running_loop().sock_connect(upstream, self._path)
        except BaseException:
            upstream.close()
            raise
        return upstream

    async def drain_calls(self, timeout_s: float) -> None:
        """Wait until all calls that run now are done, at most `timeout_s`."""
        if self._calls.tasks:
            await asyncio.wait(self._calls.tasks, timeout=timeout_s)

    async def stop(self, timeout_s: float) -> None:
        """Cancel what has not been answered, with an answer that says so; flush, and close."""
        self._calls.stop()
        await self._server.stop(timeout_s)
        remove_socket_file(self._path)


class _Calls(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc ships no types
    """Every call of every method, known or not: the dispatcher says which there are."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._stopping = False
        self.tasks: set[asyncio.Task[object]] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """What grpc asks for each call that comes in: who is to handle it."""
        service, _, method = handler_call_details.method.removeprefix("/").rpartition("/")
        headers = dict(handler_call_details.invocation_metadata)
        metadata = {key: value for key, value in headers.items() if isinstance(value, str)}

        async def handle(payload: bytes, context: _Context) -> bytes:
            call = answer(
                self._dispatcher,
                Generation.KATA1,
                service=service,
                method=method,
                payload=payload,
                metadata=metadata,
            )
            result = await self._cancellable(call)
            if isinstance(result, bytes):
                return result
            await context.abort(_CODES[result.code], result.message)
            raise AssertionError("abort() has raised by now")

        return grpc.unary_unary_rpc_method_handler(handle)

    def stop(self) -> None:
        """Cancel every call; each is answered all the same."""
        self._stopping = True
        for task in self.tasks:
            task.cancel()

    async def _cancellable(self, call: Coroutine[Any, Any, bytes | Status]) -> bytes | Status:
        """Await `call`, as one that `stop` finds. A cancellation by the peer goes through."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            return await call
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            task.uncancel()
            return STOPPING
        finally:
            self.tasks.discard(task)
