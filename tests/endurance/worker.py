"""A process of the run: `python -m tests.endurance.worker KIND PROCESS SECONDS`.

It asks as its seed has it, writes to the journal what comes of it, and ends in one of many ways.
The database, the journal and the seed are in its environment.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial

from tests.endurance.actor import Actor
from tests.endurance.blocking import Blocking, Interrupter
from tests.endurance.wishes import ASLEEP, wish, wish_of_a_child


def single(actor: Actor, until: float) -> None:
    """One thread, whose requests are interrupted, or cannot write any more."""
    caller = Blocking(actor, Interrupter())
    rng = actor.rng("single")
    while actor.goes_on(until):
        if rng.random() < 0.05:
            caller.cramped(wish(rng))
        else:
            caller.ask(wish(rng))
    leave(caller, rng)


def threads(actor: Actor, until: float) -> None:
    """Four threads, which ask for themselves."""

    def work(name: str) -> None:
        caller, rng = Blocking(actor), actor.rng(name)
        while actor.goes_on(until):
            caller.ask(wish(rng))

    workers = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    leave(Blocking(actor), actor.rng("end"))


def forks(actor: Actor, until: float) -> None:
    """One thread that asks, while another one forks, holding slots and not."""

    def work() -> None:
        caller, rng = Blocking(actor), actor.rng("beside")
        while actor.goes_on(until):
            caller.ask(wish(rng))

    beside = threading.Thread(target=work)
    beside.start()
    caller, rng, children = Blocking(actor), actor.rng("forks"), 0
    while actor.goes_on(until):
        children += 1
        caller.ask(wish(rng), partial(fork, caller, rng, children), strictly=False)
    beside.join()


def fork(
    caller: Blocking, rng: random.Random, number: int, by: Callable[[], int] = os.fork
) -> None:
    """Have a child that asks for itself, frees nothing of its parent's, and ends or is killed."""
    actor = caller.actor
    actor.journal.write("fork", actor.name)
    with warnings.catch_warnings():
        # From Python 3.12 on it warns of the thread beside this one, which is meant to be there.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = by()
    if not child:
        try:
            actor.rename(f"{actor.name}f{number}")
            if caller.lease is not None:
                caller.lease.release()
            caller.lease = None
            caller.interrupter = Interrupter()
            caller.crossed = by is not os.fork
            ours = actor.rng("child")
            for _ in range(ours.randint(0, 8)):
                caller.ask(wish_of_a_child(ours))
            leave(caller, ours)
        except BaseException as error:  # the child is not to go on as its parent
            actor.journal.write("wrong", f"a forked child: {error!r}")
        finally:
            os._exit(0)
    killed = rng.random() < 0.3
    if killed:
        time.sleep(rng.uniform(0, 0.1))
        actor.journal.write("kill", f"{actor.name}f{number}", actor.now())
        os.kill(child, 9)
    os.waitpid(child, 0)
    actor.journal.write("dead", f"{actor.name}f{number}")


def leave(caller: Blocking, rng: random.Random) -> None:
    """End: holding slots or not, with or without a word."""
    blockers = {
        "exit with a slot": True,
        "leave with a slot": True,
        "exit": False,
        "leave": False,
    }
    way = rng.choice(list(blockers))
    if blockers[way]:
        caller.keep(wish(rng))
    caller.actor.journal.write("kill", caller.actor.name, caller.actor.now())
    if way.startswith("leave"):
        os._exit(0)


def tasks(actor: Actor, until: float) -> None:
    """An event loop with tasks that are cancelled."""
    from tests.endurance import awaiting

    awaiting.run(actor, until)


def sleepers(actor: Actor, until: float) -> None:
    """Threads that all wait for one slot, which one of them has for as long as the run lasts."""

    def work() -> None:
        caller = Blocking(actor)
        while actor.goes_on(until):
            caller.sleep(ASLEEP, until)

    for _ in range(20):
        threading.Thread(target=work, daemon=True).start()
    while actor.goes_on(until):
        time.sleep(0.5)
    actor.journal.write("kill", actor.name, actor.now())
    os._exit(0)


KINDS = {one.__name__: one for one in (single, threads, forks, tasks, sleepers)}


def main() -> None:
    """Work for some seconds, or until the run ends."""
    from tests.endurance import perils, served

    kind, name, seconds = sys.argv[1:]
    actor = Actor(name)
    kinds = KINDS | perils.KINDS | served.KINDS
    kinds[kind](actor, time.monotonic() + float(seconds))


if __name__ == "__main__":
    main()
