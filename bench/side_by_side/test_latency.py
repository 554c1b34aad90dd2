"""latency.py: which requests stand beside an event, which of them waited for a stop of a core, and their percentiles."""

import os
import tempfile
import unittest

import numpy

from latency import Requests, longest_us, total_us

MS = 1_000_000    # in ns
S = 1e-3          # of a ms, for times that are given in s


def requests(*times, stops=(), core_stops=()):
    """Of (due, answered) and of stops (began, ended), all in ms."""
    due, answered = (numpy.array([each[at] * MS for each in times], dtype=numpy.int64) for at in (0, 1))

    def in_ns(each):
        return each if each is None else [[began * MS, ended * MS] for began, ended in each]
    return Requests(due, answered, in_ns(stops), in_ns(core_stops))


def times_of(some):
    return [(due // MS, answered // MS) for due, answered in zip(some.due.tolist(), some.answered.tolist())]


class BesideTest(unittest.TestCase):
    def test_those_that_were_due_or_waited_meanwhile(self):
        some = requests((80, 99), (90, 100), (95, 101), (99, 301), (120, 130), (199, 250), (200, 210), (220, 230))
        self.assertEqual(times_of(some.beside(100 * S, 200 * S)), [(95, 101), (99, 301), (120, 130), (199, 250)])

    def test_and_the_stops_of_that_time(self):
        stops = [(80, 100), (90, 101), (150, 160), (199, 300), (200, 201)]
        some = requests((100, 110), stops=stops, core_stops=stops[1:3]).beside(100 * S, 200 * S)
        self.assertEqual(some.stops, [[90 * MS, 101 * MS], [150 * MS, 160 * MS], [199 * MS, 300 * MS]])
        self.assertEqual(some.core_stops, [[90 * MS, 101 * MS], [150 * MS, 160 * MS]])

    def test_stops_that_are_not_known_stay_so(self):
        some = requests((100, 110), core_stops=None).beside(100 * S, 200 * S)
        self.assertIsNone(some.core_stops)
        self.assertIsNone(some.undisturbed())

    def test_takes_nothing_from_the_requests_it_came_of(self):
        some = requests((100, 110), (300, 310), stops=[(100, 101), (300, 301)])
        some.beside(0, 200 * S)
        self.assertEqual((len(some.due), len(some.stops)), (2, 2))


class UndisturbedTest(unittest.TestCase):
    def test_a_stop_counts_for_as_long_again_as_it_lasted(self):
        # 100 to 110, and to 120 what became due meanwhile is worked off.
        some = requests((90, 99), (99, 101), (105, 106), (112, 113), (119, 122), (120, 130), core_stops=[(100, 110)])
        self.assertEqual(times_of(some.undisturbed()), [(90, 99), (119, 122), (120, 130)])

    def test_half_of_a_wait_is_too_much(self):
        some = requests((90, 130), (90, 131), (80, 120), core_stops=[(100, 110)])
        self.assertEqual(times_of(some.undisturbed()), [(90, 131)])

    def test_stops_that_overlap_count_once(self):
        # Two cores: 100 to 120 and 105 to 125 with their time behind them are 100 to 125.
        some = requests((100, 150), (100, 151), core_stops=[(105, 115), (100, 110)])
        self.assertEqual(times_of(some.undisturbed()), [(100, 151)])

    def test_a_stop_inside_another_adds_nothing(self):
        some = requests((100, 181), (100, 179), core_stops=[(100, 120), (102, 104)])
        self.assertEqual(times_of(some.undisturbed()), [(100, 181)])

    def test_several_stops_in_one_wait_add_up(self):
        some = requests((0, 100), core_stops=[(10, 20), (40, 50)])
        self.assertEqual(times_of(some.undisturbed()), [(0, 100)])
        some = requests((0, 100), core_stops=[(10, 20), (40, 50), (70, 75)])
        self.assertEqual(times_of(some.undisturbed()), [])

    def test_stops_of_the_whole_machine_are_not_what_is_looked_at(self):
        some = requests((100, 110), stops=[(100, 110)])
        self.assertEqual(times_of(some.undisturbed()), [(100, 110)])

    def test_an_answer_without_any_wait_stays(self):
        self.assertEqual(times_of(requests((50, 50), core_stops=[(100, 110)]).undisturbed()), [(50, 50)])


class FiguresTest(unittest.TestCase):
    def test_percentiles_of_waits_not_of_times(self):
        waits = list(range(1, 1001))    # ms
        some = requests(*((10_000 - wait, 10_000) for wait in reversed(waits)))
        self.assertEqual(some.figures(), {"p50_us": 501_000, "p99_us": 991_000, "p99_9_us": 1_000_000, "max_us": 1_000_000})

    def test_one_request_is_every_percentile(self):
        self.assertEqual(set(requests((1, 3)).figures().values()), {2000.0})

    def test_none_is_an_error(self):
        with self.assertRaisesRegex(RuntimeError, "no request"):
            requests((1, 3)).beside(1, 2).figures()

    def test_answers_a_second(self):
        some = requests((0, 99), (0, 100), (0, 150), (0, 199), (0, 200))
        self.assertEqual(some.per_second(100 * S, 200 * S), 30)


class LogTest(unittest.TestCase):
    def of_log(self, result):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "log")
            numpy.array([1 * MS, 3 * MS, 2 * MS, 4 * MS], dtype=numpy.int64).tofile(path)
            return Requests.of_log(path, result)

    def test_pairs_of_due_and_answered(self):
        result = {"requests": 2, "stops_ns": [[5, 6]], "core_stops_ns": [[7, 9]]}
        some = self.of_log(result)
        self.assertEqual(times_of(some), [(1, 3), (2, 4)])
        self.assertEqual((some.stops, some.core_stops), ([[5, 6]], [[7, 9]]))
        self.assertEqual(result, {"requests": 2})

    def test_a_machine_whose_stops_could_not_be_seen(self):
        some = self.of_log({"requests": 2})
        self.assertEqual((some.stops, some.core_stops), ([], None))


class StopsTest(unittest.TestCase):
    def test_longest_and_total(self):
        self.assertEqual((longest_us([]), total_us([])), (0, 0))
        stops = [(1000, 3000), (10_000, 15_000)]
        self.assertEqual((longest_us(stops), total_us(stops)), (5, 7))


if __name__ == "__main__":
    unittest.main()
