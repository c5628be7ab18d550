"""Which connections have a thread, told by the threads themselves."""

import queue
import socket
import threading
from collections.abc import Callable

from cni_agent.workers import Workers

Step = Callable[[], None]
WITHIN_S = 10.0


class Serving:
    """Serves each connection until it is told to go on, and tells who begins and who is done."""

    def __init__(self, most: int) -> None:
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.orders: dict[str, queue.SimpleQueue[Step]] = {}
        self.workers = Workers(self._serve, most)

    def come(self, name: str) -> None:
        near, far = socket.socketpair()
        near.sendall(name.encode())
        near.close()
        self.orders[name] = queue.SimpleQueue()
        assert self.workers.serve(far)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            name = connection.recv(64).decode()
        self.told.put(f"{name} begins")
        self.orders[name].get()()
        self.told.put(f"{name} ends")

    def end(self, name: str) -> None:
        self.orders[name].put(lambda: None)

    def hears(self) -> str:
        return self.told.get(timeout=WITHIN_S)


def test_a_connection_above_the_limit_waits_until_a_thread_is_free() -> None:
    serving = Serving(2)
    for name in ("a", "b", "c", "d"):
        serving.come(name)
    assert {serving.hears(), serving.hears()} == {"a begins", "b begins"}

    serving.end("b")

    assert [serving.hears(), serving.hears()] == ["b ends", "c begins"]
    assert serving.told.empty()
    serving.end("a")
    assert [serving.hears(), serving.hears()] == ["a ends", "d begins"]


def test_who_steps_aside_leaves_its_place_to_the_next() -> None:
    serving = Serving(1)
    comes_back = threading.Event()

    def step_aside() -> None:
        with serving.workers.aside():
            comes_back.wait(WITHIN_S)

    serving.come("a")
    serving.come("b")
    assert serving.hears() == "a begins"

    serving.orders["a"].put(step_aside)

    assert serving.hears() == "b begins"
    comes_back.set()
    assert serving.hears() == "a ends"
    serving.come("c")
    assert serving.told.empty()  # b is at work
    serving.end("b")
    assert [serving.hears(), serving.hears()] == ["b ends", "c begins"]


def test_after_a_crowd_everything_is_as_before() -> None:
    serving = Serving(3)
    names = [str(number) for number in range(50)]
    for name in names:
        serving.come(name)
    for name in names:
        serving.end(name)

    told = {serving.hears() for _name in names for _word in ("begins", "ends")}
    assert told == {f"{n} {w}" for n in names for w in ("begins", "ends")}
    serving.come("last")
    assert serving.hears() == "last begins"
