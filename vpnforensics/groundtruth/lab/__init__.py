"""Real VPN software in network namespaces, recorded on both sides of the server.

``run`` takes a scenario and writes ``ingress.pcap``, ``egress.pcap``, ``truth.json`` and
``manifest.json``. Its modules, in the order in which a run uses them:

``doctor``
    what the machine lacks; refuses what cannot be done before anything is made
``install``
    brings what ``doctor`` finds missing
``state``, ``processes``, ``network``
    everything made is written down first, so that a killed run can be cleaned up
``topology``, ``emulator``, ``stacks``, ``uml``
    who lives where, what the lines do, which operating system a host looks like, hosts with their own clocks
``services``, ``longpoll``, ``traffic``
    Internet hosts, and clients that use them, by real programs
``drivers``
    one VPN a module
``taps``
    one tcpdump a capture point, and what it dropped
``conntrack``, ``truth``, ``truth_file``, ``manifest``
    who sent each egress flow, by the inner side and the kernel's account; the documents
``record``, ``survey``
    a usual mix without a scenario; every driver against the truth
"""
