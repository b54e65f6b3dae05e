"""Every word of the report, in English: another language is another module like this one.

``{...}`` stands for what a case has of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

LANGUAGE = "en"

PAGE: Mapping[str, str] = MappingProxyType(
    {
        "title": "Which tunnel carried which flow",
        "made_by": "Made by {tool}.",
        "sections": "Sections",
        "no_script": "The tables, the pictures and the evidence of each link are drawn by a script within"
        " this file; this reader does not run it.",
        "skip": "Skip to the summary",
        # summary
        "summary": "Summary",
        "asked": "What was asked",
        "asked_text": "A VPN server was recorded on both sides: at ingress, where its clients' packets are"
        " encrypted, and at egress, where they go on to the Internet. Which of the {tunnels} seen at ingress"
        " carried each of the {flows} seen at egress?",
        "asked_excerpt": "This report is an excerpt: {excerpt}.",
        "found": "What was found",
        "found_text": "{linked} of {flows} are linked to a tunnel; {undecided} undecided; {no_tunnel} in no"
        " tunnel of this capture.",
        "found_table": "Whose the linked flows are",
        "found_columns": "client|user|flows linked|most frequent far sides|first packet, UTC|last packet,"
        " UTC",
        "found_more": "{more} not shown here; the table of flows has them all.",
        "sure": "How sure that is",
        "sure_errors": "Each link has a stated probability that it is wrong. Their sum, the false links to"
        " expect among the {links}, is {expected}; {allowed} were allowed.",
        "sure_decoys": "As a check, {tried}, copies of the flows turned in time that no tunnel carried, went"
        " through the same model: {linked} of them would have been linked.",
        "sure_bound": "The likelihood ratios rest on {nulls} known to be false, which allow no LLR above"
        " {most}; those that stand there are marked ≥.",
        "sure_clocks": "Clocks: {clocks}.",
        "cannot": "What it cannot say",
        "cannot_who": "A tunnel is a client's endpoint. Who sat behind it, and whether several people shared"
        " it, is not in these packets.",
        "cannot_probability": "A likelihood ratio is not the probability that a flow and a tunnel belong"
        " together; that needs prior odds, which are not the tool's to choose.",
        "cannot_error": "A stated probability of error is the model's own. How small a one has been shown to"
        " hold, on captures whose truth is known, is another figure: docs/validation.md has it (stated and"
        " observed errors), and that is the one to quote.",
        "cannot_undecided": "An undecided flow is no evidence of absence; its page says what stood in the"
        " way.",
        "cannot_twins": "{twins} have a twin: another tunnel's flow of the same sizes, so near in time that"
        " lengths and times do not tell them apart.",
        "cannot_twins_unknown": "How many flows have a twin, which lengths and times do not tell from them,"
        " is not known here: no delay was estimated.",
        "warnings": "To know before believing any of it",
        # inputs
        "inputs": "Inputs",
        "inputs_text": "The digests are of the files as they were stored. Frames are numbered within each"
        " file from 1, as Wireshark does.",
        "inputs_files": "Files of the two sides",
        "inputs_columns": "file|side|SHA-256|bytes|packets|first frame of its side|first packet, UTC|last"
        " packet, UTC",
        "inputs_none": "{role}: packets that were in no file",
        "inputs_health": "Health of the captures",
        "inputs_well": "{role}: nothing out of the ordinary.",
        "inputs_found": "{role}: {severity}: {text}",
        "logs": "Usage logs",
        # pictures
        "clocks": "Clocks",
        "clocks_text": "Each matched packet's egress time less its ingress time, and the clock line: where a"
        " server without delay would put them. Packets going up lie above it, those going down below.",
        "timeline": "Timeline",
        "timeline_text": "Flows as bars in time on the egress clock, a lane for each tunnel. A bar opens its"
        " flow's page.",
        # tables
        "tunnels": "Tunnels",
        "tunnels_text": "The clients' encrypted associations with the server.",
        "flows": "Flows and links",
        "flows_text": "Every conversation seen at egress with its link. A flow's name opens the evidence.",
        # method
        "method": "Method",
        "limits": "Limits",
        "glossary": "Words",
        "reproduce": "How to reproduce",
        "reproduce_text": "With the same program, files, options and seed the result is the same, byte for"
        " byte but for date and host.",
        "reproduce_digest": "Compare the digests: sha256sum FILE, with those under Inputs.",
        "reproduce_run": "Make the case again:",
        "reproduce_verify": "Or let the program compare a saved case with its captures: vpnf verify"
        " case.json",
        "reproduce_hand": "Without the program: a flow's page names the frames of both captures that belong"
        " together, and display filters for Wireshark that show them.",
        "made": "Made by",
        "parameters": "Parameters",
        "policy": "Thresholds that decide",
        "name_value": "name|value",
    }
)

METHOD: tuple[str, ...] = (
    "A VPN encrypts a packet but hides neither when it passed nor, within a known rule, how long it was: one"
    " packet that goes into the server comes out as one, and the tunnel adds a known number of bytes.",
    "The clocks of the two captures are aligned from all packets whose sizes agree; from those, the delay"
    " through the server is learned, up and down separately.",
    "For each pair of a flow and a tunnel, the engines weigh how well the tunnel's packets explain the"
    " flow's: packets of the right length within the delay (packets), equal bytes where both sides can be"
    " read (exact), clocks (timestamps), counters (ip_id, counters), headers, round trips (rtt). What they"
    " share is counted once.",
    "All flows then compete for the same packets in one model: an outer packet carries one inner packet, and"
    " little is left unexplained. It gives each link a likelihood ratio and a stated probability of error.",
    "The likelihood ratios are calibrated on comparisons that are known to be false: linked flows against the"
    " other tunnels, and decoys. Where a link is wrong, so is what is known by it. A case with few of them is"
    " lent what was measured on others, and a warning says so.",
    "Flows are linked in the order of that probability until its sum reaches the number of false links"
    " allowed.",
)

LIMITS: tuple[str, ...] = (
    "Short flows, such as a single lookup, carry little evidence, and less the more the path jitters.",
    "Padding to one size, constant-rate cover traffic and batching take the evidence away; so does a relay"
    " that cuts streams anew.",
    "Packets that the ingress capture lost, or did not cover, are no evidence against a tunnel: a flow is"
    " denied only on packets that could have been seen.",
    "A name marked ≈ is what an earlier lookup gave the address; the flow did not say it itself.",
    "Times are those that the capturing machines wrote. What happened to the files before they were read,"
    " their digests cannot tell.",
)

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("ingress, egress", "the client-facing, encrypted side of the VPN server; its Internet-facing side"),
    ("tunnel", "one client endpoint's encrypted association with the server, and its packets"),
    ("flow", "one conversation at egress: two endpoints and a protocol"),
    ("inner, outer", "the packet inside the encryption; the packet that carries it"),
    ("up, down", "from the client to the Internet; from the Internet to the client"),
    ("device", "one operating system behind a tunnel, as told by its TCP clock and counters"),
    ("H1, H2", "H1: this tunnel carried this flow. H2: another one, or none in the capture, did"),
    ("score", "what an engine measured of a pair, before calibration"),
    (
        "LLR",
        "decimal logarithm of the likelihood ratio: +3 says that the evidence is a thousand times likelier"
        " under H1 than under H2; ≥ marks one that stands at its bound",
    ),
    ("support", "the words of the ENFSI guideline (2015) for a likelihood ratio"),
    ("error", "stated probability that a link is wrong"),
    ("linked", "linked to a tunnel, within the number of false links allowed"),
    ("undecided", "the evidence does not reach that level; no evidence of absence"),
    ("no tunnel", "no tunnel of this capture could have carried the flow"),
    ("LLR of the unlisted", "the same ratio for every tunnel that is not among a flow's candidates"),
    (
        "decoy",
        "a copy of a flow, turned in time, that competes in the same model: a check of the stated error",
    ),
    (
        "twin",
        "another tunnel's flow of the same sizes, so near in time that lengths and times do not tell them"
        " apart",
    ),
    ("counter", "the number that a tunnel writes in clear on each of its packets, where it does"),
    (
        "Community ID",
        "a digest of a flow's endpoints that other programs (Zeek, Suricata, Wireshark) show, too",
    ),
)

SCRIPT: Mapping[str, str] = MappingProxyType(
    {
        "search": "Search",
        "search_help": "words that a row has to contain, all of them",
        "rows_found": "{n} of {all} rows",
        "rows_shown": "rows {from}–{to}",
        "previous": "Previous",
        "next": "Next",
        "print_found": "Evidence of these flows, to print",
        "print_most": "Evidence of the first {n} linked flows among those found. Print this page, or save it"
        " as PDF.",
        "print_now": "Print",
        "sort_by": "sort by",
        "none": "none",
        "back": "Back to the case",
        "linked": "linked",
        "undecided": "undecided",
        "no_tunnel": "no tunnel",
        "tunnel": "tunnel",
        "client": "client",
        "user": "user",
        "protocol": "protocol",
        "outer_length": "outer length",
        "up": "up",
        "down": "down",
        "flows": "flows",
        "explained": "explained",
        "first": "first packet",
        "last": "last packet",
        "flow": "flow",
        "verdict": "verdict",
        "proto": "proto",
        "from": "from",
        "to": "to",
        "name": "name",
        "packets": "packets",
        "bytes": "bytes",
        "llr": "LLR",
        "support": "support",
        "error": "error",
        "of_flow": "{flow}: {proto} {src} → {dst}",
        "is_linked": "Linked to {tunnel} ({protocol}, client {client}{user}). LLR {llr}: {verbal}{bound}."
        " Stated probability that this link is wrong: {error}.",
        "of_user": ", user {user}",
        "at_bound": ", the most that {nulls} comparisons known to be false allow",
        "not_linked": "{verdict}: no outer packets are attributed to it.",
        "community": "Community ID",
        "device": "device",
        "unlisted": "LLR of the unlisted",
        "names": "names",
        "engines": "What each engine says",
        "engines_caption": "Candidates of {flow}, each judged alone",
        "engine": "engine",
        "score": "score",
        "compared": "packets",
        "note": "note",
        "together": "together",
        "together_note": "what they share counted once",
        "no_candidates": "No tunnel had any evidence for it.",
        "nulls": "Among comparisons known to be false",
        "nulls_text": "{n} pairs of a linked flow and another tunnel that had any evidence for them, and this"
        " flow's own. Pairs without any are not drawn; for them stands the LLR of the unlisted.",
        "nulls_alt": "Histogram of the likelihood ratios of {n} false pairs, from {low} to {high}; this"
        " flow's stand at {mine}.",
        "known_false": "known to be false",
        "its_link": "its link",
        "other_candidate": "another candidate",
        "pairs_axis": "pairs",
        "llr_axis": "log10 likelihood ratio",
        "pairs": "Packet pairs",
        "pairs_text": "The flow's packets above, the outer packets that carried them below; bars are as high"
        " as packets are long. {shown} of {all} packets are drawn; the joint model found the outer packet of"
        " {found}.",
        "pairs_in_order": "packets in order",
        "pairs_alt": "Lengths of {shown} packets and of the outer packets that carried them; the table below"
        " holds the same numbers.",
        "inner_axis": "inner, bytes",
        "outer_axis": "outer, bytes",
        "no_outer": "no outer packet",
        "delays": "Delays",
        "delays_text": "Each pair's delay through the server on the ingress clock, towards the far side."
        " Median here {up} up, {down} down; of the whole case {law_up} up, {law_down} down (lines).",
        "delays_alt": "Delay of each pair over time, between {low} and {high}.",
        "delay_axis": "delay",
        "time_axis": "time since the flow's first packet, s",
        "stacks": "Clocks and IP IDs",
        "stacks_caption": "TCP timestamp clocks and IP IDs: of the flow's client, of all linked flows of its"
        " tunnel (and of its device) read together, and of the tunnel's outer side",
        "whose": "of",
        "clock_hz": "clock, Hz",
        "clock_skew": "skew, ppm (95 %)",
        "clock_offset": "offset, s",
        "ip_id_class": "IP IDs",
        "ip_id_with_outer": "{kind}, outer packets counted too",
        "ip_id_steps": "increments",
        "ip_id_missing": "missing",
        "ip_id_gaps": "gaps",
        "ip_id_wraps": "wraps",
        "this_flow": "this flow",
        "pooled_flows": "{flows} flows of {of}",
        "outer_side": "{tunnel}, outer side",
        "ip_ids_text": "IP IDs of the packets going up: of the flow's own, and of the outer packets that"
        " carried them.",
        "ip_ids_alt": "IP IDs of {n} packets over time.",
        "ip_id_axis": "IP ID",
        "clock_text": "Timestamps of the packets going up, in seconds of their sender's clock, less the time"
        " of the capture; a sender's clock is as fast as its line is steep.",
        "clock_alt": "Sender's clock less capture clock of {n} packets, between {low} and {high}.",
        "clock_axis": "sender − capture",
        "inner_packets": "the flow's packets",
        "outer_packets": "the outer packets",
        "retrace": "To follow it by hand",
        "retrace_text": "Open the two captures in Wireshark, each with its filter. In every row of the table"
        " of packets, the frame at ingress carried the frame at egress: its length is {length} of the inner"
        " length L, and its time is earlier going up, later going down, by the delay, once egress time is"
        " put on the ingress clock.",
        "filter_frames": "{role}, {file}: these frames",
        "filter_stream": "{role}: all between the endpoints",
        "in_no_file": "packets that were in no file",
        "frames_cut": "So many runs of frames that the rest is left out here; vpnf show case.json --filter"
        " {flow} has all.",
        "packets_caption": "Packets of {flow} and the outer packets that carried them",
        "packets_some": "The first {shown} of {all} packets.",
        "frames_all": "The filters name the frames of all of them, those that are not in the table below as"
        " well.",
        "no_packets": "The captures were not at hand when this report was made, so it has no packets: {why}",
        "time": "time (UTC, egress clock)",
        "egress_frame": "egress frame",
        "ingress_frame": "ingress frame",
        "inner": "inner bytes",
        "outer": "outer bytes",
        "counter": "counter",
        "delay": "delay",
        "alignment_alt": "Differences of {n} packets about the clock line: up above, down below.",
        "alignment_axis": "egress − ingress − {offset} s",
        "alignment_time": "egress time since the first linked packet, s",
        "alignment_line": "clock line, {drift} ppm",
        "alignment_interval": "95 % interval",
        "alignment_beyond": "{n} of the packets drawn lie beyond the picture.",
        "no_alignment": "No picture: the clocks are not aligned, or no packets are at hand.",
        "count_up": "up: {n} packets",
        "count_down": "down: {n} packets",
        "timeline_alt": "{n} flows in {lanes} lanes over {seconds} s; the table of flows holds the same.",
        "timeline_axis": "seconds since {start}, egress clock",
        "timeline_hidden": "{n} more tunnels are not drawn.",
        "not_in_tunnel": "not linked",
        "unknown_flow": "There is no flow {flow} in this report.",
    }
)
