"""Traffic models: what the people and programs behind a tunnel do.

Each model returns conversations: scripts of messages, which the network kernel turns into packets.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.network.columns import SINCE_OPENING
from vpnforensics.groundtruth.simulate.spec import Activity, ActivityKind
from vpnforensics.groundtruth.simulate.traffic import dns, interactive, stun, web
from vpnforensics.groundtruth.simulate.traffic.conversation import (
    DOWN,
    SECOND,
    UP,
    Conversation,
    Internet,
)
from vpnforensics.groundtruth.simulate.traffic.programs import PROGRAMS, Person, run_program

__all__ = ["Conversation", "Internet", "converse"]

PAUSE_S: dict[ActivityKind, float] = {
    "browse": 3.0,
    "download": 7.0,
    "upload": 7.0,
    "ssh": 2.0,
    "dns": 1.5,
    "voip": 4.0,
    "longpoll": 0.5,
    "ping": 5.0,
    "idle": 9.0,
    "quic": 4.0,
    "stun": 20.0,
    "telemetry": 1.0,
}
"""Mean pause before the next page, transfer, session, ... of one person."""
_LASTING = ("ssh", "voip", "ping")
_TO_THE_END = ("telemetry", "longpoll")


def _script_ns(talk: Conversation) -> int:
    """How long a script lasts by its waits alone."""
    if talk.messages[-1].timing == SINCE_OPENING:
        return talk.messages[-1].wait_ns
    return sum(message.wait_ns for message in talk.messages)


def converse(
    activity: Activity, random: np.random.Generator, internet: Internet, client_ns: int, duration_ns: int
) -> list[Conversation]:
    """Conversations of one activity: starts are uniform over its span (a Poisson process, given its count).

    Parameters
    ----------
    activity : Activity
        Kind, number of flows, span and scale.
    random : numpy.random.Generator
        Of this client.
    internet : Internet
        Hosts to talk to.
    client_ns : int
        One-way delay between client and server.
    duration_ns : int
        Length of the simulation.

    Returns
    -------
    list of Conversation
        At least ``activity.flows`` of them, as whole pages and lookups come to it.
    """
    start_ns = int(activity.start_s * SECOND)
    end_ns = duration_ns if activity.end_s is None else int(activity.end_s * SECOND)
    if internet.places is not None and activity.kind in PROGRAMS:
        who = Person(random, internet, internet.places, activity.device, client_ns)
        return run_program(activity, who, start_ns, end_ns)
    found: list[Conversation] = []
    when = start_ns
    while when < end_ns and (activity.flows is None or len(found) < activity.flows):
        if activity.flows is None:
            when += int(random.exponential(PAUSE_S[activity.kind] * SECOND))
            if when >= end_ns:
                break
        else:
            when = start_ns + int(random.random() * max(end_ns - start_ns, 1))
        device, scale = activity.device, activity.scale
        match activity.kind:
            case "browse":
                talks = web.browse(random, internet, device, when, scale, client_ns)
            case "download":
                talks = web.transfer(random, internet, device, when, scale, DOWN)
            case "upload":
                talks = web.transfer(random, internet, device, when, scale, UP)
            case "quic":
                talks = web.quic(random, internet, device, when, scale, client_ns)
            case "longpoll":
                talks = web.long_poll(random, internet, device, when, scale, end_ns)
            case "stun":
                talks = stun.stun(random, internet, device, when)
            case "dns":
                talks = dns.lookup(random, internet, device, when)
            case "ssh":
                talks = interactive.ssh(random, internet, device, when, scale, end_ns)
            case "telemetry":
                talks = interactive.telemetry(random, internet, device, when, scale, end_ns)
            case "voip":
                talks = interactive.voip(random, internet, device, when, scale, end_ns)
            case "ping":
                talks = interactive.ping(random, internet, device, when, scale, end_ns)
            case "idle":
                talks = interactive.idle(random, internet, device, when, scale, end_ns)
        found += talks
        if activity.flows is None and activity.kind in _TO_THE_END:
            break
        if activity.flows is None and activity.kind in _LASTING:
            when += max(_script_ns(talk) for talk in talks)
    return found
