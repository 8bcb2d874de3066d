"""The failure store: every failure as one JSON object in a bucket, a folder or memory, with all that a replay takes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

import orjson
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from activities.contracts import FailureReport
from activities.errors import InvalidConfigurationError, InvalidRecordError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from obstore.store import S3Config  # not there at run time

LONGEST_SEGMENT = 200
"""Characters of one part of a key: a file's name may have 255, and S3 allows 1,024 for the whole key."""
REQUEST_TIMEOUT = timedelta(seconds=5)
CONNECT_TIMEOUT = timedelta(seconds=2)
RETRY_TIMEOUT = timedelta(seconds=3)
"""Short, because Temporal retries, and for longer than any client should."""
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


class FailureStore:
    """Writes failures under `<organisation>/<project>/<pipeline>/<message>/<workflow>-<activity>-<timestamp>.json`."""

    def __init__(self, store: ObjectStore, address: str) -> None:
        self._store = store
        self._address = address

    def __repr__(self) -> str:
        return f"FailureStore({self._address})"

    @classmethod
    def open(
        cls,
        url: str,
        *,
        endpoint: str = "",
        access_key: str = "",
        secret_key: str = "",
        secure: bool = False,
        region: str = "us-east-1",
    ) -> Self:
        """Make a store; a folder is created, no server is asked anything yet.

        Args:
            url: `file:///folder`, `s3://bucket/prefix` or `memory:///`. The rest concerns S3 alone.
            endpoint: `host:port` or address of a server that speaks S3; empty: Amazon's.
            access_key: Empty: what the machine's role or the environment offers (AWS_*).
            secret_key: Belongs to the access key.
            secure: Whether an endpoint without a scheme speaks TLS.
            region: What requests are signed for.

        Raises:
            InvalidConfigurationError: The address is none of these, or its folder cannot be used.
        """
        parts = _split(url)
        if parts.scheme == "memory":
            return cls(MemoryStore(), "memory")
        if parts.scheme == "file":
            return cls(_folder(parts), f"folder {unquote(parts.path)}")
        config: S3Config = {"region": region, "virtual_hosted_style_request": False}
        if endpoint:
            config["endpoint"] = endpoint if "://" in endpoint else f"{'https' if secure else 'http'}://{endpoint}"
        if access_key:
            config["access_key_id"], config["secret_access_key"] = access_key, secret_key
        return cls(_bucket(parts, config), f"bucket {parts.netloc}")

    async def put(self, report: FailureReport) -> str:
        """Store a failure and return its key. Storing it again changes nothing.

        Raises:
            UnavailableError: The store is away, or its bucket or rights are missing: an operator can repair that.
        """
        key = failure_key(report)
        # It exists where an earlier attempt stored it and the answer was lost.
        with self._failing_as("store a failure"), suppress(AlreadyExistsError):
            await self._store.put_async(key, _encode(_document(report)), mode="create")
        return key

    async def get(self, key: str) -> dict[str, Any]:
        """Read a failure.

        Raises:
            NotFoundError: There is none of that key.
            InvalidRecordError: What lies there is no failure.
            UnavailableError: The store is away.
        """
        with self._failing_as("read a failure"):
            try:
                found = await self._store.get_async(key)
            except FileNotFoundError:
                raise NotFoundError(f"{self._address} holds no failure {key}") from None
            content = bytes(await found.bytes_async())
        try:
            document = json.loads(content)  # not orjson, which refuses escaped lone surrogates
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise InvalidRecordError(f"{self._address}: {key} is no failure")
        return document

    async def keys(self, prefix: str = "") -> AsyncIterator[str]:
        """The keys of all failures, or of those under a prefix of whole parts, such as `<organisation>/<project>`.

        Raises:
            UnavailableError: The store is away.
        """
        with self._failing_as("list failures"):
            async for chunk in self._store.list_async(prefix or None, chunk_size=1000):
                for found in chunk:
                    yield found["path"]

    async def check(self) -> None:
        """Return if the store can be reached and listed; one request.

        Raises:
            UnavailableError: It cannot.
        """
        _ = [key async for key in self.keys("readiness")]

    @contextmanager
    def _failing_as(self, task: str) -> Iterator[None]:
        """Turn the store's errors into ours, without their text: it quotes whole answers, access keys among them."""
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError):
            raise UnavailableError(f"cannot {task}: {self._address} refuses access") from None
        except FileNotFoundError:
            raise UnavailableError(f"cannot {task}: {self._address} does not exist") from None
        except (BaseError, OSError):
            raise UnavailableError(f"cannot {task}: {self._address} cannot be reached or is failing") from None


def failure_key(report: FailureReport) -> str:
    """A failure's key. Each part is percent-encoded, so that no id leads out of its place."""
    message = report.message
    places = (message.organisation_id, message.project_id, message.pipeline_id, message.message_id)
    name = _segment(f"{report.workflow}-{report.activity}-{report.timestamp}")
    return "/".join([*map(_segment, places), f"{name}.json"])


def _segment(text: str) -> str:
    """One part of a key. A long one is cut and ends in a hash of the whole."""
    quoted = quote(text or "unknown", safe=":+", errors="surrogatepass")
    if not quoted.strip("."):  # `.` and `..` mean something to folders
        quoted = quoted.replace(".", "%2E")
    if len(quoted) <= LONGEST_SEGMENT:
        return quoted
    digest = hashlib.sha256(quoted.encode("ascii")).hexdigest()[:32]
    return f"{quoted[: LONGEST_SEGMENT - len(digest) - 1]}-{digest}"


def _document(report: FailureReport) -> dict[str, Any]:
    """The failure as the platform's other parts read it."""
    message, original = report.message, report.original_input
    document = {
        "timestamp": report.timestamp,
        "organisationId": message.organisation_id,
        "projectId": message.project_id,
        "pipelineId": message.pipeline_id,
        "messageId": message.message_id,
        "originalInput": original,
        "currentInput": original if report.current_input is None else report.current_input,
        "error": asdict(report.error),
    }
    return document | ({"context": report.context} if report.context else {})


def _encode(document: dict[str, Any]) -> bytes:
    """JSON of anything. Inputs that no JSON can be made of are left out, and the context says so."""
    try:
        return _json(document)
    except (ValueError, RecursionError):  # an integer of over 4,300 digits; nested deeper than Python's stack
        context = {**document.get("context", {}), "inputsOmitted": True}
        return _json({**document, "originalInput": None, "currentInput": None, "context": context})


def _json(document: dict[str, Any]) -> bytes:
    """JSON in which NaN and infinities are null, and lone surrogates escaped."""
    try:
        return orjson.dumps(document)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, over 254 levels
        text = json.dumps(document)
    if "NaN" in text or "Infinity" in text:
        text = json.dumps(json.loads(text, parse_constant=lambda _: None))
    return text.encode("ascii")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidConfigurationError("the failure store's address cannot be read") from None
    if parts.scheme not in {"file", "memory", "s3"} or parts.query or parts.fragment:
        raise InvalidConfigurationError("the failure store is none of file:///folder, s3://bucket/prefix, memory:///")
    return parts


def _folder(parts: SplitResult) -> LocalStore:
    path = Path(unquote(parts.path))
    if parts.netloc not in {"", "localhost"} or not path.is_absolute():
        raise InvalidConfigurationError("the failure store's folder is not absolute: file:///folder")
    try:
        return LocalStore(prefix=path, mkdir=True)
    except (BaseError, OSError, ValueError):
        raise InvalidConfigurationError(f"the failure store's folder {path} cannot be used") from None


def _bucket(parts: SplitResult, config: S3Config) -> S3Store:
    if not _BUCKET.fullmatch(parts.netloc):  # credentials have no place there
        raise InvalidConfigurationError("the failure store's bucket cannot be read: s3://bucket/prefix")
    try:
        return S3Store(
            parts.netloc,
            prefix=unquote(parts.path).strip("/") or None,
            config=config,
            client_options={"allow_http": True, "timeout": REQUEST_TIMEOUT, "connect_timeout": CONNECT_TIMEOUT},
            retry_config={"max_retries": 3, "retry_timeout": RETRY_TIMEOUT},
        )
    except (BaseError, ValueError):
        raise InvalidConfigurationError("the failure store's endpoint or prefix cannot be used") from None
