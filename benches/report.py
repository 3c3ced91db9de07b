#!/usr/bin/env python3
"""Measures Confab as its users would and prints each figure beside its reference and target.

Everything runs on this machine over loopback, load and server side by side. `make bench` runs it
on a release build. Options: --quick (short runs), --only NAME[,NAME] (see SECTIONS).
"""

import argparse
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFAB = os.environ.get("CONFAB_BIN", os.path.join(ROOT, "target", "release", "confab"))
SPEECH = os.path.join(ROOT, "fixtures", "speech")
# Where costs are compared, what is measured has one processor and the load, which sends every packet at
# its own time and therefore never sleeps, another.
SERVER_CPU, LOAD_CPU = ({1}, {0}) if os.cpu_count() > 1 else (None, None)
# Where the server is, and the network that the load is in if not in the same.
HOST, LOAD_NETWORK = "127.0.0.1", None
SERVER_HOST, LOAD_HOST = "192.0.2.1", "192.0.2.2"
KEY = "vb_" + "benchbenchbenchbenchbenchbench00"
ADMIN = "vb_" + "adminadminadminadminadminadmin00"


def pinned(cpus, network=None):
    """What makes a child run on `cpus` only, in a network."""

    def prepare():
        if cpus is not None:
            os.sched_setaffinity(0, cpus)
        if network is not None:
            enter(network)

    return prepare


def free_port():
    """A port free for both UDP and TCP."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """`confab serve` on ports of its own."""

    def __init__(self, *arguments, cpus=None):
        self.sip, self.http = free_port(), free_port()
        self.data = tempfile.mkdtemp(prefix="confab-bench-")
        environment = dict(os.environ, CONFAB_ACCESSKEY=KEY, CONFAB_ADMIN_KEY=ADMIN)
        self.process = subprocess.Popen(
            [CONFAB, "serve", "--sip", f"{HOST}:{self.sip}", "--http", f"127.0.0.1:{self.http}",
             "--data", self.data, "--rtp-ports", "20000-40000", *arguments],
            env=environment, preexec_fn=pinned(cpus), stdout=subprocess.DEVNULL,
            stderr=open(os.path.join(self.data, "log"), "w"))
        self.pid = self.process.pid
        for _ in range(200):
            try:
                if self.get("/health", raw=True):
                    return
            except OSError:
                time.sleep(0.05)
        sys.exit("the server did not become ready; its log: " + open(os.path.join(self.data, "log")).read())

    def get(self, path, body=None, raw=False):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"})
        text = urllib.request.urlopen(request, timeout=10).read().decode()
        return text if raw else json.loads(text)

    def rooms(self, count, kind="conference"):
        """Makes conferences and gives their URIs."""
        uris = []
        for _ in range(count):
            made = self.get("/v1.0/conferences", {"type": kind, "name": "bench"})
            uris.append(f"sip:direct.{made['direct_hash']}@{HOST}:{self.sip}")
        return uris

    def resident_kib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{self.pid}/status").read())[1])

    def cpu_seconds(self):
        fields = open(f"/proc/{self.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)
        shutil.rmtree(self.data, ignore_errors=True)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(uris, *arguments, pid=None, exact=False):
    """Runs `confab load` and gives its report; `exact` sends no bursts, on a processor of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(uris))
        file.flush()
        command = [CONFAB, "load", "--uris", file.name, "--json", "--quiet", *map(str, arguments)]
        command += ["--exact"] if exact else ["--slot", SLOT_US]
        if pid:
            command += ["--pid", str(pid)]
        done = subprocess.run(command, preexec_fn=pinned(LOAD_CPU if exact else None, LOAD_NETWORK), capture_output=True,
                              text=True, timeout=600)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        sys.exit(f"{' '.join(command)}\nfailed with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def floor(calls, seconds):
    port = free_port()
    process = subprocess.Popen([CONFAB, "floor", "--sip", f"{HOST}:{port}"], preexec_fn=pinned(SERVER_CPU),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        return load([f"sip:echo@{HOST}:{port}"], "--calls", calls, "--for", seconds, "--echo-server",
                    "--cps", 500, pid=process.pid, exact=True)
    finally:
        stop(process)


@contextlib.contextmanager
def two_hosts():
    """Runs what is inside as on two hosts: the load in a network of its own, joined by a pair of virtual
    Ethernet interfaces to that of all else. Gives the name of the server's interface, or None, and changes
    nothing, where this user may not do so."""
    global HOST, LOAD_NETWORK
    names = [f"confab-{side}-{os.getpid()}" for side in ("server", "load")]
    near, far = "confab0", "confab1"
    commands = [f"netns add {name}" for name in names]
    commands += [f"link add {near} netns {names[0]} type veth peer name {far} netns {names[1]}",
                 f"-n {names[0]} addr add {SERVER_HOST}/30 dev {near}", f"-n {names[1]} addr add {LOAD_HOST}/30 dev {far}",
                 f"-n {names[0]} link set {near} up", f"-n {names[1]} link set {far} up",
                 f"-n {names[0]} link set lo up", f"-n {names[1]} link set lo up"]
    home = open("/proc/self/ns/net")
    try:
        if any(subprocess.run(["ip", *command.split()], stderr=subprocess.DEVNULL).returncode for command in commands):
            yield None
            return
        LOAD_NETWORK, HOST = open(f"/run/netns/{names[1]}"), SERVER_HOST
        with open(f"/run/netns/{names[0]}") as network:
            enter(network)
        yield near
    except FileNotFoundError:
        yield None
    finally:
        enter(home)
        LOAD_NETWORK, HOST = None, "127.0.0.1"
        for name in names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def enter(network):
    """Has this process, and what it starts, live in a network."""
    ctypes.CDLL(None).setns(network.fileno(), 0x40000000)  # CLONE_NEWNET


# Outside of the comparison of costs the load sends in bursts no longer than this, in microseconds.
SLOT_US = "100"
ROWS = []


def row(what, value, target, reference, holds):
    ROWS.append((what, value, target, reference, holds))
    print(f"  {'ok  ' if holds else 'MISS'} {what}: {value} (target {target}; reference {reference})", flush=True)


def cost(report):
    return report["server"]["cpu_us_per_call_second"]


def tick_buckets(metrics):
    """How many slots were done within which time, in seconds."""
    buckets = {}
    for bound, count in re.findall(r'^confab_media_slot_done_seconds_bucket\{[^}]*le="([^"]+)"[^}]*\} (\S+)', metrics, re.M):
        buckets[float(bound)] = buckets.get(float(bound), 0) + float(count)
    return buckets


def tick_quantile(metrics, quantile, since=""):
    """The upper bound, in seconds, of the bucket that holds this quantile of the ticks since then."""
    before = tick_buckets(since)
    buckets = {bound: count - before.get(bound, 0) for bound, count in tick_buckets(metrics).items()}
    total = max(buckets.values(), default=0)
    return next((bound for bound in sorted(buckets) if total and buckets[bound] >= quantile * total), float("nan"))


def metrics_once_full(server, calls):
    """A thread, and the list it puts the metrics into once all calls are in."""
    full = []

    def watch():
        for _ in range(300):
            metrics = server.get("/metrics", raw=True)
            if int(re.search(r"^confab_media_legs (\d+)", metrics, re.M)[1]) >= calls:
                full.append(metrics)
                return
            time.sleep(0.2)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread, full


def compare(shape, arguments, options):
    """Runs of a server and of the floor in turn: the ratios, the server's reports, the floors."""
    _, rooms, calls, kind, talkers = shape
    seconds, runs = (4, 1) if options.quick else (6, 3)
    ratios, reports, floors = [], [], []
    for _ in range(runs):
        floors.append(cost(floor(calls, seconds)))
        with Server(*arguments, cpus=SERVER_CPU) as server:
            uris = server.rooms(rooms, kind)
            thread, full = metrics_once_full(server, calls)
            report = load(uris, "--calls", calls, "--talkers", talkers, "--for", seconds, "--cps", 500,
                          pid=server.pid, exact=True)
            thread.join()
            report["tick_p999"] = tick_quantile(server.get("/metrics", raw=True), 0.999, full[0] if full else "")
        reports.append(report)
        ratios.append(cost(report) / floors[-1])
    return ratios, reports, floors


def cost_rows(shape, backend, wanted, arguments, options):
    name, rooms = shape[0], shape[1]
    ratios, reports, floors = compare(shape, arguments, options)
    ratio = statistics.median(ratios)
    row(f"CPU per call-second, {name}, {backend}", f"{ratio:.2f} × the floor "
        f"({statistics.median(map(cost, reports)):.0f} µs)", f"≤ {wanted} ×",
        f"floor {statistics.median(floors):.0f} µs; Asterisk 9 ×, FreeSWITCH 13 ×", ratio <= wanted)
    heard = reports[0]["heard"]
    row(f"who hears whom, {name}, {backend}", f"{heard['missing']} missing, {heard['wrong']} wrong of {heard['expected']}",
        "0", "tones", heard["missing"] == 0 and heard["wrong"] == 0)
    if rooms != 200:
        return
    back = statistics.median(r["packets_back"] for r in reports)
    row(f"packets back, 2000 calls, {backend}", f"{100 * back:.3f} %", "≥ 99.9 %",
        "Asterisk breaks near 500 calls, FreeSWITCH near 300", back >= 0.999)
    gap = statistics.median(r["gap_ms"]["p99"] for r in reports)
    row(f"gap p99, 2000 calls, {backend}", f"{gap:.1f} ms", "≤ 25 ms", "20 ms sent", gap <= 25)
    done = statistics.median(r["tick_p999"] for r in reports)
    row(f"tick p99.9, 2000 calls once they are all in, {backend}", f"≤ {1000 * done:g} ms", "≤ 5 ms",
        "interval 20 ms, one media thread", done <= 0.005)
    if backend == "uring":
        memory = statistics.median(r["server"]["kib_per_call"] for r in reports)
        row("memory per G.711 call", f"{memory:.1f} KiB", "≤ 32 KiB", "Asterisk 360 KiB, FreeSWITCH 700 KiB", memory <= 32)


def section_cost(options):
    shapes = [(("2000 calls in 200 rooms, 2 talkers each", 200, 2000, "conference", 2), 0.6, 0.8),
              (("1000 calls in 1 room", 1, 1000, "conference", 2), 0.8, None),
              (("500 connects", 500, 1000, "connect", 2), 0.8, None)]
    for shape, target, epoll_target in shapes:
        for backend, wanted in (("uring", target), ("epoll", epoll_target)):
            if wanted is not None:
                cost_rows(shape, backend, wanted, ("--set", f"rtp.io_backend={backend}"), options)
    # The express path takes packets from a network interface, so this is measured between two hosts.
    with two_hosts() as interface:
        if interface is None:
            print("  the express path is not measured: this user may not make networks (or `ip` is not installed)")
            return
        for shape, target, _ in shapes:
            cost_rows(shape, "express path", target, ("--set", f"rtp.express={interface}"), options)


def section_latency(options):
    with Server() as server:
        report = load(server.rooms(20), "--calls", 200, "--talkers", 2, "--for", 5 if options.quick else 20)
    latency = report["latency_ms"]
    row("added latency, median", f"{latency['p50']:.1f} ms", "≤ 12 ms", "Asterisk 6–62, FreeSWITCH 32–70", latency["p50"] <= 12)
    row("added latency, p95", f"{latency['p95']:.1f} ms", "≤ 22 ms", "", latency["p95"] <= 22)


def section_setup(options):
    with Server() as server:
        uris = server.rooms(50)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("\n".join(uris))
            file.flush()
            background = subprocess.Popen(
                [CONFAB, "load", "--uris", file.name, "--json", "--quiet", "--calls", "500", "--talkers", "2",
                 "--for", "10"], stdout=subprocess.PIPE, text=True)
            time.sleep(5)
            # Two seconds of 500 INVITE/s: more calls than these, with their load source, would need more
            # than the two cores there are.
            report = load(uris, "--calls", 1000, "--talkers", 0, "--cps", 500, "--for", 2)
            during = json.loads(background.communicate(timeout=120)[0])
    setup, gap = report["setup_ms"]["p99"], during["gap_ms"]["p99"]
    row("call set-up at 500 INVITE/s, INVITE→200 p99", f"{setup:.1f} ms", "≤ 20 ms", f"{report['answered']} of {report['calls']} answered", setup <= 20)
    row("gap p99 of 500 other calls meanwhile", f"{gap:.1f} ms", "≤ 25 ms", "", gap <= 25)


def section_rest(options):
    with Server() as server:
        time.sleep(1)
        resident = server.resident_kib() / 1024
        row("memory at rest", f"{resident:.1f} MiB", "≤ 40 MiB", "", resident <= 40)
        server.rooms(1000)
        time.sleep(2)
        seconds = 5 if options.quick else 10
        before = server.cpu_seconds()
        time.sleep(seconds)
        used = 100 * (server.cpu_seconds() - before) / seconds
        row("1000 rooms with nobody in them", f"{used:.2f} % of a core", "< 1 %", "", used < 1)


def section_speech(options):
    """The talker's way to the room is impaired; a listener records what the room gives."""
    references = sorted(os.path.join(SPEECH, name) for name in os.listdir(SPEECH) if name.endswith(".wav"))
    seeds = 1 if options.quick else 4
    paths = [("clean", "", 4.35, "4.39 / 4.39 / 4.39"), ("jitter 0–80 ms", "jitter=0-80", 4.3, "1.54 / 4.39 / 1.45"),
             ("3 % loss", "loss=3", 3.8, "2.78 / 2.51 / 2.85"), ("10 % loss", "loss=10", 3.1, "2.06 / 1.88 / 2.06"),
             ("5 % loss + jitter 0–60 ms", "loss=5,jitter=0-60", 3.4, "1.48 / 2.48 / 1.34")]
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        jobs, runs = [], []
        for name, network, target, peers in paths:
            for seed in range(1, (1 if not network else seeds) + 1):
                for reference in references:
                    jobs.append((name, network, seed, reference, os.path.join(folder, f"{len(jobs)}.wav")))
        # All at once: each pair has a room of its own.
        for (name, network, seed, reference, heard), uri in zip(jobs, server.rooms(len(jobs))):
            seconds = os.path.getsize(reference) / 16_000 + 2
            runs.append(subprocess.Popen([CONFAB, "call", uri, "--quiet", "--record", heard, "--for", f"{seconds + 1:.0f}s"],
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            talker = [CONFAB, "call", uri, "--quiet", "--play", reference, "--for", f"{seconds:.0f}s"]
            if network:
                talker += ["--network", f"{network},seed={seed}"]
            runs.append(subprocess.Popen(talker, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for run in runs:
            run.wait(120)
        pairs = [path for job in jobs for path in (job[3], job[4])]
        scores = subprocess.run([python(), os.path.join(ROOT, "benches", "pesq.py"), *pairs], capture_output=True, text=True)
        if scores.returncode != 0:
            sys.exit("pesq.py failed: " + scores.stderr)
        scores = [float(line.split()[0]) for line in scores.stdout.strip().splitlines()]
    for name, network, target, peers in paths:
        median = statistics.median(score for score, job in zip(scores, jobs) if job[0] == name)
        row(f"PESQ, {name}", f"{median:.2f}", f"≥ {target}", f"Asterisk / with its buffer / FreeSWITCH {peers}", median >= target)


def python():
    """The interpreter that has the `pesq` package: `make bench` prepares it."""
    return os.environ.get("PESQ_PYTHON", sys.executable)


SECTIONS = {"cost": section_cost, "latency": section_latency, "setup": section_setup, "rest": section_rest,
            "speech": section_speech}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, one of each")
    parser.add_argument("--only", help="some of: " + ", ".join(SECTIONS))
    options = parser.parse_args()
    for name in (options.only or ",".join(SECTIONS)).split(","):
        print(f"{name}:", flush=True)
        SECTIONS[name](options)
    print("\n| what | measured | target | reference |\n|---|---|---|---|")
    for what, value, target, reference, holds in ROWS:
        print(f"| {what} | {value}{'' if holds else ' **missed**'} | {target} | {reference} |")
    missed = [what for what, *_, holds in ROWS if not holds]
    print(f"\n{len(ROWS) - len(missed)} of {len(ROWS)} figures reach their target" + (": missed " + ", ".join(missed) if missed else ""))


if __name__ == "__main__":
    main()
