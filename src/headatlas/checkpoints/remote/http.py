"""A file behind http(s), read by byte ranges; a login is sent to its own server only."""

from __future__ import annotations

import ipaddress
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import urljoin, urlsplit

from headatlas.checkpoints.remote.file import Broken, Missing, Offline, Refused, Version, WholeFile, changed
from headatlas.errors import CheckpointError

TIMEOUT = 30.0
"""Longest time without a byte, in seconds."""

PATIENCE, SLOWEST = 60.0, 1_000
"""Seconds in which an answer has to begin, and after which its body has to have come at this many bytes per second. A
server that sends a byte now and then would otherwise hold a run for ever."""

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Statuses of a server that may succeed a little later."""


class HttpFile:
    """See `RemoteFile`.

    Args:
        url: without a password in it.
        shown: for messages.
        headers: a login, sent to the URL's own server and not to others.
        identity: names the file independently of its revision; default: the URL.
        pinned: the content at the URL never changes.
        no_access: what to do if access is refused, as a sentence.
    """

    def __init__(
        self,
        url: str,
        shown: str,
        headers: Mapping[str, str] | None = None,
        *,
        identity: str | None = None,
        pinned: bool = False,
        no_access: str,
    ) -> None:
        self.address = url
        self.shown = shown
        self.identity = identity or url
        self.pinned = pinned
        self._headers = dict(headers or {})
        self._host = urlsplit(url).hostname
        self._no_access = no_access
        self._lock = threading.Lock()
        self._location: str | None = None
        """Target of the last redirect, which is requested first until it refuses."""
        self._linked: str | None = None
        self._final_tag: str | None = None

    def version(self) -> Version:
        # Some signed addresses allow only GET, so the first byte is requested instead of a HEAD.
        with self._answer("bytes=0-0") as (answer, tag):
            if answer.status_code == 416:
                length = _total(answer.headers.get("content-range", ""))
                if length:
                    raise Broken("the server refuses its first byte")
                return Version(tag, 0)
            first, last, length = self._range(answer)
            if (first, last) != (0, 0):
                raise Broken(f"the server sent the bytes {first:,} to {last:,} instead of its first one")
            for chunk in answer.iter_raw():  # to its end, so that the connection can be reused
                if len(chunk) > 1:
                    raise Broken("the server sent more than it announced")
            return Version(tag, length)

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        with self._answer(f"bytes={start}-{stop - 1}") as (answer, tag):
            if answer.status_code == 416:
                raise changed(self.shown)
            first, last, length = self._range(answer)
            # At a pinned address, tags differ only between servers that hold copies.
            if length != version.length or (tag != version.tag and not self.pinned):
                raise changed(self.shown)
            if (first, last) != (start, stop - 1):
                raise Broken(f"the server sent the bytes {first:,} to {last:,} instead of {start:,} to {stop - 1:,}")
            left, last = stop - start, b""
            for chunk in self._paced(answer):
                if len(chunk) > left:
                    raise Broken("the server sent more than it announced")
                left -= len(chunk)
                if left:
                    yield chunk
                else:
                    last = chunk  # handed on only if nothing follows
            if left:
                raise Broken("the server sent less than it announced")
            yield last

    def whole(self, known: str | None, limit: int) -> WholeFile | None:
        with self._answer(None, _unless(known)) as (answer, tag):
            if answer.status_code == 304:
                return None
            content = bytearray()
            for chunk in self._paced(answer):
                content += chunk
                if len(content) > limit:
                    raise CheckpointError(f"{self.shown}: expected at most {limit:,} bytes, found more.")
            announced = answer.headers.get("content-length")
            if announced is not None and announced != str(len(content)):
                raise Broken("the server sent less than it announced")
            return WholeFile(tag, content)

    @contextmanager
    def _answer(self, byte_range: str | None, extra: Mapping[str, str] | None = None) -> Iterator[tuple[Any, Any]]:
        """An answer with an accepted status, and its tag; the body is not read yet."""
        from huggingface_hub.errors import OfflineModeIsEnabled
        from huggingface_hub.utils import get_session

        # The hub's own session: proxies, certificates and offline mode are set in one place.
        session = get_session()
        library = http_library(session)
        try:
            with self._follow(session, byte_range, extra or {}) as answer:
                yield answer
        except OfflineModeIsEnabled as error:
            raise Offline from error
        except library.TimeoutException as error:
            raise Broken("the server does not answer") from error
        except library.HTTPError as error:
            raise Broken(f"the connection broke: {str(error)[:100] or type(error).__name__}") from error
        except library.InvalidURL as error:
            raise CheckpointError(f"{self.shown}: expected an address, found something else.") from error

    @contextmanager
    def _follow(self, session, byte_range: str | None, extra: Mapping[str, str]) -> Iterator[tuple[Any, Any]]:
        with self._lock:
            remembered = self._location if byte_range else None
        url = remembered or self.address
        linked = None
        for _ in range(MAX_REDIRECTS + 1):
            headers = {"Accept-Encoding": "identity", **extra}
            if byte_range:
                headers["Range"] = byte_range
            if origin(url) == origin(self.address):
                headers |= self._headers
            request = session.build_request("GET", url, headers=headers, timeout=TIMEOUT)
            answer = self._in_time(
                lambda request=request: session.send(request, stream=True, follow_redirects=False, auth=None)
            )
            try:
                linked = linked or answer.headers.get("x-linked-etag")
                if answer.status_code in REDIRECTS and "location" in answer.headers:
                    url = self._next(url, answer.headers["location"])
                    continue
                if answer.status_code in (401, 403, 404, 410) and url == remembered:
                    # The target of a redirect is valid for some time only.
                    with self._lock:
                        self._location = None
                    url, remembered = self.address, None
                    continue
                self._check_status(answer, byte_range)
                if url != self.address:
                    with self._lock:
                        self._location = url
                yield answer, self._tag(answer, linked, at_home=url == self.address)
                return
            finally:
                answer.close()
        raise CheckpointError(f"{self.shown}: expected a file, found more than {MAX_REDIRECTS} redirects.")

    def _in_time(self, send: Callable[[], Any]) -> Any:
        """What `send` returns or raises; the library limits the time between two bytes only, not that of all."""
        results: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        given_up = threading.Event()

        def run() -> None:
            try:
                answer = send()
            except BaseException as error:
                results.put((None, error))
                return
            results.put((answer, None))
            if given_up.is_set():
                answer.close()

        threading.Thread(target=run, name="headatlas-request", daemon=True).start()
        try:
            answer, error = results.get(timeout=PATIENCE)
        except queue.Empty:
            given_up.set()
            raise self._too_slow("no whole answer") from None
        if error is not None:
            raise error
        return answer

    def _paced(self, answer: Any) -> Iterator[bytes]:
        """The body in pieces as they arrive, as long as they do."""
        started, n_bytes = time.monotonic(), 0
        for chunk in answer.iter_raw():
            n_bytes += len(chunk)
            seconds = time.monotonic() - started
            if seconds > PATIENCE and n_bytes < SLOWEST * seconds:
                raise self._too_slow(f"{n_bytes:,} bytes")
            yield chunk

    def _too_slow(self, found: str) -> CheckpointError:
        return CheckpointError(
            f"{self.shown}: expected at least {SLOWEST:,} bytes per second, found {found} in {PATIENCE:g} seconds. "
            f"Try again later; what was fetched is kept."
        )

    def _tag(self, answer, linked: str | None, at_home: bool) -> str | None:
        """The tag of this version: that of the first server, as long as that of the last server stays the same."""
        own = answer.headers.get("etag") or answer.headers.get("last-modified")
        if at_home:
            return own
        with self._lock:
            self._linked = linked or self._linked
            if self._final_tag is None:
                self._final_tag = own
            elif self._final_tag != own and not self.pinned:
                raise changed(self.shown)
            return self._linked or self._final_tag

    def _next(self, url: str, location: str) -> str:
        """The target of a redirect, if it may be followed."""
        try:
            target = urljoin(url, location)
            parts = urlsplit(target)
            scheme, host, _ = origin(target)
        except ValueError as error:
            raise CheckpointError(f"{self.shown}: expected a redirect to an address, found another text.") from error
        if scheme not in ("http", "https") or not host:
            raise CheckpointError(f"{self.shown}: expected a redirect to https, found one to {scheme[:20]!r}.")
        # Plain http is followed only from plain http; from this machine, only to this machine.
        asked_for = urlsplit(url).scheme == "http" and (is_loopback(host) or not is_loopback(self._host))
        if scheme == "http" and not asked_for:
            raise CheckpointError(f"{self.shown}: expected a redirect to https, found one to plain http.")
        if "@" in parts.netloc:  # another server's login
            target = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return target

    def _check_status(self, answer, byte_range: str | None) -> None:
        status = answer.status_code
        if byte_range and status == 200:
            raise CheckpointError(
                f"{self.shown}: expected a server that sends parts of a file, found one that ignores the Range header "
                f"and sends all of it. Download the model and name its folder."
            )
        encoding = answer.headers.get("content-encoding", "identity").lower()
        if status in (200, 206, 304) and encoding != "identity":
            raise CheckpointError(
                f"{self.shown}: expected the file's own bytes, found them compressed by the server ({encoding[:20]})."
            )
        if status in ((206, 416) if byte_range else (200, 304)):
            return
        if status in BUSY:
            wait = answer.headers.get("retry-after", "")
            raise Broken(f"HTTP {status}", float(wait) if wait.isascii() and wait.isdecimal() else 0.0)
        if status in (401, 403):
            raise Refused(f"{self.shown}: the server refuses access (HTTP {status}). {self._no_access}")
        if status in (404, 410):
            raise Missing(f"{self.shown}: expected a file, found none (HTTP {status}).")
        part = "a part of the file" if byte_range else "the whole file"
        raise CheckpointError(f"{self.shown}: expected {part}, found HTTP {status}.")

    def _range(self, answer) -> tuple[int, int, int]:
        """First and last byte of the answer, and the file's length."""
        unit, _, rest = answer.headers.get("content-range", "").partition(" ")
        span, _, _ = rest.partition("/")
        first, _, last = span.partition("-")
        length = _total(rest)
        if unit.lower() != "bytes" or not _decimal(first) or not _decimal(last) or length is None:
            raise Broken("the server does not say which bytes it sends")
        return int(first), int(last), length


def origin(url: str) -> tuple[str, str | None, int]:
    """What a login belongs to: scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _unless(known: str | None) -> dict[str, str]:
    """Headers that request a file only if its tag, an ETag or a date, has changed."""
    if known is None or not known.isascii():
        return {}
    return {"If-None-Match" if known.startswith(('"', 'W/"')) else "If-Modified-Since": known}


def _total(content_range: str) -> int | None:
    total = content_range.rpartition("/")[2].strip()
    return int(total) if _decimal(total) else None


def _decimal(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


def http_library(session: Any) -> Any:
    """httpx or httpx2, whichever the installed huggingface_hub uses."""
    kind = next(kind for kind in type(session).__mro__ if kind.__name__ == "Client")
    return import_module(kind.__module__.partition(".")[0])
