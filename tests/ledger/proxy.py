"""Stand between a ledger and its PostgreSQL server, and cut connections at the worst moments."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from ledger.postgres import PostgresStore


class Proxy:
    """A socket on this machine that forwards to the server's, until it is told to cut."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._server = f"{parameters['host']}/.s.PGSQL.{parameters.get('port', 5432)}"
        self._directory = tempfile.TemporaryDirectory(prefix="workledger-proxy-")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(os.path.join(self._directory.name, ".s.PGSQL.5432"))
        self._listener.listen()
        self._lock = threading.Lock()
        self._mark: bytes | None = None
        self._forwards = False
        self._then: Callable[[], object] | None = None
        self.cuts = 0

    def url(self, store: PostgresStore) -> str:
        """Return the URL of the same ledger through this proxy."""
        return store.url.replace(str(Path(self._server).parent), self._directory.name)

    def cut_after(self, mark: bytes) -> None:
        """Cut once, right after forwarding what has *mark* in it: its answer is lost."""
        self._mark, self._forwards, self._then = mark, True, None

    def cut_before(self, mark: bytes, then: Callable[[], object] | None = None) -> None:
        """Cut once, instead of forwarding what has *mark* in it; call *then* before anybody hears of it."""
        self._mark, self._forwards, self._then = mark, False, then

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._directory.cleanup()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                for source, target, is_client in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pump, args=(source, target, is_client), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_client: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                with self._lock:
                    is_cut = is_client and self._mark is not None and self._mark in data
                    self._mark = None if is_cut else self._mark
                if not is_cut or self._forwards:
                    if is_cut:  # no answer may slip through
                        source.shutdown(socket.SHUT_WR)
                    target.sendall(data)
                if is_cut:
                    self.cuts += 1
                    if self._then is not None:
                        self._then()
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # each is the source of one of two threads
