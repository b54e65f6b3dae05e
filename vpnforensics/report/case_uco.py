"""A case as CASE/UCO JSON-LD, the community's exchange format for cyber investigations.

Captures are files with their digests, tunnels and flows network connections, and each link a relationship
from the tunnel to the flow; the action that found them names its tool, its configuration, what it read and
what it made. What the ontology has no word for (likelihood ratios, errors, clocks) stands in facets under the
prefix ``vpnf``. Names of nodes follow from what they are, so that the same case gives the same bytes.

https://caseontology.org, https://unifiedcyberontology.org
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.endpoints import parted
from vpnforensics.report.escaping import json_text, visible
from vpnforensics.report.provenance import made_by
from vpnforensics.report.quantities import iso_utc
from vpnforensics.report.result import CaseResult

_OURS = "https://vpnforensics.org/"
_UCO = "https://ontology.unifiedcyberontology.org/uco/"
_CONTEXT = {
    "kb": f"{_OURS}kb/",
    "vpnf": f"{_OURS}ontology/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "case-investigation": "https://ontology.caseontology.org/case/investigation/",
    **{
        f"uco-{part}": f"{_UCO}{part}/"
        for part in ("action", "configuration", "core", "observable", "tool", "types")
    },
}
_FACETS = uuid5(NAMESPACE_URL, f"{_OURS}kb/")

Node = dict[str, Any]


def case_uco(case: CaseResult) -> Iterator[str]:
    """The JSON-LD of a case, one node of its graph a line.

    Times are of the clock of the side that was captured, to the microsecond; the facets of our own have them
    in nanoseconds.
    """
    yield f'{{"@context": {json_text(_CONTEXT)},\n"@graph": [\n'
    before = ""
    for node in _graph(case):
        yield before + json_text(node)
        before = ",\n"
    yield "\n]}\n"


def _graph(case: CaseResult) -> Iterator[Node]:
    of = _namespace(case)
    tool, action = (_reference(f"{name}-{uuid5(of, name)}") for name in ("tool", "action"))
    read, made = (_reference(f"record-{uuid5(of, name)}") for name in ("read", "made"))
    files = list(_files(case))
    flows = plain_rows(case.flows.join(case.links.set_index("flow"), on="id"))
    links = [_link(of, row, case.null_comparisons) for row in flows if row["tunnel"] is not None]
    yield from _tool(case, tool["@id"], of)
    yield {
        "@id": action["@id"],
        "@type": "case-investigation:InvestigativeAction",
        "uco-core:name": "correlation of two captures of a VPN server",
        "uco-core:description": made_by(case.tool),
        "uco-action:endTime": _time(case.tool["date"]),
        "uco-action:instrument": tool,
        "uco-action:object": read,
        "uco-action:result": made,
    }
    yield _record(read["@id"], "the captures", files, of)
    yield {
        **_record(made["@id"], "links of flows to tunnels", links, of),
        "uco-core:hasFacet": [_result_facet(of, case)],
    }
    yield from files
    ends = {end for table in (case.tunnels, case.endpoints) for end in _addresses(table)}
    yield from (_address(end) for end in sorted(ends))
    yield from (_tunnel(of, row) for row in plain_rows(case.tunnels))
    yield from (_flow(of, row) for row in flows)
    yield from links


def _namespace(case: CaseResult) -> UUID:
    """What the names of a case's nodes follow from: what was read, and how."""
    read = [[file["path"], file["sha256"]] for side in case.inputs for file in side["files"]]
    ran = {key: case.tool[key] for key in ("version", "commit", "parameters", "policy", "seed")}
    return uuid5(_FACETS, json_text([read, ran]))


def _tool(case: CaseResult, name: str, of: UUID) -> Iterator[Node]:
    told = case.tool
    entries = {
        "command": shlex.join(told["argv"]),
        "commit": told["commit"] or "unknown",
        "host": told["host"],
        "parameters": json_text(told["parameters"]),
        "policy": json_text(told["policy"]),
        "seed": str(told["seed"]),
    }
    configuration = f"kb:configuration-{uuid5(of, 'configuration')}"
    yield {
        "@id": name,
        "@type": ["uco-tool:AnalyticTool", "uco-tool:ConfiguredTool"],
        "uco-core:name": told["name"],
        "uco-tool:toolType": "VPN traffic analysis",
        "uco-tool:version": told["version"],
        "uco-configuration:usesConfiguration": {"@id": configuration},
    }
    yield {
        "@id": configuration,
        "@type": "uco-configuration:Configuration",
        "uco-configuration:configurationEntry": [
            {
                "@id": f"kb:entry-{uuid5(of, f'entry {key}')}",
                "@type": "uco-configuration:ConfigurationEntry",
                "uco-configuration:itemName": key,
                "uco-configuration:itemValue": visible(value),
            }
            for key, value in entries.items()
        ],
    }


def _record(name: str, description: str, nodes: list[Node], of: UUID) -> Node:
    """A provenance record; without an object it would be none, and then it has its description only."""
    objects = [{"@id": node["@id"]} for node in nodes]
    return {
        "@id": name,
        "@type": "case-investigation:ProvenanceRecord",
        "uco-core:description": description,
        "case-investigation:exhibitNumber": name.partition("-")[2],
        **({"uco-core:object": objects} if objects else {}),
    }


def _files(case: CaseResult) -> Iterator[Node]:
    for side in case.inputs:
        for number, file in enumerate(side["files"]):
            # The same bytes under one name are one file, in whatever case; as two sides they are two.
            of = uuid5(_FACETS, json_text([side["role"], number, file["path"], file["sha256"]]))
            digest = {
                "@id": f"kb:hash-{uuid5(of, 'hash')}",
                "@type": "uco-types:Hash",
                "uco-types:hashMethod": "SHA256",
                "uco-types:hashValue": {"@type": "xsd:hexBinary", "@value": file["sha256"]},
            }
            stored = {
                "uco-observable:fileName": visible(file["path"]).rpartition("/")[2],
                "uco-observable:filePath": visible(file["path"]),
                "uco-observable:sizeInBytes": file["bytes"],
            }
            about = {key: file[key] for key in ("packets", "first_frame", "first_ns", "last_ns")}
            yield {
                "@id": f"kb:file-{of}",
                "@type": "uco-observable:File",
                "uco-core:hasFacet": [
                    _facet(of, "uco-observable:FileFacet", stored),
                    _facet(of, "uco-observable:ContentDataFacet", {"uco-observable:hash": digest}),
                    _own_facet(of, "CaptureFacet", {"role": side["role"], "format": side["format"], **about}),
                ],
            }


def _addresses(table: Any) -> Iterator[str]:
    for column in ("client", "server", "src", "dst"):
        if column in table.columns:
            yield from (parted(end)[0] for end in table[column].unique())


def _address(address: str) -> Node:
    kind = f"IPv{ip_address(address).version}Address"
    value = {"uco-observable:addressValue": address}
    return {
        **_of_address(address),
        "@type": f"uco-observable:{kind}",
        "uco-core:hasFacet": [
            _facet(uuid5(_FACETS, address), f"uco-observable:{kind}Facet", value),
        ],
    }


def _of_address(address: str) -> Node:
    return _reference(f"address-{uuid5(_FACETS, address)}")


def _tunnel(of: UUID, row: Mapping[str, Any]) -> Node:
    about = ("id", "protocol", "variant", "user", "first_ns", "last_ns", "explained_share")
    counts = {
        "uco-observable:srcPackets": row["packets_up"],
        "uco-observable:dstPackets": row["packets_down"],
    }
    mine = uuid5(of, row["id"])
    return {
        "@id": f"kb:tunnel-{mine}",
        "@type": "uco-observable:NetworkConnection",
        "uco-core:name": f"tunnel {row['id']}",
        "uco-core:hasFacet": [
            _connection(mine, row, row["client"], row["server"], row["transport"]),
            _facet(mine, "uco-observable:NetworkFlowFacet", counts),
            _own_facet(mine, "TunnelFacet", {key: row[key] for key in about}),
        ],
    }


def _flow(of: UUID, row: Mapping[str, Any]) -> Node:
    about = ("id", "community_id", "packets", "bytes", "first_ns", "last_ns", "device", "verdict", "why")
    mine = uuid5(of, row["id"])
    return {
        "@id": f"kb:flow-{mine}",
        "@type": "uco-observable:NetworkConnection",
        "uco-core:name": f"flow {row['id']}",
        "uco-core:hasFacet": [
            _connection(mine, row, row["src"], row["dst"], row["proto"]),
            _own_facet(mine, "FlowFacet", {**{key: row[key] for key in about}, "name": row["names"].split()}),
        ],
    }


def _connection(of: UUID, row: Mapping[str, Any], source: str, destination: str, protocol: str) -> Node:
    (src, sport), (dst, dport) = parted(source), parted(destination)
    spoken = {
        "@id": f"kb:dictionary-{uuid5(of, 'protocols')}",
        "@type": "uco-types:ControlledDictionary",
        "uco-types:entry": {
            "@id": f"kb:entry-{uuid5(of, 'protocol')}",
            "@type": "uco-types:ControlledDictionaryEntry",
            "uco-types:key": "transport",
            "uco-types:value": protocol,
        },
    }
    return _facet(
        of,
        "uco-observable:NetworkConnectionFacet",
        {
            "uco-observable:src": _of_address(src),
            "uco-observable:sourcePort": sport,
            "uco-observable:dst": _of_address(dst),
            "uco-observable:destinationPort": dport,
            "uco-observable:protocols": spoken,
            "uco-observable:startTime": _time(iso_utc(row["first_ns"])),
            "uco-observable:endTime": _time(iso_utc(row["last_ns"])),
        },
    )


def _link(of: UUID, row: Mapping[str, Any], null_comparisons: int) -> Node:
    mine = uuid5(of, f"{row['id']} in {row['tunnel']}")
    about = {key: row[key] for key in ("verdict", "llr", "llr_bounded", "error", "verbal")}
    return {
        "@id": f"kb:link-{mine}",
        "@type": "uco-observable:ObservableRelationship",
        "uco-core:source": {"@id": f"kb:tunnel-{uuid5(of, row['tunnel'])}"},
        "uco-core:target": {"@id": f"kb:flow-{uuid5(of, row['id'])}"},
        "uco-core:kindOfRelationship": "Carried",
        "uco-core:isDirectional": True,
        "uco-core:hasFacet": [
            _own_facet(mine, "LinkFacet", {**about, "null_comparisons": null_comparisons}),
        ],
    }


def _result_facet(of: UUID, case: CaseResult) -> Node:
    alignment = case.alignment.to_dict()
    told = {
        "comparisons": case.comparisons,
        "null_comparisons": case.null_comparisons,
        "expected_false_links": case.expected_false_links,
        "allowed_false_links": case.allowed_false_links,
        "decoys_tried": case.decoys["tried"],
        "decoys_linked": case.decoys["linked"],
        "twins": case.limit["twins"],
        "clocks": alignment["status"],
        "offset_ns": alignment["offset_ns"],
        "drift_ppm": alignment["drift_ppm"],
        "warning": [visible(text) for text in case.warnings],
    }
    return _own_facet(of, "ResultFacet", told)


def _facet(of: UUID, kind: str, values: Node) -> Node:
    return {"@id": f"kb:facet-{uuid5(of, kind)}", "@type": kind, **values}


def _own_facet(of: UUID, kind: str, values: Mapping[str, Any]) -> Node:
    """A facet that the ontology does not have; what is not known is left out."""
    told = {
        f"vpnf:{_camel(key)}": value
        for key, value in values.items()
        if value is not None and not (isinstance(value, list) and not value)
    }
    return {"@id": f"kb:facet-{uuid5(of, kind)}", "@type": ["uco-core:Facet", f"vpnf:{kind}"], **told}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _reference(name: str) -> Node:
    return {"@id": f"kb:{name}"}


def _time(text: str) -> Node:
    return {"@type": "xsd:dateTime", "@value": text}
