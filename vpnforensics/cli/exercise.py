"""``vpnf exercise``: blind cases for analysts, and marks for their answers."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vpnforensics.cli.output import Output, refuse_used
from vpnforensics.cli.session import Session, SuggestingGroup, output_options, pass_session, talk_options

if TYPE_CHECKING:
    import numpy as np
    from rich.console import RenderableType

    from vpnforensics.groundtruth.simulate.spec import SimulationSpec
    from vpnforensics.validation.exercise import Question

PARTICIPANTS, SEALED = "participants", "sealed-truth.json"
_README = """An exercise: which tunnel carried which flow?

Each folder case-NN has the capture of a VPN server's client-facing side (ingress) and of its Internet-facing
side (egress). Their clocks may differ, packets may be missing from either, lengths may be padded, and a
client's packets may be missing from the ingress capture altogether.

answers.csv asks for flows of the egress captures. Fill in `client`, the client endpoint (addr:port, as the
ingress capture shows it) of the tunnel that carried the flow (of a relay's client, of any of its
connections); `none` if no tunnel in the ingress capture did; nothing if you cannot tell. `llr`, if you state
one, is the decimal logarithm of your likelihood ratio for it.

The truth is sealed. SHA-256 of its file: {digest}
Ask for that file once you have answered, and compare.
"""


class _MakeGroup(SuggestingGroup):
    """``vpnf exercise DIR`` makes one; what is no command's name is a folder."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            return "make", self.commands["make"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_MakeGroup, context_settings={"help_option_names": ["-h", "--help"]})
@talk_options
def exercise() -> None:
    """Make a blind case set, and mark an analyst's answers to it.

    `vpnf exercise DIR` makes DIR/participants (captures and an answer sheet, no
    truth) and DIR/sealed-truth.json, whose digest the participants get. `vpnf
    exercise mark` marks a filled-in sheet.
    """


@exercise.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--from", "recordings", multiple=True, metavar="DIR", type=click.Path(path_type=Path),
    help="Ask of this recording with truth, instead of simulated cases; may be given several times.",
)  # fmt: skip
@click.option(
    "--cases", type=click.IntRange(1, 99), default=5, show_default=True, metavar="N", help="To simulate."
)
@click.option(
    "--questions",
    "most",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    metavar="N",
    help="Of each case.",
)
@click.option(
    "--seed", type=click.IntRange(0), metavar="N",
    help="The same exercise again; drawn at random, and sealed, by default: who knows it can make the truth.",
)  # fmt: skip
@talk_options
@pass_session
def make(
    session: Session, folder: Path, recordings: tuple[Path, ...], cases: int, most: int, seed: int | None
) -> None:
    """Make a blind case set in DIR, which must be new or empty."""
    refuse_used(folder)
    with session.talk.progress() as show:
        show("making cases", 0.0)
        import numpy as np

        chosen = secrets.randbits(63) if seed is None else seed
        nonce = (
            secrets.token_hex(32) if seed is None else hashlib.sha256(f"nonce {seed}".encode()).hexdigest()
        )
        rng = np.random.default_rng(chosen)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exercise-", dir=folder.parent) as made:
            digest = _make(Path(made), recordings, cases, most, rng, chosen, nonce)
            folder.mkdir(exist_ok=True)
            for each in sorted(Path(made).iterdir()):
                if each.name in (PARTICIPANTS, SEALED):
                    each.rename(folder / each.name)
    session.talk.warn(
        f"{folder}: give {PARTICIPANTS}/ to those who take part, keep {SEALED} (SHA-256 {digest})"
    )


def _make(
    made: Path,
    recordings: Sequence[Path],
    cases: int,
    most: int,
    rng: np.random.Generator,
    seed: int,
    nonce: str,
) -> str:
    """All files of an exercise; the SHA-256 of its truth."""
    from vpnforensics.validation.exercise import answer_sheet, questions, sealed
    from vpnforensics.validation.sessions import open_sessions

    if recordings:
        opened = open_sessions(recordings)
    else:
        from vpnforensics.groundtruth.simulate.run import simulate

        for number in range(cases):
            simulate(_spec(number, rng), made / "made" / f"{number:02d}", int(rng.integers(1 << 62)))
        opened = open_sessions([made / "made" / f"{number:02d}" for number in range(cases)])
    asked: list[Question] = []
    captures: dict[str, str] = {}
    for number, each in enumerate(opened, 1):
        name = f"case-{number:02d}"
        target = made / PARTICIPANTS / name
        target.mkdir(parents=True)
        for capture in dict.fromkeys((each.ingress, each.egress)):
            shutil.copyfile(capture, target / capture.name)
            with (target / capture.name).open("rb") as file:
                captures[f"{name}/{capture.name}"] = hashlib.file_digest(file, "sha256").hexdigest()
        asked += questions(name, each.truth, most, rng)
    truth = sealed(asked, seed, nonce, captures)
    digest = hashlib.sha256(truth).hexdigest()
    (made / SEALED).write_bytes(truth)
    (made / PARTICIPANTS / "answers.csv").write_text(answer_sheet(asked), encoding="utf-8")
    (made / PARTICIPANTS / "README.txt").write_text(_README.format(digest=digest), encoding="utf-8")
    (made / PARTICIPANTS / "SHA256SUMS").write_text(
        "".join(f"{value}  {name}\n" for name, value in captures.items()), encoding="utf-8"
    )
    return digest


def _spec(number: int, rng: np.random.Generator) -> SimulationSpec:
    """One case of the set: protocols in turn; clock, loss, jitter, padding and an absent client drawn."""
    from vpnforensics.groundtruth.simulate.mixes import mixed_case
    from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures

    protocols = ("wireguard", "openvpn-udp", "strongswan", "nebula", "ocserv-dtls")
    clients = int(rng.integers(3, 7))
    absent = (f"client-{int(rng.integers(1, clients + 1)):04d}",) if rng.random() < 0.5 else ()
    loss = float(rng.choice([0.0, 0.005, 0.01, 0.02]))
    padded = Countermeasures(pad_block=128 if rng.random() < 0.3 else 0)
    return mixed_case(
        clients, 40, protocols[number % len(protocols)], 60.0, scale=0.1,
        ingress=Capture(loss=loss, snaplen=96, without=absent),
        egress=Capture(
            offset_s=float(rng.uniform(-3600, 3600)), drift_ppm=float(rng.uniform(-40, 40)), loss=loss,
            snaplen=96, jitter_s=float(rng.choice([0.0, 0.0002, 0.001])),
        ),
        countermeasures=padded,
        seed=int(rng.integers(1 << 31)),
    )  # fmt: skip


@exercise.command()
@click.argument("truth", metavar="SEALED", type=click.Path(path_type=Path))
@click.argument("answers", metavar="ANSWERS.csv", type=click.Path(path_type=Path))
@output_options("table", "json")
@click.option(
    "--digest", metavar="SHA256", help="Of SEALED, as the participants were given it; refuse another one."
)
@talk_options
def mark(truth: Path, answers: Path, form: str, target: str, digest: str | None) -> None:
    """Mark a filled-in answer sheet by the sealed truth."""
    output = Output(target, [str(truth), str(answers)])
    from vpnforensics.validation.exercise import mark as marked
    from vpnforensics.validation.exercise import read_answers, unseal

    document = marked(unseal(truth, digest), read_answers(answers))
    if form == "json":
        from vpnforensics.report.escaping import json_text

        output.write([json_text(document, indent=1) + "\n"])
        return
    output.show(_view(document))


def _view(document: Mapping[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from vpnforensics.report.escaping import visible
    from vpnforensics.report.layout import plain_table

    table = plain_table()
    for heading in (
        "case",
        "questions",
        "right",
        "wrong",
        "undecided",
        "rightly none",
        "wrongly none",
        "right, 95 %",
    ):
        table.add_column(heading)
    for row in (*document["cases"], {"case": "all", **document["all"]}):
        keys = ("questions", "right", "wrong", "undecided", "rightly_none", "wrongly_none")
        low, high = row["right_interval"]
        share = "" if row["right_share"] is None else f"{row['right_share']:.1%} [{low:.1%}, {high:.1%}]"
        table.add_row(visible(row["case"]), *(f"{row[key]:,}" for key in keys), share)
    lines = [
        Text(visible(f"{row['mark']}: {row['case']}, question {row['question']} ({row['src']} {row['dst']}): "
                     f"{row['answer']}; true is {row['client']}"))
        for row in document["wrong"]
    ]  # fmt: skip
    told = document["all"]
    cllr = "" if told["cllr"] is None else f"; Cllr {told['cllr']:.4f}"
    more = [Text(f"{told['with_llr']:,} likelihood ratios, {told['misleading']:,} misleading{cllr}")]
    return Group(table, *lines, *(more if told["with_llr"] else []))
