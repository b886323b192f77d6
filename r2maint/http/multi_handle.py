"""The connections of one caller: libcurl's multi interface, woken by its sockets."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pycurl

from r2maint.http.easy_handle import Attempt, Manner
from r2maint.http.request import Answer, Failure, Request

_READ, _WRITE = 1, 4
"""POLLIN and POLLOUT, which are the same everywhere (Windows has no names for them)."""
_EVENTS = {
    pycurl.POLL_IN: _READ,
    pycurl.POLL_OUT: _WRITE,
    pycurl.POLL_INOUT: _READ | _WRITE,
}


class Lines:
    """A multi handle with its easy handles: the connections of one caller at a time."""

    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self._workers = max(manner.pace.workers, 1)
        # Unlike `CurlMulti.select`, it knows no highest number of a socket; and unlike epoll it
        # asks nothing of the system when libcurl turns to another socket, as each request does.
        self._sockets = select.poll() if hasattr(select, "poll") else _Selected()
        self._watched: set[int] = set()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, 2 * self._workers)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._free: list[Attempt] = []
        self._busy: dict[pycurl.Curl, Attempt] = {}

    @property
    def has_room(self) -> bool:
        return len(self._busy) < self._workers

    def start(self, request: Request, ticket: int) -> None:
        """Send a request.

        Raises: OSError when the file that is its body cannot be opened, pycurl.error when libcurl
        refuses the URL.
        """
        attempt = self._free.pop() if self._free else Attempt(self._manner)
        try:
            attempt.begin(request, ticket)
        except BaseException:
            attempt.end()
            self._free.append(attempt)
            raise
        self._multi.add_handle(attempt.curl)
        self._busy[attempt.curl] = attempt

    def move(self, seconds: float) -> None:
        """Move bytes when some can be moved, at the latest after so long."""
        known = self._multi.timeout()
        if known >= 0:
            seconds = min(seconds, known / 1000)
        for number, events in self._sockets.poll(1000 * seconds):
            self._multi.socket_action(number, _happened(events))
        self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _watch(self, what: int, number: int, multi: object, data: object) -> None:
        """Take note of what libcurl waits for on a socket."""
        if what in _EVENTS:
            self._sockets.register(number, _EVENTS[what])
            self._watched.add(number)
        elif number in self._watched:
            self._sockets.unregister(number)
            self._watched.remove(number)

    def ended(self) -> Iterator[tuple[int, Answer | Failure, int]]:
        """Yield the ticket of each attempt that ended, its end, and how often it was sent."""
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                attempt = self._busy[curl]
                answer = attempt.answer()
                self._release(curl)
                yield attempt.ticket, answer, attempt.sendings
            for curl, code, message in failed:
                attempt = self._busy[curl]
                ended = attempt.broken_off(code, message)
                self._release(curl)
                yield attempt.ticket, ended, attempt.sendings

    def _release(self, curl: pycurl.Curl) -> None:
        attempt = self._busy.pop(curl)
        self._multi.remove_handle(curl)
        attempt.end()
        self._free.append(attempt)

    def drop_all(self) -> None:
        """Break off what is under way; its connections are closed."""
        for curl in list(self._busy):
            self._release(curl)

    def close(self) -> None:
        for attempt in self._free:
            attempt.curl.close()
        self._multi.close()


class _Selected:
    """What `select.poll` gives, for Windows, which has none."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, number: int, events: int) -> None:
        self._wanted[number] = events

    def unregister(self, number: int) -> None:
        del self._wanted[number]

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        if not self._wanted:
            time.sleep(milliseconds / 1000)
            return []
        reading = [number for number, events in self._wanted.items() if events & _READ]
        writing = [number for number, events in self._wanted.items() if events & _WRITE]
        sets = select.select(reading, writing, self._wanted, milliseconds / 1000)
        happened = zip(sets, (_READ, _WRITE, _READ | _WRITE), strict=True)
        return [(number, events) for ready, events in happened for number in ready]


def _happened(events: int) -> int:
    """Return what poll says of a socket as libcurl says it; an error is both."""
    can_read, can_write = events & ~_WRITE, events & ~_READ
    return (pycurl.CSELECT_IN if can_read else 0) | (pycurl.CSELECT_OUT if can_write else 0)
