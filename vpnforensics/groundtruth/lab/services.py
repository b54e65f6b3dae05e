"""Internet hosts of the lab: web servers, a name server, an SSH server, all in one namespace.

They are the real programs (nginx, dnsmasq, sshd). Web sites have names of many lengths and spread their
objects over several addresses, as pages do.
"""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SSH_ADDRESS, Network
from vpnforensics.groundtruth.lab.processes import Processes
from vpnforensics.groundtruth.places import BULK_BYTES, Places, Site

POLL_PORT = 8080
CALL_PORT = 5201


@dataclass(frozen=True, slots=True)
class Internet:
    """What the clients can reach.

    Parameters
    ----------
    sites : tuple of Site
        Web sites (HTTP on port 80, HTTPS and HTTP/2 on 443).
    names : tuple of str
        Names that resolve, of varied length.
    web : tuple of str
        Addresses of the web servers.
    ssh_config : Path
        Client configuration for the SSH server.
    """

    sites: tuple[Site, ...]
    names: tuple[str, ...]
    web: tuple[str, ...]
    ssh_config: Path


def start_internet(
    namespace: str,
    network: Network,
    processes: Processes,
    rng: random.Random,
    places: Places,
    web: tuple[str, ...],
    calls: int,
) -> Internet:
    """Start all servers of the namespace; :func:`wait_for_internet` waits until they listen.

    Parameters
    ----------
    namespace : str
        Where they run.
    network, processes
        To build with.
    rng : Random
        Fills the objects.
    places : Places
        Sites, names and object sizes.
    web : tuple of str
        Addresses of the web servers.
    calls : int
        Voice-like calls that may run at the same time: one iperf3 server each.
    """
    folder = processes.state.folder
    _start_dns(namespace, processes, folder, {name: web[i] for name, i in places.names.items()})
    _start_web(namespace, processes, folder, rng, places.object_bytes, web)
    ssh_config = _start_ssh(namespace, network, processes, folder)
    poll = [
        "-m",
        "vpnforensics.groundtruth.lab.longpoll",
        web[0],
        str(POLL_PORT),
        str(rng.randrange(1 << 30)),
    ]
    processes.start("longpoll", namespace, [sys.executable, *poll])
    for number in range(calls):
        argv = ["iperf3", "-s", "-B", web[0], "-p", str(CALL_PORT + number)]
        processes.start(f"iperf3-{number}", namespace, argv)
    return Internet(places.sites, tuple(places.names), web, ssh_config)


def wait_for_internet(namespace: str, processes: Processes, web: tuple[str, ...]) -> None:
    """Wait until all servers listen."""

    def listening() -> bool:
        seen = processes.run(namespace, ["ss", "-Hlntu"])
        return all(
            f"{address}:{port}" in seen
            for address, port in ((DNS_ADDRESS, 53), (SSH_ADDRESS, 22), (web[-1], 443), (web[0], POLL_PORT))
        )

    processes.wait_for("the Internet hosts", listening)


def _start_dns(namespace: str, processes: Processes, folder: Path, hosts: dict[str, str]) -> None:
    table = folder / "hosts"
    table.write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    processes.start(
        "dnsmasq",
        namespace,
        [
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            f"--addn-hosts={table}",
            f"--listen-address={DNS_ADDRESS}",
            "--bind-interfaces",
            "--user=root",
            f"--pid-file={folder}/dnsmasq.pid",
            "--local=/example/",
            "--local-ttl=1",
        ],
    )


def _start_web(
    namespace: str,
    processes: Processes,
    folder: Path,
    rng: random.Random,
    object_bytes: tuple[int, ...],
    web: tuple[str, ...],
) -> None:
    root = folder / "www"
    root.mkdir()
    for number, size in enumerate(object_bytes):
        (root / f"o{number}").write_bytes(rng.randbytes(size))
    for size in BULK_BYTES:
        (root / f"bulk-{size >> 20}m").write_bytes(rng.randbytes(size))
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=www.example",
            "-keyout",
            str(folder / "web.key"),
            "-out",
            str(folder / "web.crt"),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    listens = "".join(f"listen {a}:80 backlog=256; listen {a}:443 ssl http2 backlog=256;\n" for a in web)
    (folder / "nginx.conf").write_text(f"""
daemon off; master_process off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; sendfile off; keepalive_timeout 5s; server_tokens off;
  default_type application/octet-stream;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fcgi; uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi; client_max_body_size 64m;
  server {{
    {listens}
    ssl_certificate {folder}/web.crt; ssl_certificate_key {folder}/web.key;
    root {root};
    location = /upload {{ return 204; }}
  }}
}}
""")
    processes.start(
        "nginx", namespace, ["nginx", "-e", folder / "nginx-error.log", "-c", folder / "nginx.conf"]
    )


def _start_ssh(namespace: str, network: Network, processes: Processes, folder: Path) -> Path:
    for name in ("ssh-host", "ssh-user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
            check=True,
            capture_output=True,
            timeout=20,
        )
    privilege_folder = Path("/run/sshd")  # compiled into Debian's sshd; missing where it never ran
    if not privilege_folder.exists() or network.state.used_elsewhere(privilege_folder):
        network.state.note("empty-folder", path=str(privilege_folder))
        privilege_folder.mkdir(mode=0o755, exist_ok=True)
    # The machine's own shell may read start-up files that take their time.
    users = Path("/etc/passwd").read_text().splitlines()
    users = ["root:x:0:0:root:/:/bin/sh" if user.startswith("root:") else user for user in users]
    network.etc(namespace, "passwd", "\n".join(users) + "\n")
    (folder / "sshd.conf").write_text(f"""
ListenAddress {SSH_ADDRESS}
HostKey {folder}/ssh-host
AuthorizedKeysFile {folder}/ssh-user.pub
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
PidFile none
PrintMotd no
PrintLastLog no
UseDNS no
ForceCommand PS1='$ ' exec /bin/sh
""")
    config = folder / "ssh-client.conf"
    config.write_text(f"""
Host *
  User root
  IdentityFile {folder}/ssh-user
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ConnectTimeout 8
""")
    processes.start("sshd", namespace, ["/usr/sbin/sshd", "-D", "-e", "-f", folder / "sshd.conf"])
    return config
