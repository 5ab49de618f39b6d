"""Tables of what was measured: medians over processes, ratios, goals."""

import statistics

NOT_RUN = "not run"
OWN = "wginfer"
LONGEST = 160  # characters of what went wrong in a table


def summary(first, rounds, measure, cold=(), limit=None):
    """Medians over the processes of one program of one figure on one row."""
    good = [process for process in rounds if "error" not in process]
    medians = [statistics.median(process["ms"][measure]) for process in good if process["ms"].get(measure)]
    starts = [process["first_s"] for process in good if process.get("first_s") is not None]
    wrong = [process[key] for process in [first, *rounds] for key in ("error", "mismatch") if process.get(key)]
    return {
        "ms": statistics.median(medians) if medians else None,
        "range": [min(medians), max(medians)] if medians else None,
        "warm_s": statistics.median(starts) if starts else None,
        "warm_range": [min(starts), max(starts)] if starts else None,
        "cold_s": statistics.median(cold) if cold else None,
        "cold_range": [min(cold), max(cold)] if cold else None,
        # Broken off: it takes longer.
        "cold_open": bool(cold) and min(cold) == limit,
        "wrong": wrong[0] if wrong else None,
        "count": len(good),
        "about": first.get("about"),
    }


def number(value, digits=2):
    """At least three digits that count."""
    if value is None:
        return "-"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else digits if value >= 0.1 else 3}f}"


def quotient(above, below):
    return above / below if above and below else None


def mean(ratios):
    """The geometric one of those that are there."""
    ratios = [ratio for ratio in ratios if ratio]
    return statistics.geometric_mean(ratios) if ratios else None


def markdown(header, rows):
    """A table whose columns are aligned, so that it can be read as text too."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    pad = lambda line: "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"  # noqa: E731
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([pad(header), rule, *map(pad, rows)]) + "\n"


def base(program, programs):
    """What a program is compared with: wginfer with weights in f16 where the program has them."""
    half = f"{OWN}-f16"
    return half if program.endswith("-f16") and program != half and half in programs else OWN


def ratio(results, row, program, against, key="ms"):
    """How many times as quick `against` is; none where either is wrong or not there."""
    own, other = results[row, against], results[row, program]
    usable = not (own["wrong"] or other["wrong"])
    return quotient(other[key], own[key]) if usable else None


def judge(goal, results, row, gpu):
    """What has become of a goal: `goal` says {"program", "than", "times", "aim", "key"}; `than` may be "gpu",
    the quickest of the peers on the same device."""
    key = goal.get("key", "ms")
    names = [program for at, program in results if at == row]
    peers = [name for name in names if name in gpu and not name.startswith(OWN)] if goal["than"] == "gpu" else [goal["than"]]
    program = goal.get("program", OWN)
    if program not in names:
        return None
    ratios = [ratio(results, row, peer, program, key) for peer in peers if peer in names]
    # The least ratio is the quickest peer's.
    found = min((value for value in ratios if value), default=None)
    who = "the quickest GPU peer" if goal["than"] == "gpu" else goal["than"]
    text = f"{number(goal['times'])} x {who}"
    if found is None:
        return f"{text}: not measured"
    aim = f", aim {number(goal['aim'])} {'reached' if found >= goal['aim'] else 'missed'}" if "aim" in goal else ""
    return f"{text}: {'reached' if found >= goal['times'] else 'missed'} ({number(found)}{aim})"


def goal_text(goals, results, row, program, gpu, keys):
    """The goals of a program on a row, in its line of the table."""
    own = [goal for goal in goals if goal["row"] == row and goal.get("program", OWN) == program and goal.get("key", "ms") in keys]
    return "; ".join(filter(None, (judge(goal, results, row, gpu) for goal in own)))


def cell(median, span, scale=lambda value: value):
    """Median and range, in the unit that `scale` converts to."""
    low, high = sorted(map(scale, span))
    return number(scale(median)), f"{number(low)}-{number(high)}"


def lines(rows, programs, results, on):
    """(row, program, cells of both) of what has run or was to run."""
    for row in rows:
        for program in programs:
            result = results.get((row, program))
            if result and result["wrong"] != NOT_RUN:
                yield row, program, result, [row, program, on(program)]


def times(rows, programs, results, goals, gpu, rate):
    """One line a program: its time, its rate in the unit of `rate`, how many times its speed wginfer's is."""
    unit, amounts = rate
    header = ["", "program", "on", "ms", *([unit] if unit else []), "range", f"{OWN}'s speed / its", "goal for it"]
    table, ratios = [], {program: [] for program in programs}
    on = lambda program: "GPU" if program in gpu else "CPU"  # noqa: E731
    for row, program, result, cells in lines(rows, programs, results, on):
        if result["ms"] is None:
            table.append([*cells, "cannot", *([""] if unit else []), "", "", short(result)])
            continue
        amount = amounts.get(row)
        scale = (lambda ms, amount=amount: amount / ms * 1e3) if unit and amount else lambda ms: ms
        median, span = cell(result["ms"], result["range"], scale)
        against = base(program, programs)
        found = ratio(results, row, program, against) if program != against else None
        ratios[program].append(found)
        spoken = "wrong: " + short(result) if result["wrong"] else goal_text(goals, results, row, program, gpu, ["ms"])
        shown = [number(result["ms"]), median] if unit else [number(result["ms"])]
        table.append([*cells, *shown, span, "" if program == against else number(found), spoken])
    for program in programs:
        if len(rows) > 1 and mean(ratios[program]):
            blank = [""] * (3 if unit else 2)
            table.append(["geometric mean", program, on(program), *blank, number(mean(ratios[program])), ""])
    return markdown(header, table)


def starts(rows, programs, results, goals, gpu):
    """One line a program: seconds to its first result with an empty and with a filled shader cache."""
    header = ["first result", "program", "on", "cold s", "range", "its / ours", "warm s", "range", "its / ours", "goal for it"]
    table = []
    on = lambda program: "GPU" if program in gpu else "CPU"  # noqa: E731
    for row, program, result, cells in lines(rows, programs, results, on):
        against = base(program, programs)
        for key in ("cold", "warm"):
            if result[f"{key}_s"] is None:
                cells += ["-", "", ""]
                continue
            found = ratio(results, row, program, against, f"{key}_s")
            more = ">" if key == "cold" and result["cold_open"] else ""
            median, span = cell(result[f"{key}_s"], result[f"{key}_range"])
            cells += [more + median, "" if more else span, "" if program == against else more + number(found)]
        spoken = short(result) if result["wrong"] else goal_text(goals, results, row, program, gpu, ["cold_s", "warm_s"])
        table.append([*cells, spoken])
    return markdown(header, table)


def short(result):
    """What went wrong, on one line of a table."""
    return " ".join((result["wrong"] or "nothing came out").replace("|", "/").split())[:LONGEST]
