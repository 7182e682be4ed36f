"""The bounds on a rate and on a window, as far as is certain.

In any time T a rate admits no more than n + r * T slots. In any period of its length a window
admits no more than n.

A request was granted at some moment between its beginning and its return, and nothing tells when.
Those that began after a moment t, and have returned by now, were all granted since t; so their
slots are at most n + r * (now - t), and what leases have given back early in that time.
"""

from __future__ import annotations

import bisect
import math

# The sums of floats are off by their last bits.
_DUST = 1e-6

_KEPT = 400


class Meter:
    """What a limit has admitted since its state was last known: one with a rate, or a window."""

    def __init__(self, slots: int, decay: float, window_seconds: float = 0.0) -> None:
        self.slots = slots
        self.decay = decay
        self._window_seconds = window_seconds
        self._in_windows: list[tuple[float, float, int]] = []  # when it began and was over, slots
        self._latest = 0.0
        self._admitted: list[tuple[float, int]] = []  # when it began, and how many slots
        self._returns: dict[str, tuple[float, float]] = {}  # how much, and when at the latest

    def admit(self, began_at: float, granted_at: float, slots: int) -> float:
        """Count a request, and return by how much the worst stretch is now above its bound."""
        if self._window_seconds:
            return self._admit_in_window(began_at, granted_at, slots)
        bisect.insort(self._admitted, (began_at, slots))
        del self._admitted[:-_KEPT]
        self._latest = max(self._latest, granted_at)
        returns = sorted((time, amount) for amount, time in self._returns.values())
        total, returned, excess = 0, 0.0, -math.inf
        for began, taken in reversed(self._admitted):
            total += taken
            while returns and returns[-1][0] >= began:
                returned += returns.pop()[1]
            allowed = self.slots + self.decay * (self._latest - began) + returned
            excess = max(excess, total - allowed)
        return excess if excess > _DUST else 0.0

    def _admit_in_window(self, began_at: float, granted_at: float, slots: int) -> float:
        """As `admit`. A request that began and returned inside a period was granted inside it."""
        seconds = self._window_seconds
        self._in_windows.append((began_at, granted_at, slots))
        del self._in_windows[:-_KEPT]
        near = [one for one in self._in_windows if one[1] > granted_at - 2 * seconds]
        fullest = max(
            (
                sum(
                    taken
                    for began, granted, taken in near
                    if begins <= began and granted < begins + seconds
                )
                for begins, _, _ in near
                if begins <= began_at and granted_at < begins + seconds
            ),
            default=0,
        )
        return max(0.0, float(fullest - self.slots))

    def give_back(self, tag: str, slots: float) -> None:
        """Expect so much to be given back at some time from now on, or more if told so before."""
        before, _ = self._returns.get(tag, (0.0, 0.0))
        if max(slots, before) > 0:
            self._returns[tag] = max(slots, before), math.inf

    def given_back(self, tag: str, at: float) -> None:
        """Note that it was given back by now; what is long ago is forgotten."""
        if tag in self._returns:
            self._returns[tag] = self._returns[tag][0], at
        if len(self._returns) > _KEPT and self._admitted:
            oldest = self._admitted[0][0]
            self._returns = {one: back for one, back in self._returns.items() if back[1] >= oldest}
