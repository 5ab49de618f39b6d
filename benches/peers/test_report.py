"""The arithmetic of the tables: python3 -m unittest discover benches/peers"""

import unittest

import report

GPU = {"wginfer", "wginfer-f16", "quick-gpu", "slow-gpu"}


def process(*ms, first_s=None, **more):
    return {"ms": {"": list(ms)}, "first_s": first_s, "about": "program 1", **more}


def results(**medians):
    """Summaries of one process each on a row."""
    programs = {name.replace("_", "-"): [process(ms)] for name, ms in medians.items()}
    return {("row", name): report.summary(rounds[0], rounds, "") for name, rounds in programs.items()}


class Report(unittest.TestCase):
    def test_a_figure_is_the_median_of_the_medians_of_processes(self):
        # The first process fills caches and does not count; 9 is a run that was disturbed.
        rounds = [process(1, 2, 9), process(4), process(3, 3), {"error": "crashed"}]
        found = report.summary(process(100), rounds, "")
        self.assertEqual((found["ms"], found["range"], found["count"]), (3, [2, 4], 3))
        self.assertEqual(found["wrong"], "crashed")

    def test_starts_are_medians_of_cold_and_warm_processes(self):
        rounds = [process(1, first_s=seconds) for seconds in (0.3, 0.1, 0.2)]
        found = report.summary(process(1, first_s=5), rounds, "", cold=[5, 7, 6])
        self.assertEqual((found["warm_s"], found["cold_s"]), (0.2, 6))
        self.assertEqual((found["warm_range"], found["cold_range"]), ([0.1, 0.3], [5, 7]))

    def test_a_ratio_is_the_peers_time_by_ours(self):
        found = results(wginfer=2, slow_gpu=5)
        self.assertEqual(report.ratio(found, "row", "slow-gpu", "wginfer"), 2.5)

    def test_what_is_wrong_has_no_ratio(self):
        found = results(wginfer=2, slow_gpu=5)
        found["row", "slow-gpu"]["wrong"] = "differs"
        self.assertIsNone(report.ratio(found, "row", "slow-gpu", "wginfer"))

    def test_half_precision_is_compared_with_half_precision(self):
        programs = ["wginfer", "wginfer-f16", "peer", "peer-f16"]
        compared = [report.base(program, programs) for program in programs]
        self.assertEqual(compared, ["wginfer", "wginfer", "wginfer", "wginfer-f16"])

    def test_goals_are_reached_or_missed(self):
        found = results(wginfer=2, slow_gpu=5)
        goal = {"row": "row", "than": "slow-gpu", "times": 2.5, "aim": 3.0}
        self.assertEqual(report.judge(goal, found, "row", GPU), "2.50 x slow-gpu: reached (2.50, aim 3.00 missed)")
        self.assertIn("missed", report.judge({**goal, "times": 2.6}, found, "row", GPU))
        self.assertIn("not measured", report.judge({**goal, "than": "absent"}, found, "row", GPU))

    def test_the_quickest_gpu_peer_counts(self):
        found = results(wginfer=1, wginfer_f16=0.5, slow_gpu=9, quick_gpu=4, cpu=0.1)
        goal = {"row": "row", "than": "gpu", "times": 5.0}
        self.assertEqual(report.judge(goal, found, "row", GPU), "5.00 x the quickest GPU peer: missed (4.00)")

    def test_f16_is_compared_with_f32(self):
        found = results(wginfer=3, wginfer_f16=2)
        goal = {"row": "row", "than": "wginfer", "times": 1.0, "program": "wginfer-f16"}
        self.assertIn("reached (1.50)", report.judge(goal, found, "row", GPU))

    def test_a_peer_that_cannot_run_stands_in_the_table_with_the_reason(self):
        found = results(wginfer=2)
        found["row", "peer"] = report.summary({"error": "not installed: no cargo"}, [], "")
        table = report.times(["row"], ["wginfer", "peer"], found, [], GPU, ("tokens/s", {"row": 1}))
        [line] = [line for line in table.splitlines() if "| peer" in line]
        self.assertIn("cannot", line)
        self.assertIn("not installed: no cargo", line)
        self.assertIn("500", table)  # 2 ms a token

    def test_rates_and_means(self):
        self.assertEqual(report.number(123.4), "123")
        self.assertEqual(report.number(12.34), "12.3")
        self.assertEqual(report.number(0.0123), "0.012")
        self.assertAlmostEqual(report.mean([2, 8, None]), 4)


if __name__ == "__main__":
    unittest.main()
