"""Joint attribution: all flows, all records, one model (:mod:`vpnforensics.evidence.joint.model`)."""
