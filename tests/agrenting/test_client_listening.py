"""Telling several readers at once."""

import asyncio
import gc

import pytest

from agrenting.client.listening import Listeners


async def test_each_reader_hears_everything_from_the_moment_that_it_listens() -> None:
    listeners: Listeners[int] = Listeners()
    listeners.tell(0)
    first = listeners.listen()
    listeners.tell(1)
    second = listeners.listen()
    listeners.tell(2)

    assert [await anext(first), await anext(first), await anext(second)] == [1, 2, 2]


async def test_who_waits_is_woken() -> None:
    listeners: Listeners[int] = Listeners()
    reader = listeners.listen()
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)

    listeners.tell(1)

    assert await waiting == 1


async def test_of_more_than_is_kept_the_oldest_are_dropped() -> None:
    listeners: Listeners[int] = Listeners()
    reader = listeners.listen(kept_max=2)
    for number in range(4):
        listeners.tell(number)

    assert reader.drain() == [2, 3]
    assert reader.drain() == []


async def test_an_end_comes_after_what_was_told_and_stays() -> None:
    listeners: Listeners[int] = Listeners()
    reader = listeners.listen()
    listeners.tell(1)
    listeners.end()
    listeners.tell(2)

    assert [one async for one in reader] == [1]
    assert [one async for one in listeners.listen()] == []


async def test_an_end_with_an_error_raises_it_to_everybody() -> None:
    listeners: Listeners[int] = Listeners()
    readers = listeners.listen(), listeners.listen()

    listeners.end(ValueError("over"))
    listeners.end(ValueError("again"))

    for reader in readers:
        with pytest.raises(ValueError, match="over"):
            await anext(reader)


async def test_who_has_gone_hears_nothing_and_costs_nothing() -> None:
    listeners: Listeners[int] = Listeners()
    assert not listeners.is_heard
    async with listeners.listen() as reader:
        assert listeners.is_heard
    assert not listeners.is_heard
    listeners.tell(1)
    assert reader.drain() == []
    dropped = listeners.listen()
    assert listeners.is_heard

    del dropped
    gc.collect()

    assert not listeners.is_heard
