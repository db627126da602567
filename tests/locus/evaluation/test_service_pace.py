"""The pace of asking: exactly, by a clock that jumps over waits, and as a real server sees it."""

import asyncio
import gc
import selectors
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest
from openai_server import MODEL, OpenAIServer, answer_to, serving

from locus.evaluation.request import Patience, Rate
from locus.evaluation.service import Call, Caller
from locus.evaluation.service_answer import Outcome, TryAgainError, raise_for, read_text
from locus.evaluation.service_pace import RUN_OF_ANSWERS, Pace, tokens_of

QUICK = Patience(timeout_s=10.0, attempts=3, wait_s=0.01, longest_wait_s=2.0, stop_after=4)


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing, and adds up for how long it should have."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        # Time goes on while nobody waits, too.
        self.now_s += 1e-6 + (timeout or 0.0)
        return events


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps over waits, and knows no other time."""

    def __init__(self) -> None:
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        return self.jumping.now_s


def jumping(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(coroutine)


def sent_at(
    pace: Pace,
    tokens: Sequence[int],
    used: Callable[[int], int | None] = lambda n: n,
    lasts_s: float = 0.0,
) -> list[float]:
    """When requests of so many tokens are sent, all asked for at once, in seconds, by number."""

    async def ask() -> list[float]:
        now = asyncio.get_running_loop().time
        start = now()

        async def one(n: int) -> float:
            async with pace.turn(n) as turn:
                at = now() - start
                await asyncio.sleep(lasts_s)
                pace.answered(turn, used(n))
            return at

        return list(await asyncio.gather(*map(one, tokens)))

    return jumping(ask())  # type: ignore[no-any-return]


def assert_spread(at: Sequence[float], per_s: float, tolerance_s: float = 0.01) -> None:
    """No stretch of time holds more requests than may be sent in it."""
    at = sorted(at)
    for i, first in enumerate(at):
        for j, last in enumerate(at[i:], start=1):
            assert j <= 1 + per_s * (last - first + tolerance_s)


def test_requests_are_spread_over_the_minute() -> None:
    at = sent_at(Pace(8, Rate(requests_per_minute=120)), [1] * 200)
    assert_spread(at, 2)
    assert at == sorted(at)
    # Nor does anybody wait longer than that takes.
    assert at[-1] == pytest.approx(199 / 2, abs=0.5)


def test_tokens_are_spread_over_the_minute() -> None:
    at = sent_at(Pace(8, Rate(tokens_per_minute=6000)), [50] * 100)
    for i, first in enumerate(at):
        for j, last in enumerate(at[i + 1 :], start=1):
            # Of a second is the bucket.
            assert 50 * j <= 100 + 100 * (last - first + 0.01)
    assert at[-1] == pytest.approx((100 * 50 - 100) / 100, abs=0.5)


def test_the_stricter_of_both_limits_holds() -> None:
    both = Rate(requests_per_minute=60, tokens_per_minute=6000)
    assert sent_at(Pace(8, both), [10] * 5)[-1] == pytest.approx(4, abs=0.1)
    assert sent_at(Pace(8, both), [300] * 5)[-1] == pytest.approx(14, abs=0.1)


def test_more_tokens_than_a_minute_has_are_sent_after_a_minute() -> None:
    at = sent_at(Pace(1, Rate(tokens_per_minute=600)), [10_000, 10])
    assert at[0] == pytest.approx(59, abs=0.1)
    # They were used, and the next request pays for a minute of them, no more.
    assert at[1] - at[0] == pytest.approx(61, abs=0.1)


def test_what_a_service_says_it_used_can_t_stop_the_pace_for_ever() -> None:
    at = sent_at(Pace(1, Rate(tokens_per_minute=600)), [10, 10], used=lambda _: 10**12)
    assert at[1] == pytest.approx(61, abs=0.1)


@pytest.mark.parametrize(
    ("used", "last"),
    [
        # Each reserves 2 s of tokens and uses 0.1 s of them: only the first reservation is felt.
        (lambda _: 10, 1 + 9 * 0.1),
        # It reserves too little: the next pays.
        (lambda _: 400, 1 + 9 * 4),
        # Nobody says: the estimate stands.
        (lambda _: None, 1 + 9 * 2),
    ],
)
def test_reservations_are_corrected_by_what_was_used(
    used: Callable[[int], int | None], last: float
) -> None:
    at = sent_at(Pace(1, Rate(tokens_per_minute=6000)), [200] * 10, used)
    assert at[-1] == pytest.approx(last, abs=0.1)


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    at = sent_at(Pace(8, Rate(tokens_per_minute=600)), [10, 100, *[1] * 20])
    assert at == sorted(at)


def test_a_burst_that_is_turned_down_is_one_decrease_and_answers_are_increases() -> None:
    async def ask() -> list[int]:
        pace = Pace(8, Rate())
        limits = []

        async def burst(n: int, answered: bool) -> None:
            ready = asyncio.Barrier(n)

            async def one() -> None:
                async with pace.turn(1) as turn:
                    # All are in flight before the first is answered.
                    await ready.wait()
                    if answered:
                        pace.answered(turn, None)
                    else:
                        pace.turned_down(turn, None)

            await asyncio.gather(*(one() for _ in range(n)))
            limits.append(pace.limit)

        await burst(8, answered=False)
        await burst(4, answered=False)
        for _ in range(3):
            await burst(1, answered=False)
        for _ in range(RUN_OF_ANSWERS - 1):
            await burst(1, answered=True)
        # The run of answers is broken.
        await burst(1, answered=False)
        for _ in range(9 * RUN_OF_ANSWERS):
            await burst(1, answered=True)
        return limits

    limits = jumping(ask())
    assert limits[:5] == [4, 2, 1, 1, 1]
    assert limits[4 + RUN_OF_ANSWERS - 1 : 4 + RUN_OF_ANSWERS + 1] == [1, 1]
    grown = limits[5 + RUN_OF_ANSWERS :]
    assert grown == [min(8, 1 + n // RUN_OF_ANSWERS) for n in range(1, 9 * RUN_OF_ANSWERS + 1)]


def test_what_was_sent_before_a_decrease_neither_decreases_nor_increases() -> None:
    async def ask() -> tuple[int, int]:
        pace = Pace(8, Rate())
        async with pace.turn(1) as early, pace.turn(1) as first:
            pace.turned_down(first, None)
            after_first = pace.limit
            pace.turned_down(early, None)
            for _ in range(RUN_OF_ANSWERS):
                pace.answered(early, None)
        return after_first, pace.limit

    assert jumping(ask()) == (4, 4)


def test_requests_in_flight_never_exceed_the_limit_of_the_moment() -> None:
    async def ask() -> list[tuple[int, int]]:
        pace = Pace(8, Rate(requests_per_minute=6000))
        seen = []

        async def one(i: int) -> None:
            async with pace.turn(1) as turn:
                seen.append((pace.in_flight, pace.limit))
                await asyncio.sleep(0.1 + i % 3 * 0.05)
                if i in (20, 21, 50, 53, 120):
                    pace.turned_down(turn, 0.5)
                else:
                    pace.answered(turn, None)

        await asyncio.gather(*map(one, range(200)))
        return seen

    seen = jumping(ask())
    assert len(seen) == 200
    assert all(in_flight <= limit for in_flight, limit in seen)
    assert min(limit for _, limit in seen) < 4
    assert any(in_flight == limit == 8 for in_flight, limit in seen)


def test_after_a_pause_the_limits_of_the_minute_hold() -> None:
    """Whoever has waited for the limit when the pause began waits for it anew."""

    async def ask() -> list[float]:
        pace = Pace(4, Rate(requests_per_minute=60))
        at: list[float] = []
        now = asyncio.get_running_loop().time
        start = now()

        async def one() -> None:
            async with pace.turn(1) as turn:
                at.append(now() - start)
                if len(at) == 3:
                    await asyncio.sleep(0.5)
                    pace.turned_down(turn, 10)

        await asyncio.gather(*(one() for _ in range(8)))
        return at

    at = jumping(ask())
    assert at[:3] == pytest.approx([0, 1, 2], abs=0.01)
    assert 12.5 <= at[3] <= 13.6
    assert_spread(at, 1)


def test_nobody_waits_any_more_at_the_end() -> None:
    async def ask() -> float:
        pace = Pace(2, Rate(tokens_per_minute=60))
        now = asyncio.get_running_loop().time
        start = now()

        async def one() -> None:
            async with pace.turn(60) as turn:
                pace.turned_down(turn, 1000)
                if now() - start > 50:
                    pace.end()

        await asyncio.gather(*(one() for _ in range(50)))
        return now() - start

    assert jumping(ask()) < 65


@pytest.mark.parametrize(
    ("payload", "tokens"),
    [
        ({"prompt": "x" * 400, "max_tokens": 7}, 107),
        ({"prompt": [5, 6, 7], "max_tokens": 1, "echo": True}, 4),
        ({"prompt": [[5, 6, 7]], "max_tokens": 1, "echo": True}, 4),
        ({"messages": [{"role": "system", "content": "x" * 40}, {"content": "y" * 40}]}, 20),
        (
            {
                "messages": [{"content": [{"type": "text"}, {"content": "x" * 8}]}],
                "max_completion_tokens": 9,
            },
            11,
        ),
        ({"prompt": None, "max_tokens": None}, 0),
    ],
)
def test_tokens_are_estimated(payload: dict[str, Any], tokens: int) -> None:
    assert tokens_of(payload) == tokens


@pytest.mark.parametrize(
    ("status", "headers", "busy"),
    [
        (429, {}, True),
        (503, {}, True),
        (500, {}, False),
        (500, {"Retry-After": "1"}, True),
        (502, {"Retry-After": "soon"}, True),
    ],
)
def test_what_a_busy_service_says(status: int, headers: dict[str, str], busy: bool) -> None:
    with pytest.raises(TryAgainError) as caught:
        raise_for(status, headers, "no", "{}")
    assert caught.value.busy is busy


# What follows is asked over HTTP, and told by the server's clock.


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving() as running:
        yield running


def caller_of(server: OpenAIServer, concurrent: int, rate: Rate | None = None) -> Caller:
    return Caller(f"{server.root}/completions", QUICK, concurrent=concurrent, rate=rate)


def call(prompt: str, read: Callable[[dict[str, Any]], Outcome] | None = None) -> Call:
    def text(body: dict[str, Any]) -> Outcome:
        return read_text(body, False, lambda b: b["choices"][0]["text"])

    return Call({"model": MODEL, "prompt": prompt, "max_tokens": 4}, read or text)


def ask_all(caller: Caller, numbers: Sequence[int]) -> None:
    """Ask, and check that each has its own answer."""
    prompts = [f"Copy {n}" for n in numbers]
    outcomes = caller.ask([call(p) for p in prompts])
    assert [(o.status, o.value) for o in outcomes] == [("ok", answer_to(p)) for p in prompts]


@pytest.mark.parametrize("kind", ["429", "503"])
def test_a_busy_service_is_asked_half_as_much_at_a_time(kind: str, server: OpenAIServer) -> None:
    server.delay_s = 0.3
    server.fail(kind, times=4)
    # Fewer than the answers after which there are more at a time.
    ask_all(caller_of(server, 4), range(RUN_OF_ANSWERS - 2))
    # All four of the first burst are turned down, and that is one decrease.
    assert [status for _, status in server.sent[:4]] == [int(kind)] * 4
    assert max(server.beside[:4]) == 4
    assert len(server.came) == RUN_OF_ANSWERS + 2
    assert max(server.beside[4:]) == 2


def test_a_service_that_has_recovered_is_asked_more_again(server: OpenAIServer) -> None:
    server.delay_s = 0.1
    server.fail("429", times=4)
    ask_all(caller_of(server, 4), range(4 * RUN_OF_ANSWERS))
    answered = sorted(when for when, status in server.sent if status == 200)
    for when, beside in list(zip(server.came, server.beside, strict=True))[4:]:
        # The server knows of its answers before the client does.
        assert beside <= 2 + bisect_left(answered, when) // RUN_OF_ANSWERS
    assert max(server.beside[-RUN_OF_ANSWERS:]) == 4


def test_no_more_than_the_ceiling_at_a_time(server: OpenAIServer) -> None:
    server.delay_s = 0.05
    ask_all(caller_of(server, 3), range(3 * RUN_OF_ANSWERS))
    assert max(server.beside) == 3


def test_a_pause_holds_for_all_and_what_is_in_flight_is_kept(server: OpenAIServer) -> None:
    """One is turned down while two are in flight: they are answered, and nothing is sent."""
    server.delay_s = 0.4
    server.fail("429", prompt="Copy 0", times=1, retry_after="1.2", delay_s=0.1)
    ask_all(caller_of(server, 3), range(6))
    (turned_down,) = (when for when, status in server.sent if status == 429)
    answered = [when for when, status in server.sent if status == 200]
    assert max(server.beside[:3]) == 3
    assert min(server.came[3:]) >= turned_down + 1.2
    # Those two, and no other, within the pause.
    assert sum(when < turned_down + 1.2 for when in answered) == 2
    assert max(server.beside[3:]) == 1
    assert len(server.came) == 7


def test_limits_hold_from_call_to_call_and_for_what_is_sent_again(server: OpenAIServer) -> None:
    server.fail("500", times=1)
    caller = caller_of(server, 4, Rate(requests_per_minute=240))
    ask_all(caller, range(3))
    ask_all(caller, [3])
    ask_all(caller, range(4, 8))
    assert len(server.came) == 9
    assert_spread(server.came, 4, tolerance_s=0.12)


def test_tokens_that_the_service_counts_hold_up_the_next_request(server: OpenAIServer) -> None:
    """The server counts characters, four times as many as the estimate."""
    caller = caller_of(server, 1, Rate(tokens_per_minute=60 * 400))
    used = 0
    for n in range(3):
        (outcome,) = caller.ask([call("x" * 396 + f" {n}")])
        used += (outcome.tokens_in or 0) + (outcome.tokens_out or 0)
    assert used == 3 * 401
    # What the first two have used, less a second's allowance, came in before the third.
    assert server.came[2] - server.came[0] >= (2 * 401 - 400) / 400 - 0.1


def test_a_call_that_breaks_off_leaves_nothing_behind(server: OpenAIServer) -> None:
    def broken(_: dict[str, Any]) -> Outcome:
        raise MemoryError

    server.delay_s = 0.1
    caller = caller_of(server, 2)
    with pytest.raises(ExceptionGroup) as failure:
        caller.ask([call("Copy 1", broken), *(call(f"Copy {n}") for n in range(2, 9))])
    assert failure.group_contains(MemoryError)
    ask_all(caller, range(10, 14))
    # Those that waited are not sent, neither then nor with the next call.
    assert not {"Copy 6", "Copy 7", "Copy 8"} & {*server.prompts()}


def test_the_loop_ends_with_its_caller(server: OpenAIServer) -> None:
    caller = caller_of(server, 2)
    ask_all(caller, range(2))
    loop = caller._runner.get_loop()
    assert not loop.is_closed()
    del caller
    gc.collect()
    assert loop.is_closed()
