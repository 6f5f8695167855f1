"""A language model behind an OpenAI-compatible endpoint: one question, one answer.

What an endpoint sends is untrusted: it is bounded in size and time, redirects are not followed, and the key goes to no
other server.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from headatlas.errors import EndpointError, SettingsError
from headatlas.printable import printable

KEY = "HEADATLAS_API_KEY"
"""The variable of the environment that holds the key."""

TIMEOUT, LONGEST = 60.0, 300.0
"""Seconds without a byte, and in all, after which an answer is given up."""

MOST_BYTES = 2**20
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each further try."""

LONGEST_PAUSE = 120.0
"""Seconds; also for the pause that an endpoint asks for."""

BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
SHOWN = 200
"""Characters of an answer that a message shows."""


class ChatEndpoint:
    """Use as a context manager; `ask` may be called from several threads.

    Args:
        url: such as `https://host/v1`; `/chat/completions` is added.
        model: as the endpoint names it.

    Raises:
        SettingsError: no such address, or the key would travel unencrypted.
    """

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model, self._key = _checked(url), model, os.environ.get(KEY, "").strip()
        self.host = urlsplit(self.url).hostname or ""
        if not model.strip():
            raise SettingsError("model: expected a name as the endpoint knows it, found none.")
        if self._key and not (self._key.isascii() and self._key.isprintable()):
            raise SettingsError(f"{KEY}: expected a key of printable ASCII characters, found others.")
        if self._key and not _is_private(self.url):
            raise SettingsError(
                f"endpoint: expected https, found http to {self.host}: the key in {KEY} would travel unencrypted. Use "
                f"https, or unset the variable."
            )
        self._closed = threading.Event()
        self._limit, self._temperature = "max_tokens", True
        """What the endpoint accepts; some know neither this name of the limit nor a temperature."""

    def __enter__(self) -> ChatEndpoint:
        from huggingface_hub.utils import get_session

        from headatlas.checkpoints.remote.http import http_library

        # The same library as for models; a session of its own, so that no login of the hub goes here.
        self._library = http_library(get_session())
        self._client = self._library.Client(timeout=TIMEOUT, follow_redirects=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def stop(self) -> None:
        """Let all threads end after the request that they wait for."""
        self._closed.set()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise EndpointError(f"{self.host}: the run has ended.")

    def ask(self, system: str, user: str, most_tokens: int) -> str:
        """The text that the model answers; may be empty.

        Raises:
            EndpointError: every try failed, access is refused, or the answer is not one of a chat.
        """
        failures = 0
        while True:
            self._check_open()
            try:
                status, body, wait = self._send(system, user, most_tokens)
                if status not in BUSY:
                    if status == 400 and self._adapt(body):
                        continue
                    return self._read(status, body)
                why = f"HTTP {status}"
            except (self._library.TimeoutException, _Slow):
                why, wait = "no answer in time", 0.0
            except self._library.HTTPError as error:
                why, wait = f"{str(error)[:100] or type(error).__name__}", 0.0
            failures += 1
            if failures > len(PAUSES):
                raise EndpointError(
                    f"{self.host}: the request failed {failures} times ({self._safe(why)}). Run the same command "
                    f"again later; what is finished is kept."
                )
            # A random part keeps requests that failed together from being repeated together.
            self._closed.wait(min(max(PAUSES[failures - 1] * random.uniform(0.8, 1.2), wait), LONGEST_PAUSE))

    def _send(self, system: str, user: str, most_tokens: int) -> tuple[int, bytes, float]:
        """Status, body, and the seconds that the endpoint asks to wait."""
        content: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
            self._limit: most_tokens,
            "stream": False,
        }
        if self._temperature:
            content["temperature"] = 0
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = self._client.build_request("POST", self.url, content=json.dumps(content).encode(), headers=headers)
        answer = self._client.send(request, stream=True, auth=None)
        try:
            if 300 <= answer.status_code < 400:
                to = self._safe(answer.headers.get("location", "nowhere"))
                raise EndpointError(
                    f"{self.host}: expected an answer, found a redirect to {to}, which is not followed. If you trust "
                    f"it, name that address as the endpoint."
                )
            if answer.headers.get("content-encoding", "identity").lower() != "identity":
                raise EndpointError(f"{self.host}: expected plain JSON, found an answer that is compressed.")
            body, started = bytearray(), time.monotonic()
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise EndpointError(f"{self.host}: expected an answer of at most {MOST_BYTES:,} bytes, found more.")
                if time.monotonic() - started > LONGEST:
                    raise _Slow
            wait = answer.headers.get("retry-after", "")
            return answer.status_code, bytes(body), float(wait) if wait.isascii() and wait.isdecimal() else 0.0
        finally:
            answer.close()

    def _adapt(self, body: bytes) -> bool:
        """Leave out what the endpoint says that it does not know; whether there was such a thing."""
        if self._limit == "max_tokens" and b"max_tokens" in body:
            self._limit = "max_completion_tokens"
            return True
        if self._temperature and b"temperature" in body:
            self._temperature = False
            return True
        return False

    def _read(self, status: int, body: bytes) -> str:
        if status in (401, 403):
            there = "the key in it is not accepted" if self._key else "it is not set"
            raise EndpointError(f"{self.host}: access is refused (HTTP {status}). The key is that of {KEY}; {there}.")
        shown = self._safe(body[: 4 * SHOWN].decode("utf-8", "replace")) or "nothing"
        if status != 200:
            raise EndpointError(
                f"{self.host}: expected an answer of {self.model!r}, found HTTP {status}: {shown}. Check --endpoint "
                f"and --model."
            )
        try:
            text = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise EndpointError(
                f"{self.host}: expected a chat completion in JSON, found {shown}. Is this an OpenAI-compatible "
                f"endpoint, such as https://host/v1?"
            ) from error
        if text is not None and not isinstance(text, str):
            raise EndpointError(f"{self.host}: expected text as the answer, found something else: {shown}.")
        return text or ""

    def _safe(self, text: str) -> str:
        """Text of the endpoint for a message: short, printable, and without the key."""
        text = text.replace(self._key, "***") if self._key else text
        return printable(" ".join(text.split()))[:SHOWN]


class _Slow(Exception):
    """An answer takes too long in all."""


def _checked(url: str) -> str:
    """The address that questions are sent to."""
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError("endpoint: expected an address such as https://host/v1, found another text.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise SettingsError(
            f"endpoint: expected an address without login, ? and #, found one with them. A key belongs into the "
            f"variable {KEY}."
        )
    path = parts.path.rstrip("/")
    path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
    return parts._replace(path=path).geturl()


def _is_private(url: str) -> bool:
    """Whether a key can be sent there: encrypted, or within this machine."""
    from headatlas.checkpoints.remote.http import is_loopback

    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname)
