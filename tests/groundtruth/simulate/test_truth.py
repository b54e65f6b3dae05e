"""The file of truth, written row by row."""

from __future__ import annotations

import json
from dataclasses import replace

from .cases import small


def test_it_is_as_if_written_at_once(make):
    case = make(small("socks"))
    for name, truth in (("whole", case.truth), ("empty", replace(case.truth, flows=(), tunnels=()))):
        path = case.folder.parent / f"{name}.json"
        truth.write(path)
        text = path.read_text()
        document = json.loads(text)
        assert text == json.dumps(document, indent=1) + "\n"
        assert len(document["flows"]) == len(truth.flows)
        assert len(document["tunnels"]) == len(truth.tunnels)
    assert len(case.truth.flows) > 10
