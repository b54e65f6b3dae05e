"""Ordinary traffic: a specimen from each function that writes some."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import Endpoint, Talk

HOST, SERVICE = "198.51.100.77", "203.0.113.77"

Writer = Callable[[Draft], None]


def talk(draft: Draft, port: int, *, here: int = 52001, seen: str = "both") -> Talk:
    """A conversation of a host with a service at ``port``."""
    return Talk(draft.wire, Endpoint(HOST, here), Endpoint(SERVICE, port), seen)


def written(family: str, *writers: Writer) -> Iterator[Specimen]:
    """One specimen a function, named after it; no tunnel is in any."""
    for write in writers:
        draft = Draft(write.__name__.strip("_").replace("_", "-"), family)
        write(draft)
        yield draft.done()
