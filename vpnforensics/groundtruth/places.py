"""The places of a scenario: lines, web sites, names. Lab and simulator draw the same ones from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from vpnforensics.groundtruth.scenario import Range, Scenario

OBJECTS = 80
_MB = 1 << 20
BULK_BYTES = (2 * _MB, 6 * _MB, 16 * _MB)
"""Large files on every web server; the first is what is uploaded, too."""
DOWNLOADS_BYTES = (2 * _MB, 6 * _MB, 6 * _MB, 16 * _MB)
"""What a download chooses from."""
_LARGEST_OBJECT_BYTES = 600_000
_WORDS = (
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "garnet",
    "harbor",
    "iris",
    "juniper",
    "kelp",
    "maple",
)
_PREFIXES = ("cdn", "img", "static-assets", "api", "media.eu-west")


@dataclass(frozen=True, slots=True)
class Way:
    """What was drawn for one line: a constant delay, the mean of its jitter, its rates."""

    delay_ms: float
    jitter_ms: float
    up_mbit: float
    down_mbit: float


@dataclass(frozen=True, slots=True)
class Site:
    """One web site: its hosts by name, and the numbers of the objects that pages choose from."""

    hosts: tuple[str, ...]
    objects: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Places:
    """What clients reach, and over which lines.

    Parameters
    ----------
    access : tuple of Way
        Of each client.
    resolver, shell : Way
        To the name server and the SSH server.
    web : tuple of Way
        To each web server.
    sites : tuple of Site
        Web sites (HTTP, HTTPS and HTTP/2).
    names : dict of str to int
        The web server that a name resolves to: the sites' hosts, and names that are only looked up.
    object_bytes : tuple of int
        Sizes of the objects, the same on all web servers.
    """

    access: tuple[Way, ...]
    resolver: Way
    shell: Way
    web: tuple[Way, ...]
    sites: tuple[Site, ...]
    names: dict[str, int]
    object_bytes: tuple[int, ...]

    @property
    def hosts(self) -> tuple[Way, ...]:
        """Lines of all hosts: the name server, the SSH server, the web servers."""
        return self.resolver, self.shell, *self.web


def draw_places(scenario: Scenario) -> Places:
    """The places of a scenario; they depend on its seed, its lines and the number of its web servers."""
    rng = random.Random(f"places {scenario.seed}")  # noqa: S311 - reproducible, not secret
    far = scenario.internet
    access = tuple(
        _way(rng, c.access.delay_ms, c.access.jitter_ms, c.access.up_rate_mbit, c.access.rate_mbit)
        for c in scenario.clients
    )
    resolver, shell, *web = (
        _way(rng, far.delay_ms, far.jitter_ms, far.rate_mbit) for _ in range(2 + far.web_servers)
    )
    sites, names = _sites(rng, far.web_servers)
    sizes = (min(int(rng.lognormvariate(8.8, 1.5)), _LARGEST_OBJECT_BYTES) + 60 for _ in range(OBJECTS))
    return Places(access, resolver, shell, tuple(web), sites, names, tuple(sizes))


def _way(rng: random.Random, delay: Range, jitter: Range, up: Range, down: Range | None = None) -> Way:
    delay_ms, jitter_ms, up_mbit = (r.draw(rng) for r in (delay, jitter, up))
    return Way(delay_ms, jitter_ms, up_mbit, down.draw(rng) if down else up_mbit)


def _sites(rng: random.Random, servers: int) -> tuple[tuple[Site, ...], dict[str, int]]:
    names: dict[str, int] = {}
    sites = []
    for word in rng.sample(_WORDS, 8):
        hosts = [f"www.{word}.example"]
        hosts += [f"{rng.choice(_PREFIXES)}{i}.{word}.example" for i in range(rng.randint(1, 3))]
        few = servers < len(hosts)
        where = rng.choices(range(servers), k=len(hosts)) if few else rng.sample(range(servers), len(hosts))
        names |= dict(zip(hosts, where, strict=True))
        objects = tuple(rng.randrange(OBJECTS) for _ in range(rng.randint(8, 24)))
        sites.append(Site(tuple(hosts), objects))
    for _ in range(40):
        label = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(rng.randint(3, 40)))
        names[f"{label}.{rng.choice(_WORDS)}.example"] = rng.randrange(servers)
    return tuple(sites), names
