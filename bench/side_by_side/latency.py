"""What the times of single requests say (cairn-load --log): percentiles of those beside an event, and but for stops of cores."""

import numpy

PERCENTILES = (("p50_us", 0.5), ("p99_us", 0.99), ("p99_9_us", 0.999), ("max_us", 1.0))
NS_PER_S = 1e9


class Requests:
    """Requests of one load by when they were due and answered, and when the machine's cores stood still meanwhile.
    Times are ns of the monotonic clock. `core_stops` is None where cairn-load could not look."""

    def __init__(self, due, answered, stops, core_stops):
        self.due, self.answered, self.stops, self.core_stops = due, answered, stops, core_stops

    @classmethod
    def of_log(cls, path, result):
        """From the file that cairn-load wrote; takes the stops out of `result`, what it printed."""
        times = numpy.fromfile(path, dtype=numpy.int64).reshape(-1, 2)
        return cls(times[:, 0], times[:, 1], result.pop("stops_ns", []), result.pop("core_stops_ns", None))

    def _select(self, wanted):
        return Requests(self.due[wanted], self.answered[wanted], self.stops, self.core_stops)

    def beside(self, began_s, ended_s):
        """Those that were due or waited between the two times; stops likewise."""
        began, ended = began_s * NS_PER_S, ended_s * NS_PER_S
        some = self._select((self.due < ended) & (self.answered > began))
        some.stops, some.core_stops = ([stop for stop in stops if stop[0] < ended and stop[1] > began] if stops is not None else None
                                       for stops in (self.stops, self.core_stops))
        return some

    def undisturbed(self):
        """Those whose wait was not, or by less than half, a stop of a core and as much time behind it as it lasted: what became due
        meanwhile is worked off first. None where stops are not known."""
        if self.core_stops is None:
            return None
        lost = _covered_until(self.answered, self.core_stops) - _covered_until(self.due, self.core_stops)
        return self._select((lost == 0) | (2 * lost < self.answered - self.due))

    def figures(self):
        """{"p50_us": .., "p99_us": .., "p99_9_us": .., "max_us": ..}"""
        if not len(self.due):
            raise RuntimeError("no request was answered in the time that is looked at")
        waits = numpy.sort(self.answered - self.due)
        return {name: float(waits[min(len(waits) - 1, int(len(waits) * share))]) / 1000 for name, share in PERCENTILES}

    def per_second(self, began_s, ended_s):
        """Answers a second between the two times."""
        inside = (self.answered >= began_s * NS_PER_S) & (self.answered < ended_s * NS_PER_S)
        return numpy.count_nonzero(inside) / (ended_s - began_s)


def _covered_until(times, stops):
    """How much of the time before each of `times` lies in a stop or as long behind one."""
    edges, covered = [0], [0]
    for began, ended in sorted((began, 2 * ended - began) for began, ended in stops):
        began = max(began, edges[-1])
        if ended > began:
            edges += [began, ended]
            covered += [covered[-1], covered[-1] + ended - began]
    return numpy.interp(times, edges, covered)


def longest_us(stops):
    return max((ended - began for began, ended in stops), default=0) / 1000


def total_us(stops):
    return sum(ended - began for began, ended in stops) / 1000
