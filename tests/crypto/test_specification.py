"""SIGNING.md is true: every example and table in it is compared with the code, and nothing is missing from it."""

import ast
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

import crypto
from crypto import (
    NO_CHUNKS,
    BadKey,
    canonical_digest,
    canonical_json,
    checksum_of,
    did_from_public_key,
    digest,
    format_public_key,
    next_digest,
    parse_public_key,
    public_key_of,
    sign,
    verify_chunks,
    verify_history,
    verify_receipt,
)
from crypto.canonical import DOCUMENT_NESTING_MAX, NESTING_MAX
from crypto.history_steps import _RULES
from crypto.messages import Kind

from .hires import PER_CHUNK, settlement
from .roles import ALICE, BOB, DOMAIN, PLATFORM
from .signing_vectors import CASES, build_message

PACKAGE = Path(crypto.__file__).parent
TEXT = (PACKAGE / "SIGNING.md").read_text("utf-8")
EXAMPLE = re.compile(
    r"^Example: (.+)\n\n```text\n((?:.+\n)+)```\n\n\| \| \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE
)
EXAMPLES = {name: (message.removesuffix("\n"), table) for name, message, table in EXAMPLE.findall(TEXT)}
SECRET_KEYS = {"A": ALICE.secret_key, "B": BOB.secret_key, "P": PLATFORM.secret_key}
RECEIPT, CHANNEL_RECEIPT, TASK_RECEIPT = (json.loads(block.split("```")[0]) for block in TEXT.split("```json\n")[1:])
HISTORY: list[dict[str, Any]] = [json.loads(line) for line in TEXT.split("```jsonl\n")[1].split("```")[0].splitlines()]
CHECKED: Final = {
    "### The document of an `agreement`": ("receipts", "agreements"),
    "### The document of a `payment_channel`": ("receipts", "channel_receipts", "channel_parties"),
    "### The document of a `task`": (
        *("receipts", "task_receipts", "task_streams"),
        *("stream_payments", "stream_files"),
    ),
    "## Histories": ("histories", "history_steps", "channel_parties"),
}
"""Each chapter that has a table of checks, and the modules that name them."""


def rows(heading: str, *, chapter: str = "") -> list[list[str]]:
    """The cells of the chapter's first table that has that first cell in its heading, without the marks of code."""
    start = TEXT.index(f"\n| {heading} |", TEXT.index(f"\n{chapter}\n") if chapter else 0) + 1
    table = TEXT[start:].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().strip("`") for cell in row.strip("| ").split(" | ")] for row in table]


def test_the_examples_are_the_vectors() -> None:
    assert list(EXAMPLES) == list(CASES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_bytes_are_what_the_code_makes_in_the_example(name: str) -> None:
    message, table = EXAMPLES[name]
    case = CASES[name]
    built = build_message(case["kind"], DOMAIN, message.split("\n")[3:])
    signatures = {signer: sign(SECRET_KEYS[signer], built) for signer in case["signatures"]}

    assert built.decode() == message
    assert table == "".join(
        (
            f"| bytes | {len(built)} |\n",
            f"| digest | `{digest(built)}` |\n",
            *(f"| signature of {signer} | `{signature}` |\n" for signer, signature in signatures.items()),
        )
    )


@pytest.mark.parametrize("kind", Kind)
def test_there_is_a_chapter_with_the_fields_and_an_example_of(kind: Kind) -> None:
    chapter = TEXT.split(f"\n### `{kind}`\n")[1].split("\n#")[0]
    fields = re.search(r"^Fields: (.*?)\.\n\n", chapter, re.MULTILINE | re.DOTALL)
    messages = [message.split("\n") for name, (message, _) in EXAMPLES.items() if f"Example: {name}\n" in chapter]

    assert fields
    assert messages
    assert {message[2] for message in messages} == {kind}
    assert {len(message) - 3 for message in messages} == {len(fields[1].split(", "))}


def test_the_keys_are_those_of_the_secret_seeds() -> None:
    for name, seed, public_key, did in rows("key"):
        assert bytes.fromhex(seed) == SECRET_KEYS[name]
        assert format_public_key(public_key_of(bytes.fromhex(seed))) == public_key
        assert did_from_public_key(public_key_of(bytes.fromhex(seed))) == did


def test_the_unsafe_points_are_refused_as_keys() -> None:
    points = [bytes.fromhex(point) for point, _ in rows("refused as a key, hex")]

    assert len(set(points)) == 14
    for point in points:
        with pytest.raises(BadKey):
            parse_public_key(format_public_key(point))


def test_the_canonical_json_is_that_of_the_values() -> None:
    examples = rows("value")

    assert len(examples) > 3
    for value, canonical in examples:
        assert canonical_json(json.loads(value)).decode("utf-8") == canonical


def test_the_levels_of_nesting_are_told() -> None:
    assert f"at most {NESTING_MAX} levels deep" in TEXT
    assert f"in the document of a receipt {DOCUMENT_NESTING_MAX}" in TEXT


def test_the_checksums_are_those_of_the_chunks() -> None:
    for chunks, size, checksum in rows("chunks"):
        stream = checksum_of(re.findall(rb"hello |world", chunks.encode()))
        assert (str(stream.size), stream.hexdigest()) == (size, checksum)


def test_the_running_digests_are_those_of_the_chunks() -> None:
    head, written = NO_CHUNKS, rows("seq")
    sent = [chunk.strip("`").encode() for chunk in re.findall(r"^\| \d \| `([^`]+)` \|", TEXT, re.MULTILINE)]

    assert NO_CHUNKS == "0" * 64
    assert len(written) == len(sent) == 2
    for (seq, _, digest_with_it), chunk in zip(written, sent, strict=True):
        head = next_digest(head, seq=int(seq), chunk=chunk)
        assert digest_with_it == head


def test_the_receipt_verifies_and_is_signed_by_the_example_keys() -> None:
    report = verify_receipt(
        RECEIPT, platform_key=PLATFORM.public_key, client_key=ALICE.public_key, provider_key=BOB.public_key
    )

    assert report.unproven == ()
    assert f"canonical digest `{canonical_digest(RECEIPT['document'])}`" in TEXT


def test_the_receipt_of_a_channel_is_that_of_the_transfers_and_the_close_above() -> None:
    report = verify_receipt(
        CHANNEL_RECEIPT, platform_key=PLATFORM.public_key, opener_key=ALICE.public_key, counterparty_key=BOB.public_key
    )

    assert report.unproven == ()
    assert f"canonical digest\n`{canonical_digest(CHANNEL_RECEIPT['document'])}`" in TEXT
    for said, case in (("last_transfer", "transfer 2, B pays 50 for a task"), ("close", "close after nonce 2")):
        signatures = CASES[case]["signatures"]
        made = CHANNEL_RECEIPT["document"][said]
        assert (made["signature_a"], made["signature_b"]) == (signatures["A"], signatures["B"])


def test_the_receipt_of_a_task_is_that_of_the_agreement_and_the_stream_above() -> None:
    report = verify_receipt(TASK_RECEIPT, platform_key=PLATFORM.public_key)
    document = TASK_RECEIPT["document"]

    assert report.unproven == ()
    assert f"canonical\ndigest `{canonical_digest(document)}`" in TEXT
    assert (document["negotiation_session_id"], document["price"]) == (RECEIPT["id"], RECEIPT["document"]["amount"])
    assert document["streams"]["input"]["digest"] == rows("seq")[-1][-1]
    verify_chunks(TASK_RECEIPT, direction="input", chunks=[b"hello ", b"world"])
    verify_chunks(TASK_RECEIPT, direction="output", chunks=re.findall(rb"hallo |welt", TEXT.encode())[:2])
    for given, name in (("input given at the opening is", "input_digest"), ("the result", "result_digest")):
        (said,) = re.findall(rf"{given} `(.+?)`", TEXT)
        assert canonical_digest(json.loads(said)) == document[name]


def test_the_members_of_the_parts_of_a_tasks_receipt_are_all_listed() -> None:
    document = {**TASK_RECEIPT["document"], "settlement": settlement("split", "operator"), "stream_price": PER_CHUNK}
    chapter = TEXT.split("\n### The document of a `task`\n")[1].split("\n| check |")[0]
    values = {"client", "provider", "split", "operator", "default", "automatic", "chunk", "bytes", "input", "output"}

    for member, parts in (
        ("settlement", document["settlement"]),
        ("stream_price", document["stream_price"]),
        ("streams", document["streams"]["input"]),
    ):
        (meaning,) = re.findall(rf"^\| .*`{member}` \| (.*) \|$", chapter, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", meaning)) - values == set(parts)


def test_the_history_verifies_and_is_that_of_the_same_channel() -> None:
    report = verify_history(
        HISTORY, platform_key=PLATFORM.public_key, opener_key=ALICE.public_key, counterparty_key=BOB.public_key
    )

    assert report.unproven == ()
    assert (report.id, HISTORY[-1]["digest"]) == (CHANNEL_RECEIPT["id"], TEXT.split("have the digest\n`")[1][:64])
    said = {name: value for name, value in HISTORY[4]["details"].items() if name != "memo"}
    assert said.items() <= CHANNEL_RECEIPT["document"]["last_transfer"].items()


@pytest.mark.parametrize(
    ("chapter", "heading", "members"),
    [
        ("## Receipts", "member", RECEIPT.keys()),
        ("### The document of an `agreement`", "member", RECEIPT["document"].keys()),
        ("### The document of a `payment_channel`", "member", CHANNEL_RECEIPT["document"].keys()),
        ("### The document of a `task`", "member", TASK_RECEIPT["document"].keys()),
        ("## Histories", "header", HISTORY[0].keys()),
        ("## Histories", "step", HISTORY[1].keys()),
        ("## Histories", "platform", HISTORY[-1].keys()),
    ],
    ids=["receipt", "agreement", "payment channel", "task", "header", "step", "platform"],
)
def test_the_members_of_a_receipt_are_all_listed(chapter: str, heading: str, members: set[str]) -> None:
    table = TEXT.split(f"\n{chapter}\n")[1].split(f"\n| {heading} | meaning |\n")[1].split("\n\n")[0]

    assert set(re.findall(r"`(\w+)`", "".join(row.split(" | ")[0] for row in table.splitlines()[1:]))) == set(members)


@pytest.mark.parametrize("member", ["last_transfer", "close"])
def test_the_members_of_a_part_of_a_channels_receipt_are_all_listed(member: str) -> None:
    (row,) = re.findall(rf"^\| `{member}` \| (.*) \|$", TEXT, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", row))

    assert named - {"joint_close"} == set(CHANNEL_RECEIPT["document"][member])


def test_the_kinds_of_steps_are_listed_with_their_details_and_who_does_them() -> None:
    roles = {
        "A": {"opener"},
        "B": {"counterparty"},
        "null": {"nobody"},
        "who has disputed": {"opener", "counterparty"},
    }
    written = {
        kind: (set(re.findall(r"\w+", members)), set().union(*(roles[word] for word in by.split(", "))))
        for kind, members, by, _ in (
            [cell.strip().strip("`") for cell in row.removeprefix("|").removesuffix("|").split("|")]
            for row in TEXT.split("\n| kind of step |")[1].split("\n\n")[0].splitlines()[2:]
        )
    }

    assert written == {kind: (set(rule.members), set(rule.by)) for kind, rule in _RULES.items()}


def checks_named_in(path: Path) -> set[str]:
    """Every check that stands in a call or in a list of checks there."""
    tree = ast.parse(path.read_text("utf-8"))
    return {
        keyword.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "check" and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }


def test_the_checks_of_receipts_and_histories_are_those_that_the_code_names() -> None:
    tables = {check for chapter in CHECKED for check, _ in rows("check", chapter=chapter)}

    assert tables == set().union(*(checks_named_in(path) for path in PACKAGE.glob("*.py")))


@pytest.mark.parametrize("chapter", CHECKED)
def test_the_table_of_checks_has_all_that_the_chapters_modules_name(chapter: str) -> None:
    named = {check for module in CHECKED[chapter] for check in checks_named_in(PACKAGE / f"{module}.py")}
    listed = [check for check, _ in rows("check", chapter=chapter)]

    assert len(set(listed)) == len(listed)
    assert named <= set(listed)


def test_every_reason_of_a_refusal_by_a_format_is_named() -> None:
    for reason in ("invalid_public_key", "invalid_signature", "invalid_document", "invalid_receipt"):
        assert f"`{reason}`" in TEXT
    for reason in ("nonce_replayed", "nonce_gap", "checksum_mismatch", "size_mismatch"):
        assert f"`{reason}`" in TEXT
