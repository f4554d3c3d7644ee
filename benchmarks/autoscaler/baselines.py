"""The public autoscalers beside which Roost's is measured, each from its documented algorithm. Called by ``runs``.

All see the same gateway. "Concurrency" is requests in flight and held together, as a queue in front counts both. None
takes a draining replica back.
"""

from __future__ import annotations

from collections import deque
from math import ceil

from benchmarks.autoscaler.fleet import View


class _Average:
    """The time average of the load over the last seconds, from the cumulative integral."""

    def __init__(self, longest_s: float) -> None:
        self.longest_s = longest_s
        self.marks: deque[tuple[float, float]] = deque([(0.0, 0.0)])

    def note(self, view: View, now: float) -> None:
        self.marks.append((now, view.load_s))
        while len(self.marks) > 2 and self.marks[1][0] <= now - self.longest_s:
            self.marks.popleft()

    def over(self, seconds: float) -> float:
        """Over the last ``seconds``, or since the beginning."""
        now, load = self.marks[-1]
        since = self.marks[0]
        for mark in reversed(self.marks):
            if mark[0] <= now - seconds:
                since = mark
                break
        return (load - since[1]) / (now - since[0]) if now > since[0] else 0.0


class _Recent:
    """The largest value of the last ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.values: deque[tuple[float, int]] = deque()

    def largest(self, now: float, value: int) -> int:
        """After ``value`` at ``now``."""
        while self.values and self.values[-1][1] <= value:
            self.values.pop()
        self.values.append((now, value))
        while self.values[0][0] < now - self.seconds:
            self.values.popleft()
        return self.values[0][1]


class Knative:
    """Knative's KPA (serving, ``pkg/autoscaler/scaling``), defaults of ``config-autoscaler``: every 2 s; concurrency
    averaged over a stable window of 60 s and a panic window of 6 s (10 %); the target is ``concurrency`` x 70 %
    (container-concurrency-target-percentage); desired = ceil(average / target). Panic begins when the panic window
    wants 200 % of the ready pods and ends 60 s after it last did; the count never falls in it. At most halved a
    decision (max-scale-down-rate 2). ``delay_s`` is scale-down-delay: the largest of that time counts."""

    interval_s = 2.0
    undrains = False
    STABLE_S, PANIC_S, PANIC_THRESHOLD, UTILISATION, DOWN_RATE = 60.0, 6.0, 2.0, 0.7, 2.0

    def __init__(self, concurrency: float, delay_s: float = 0.0) -> None:
        self.target = concurrency * self.UTILISATION
        self.average = _Average(self.STABLE_S)
        self.recent = _Recent(delay_s)
        self.panic_since: float | None = None
        self.panic_count = 0

    def desired(self, view: View, now: float) -> int:
        """One decision."""
        self.average.note(view, now)
        ready = max(view.ready, 1)
        least = int(ready / self.DOWN_RATE)
        stable = max(ceil(self.average.over(self.STABLE_S) / self.target), least)
        panic = max(ceil(self.average.over(self.PANIC_S) / self.target), least)
        if panic / ready >= self.PANIC_THRESHOLD:
            self.panic_since = now
        elif self.panic_since is not None and now - self.panic_since > self.STABLE_S:
            self.panic_since, self.panic_count = None, 0
        wanted = stable
        if self.panic_since is not None:
            self.panic_count = max(self.panic_count, stable, panic, view.ready)
            wanted = self.panic_count
        return self.recent.largest(now, wanted)


class Kubernetes:
    """Kubernetes' horizontal pod autoscaler (autoscaling/v2) on an average value of requests in flight: every 15 s;
    desired = ceil(total / target), left alone within 10 % tolerance; up at most to the double or by four pods in 15 s,
    whichever is more; down to the largest wish of the last 300 s (stabilisation window). The metric is the average of
    the last 15 s, as a scrape-fed adapter gives it."""

    interval_s = 15.0
    undrains = False
    TOLERANCE, STABILISATION_S = 0.1, 300.0

    def __init__(self, target: float) -> None:
        self.target = target
        self.average = _Average(15.0)
        self.recent = _Recent(self.STABILISATION_S)

    def desired(self, view: View, now: float) -> int:
        """One decision."""
        self.average.note(view, now)
        current = view.ready + len(view.starting)
        total = self.average.over(15.0)
        usage = total / (self.target * max(current, 1))
        wish = current if abs(usage - 1.0) <= self.TOLERANCE else ceil(total / self.target)
        largest = self.recent.largest(now, wish)
        if wish > current:
            return min(wish, max(2 * current, current + 4))
        return min(largest, current)


class RayServe:
    """Ray Serve's replica autoscaling (``autoscaling_policy.py``): ongoing requests averaged over a look-back of 30 s,
    queued ones included; desired = ceil(running x average per replica / target); a rise is carried out when wished for
    30 s without a break (upscale_delay_s), a fall after 600 s (downscale_delay_s)."""

    interval_s = 1.0
    undrains = False
    LOOK_BACK_S, UP_S, DOWN_S = 30.0, 30.0, 600.0

    def __init__(self, target: float) -> None:
        self.target = target
        self.average = _Average(self.LOOK_BACK_S)
        self.rising_since: float | None = None
        self.falling_since: float | None = None

    def desired(self, view: View, now: float) -> int:
        """One decision."""
        self.average.note(view, now)
        current = view.ready + len(view.starting)
        wish = ceil(self.average.over(self.LOOK_BACK_S) / self.target)
        self.rising_since = (self.rising_since or now) if wish > current else None
        self.falling_since = (self.falling_since or now) if wish < current else None
        if self.rising_since is not None and now - self.rising_since >= self.UP_S:
            self.rising_since = None
            return wish
        if self.falling_since is not None and now - self.falling_since >= self.DOWN_S:
            self.falling_since = None
            return wish
        return current


class KubeAI:
    """KubeAI's autoscaler (``internal/modelautoscaler``): every 10 s; desired = ceil(active requests averaged over a
    window of 10 minutes / targetRequests); down only after the wish was lower three times in a row
    (scaleDownDelaySeconds 30)."""

    interval_s = 10.0
    undrains = False
    WINDOW_S, DOWN_IN_A_ROW = 600.0, 3

    def __init__(self, target: float) -> None:
        self.target = target
        self.samples: deque[int] = deque(maxlen=int(self.WINDOW_S / self.interval_s))
        self.lower = 0

    def desired(self, view: View, now: float) -> int:
        """One decision."""
        self.samples.append(view.in_flight + view.held)
        current = view.ready + len(view.starting)
        wish = ceil(sum(self.samples) / len(self.samples) / self.target)
        if wish >= current:
            self.lower = 0
            return wish
        self.lower += 1
        return wish if self.lower >= self.DOWN_IN_A_ROW else current


class HuggingFace:
    """The documented rule of Hugging Face Inference Endpoints on pending requests: more than 1.5 pending requests a
    replica over the last 20 s scale up, looked at once a minute; down is looked at every two minutes, with 300 s to
    stabilise after each fall. The wish is the pending requests over the threshold."""

    interval_s = 20.0
    undrains = False
    PENDING, WINDOW_S, STABILISATION_S = 1.5, 20.0, 300.0
    UP_EVERY, DOWN_EVERY = 3, 6

    def __init__(self, pending: float = PENDING) -> None:
        self.pending = pending
        self.average = _Average(self.WINDOW_S)
        self.turn = 0
        self.fell_at = float("-inf")

    def desired(self, view: View, now: float) -> int:
        """One decision."""
        self.average.note(view, now)
        self.turn += 1
        current = view.ready + len(view.starting)
        wish = ceil(self.average.over(self.WINDOW_S) / self.pending)
        if wish > current and self.turn % self.UP_EVERY == 0:
            return wish
        if wish < current and self.turn % self.DOWN_EVERY == 0 and now - self.fell_at >= self.STABILISATION_S:
            self.fell_at = now
            return wish
        return current


class Static:
    """A fixed number of replicas."""

    interval_s = 60.0
    undrains = False

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def desired(self, view: View, now: float) -> int:
        """Always the same."""
        return self.replicas
