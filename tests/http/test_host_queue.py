"""A host that says it is asked too fast is asked more slowly, and only that host."""

from __future__ import annotations

import pytest

from r2maint.http import Answer, Engine, Pace, Request, host_queue
from r2maint.http.retry import Ease
from tests.servers.websites import reply, site

PATIENT = Pace(workers=8, eases_off=True)


def answer(status: int, **headers: str) -> Answer:
    return Answer(status=status, url="", headers=headers, body=b"")


def begun(requests: int, seconds: float = 1.0) -> Ease:
    """A host that was sent so many requests in this time."""
    ease = Ease()
    for number in range(requests):
        ease.take_place(100 + number * seconds / requests)
    return ease


def test_a_429_halves_the_speed_and_answers_bring_it_back_slowly():
    ease = begun(50)
    ease.hear(answer(429), 100.9, 101)
    assert ease.interval == pytest.approx(2 / 50)
    for number in range(20):
        ease.hear(answer(200), 102, 102 + number)
    assert 1 / 50 < ease.interval < 2 / 50
    for number in range(500):
        ease.hear(answer(200), 130, 130 + number)
    assert ease.interval == 0


def test_answers_to_what_was_sent_before_slow_nothing_down_once_more():
    ease = begun(50)
    ease.hear(answer(429), 100.9, 101)
    slower = ease.interval
    assert not any(ease.hear(answer(429), 100.95, 101.1) for _ in range(7))
    assert ease.interval == slower
    assert ease.hear(answer(429), 101.2, 101.3)
    assert ease.interval >= 2 * slower


def test_retry_after_is_a_pause_for_the_host_unless_it_is_too_long():
    ease = begun(1)
    ease.hear(answer(429, **{"retry-after": "30"}), 100, 101)
    assert ease.next_at == 131
    ease.hear(answer(429, **{"retry-after": "86400"}), 101, 102)
    assert ease.next_at == 131
    assert begun(1).next_at == 0


def test_a_slow_host_holds_up_no_other():
    order: list[str] = []
    statuses = iter([429])

    def slow(_):
        order.append("slow")
        status = next(statuses, 200)
        return [reply(status, b"", *(["Retry-After: 1"] if status == 429 else []))]

    def quick(_):
        order.append("quick")
        return [reply()]

    with site(slow) as one, site(quick) as other:
        engine = Engine(PATIENT)
        urls = [f"{one.url}/"] + [f"{(one, other)[n % 2].url}/{n}" for n in range(20)]
        outcomes = list(engine.send_many(urls, lambda url: Request(url=url)))
        engine.close()

    assert [each.answer.status for each in outcomes] == [200] * 21
    assert order[-1] == "slow"
    assert order.index("quick") < 12
    assert len(order) == 22


def test_who_loses_interest_while_a_host_makes_wait_sends_nothing_more():
    wanted = True

    def make(number: int) -> Request | None:
        return Request(url=f"{server.url}/{number}") if wanted else None

    with site(lambda _: [reply(404)]) as server:
        engine = Engine(Pace(workers=8, per_host=1, ahead=10))
        outcomes = engine.send_many(range(40), make)
        next(outcomes)
        wanted = False
        rest = list(outcomes)
        engine.close()

    assert sum(each.answer is not None for each in rest) <= 2
    assert len(rest) == 39


def test_one_more_request_may_follow_an_answer_and_no_second_one():
    def second(label: str, found: Answer) -> Request | None:
        return Request(url=f"{server.url}/again") if label == "a" else None

    with site(lambda request: [reply(404, request.target.encode())]) as server:
        engine = Engine()
        asked = engine.send_many(
            "ab", lambda label: Request(url=f"{server.url}/{label}"), then=second
        )
        bodies = [each.answer.body for each in asked]
        engine.close()

    assert bodies == [b"/again", b"/b"]
    assert len(server.requests) == 3


def test_the_request_that_follows_is_tried_as_often_and_may_be_redirected():
    answers = {
        "/a": iter([reply(503), reply(503), reply(302, b"", "Location: /z")]),
        "/z": iter([reply(404)]),
        "/b": iter([reply(503), reply(503), reply(302, b"", "Location: /c")]),
        "/c": iter([reply(200, b"there")]),
    }
    with site(lambda request: [next(answers[request.target])]) as server:
        engine = Engine(Pace(attempts=3))

        def then(label, found):
            return Request(url=f"{server.url}/b", redirects=1)

        first = Request(url=f"{server.url}/a", redirects=1)
        (outcome,) = engine.send_many("a", lambda _: first, then=then)
        engine.close()

    assert outcome.answer.body == b"there"
    assert outcome.attempts == 8


def test_enough_of_a_body_is_an_answer():
    def endless(_):
        yield reply(200, b"", length=10**9)
        while True:
            yield b"x" * 1000

    with site(endless) as server:
        engine = Engine()
        outcome = engine.send(Request(url=f"{server.url}/", enough_bytes=2500))
        engine.close()

    assert outcome.answer.status == 200
    assert 2500 <= len(outcome.answer.body) < 300_000


def test_bodies_are_taken_as_far_as_memory_goes():
    taken: list[int] = []

    def labels():
        for number in range(9):
            taken.append(number)
            yield number

    with site(lambda _: [reply()]) as server:
        engine = Engine(Pace(workers=9, held_bytes=30))
        outcomes = engine.send_many(
            labels(), lambda n: Request(url=f"{server.url}/{n}"), weigh=lambda _: 10
        )
        for count, _ in enumerate(outcomes):
            assert len(taken) <= count + 3
        engine.close()

    assert len(taken) == 9


def test_hosts_of_which_nothing_is_left_to_say_are_forgotten(monkeypatch):
    monkeypatch.setattr(host_queue, "_MOST_HOSTS", 5)
    kept: list[int] = []
    end = host_queue.Turns.end

    def ending(hosts, job, ended):
        end(hosts, job, ended)
        kept.append(len(hosts._hosts))

    monkeypatch.setattr(host_queue.Turns, "end", ending)
    with site(lambda _: [reply(200)], host="0.0.0.0") as web:
        urls = [f"http://127.0.0.{number}:{web.port}/" for number in range(1, 101)]
        outcomes = Engine(Pace(workers=4, per_host=2, eases_off=True, ahead=2)).send_many(
            urls, lambda url: Request(url=url)
        )
        assert all(outcome.answer for outcome in outcomes)
    assert len(kept) == 100
    assert max(kept) <= 5 + 8
