"""The one HTTP client of all adapters.

It follows no redirect, takes no proxy from the environment, verifies TLS
always, takes at most 16 MiB of an answer, sends each request exactly once, and
ends with its call's deadline. Nothing of a request or an answer reaches a log
or an error beyond scheme, host and the adapter's own name of the route.
"""

import logging
import re
import ssl
import threading
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import httpcore2

from api_adapters.answer import Answer
from api_adapters.base import Deadline, Pace
from api_adapters.connections import Connections
from api_adapters.deadline import Call, DeadlineBackend, calling, is_calling
from api_adapters.errors import CallFailed, Hopeless, Refused, Transient
from api_adapters.request import Link, Request
from api_adapters.settings import HttpSettings

LARGEST_ANSWER = 16 * 2**20
#: Below the five seconds after which common servers drop an idle connection:
#: a request that meets the drop halfway may or may not have run.
IDLE_SECONDS = 4.0

#: A shorter one would be found in any text.
SHORTEST_SECRET = 8

_TARGET = re.compile(r"/[!-~]*")
_HEADER = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")
_FOREIGN = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    OSError,
)
_LOUD = ("connection", "http11", "http2", "proxy", "socks")


class Http:
    """Speaks to one target; threads share it. Building it opens nothing."""

    def __init__(self, settings: HttpSettings, *, pace: Pace, max_connections: int) -> None:
        self._settings = settings
        self._pace = pace
        self._max_connections = max_connections
        self._base = urlsplit(settings.base_url)
        self._connections: Connections | None = None
        self._opening = threading.Lock()

    def send(self, request: Request, *, until: Deadline) -> Answer:
        """Send a request that may delete something.

        Raises:
            Transient, Refused, Hopeless: no answer; `may_have_run` is false
                only if not one byte of the request was sent.
        """
        return self._exchange(request, until, may_run=True)

    def look(self, request: Request, *, until: Deadline) -> Answer:
        """Send a request that deletes nothing: a login, a probe, a check.

        Raises:
            Transient, Refused, Hopeless: no answer; `may_have_run` is false.
        """
        return self._exchange(request, until, may_run=False)

    def link(self, text: str) -> Link:
        """Take an address from an answer; a path keeps the prefix of `base_url`.

        Raises:
            Transient: it leads to another origin, or nowhere.
        """
        try:
            parts = urlsplit(text)
            is_ours = not (parts.scheme or parts.netloc) or _origin(parts) == _origin(self._base)
        except ValueError:
            is_ours = False
        target = parts._replace(scheme="", netloc="", fragment="").geturl() if is_ours else ""
        if not _TARGET.fullmatch(target) or target.startswith("//"):
            raise Transient(f"{self._address}: an answer holds a link that leads elsewhere")
        if parts.netloc or _is_below(target, self._base.path):
            return Link(target)
        return Link(self._base.path + target)

    def close(self) -> None:
        """Close the connections."""
        with self._opening:
            if self._connections is not None:
                self._connections.close()
                self._connections = None

    def _exchange(self, request: Request, until: Deadline, *, may_run: bool) -> Answer:
        place = f"{self._address} {request.route}"
        wire = self._on_the_wire(request, place)
        self._pace.enter(until)
        if until.seconds_left <= 0:
            raise Transient(f"{place}: no time was left to send it", may_have_run=False)
        connections = self._open()
        secret = request.headers.get("authorization", "")
        with calling(until) as call:
            try:
                with connections.one(until) as connection:
                    response = connection.handle_request(wire)
                    return self._read(response, call, place, may_run=may_run, secret=secret)
            except _FOREIGN as error:
                # The library's own words may quote what was on the wire.
                raise _fault(error, call, place, may_run=may_run) from None

    def _read(
        self,
        response: httpcore2.Response,
        call: Call,
        place: str,
        *,
        may_run: bool,
        secret: str,
    ) -> Answer:
        try:
            # An answer nobody had to wait for was sent before the request.
            if call.reads == 0:
                raise Transient(f"{place}: an answer came unasked", may_have_run=may_run)
            body = bytearray()
            for part in response.iter_stream():
                body += part
                if len(body) > LARGEST_ANSWER:
                    raise Transient(
                        f"{place}: the answer is larger than 16 MiB", may_have_run=may_run
                    )
        finally:
            response.close()
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in reversed(response.headers)
        }
        return Answer(response.status, headers, _without(secret, bytes(body)), place, may_run)

    def _on_the_wire(self, request: Request, place: str) -> httpcore2.Request:
        headers = {
            "host": self._base.netloc,
            "user-agent": "deletion-worker",
            "accept": "application/json",
            "accept-encoding": "identity",
        }
        if request.content is not None:
            headers["content-type"] = request.content.type
        body = request.content.body if request.content else b""
        if body or request.method not in {"GET", "HEAD", "DELETE"}:
            headers["content-length"] = str(len(body))
        headers |= {name.lower(): value for name, value in request.headers.items()}
        for name, value in headers.items():
            if not _HEADER.fullmatch(value):
                raise Hopeless(
                    f"{place}: header {name} holds a character that cannot be sent; "
                    "change the secret or setting it is made of",
                    may_have_run=False,
                    closes_target=True,
                )
        url = self._url(self._target(request, place))
        return httpcore2.Request(request.method, url, headers=list(headers.items()), content=body)

    def _url(self, target: str) -> httpcore2.URL:
        return httpcore2.URL(
            scheme=self._base.scheme,
            host=self._base.hostname or "",
            port=self._base.port,
            target=target,
        )

    def _target(self, request: Request, place: str) -> str:
        path = request.path
        target = path.target if isinstance(path, Link) else self._base.path + path
        try:
            if request.query:
                target += "?" + urlencode(request.query, quote_via=quote)
        except UnicodeEncodeError:
            target = ""
        if not _TARGET.fullmatch(target):
            raise Refused(
                f"{place}: an item makes an address that cannot be sent", may_have_run=False
            )
        return target

    @property
    def _address(self) -> str:
        return f"{self._base.scheme}://{self._base.netloc}"

    def _open(self) -> Connections:
        with self._opening:
            if self._connections is None:
                _silence()
                proxy = self._settings.proxy
                pool = httpcore2.ConnectionPool(
                    ssl_context=self._trust() if self._base.scheme == "https" else None,
                    proxy=httpcore2.Proxy(proxy) if proxy else None,
                    keepalive_expiry=IDLE_SECONDS,
                    network_backend=DeadlineBackend(),
                )
                self._connections = Connections(pool, self._url("/").origin, self._max_connections)
            return self._connections

    def _trust(self) -> ssl.SSLContext:
        context = httpcore2.default_ssl_context()
        if self._settings.ca_file is None:
            return context
        try:
            context.load_verify_locations(cafile=self._settings.ca_file)
        except OSError as error:
            raise Hopeless(
                f"ca_file {self._settings.ca_file} cannot be used: {error.strerror}",
                may_have_run=False,
                closes_target=True,
            ) from error
        return context


def _without(secret: str, body: bytes) -> bytes:
    """A body that does not repeat the credentials of its own request."""
    credentials = secret.rpartition(" ")[2].encode("latin-1", "replace")
    return body.replace(credentials, b"[hidden]") if len(credentials) >= SHORTEST_SECRET else body


def _fault(error: Exception, call: Call, place: str, *, may_run: bool) -> CallFailed:
    """The one place that turns the library's errors into ours."""
    cause = error.args[0] if error.args else None
    match error, cause:
        case httpcore2.ConnectError(), ssl.SSLCertVerificationError():
            return Hopeless(
                f"{place}: the certificate is not trusted, {cause.verify_message}; "
                "change base_url or ca_file",
                may_have_run=False,
                closes_target=True,
            )
        case httpcore2.ProxyError(), str() if cause.startswith("407"):
            return Hopeless(
                f"{place}: the proxy asks for a login; change proxy",
                may_have_run=False,
                closes_target=True,
            )
    what = _what_happened(error, call)
    if isinstance(cause, OSError) and cause.strerror:
        what = f"{what}: {cause.strerror}"
    return Transient(f"{place}: {what}", may_have_run=may_run and call.is_sent)


def _what_happened(error: Exception, call: Call) -> str:
    match error:
        case httpcore2.ProxyError():
            return "the proxy opened no connection"
        case httpcore2.TimeoutException() if call.is_sent:
            return "no whole answer in time"
        case httpcore2.TimeoutException():
            return "no connection in time"
        case httpcore2.ProtocolError() if call.is_sent:
            return "the connection ended before a whole answer, or it is no HTTP"
    return "the connection broke" if call.is_sent else "no connection"


def _silence() -> None:
    """Drop what the library logs of our requests: it holds addresses and tokens.

    A level could be lowered, and a disabled logger enabled, by the
    application's own logging configuration; a filter stays.
    """
    for name in _LOUD:
        logging.getLogger(f"httpcore2.{name}").addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return not is_calling()


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or usual


def _is_below(target: str, prefix: str) -> bool:
    return target == prefix or target.startswith((f"{prefix}/", f"{prefix}?"))
