"""After a send the request's headers are what the caller handed in: byte for byte, in order, however the send went."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.baggage import set_baggage
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import NoOpTracerProvider

from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import TRACE_HEADERS, parent, send_through, traceparent_of, within

OWN = [("X-B", "1"), ("x-a", "2"), ("X-B", "3"), ("Baggage", "own=1"), ("TraceState", "own=1"), ("x-empty", "")]
BAGGAGE = set_baggage("tenant", "7", otel_context.Context())


class Stop(BaseException):
    """Ends the program, as Ctrl-C does."""


class Wire:
    """What went over the wire: for each request its headers, as the library's own `Headers`."""

    def __init__(self, kit: Kit, answer: Callable[[Kit, Any], Any] | None = None) -> None:
        self.kit = kit
        self.answer = answer or (lambda kit, request: kit.library.Response(200))
        self.sent: list[Any] = []

    def __call__(self, request: Any) -> Any:
        self.sent.append(self.kit.library.Headers(request.headers.raw))
        return self.answer(self.kit, request)

    def ours(self) -> list[list[str]]:
        """Which trace headers each request carried."""
        return [[name for name in TRACE_HEADERS if name in headers] for headers in self.sent]


def raising(error: BaseException) -> Callable[[Kit, Any], Any]:
    """A transport further in that fails."""

    def answer(kit: Kit, request: Any) -> Any:
        raise error

    return answer


def streaming(kit: Kit, request: Any) -> Any:
    """A response whose body is yet to come."""
    return kit.library.Response(200, stream=kit.body_of(lambda: iter([b"a", b"b"])))


def changing(kit: Kit, request: Any) -> Any:
    """A transport further in that writes headers of its own."""
    request.headers["x-inner"] = "1"
    del request.headers["x-a"]
    request.headers = kit.library.Headers([("x-other", "1")])
    return kit.library.Response(200)


def hook(span: Any, request: Any) -> None:
    """A hook that adds, changes and removes headers."""
    request.headers["x-hook"] = "1"
    request.headers["x-a"] = "changed"
    del request.headers["x-b"]


def broken_hook(span: Any, request: Any) -> None:
    """A hook that fails half-way."""
    request.headers["x-hook"] = "1"
    raise LookupError("in the hook")


def stopping_hook(*arguments: Any) -> None:
    """A hook that ends the program."""
    raise Stop


ENDINGS: dict[str, tuple[Callable[[Kit, Any], Any] | None, dict[str, Any]]] = {
    "response": (None, {}),
    "server error": (lambda kit, request: kit.library.Response(503), {}),
    "stream": (streaming, {}),
    "nothing returned": (lambda kit, request: None, {}),
    "exception": (raising(ConnectionError("down")), {}),
    "base exception": (raising(Stop()), {}),
    "cancellation": (raising(asyncio.CancelledError()), {}),
    "coroutine closed": (raising(GeneratorExit()), {}),
    "inner transport changes headers": (changing, {}),
    "hook changes headers": (None, {"on_request": hook}),
    "hook fails": (None, {"on_request": broken_hook}),
    "hook ends the program before": (None, {"on_request": stopping_hook}),
    "hook ends the program after": (None, {"on_response": stopping_hook}),
    "forbidden": (None, {"propagate_to": "elsewhere.test"}),
    "forbidden and failing": (raising(ConnectionError("down")), {"propagate_to": lambda url: 1 / 0}),
    "excluded": (None, {"exclude": "svc"}),
    "excluded and forbidden": (None, {"exclude": "svc", "propagate_to": ()}),
    "excluded and failing": (raising(Stop()), {"exclude": "svc"}),
    "no provider": (None, {"tracer_provider": NoOpTracerProvider()}),
    "no provider and failing": (raising(ConnectionError("down")), {"tracer_provider": NoOpTracerProvider()}),
}


@pytest.mark.parametrize("flags", [0, 1, None])
@pytest.mark.parametrize("innermost", [True, False])
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_headers_are_the_callers_however_a_send_ends(
    local: Kit, spans: CapturedSpans, ending: str, innermost: bool, flags: int | None
) -> None:
    """Three sends of one request, recorded or not, leave its headers as they were; each carries the same ones."""
    answer, options = ENDINGS[ending]

    async def scenario(kit: Kit) -> None:
        wire = Wire(kit, answer)
        inner = kit.library.MockTransport(wire) if innermost else kit.transport_of(wire)
        transport = kit.Transport(inner, **options)
        request = kit.library.Request("GET", kit.base, headers=OWN)
        own, raw = request.headers, list(request.headers.raw)
        surroundings = otel_context.Context({**BAGGAGE, **({} if flags is None else parent(flags))})
        async with within(surroundings):
            for _ in range(3):
                with suppress(ConnectionError, Stop, asyncio.CancelledError, GeneratorExit, TypeError):
                    await send_through(kit, transport, request)
                assert request.headers is own
                assert request.headers.raw == raw
            assert otel_context.get_current() == surroundings
        shapes = [[name for name, _ in headers.raw] for headers in wire.sent]
        assert shapes == [shapes[0]] * len(shapes) if shapes else "hook ends the program before" in ending

    local.run(scenario)


def test_what_a_hook_adds_is_sent_and_taken_back(local: Kit, spans: CapturedSpans) -> None:
    """Headers that `on_request` adds, changes or removes are so on the wire, and only there."""

    async def scenario(kit: Kit) -> None:
        wire = Wire(kit)
        request = kit.library.Request("GET", kit.base, headers=OWN)
        raw = list(request.headers.raw)
        await send_through(kit, kit.Transport(kit.transport_of(wire), on_request=hook), request)
        assert (wire.sent[0]["x-hook"], wire.sent[0]["x-a"], "x-b" in wire.sent[0]) == ("1", "changed", False)
        assert request.headers.raw == raw

    local.run(scenario)


@pytest.mark.parametrize("read", [True, False])
def test_returned_means_that_the_headers_have_arrived(local: Kit, spans: CapturedSpans, read: bool) -> None:
    """While a response's body is still to be read, its request is the caller's object with the caller's headers."""

    async def scenario(kit: Kit) -> None:
        async with kit.client(kit.Transport(kit.transport_of(Wire(kit, streaming)))) as client:
            request = client.build_request("GET", kit.base, headers=OWN)
            raw = list(request.headers.raw)
            response = await kit.call(client.send(request, stream=True))
            assert len(spans) == 0
            assert response.request is request
            assert request.headers.raw == raw
            assert "asgi_trace.sends" in request.extensions
            if read:
                await kit.read(response)
            await kit.close(response)
            assert request.headers.raw == raw
        assert len(spans) == 1

    local.run(scenario)


def test_the_span_has_the_ids_of_the_wire(local: Kit, spans: CapturedSpans) -> None:
    """What was sent is on the spans: their ids are those of the `traceparent` of each attempt."""

    async def scenario(kit: Kit) -> None:
        wire = Wire(kit)
        transport = kit.Transport(kit.transport_of(wire))
        request = kit.library.Request("GET", kit.base)
        for _ in range(3):
            await send_through(kit, transport, request)
        assert [headers["traceparent"] for headers in wire.sent] == list(map(traceparent_of, spans))

    local.run(scenario)


def signing(kit: Kit, attempts: int) -> tuple[Any, Callable[[Any], bool]]:
    """An auth flow that signs all headers anew for each attempt, and the server's check of a signature."""

    def signature(headers: Any, names: list[str]) -> str:
        text = "\n".join(f"{name}:{headers.get(name)}" for name in names)
        return hmac.new(b"key", text.encode(), hashlib.sha256).hexdigest()

    class Sign(kit.library.Auth):  # type: ignore[misc, name-defined]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            for _ in range(attempts):
                for name in ("x-signature", "x-signed"):
                    request.headers.pop(name, None)
                names = sorted(set(request.headers) - {"connection", "user-agent"})
                request.headers["x-signed"] = ";".join(names)
                request.headers["x-signature"] = signature(request.headers, names)
                response = yield request
                assert response.request is request
                if response.status_code == 200:
                    return

    return Sign(), lambda headers: headers["x-signature"] == signature(headers, headers["x-signed"].split(";"))


@pytest.mark.parametrize("flags", [0, 1, None])
def test_a_signature_verifies_on_every_attempt(local: Kit, spans: CapturedSpans, flags: int | None) -> None:
    """An auth flow that signs each of three attempts never signs a header of ours, and each carries our context."""

    async def scenario(kit: Kit) -> None:
        auth, verifies = signing(kit, 3)
        wire = Wire(kit, lambda kit, request: kit.library.Response(200 if len(wire.sent) == 3 else 503))
        surroundings = otel_context.Context({**BAGGAGE, **({} if flags is None else parent(flags))})
        transport = kit.Transport(kit.transport_of(wire))
        async with within(surroundings), kit.client(transport, auth=auth) as client:
            await kit.call(client.get(kit.base))
        assert [verifies(headers) for headers in wire.sent] == [True, True, True]
        assert wire.ours() == [["traceparent", "baggage"]] * 3

    local.run(scenario)


def test_a_digest_challenge_is_answered_without_our_headers(local: Kit, spans: CapturedSpans) -> None:
    """Between the two sends of a digest authentication the request has no header of ours; each send has its own ids."""

    async def scenario(kit: Kit) -> None:
        challenge = {"www-authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=MD5'}
        between: list[Any] = []

        class Looking(kit.library.DigestAuth):  # type: ignore[misc, name-defined]
            def auth_flow(self, request: Any) -> Any:
                flow = super().auth_flow(request)
                sent = next(flow)
                while True:
                    response = yield sent
                    between.append([name for name in TRACE_HEADERS if name in request.headers])
                    try:
                        sent = flow.send(response)
                    except StopIteration:
                        return

        def answer(kit: Kit, request: Any) -> Any:
            is_known = "authorization" in request.headers
            return kit.library.Response(200 if is_known else 401, headers=None if is_known else challenge)

        wire = Wire(kit, answer)
        async with kit.client(kit.Transport(kit.transport_of(wire)), auth=Looking("user", "secret")) as client:
            await kit.call(client.get(kit.base))
        assert between == [[], []]
        assert [headers["traceparent"] for headers in wire.sent] == list(map(traceparent_of, spans))

    local.run(scenario)


@asynccontextmanager
async def redirecting(kit: Kit, **options: Any) -> AsyncIterator[tuple[Any, Wire]]:
    """A client that follows redirects from `a.internal` to `partner.test`, which is not traced, and what it sent."""

    def answer(kit: Kit, request: Any) -> Any:
        hops = {"a.internal": "https://partner.test/", "partner.test": "https://b.internal/"}
        to = hops.get(request.url.host)
        return kit.library.Response(302, headers={"location": to}) if to else kit.library.Response(200)

    wire = Wire(kit, answer)
    inner = kit.transport_of(wire)
    mounts = {"https://partner.test": inner}
    async with within(BAGGAGE), kit.client(kit.Transport(inner), mounts=mounts, follow_redirects=True, **options) as it:
        yield it, wire


def test_a_redirect_through_an_untraced_mount_carries_nothing(local: Kit, spans: CapturedSpans) -> None:
    """A hop that is not traced carries only what the caller wrote; the traced hops around it have ids of their own."""

    async def scenario(kit: Kit) -> None:
        async with redirecting(kit) as (client, wire):
            await kit.call(client.get("https://a.internal/", headers={"x-id": "7"}))
        assert wire.ours() == [["traceparent", "baggage"], [], ["traceparent", "baggage"]]
        assert [headers["x-id"] for headers in wire.sent] == ["7"] * 3
        assert [attributes_of(span).get("http.request.resend_count") for span in spans] == [None, 1]

    local.run(scenario)


def test_event_hooks_of_a_later_hop_see_nothing_of_an_earlier_one(local: Kit, spans: CapturedSpans) -> None:
    """Event hooks, for requests and for responses, see no trace header of ours at any hop."""

    async def scenario(kit: Kit) -> None:
        seen: list[list[str]] = []

        def look(request: Any) -> None:
            seen.append([name for name in TRACE_HEADERS if name in request.headers])

        def look_back(response: Any) -> None:
            look(response.request)

        async def look_async(request: Any) -> None:
            look(request)

        async def look_back_async(response: Any) -> None:
            look(response.request)

        hooks = {"request": [look], "response": [look_back]}
        if kit.is_async:
            hooks = {"request": [look_async], "response": [look_back_async]}
        async with redirecting(kit, event_hooks=hooks) as (client, _):
            await kit.call(client.get("https://a.internal/"))
        assert seen == [[]] * 6

    local.run(scenario)


def test_a_client_that_is_not_traced_sends_nothing_of_ours_afterwards(local: Kit, spans: CapturedSpans) -> None:
    """`propagate_to` holds whatever sends the request next: another client that is not traced, or another library's."""

    async def scenario(kit: Kit) -> None:
        wire = Wire(kit)
        inner = kit.transport_of(wire)
        request = kit.library.Request("GET", kit.base)
        async with within(BAGGAGE):
            await send_through(kit, kit.Transport(inner, propagate_to="svc.test"), request)
            await send_through(kit, inner, request)
            await send_through(kit, kit.Transport(inner, propagate_to="elsewhere.test"), request)
        assert wire.ours() == [["traceparent", "baggage"], [], []]

    local.run(scenario)


@pytest.mark.parametrize("depth", [2, 3])
def test_nested_transports_take_back_what_the_outer_one_wrote(local: Kit, spans: CapturedSpans, depth: int) -> None:
    """However many of our transports are around each other, the request is the caller's again, also after a failure."""

    async def scenario(kit: Kit) -> None:
        wire = Wire(kit)
        transport = kit.transport_of(wire)
        for _ in range(depth):
            transport = kit.Transport(transport)
        request = kit.library.Request("GET", kit.base, headers=OWN)
        raw = list(request.headers.raw)
        for answer in (wire.answer, raising(Stop())):
            wire.answer = answer
            with suppress(Stop):
                await send_through(kit, transport, request)
            assert request.headers.raw == raw
        assert [headers["traceparent"] for headers in wire.sent] == list(map(traceparent_of, spans))

    local.run(scenario)


def test_a_transport_between_two_of_ours_may_build_a_new_request(local: Kit, spans: CapturedSpans) -> None:
    """A transport in the middle that sends a request of its own, with the same extensions, is part of the one send."""

    async def scenario(kit: Kit) -> None:
        wire = Wire(kit)
        inner = kit.Transport(kit.transport_of(wire))

        def rebuilt(request: Any) -> Any:
            return kit.library.Request(
                request.method, request.url, headers=request.headers, extensions=request.extensions
            )

        class Between(kit.Base):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                return inner.handle_request(rebuilt(request))

            async def handle_async_request(self, request: Any) -> Any:
                return await inner.handle_async_request(rebuilt(request))

        request = kit.library.Request("GET", kit.base, headers=OWN)
        raw = list(request.headers.raw)
        for _ in range(2):
            await send_through(kit, kit.Transport(Between()), request)
            assert request.headers.raw == raw
        assert [headers["traceparent"] for headers in wire.sent] == list(map(traceparent_of, spans))

    local.run(scenario)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_tasks_that_send_one_request_at_once_leave_its_headers(library: str, spans: CapturedSpans) -> None:
    """Sends that overlap in any order, some cancelled and some failing, each carry the caller's headers and own ids."""

    async def scenario(kit: Kit) -> None:
        gates = [asyncio.Event() for _ in range(6)]
        wire = Wire(kit)

        class Waiting(kit.Base):  # type: ignore[misc, name-defined]
            async def handle_async_request(self, request: Any) -> Any:
                number = len(wire.sent)
                wire(request)
                await gates[number].wait()
                if number == 2:
                    raise ConnectionError("down")
                return kit.library.Response(200)

        transport = kit.Transport(Waiting())
        request = kit.library.Request("GET", kit.base, headers=OWN)
        own, raw = request.headers, list(request.headers.raw)
        async with within(BAGGAGE):
            tasks = [asyncio.ensure_future(transport.handle_async_request(request)) for _ in range(6)]
            while len(wire.sent) < 6:
                await asyncio.sleep(0)
            tasks[1].cancel()
            for number in (0, 4, 2, 5, 3):  # the one that has the caller's own object ends first
                gates[number].set()
                await asyncio.wait([tasks[number]])
            await asyncio.gather(*tasks, return_exceptions=True)
        assert request.headers is own
        assert request.headers.raw == raw
        for headers in wire.sent:
            assert [line for line in headers.raw if line[0].startswith(b"X-")] == [(b"X-B", b"1"), (b"X-B", b"3")]
            assert headers["baggage"] == "tenant=7,own=1"
        assert sorted(headers["traceparent"] for headers in wire.sent) == sorted(map(traceparent_of, spans))
        assert {attributes_of(span).get("http.request.resend_count", 0) for span in spans} == set(range(6))

    Kit(library, True).run(scenario)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_threads_that_send_one_request_at_once_leave_its_headers(library: str, recorded: bool) -> None:
    """Threads that are switched at every step never see each other's headers, and every send has its number."""
    kit, rounds, threads = Kit(library, False), 30, 4
    meet = threading.Barrier(threads)
    wire = Wire(kit)
    requests = [kit.library.Request("GET", kit.base, headers=OWN) for _ in range(rounds)]
    raw = list(requests[0].headers.raw)

    def work(transport: Any) -> None:
        otel_context.attach(otel_context.Context({**BAGGAGE, **parent(int(recorded))}))
        for request in requests:
            meet.wait(30)
            transport.handle_request(request)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with capture_spans() as spans:
            transport = kit.Transport(kit.library.MockTransport(wire), tracer_provider=spans.tracer_provider)
            workers = [threading.Thread(target=work, args=(transport,)) for _ in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert [request.headers.raw for request in requests] == [raw] * rounds
    assert len(wire.sent) == rounds * threads
    assert {headers["baggage"] for headers in wire.sent} == {"tenant=7,own=1"}
    assert {len(headers.get_list("traceparent")) for headers in wire.sent} == {1}
    if recorded:
        assert sorted(headers["traceparent"] for headers in wire.sent) == sorted(map(traceparent_of, spans))
        numbers = [attributes_of(span).get("http.request.resend_count", 0) for span in spans]
        assert sorted(numbers) == sorted(list(range(threads)) * rounds)


def test_a_counted_upload_is_the_callers_again(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """The stream of a request whose bytes were counted is the caller's own object after the send, failed or not."""
    provider, _ = meter

    async def scenario(kit: Kit) -> None:
        stream = kit.body_of(lambda: iter([b"abc"]))
        request = kit.library.Request("POST", kit.base, stream=stream)
        for answer in (None, raising(Stop())):
            inner = kit.transport_of(Wire(kit, answer))
            transport = kit.Transport(inner, meter_provider=provider, metrics="http.client.request.body.size")
            with suppress(Stop):
                await send_through(kit, transport, request)
            assert request.stream is stream

    local.run(scenario)
