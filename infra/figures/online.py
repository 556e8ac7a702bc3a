"""Rows of the service and of its loops: load, releases, events, experiments, drift and annotation."""

from __future__ import annotations

from collections.abc import Callable

from infra.figures.row import Document, Row, bench, listed, other_work, percent, spread, times

RETURN = "users who return, "


def load(unit: str) -> Callable[[Document], str]:
    """Throughput and latency of a line of the running gateway, by number of users."""

    def level(key: str, row: Document) -> str:
        users = key.removeprefix("users_")
        speed = f"{users} at a time {row['per_second']:.1f} {unit}"
        latency = f", p50 {row['p50_ms']:,.0f} ms, p95 {row['p95_ms']:,.0f} ms" if "p50_ms" in row else ""
        return f"{speed}{latency}, {row['failed']:,} of {row['failed'] + row['requests']:,} failed"

    def figure(d: Document) -> str:
        levels = sorted(d["levels"].items(), key=lambda item: int(item[0].removeprefix("users_")))
        return "; ".join([*(level(*item) for item in levels), other_work(d)])

    return figure


def release(d: Document) -> str:
    """Requests under a release, and how long each bad candidate goes on being asked."""
    faults = listed(d["seconds_to_no_traffic"].keys(), lambda name: f"{d['seconds_to_no_traffic'][name]:.1f} s")
    return f"{faults}; {d['failed']:,} of {d['requests']:,} requests failed, at {d['per_second']:g}/s; {other_work(d)}"


def events(database: str) -> Callable[[Document], str]:
    """Rows per second of a database with group commit and without; empty where it was not measured."""

    def figure(d: Document) -> str:
        if database not in d:
            return ""
        row = d[database]
        levels = sorted((int(key.removeprefix("writers_")), key) for key in row if key.startswith("writers_"))
        rates = "; ".join(
            f"{writers} writing: {row[key]['grouped']:,.0f} rows/s, {times(row[key]['ratio'])} of one commit each"
            for writers, key in levels
        )
        ends = row["crashes"]
        killed = f"killed {ends['kills']} times: of {ends['acknowledged']:,} acknowledged {ends['lost']} lost"
        return f"{rates}; {killed}, {ends['damaged']} rows damaged; {row['rounds']} paired rounds, {other_work(d)}"

    return figure


def latency(d: Document) -> str:
    """A request with a part of the gateway and without it."""
    sides = listed(("without", "with"), lambda key: f"p50 {d[key]['p50_ms']:.1f} ms, p95 {d[key]['p95_ms']:.1f} ms")
    return f"{sides}; {times(d['ratio'], 2)} as long; {d['pairs']} pairs, {other_work(d)}"


def false_winners(d: Document) -> str:
    """Shares of A/A replays with a winner at any look, of users who come once."""
    shares = {name: share for name, share in d["false_positives"].items() if not name.startswith(RETURN)}
    return listed(shares.keys(), lambda name: f"{100 * shares[name]:.1f} %")


def false_winners_of_users_who_return(d: Document) -> str:
    """The same of users who come back on every day."""
    names = {name: name.removeprefix(RETURN) for name in d["false_positives"] if name.startswith(RETURN)}
    return listed(names, lambda name: f"{100 * d['false_positives'][name]:.1f} %")


def changes(d: Document) -> str:
    """What the detector of change says without an effect, and how soon after a turn for the worse."""

    def change(row: Document) -> str:
        if "said" in row:
            return f"said in {100 * row['said']:.1f} % of years"
        keys = ("median users", "nine of ten by")
        median, most = ("never" if row[key] is None else f"{row[key]:,.0f}" for key in keys)
        return f"users until said: median {median}, in nine of ten at most {most}"

    return "; ".join(f"{name}: {change(row)}" for name, row in d.get("changes", {}).items())


def lift(d: Document) -> str:
    """Users to a decision, at equal power."""
    row = d["lift_15"]["mixture of bets (what runs)"]
    users = row["horizon of power 0.8"]
    once = f"{row['fixed horizon']:,}: {users / row['fixed horizon']:.2f} ×"
    return f"{users:,.0f} for 80 % of replays; one look at a horizon fixed for that power {once}"


def idle(d: Document) -> str:
    """What the running stack takes without the model engines, of all cores."""
    row = d["housekeeping"]
    share, seconds = f"{100 * row['cpu'] / d['cores']:.1f} % of {d['cores']} cores", f"{d['seconds']:.0f} s"
    return f"{share}, {row['memory'] / 1e9:.2f} GB, {row['processes']:.0f} processes, over {seconds}"


def drift_cost(d: Document) -> str:
    """The whole report of a window with many events."""
    row = d["report"]
    cost = f"{row['seconds']:.0f} s ({row['processor_seconds']:.0f} s of processor), {row['peak_mib']:,} MiB"
    return f"{row['events']:,} events: {cost}; {other_work(row)}"


def drift_alarms(d: Document) -> str:
    """Windows without drift that were called one."""
    alarms = d["false_alarms"]

    def severity(key: str) -> str:
        return f"{alarms[key]['alarms']} (at most {100 * alarms[key]['rate_at_most_97_5']:.1f} %, one-sided 97.5 %)"

    return f"{listed(('watch', 'act'), severity)}; of {alarms['windows']} windows"


def drift_delays(d: Document) -> str:
    """Windows until each planted drift is acted on."""

    def delay(kind: str) -> str:
        row = d["detection"][kind]
        worst = (
            f"missed in {row['missed']} of {row['repeats']}" if row["missed"] else f"at most {row['worst_until_act']}"
        )
        return f"→ {row['windows_until_act']:g} ({worst})"

    return listed(d["detection"].keys(), delay)


def active(d: Document) -> str:
    """Labels to the target by the strategy in use and by random choice, of each data set."""

    def labels(row: Document) -> str:
        return "never" if row["labels"] is None else f"{row['labels']:,.0f}"

    def saved(row: Document) -> str:
        bounds = ("none" if row[key] is None else percent(row[key]) for key in ("saved", "saved_low", "saved_high"))
        return "{} saved ({} to {})".format(*bounds)

    sets = {name: row["strategies"] for name, row in d["data"].items()}
    figures = "; ".join(
        f"{name} {labels(rows['mixed'])} in the place of {labels(rows['random'])}: {saved(rows['mixed'])}"
        for name, rows in sets.items()
    )
    return f"{figures}; median of {d['setting']['seeds']} paired seeds and their range"


def stopping(d: Document) -> str:
    """Labels until the rule stops, and random choice's for the same accuracy: the whole pool where it never is."""

    def figure(name: str) -> str:
        runs = d["data"][name]
        never = sum(run["random"] is None for run in runs)
        chance = spread(run["random"] or run["pool"] for run in runs)
        bound = f", in {never} of {len(runs)} seeds not with all" if never else ""
        right = " and ".join(f"{100 * sum(run[key] for run in runs) / len(runs):.1f} %" for key in ("accuracy", "full"))
        stopped = f"{spread(run['labels'] for run in runs)} of {runs[0]['pool']:,}"
        return f"{stopped}, by random choice {chance}{bound}; right then and with all {right}"

    return f"{listed(d['data'].keys(), figure)}; median of {d['setting']['seeds']} seeds and their range"


def tiers(d: Document) -> str:
    """How right labels end and for how many answers, beside five equal answers an item."""

    def right(values: list[float]) -> str:
        return "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * value for value in values))

    def world(name: str) -> str:
        row = d["worlds"][name]
        answers = "{:.2f} ({:.2f} to {:.2f})".format(*row["answers"])
        five = f"majority {right(row['majority of five'])}, Dawid and Skene's model {right(row['Dawid-Skene of five'])}"
        return f"→ {right(row['accuracy'])} for {answers} answers; of five equal answers: {five}"

    return f"{listed(d['worlds'].keys(), world)}; {d['setting']['seeds']} runs (95 %)"


def server(d: Document) -> str:
    """The annotation loop on a real server while it is killed; the bench fails where anything is lost or doubled."""
    parts = listed(d["seconds"].keys(), lambda name: f"{d['seconds'][name]:,.0f} s")
    counts = f"{d['tasks']:,} tasks, {d['answers']:,} answers, {d['kills']} kills: none lost or doubled"
    return f"{counts}; {parts}; {other_work(d)}"


ROWS = [
    Row("online/load_text.json", "the running gateway, text", load("tokens/s"), bench("load")),
    Row("online/load_image.json", "the running gateway, image", load("images/s"), bench("load")),
    Row(
        "online/idle.json",
        "the running stack while nobody uses it, without the model engines",
        idle,
        bench("idle"),
    ),
    Row(
        "online/release_text.json",
        "releases, stand-ins and simulated users: from a candidate's first bad answer, at 5 % of users, to its last",
        release,
        bench("release"),
    ),
    Row("online/release_image.json", "the same, image line with tiny models", release, bench("release")),
    Row("online/events.json", "event log, SQLite: rows on disk", events("SQLite"), bench("events")),
    Row("online/events.json", "event log, PostgreSQL: rows on disk", events("PostgreSQL"), bench("events")),
    Row("online/latency_event_log.json", "a request to a stand-in: the event log", latency, bench("events")),
    Row(
        "online/latency_tracing.json",
        "a request to a stand-in: tracing, all exported",
        latency,
        bench("events"),
    ),
    Row(
        "online/statistics.json",
        "experiments: false winners among equal variants whose users come once, at any look (5 % allowed)",
        false_winners,
        bench("online"),
    ),
    Row(
        "online/statistics.json",
        "experiments: the same of users who return on each day",
        false_winners_of_users_who_return,
        bench("online"),
    ),
    Row(
        "online/statistics.json",
        "experiments: users until a lift from 30 % to 34.5 % is decided",
        lift,
        bench("online"),
    ),
    Row("online/statistics.json", "experiments: effects that turn, found by the detector", changes, bench("online")),
    Row("online/drift.json", "drift report on simulated events: cost", drift_cost, bench("drift")),
    Row("online/drift.json", "drift: false alarms on simulated events", drift_alarms, bench("drift")),
    Row(
        "online/drift.json",
        "drift: windows until act, median, on planted drifts",
        drift_delays,
        bench("drift"),
    ),
    Row(
        "annotation/active.json",
        "active learning: labels to 95 % of full accuracy, in the place of random choice's",
        active,
        bench("annotation"),
    ),
    Row(
        "annotation/stopping.json",
        "active learning, an answer a label: answers until it stops, and random choice's for the same accuracy",
        stopping,
        bench("stopping"),
    ),
    Row(
        "annotation/tiers.json",
        "tiers of simulated people: labels that end right, and answers an item, gold included",
        tiers,
        bench("tiers"),
    ),
    Row(
        "annotation/server.json",
        "annotation on a real Label Studio with simulated people",
        server,
        bench("annotate-server"),
    ),
]
