"""The client's own wheel works in an empty environment, and beside packages that have the names of ours."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import agrenting
from tests.system.harness import ROOT
from tests.system.wheels import CLIENT, LOCKS, Environment, bare_environment, build_client

pytestmark = pytest.mark.timeout(600)
"""Packages are installed, and type checkers begin without a cache."""

EXAMPLES = sorted(
    {*(ROOT / "examples").glob("*.py")} - {ROOT / "examples" / name for name in ("__init__.py", "echo_room.py")}
)
"""All that an agent's author may start from. `echo_room.py` extends a server."""

BIN = Path(sys.executable).parent

EVERY_MODULE = """
import importlib, pkgutil, sys
before = {name.partition(".")[0] for name in sys.modules}
import agrenting_client
for found in pkgutil.walk_packages(agrenting_client.__path__, "agrenting_client."):
    importlib.import_module(found.name)
loaded = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print(*sorted(loaded))
"""

VECTORS = """
import json, sys
from agrenting_client.crypto import CryptoError, digest, public_key_of, sign, verify_signature
from signing_vectors import CASES, REFUSED, SECRET_KEYS, VECTORS, build_message

for case in CASES.values():
    message = build_message(case["kind"], VECTORS["signing_domain"], case["fields"])
    assert (message, digest(message)) == (bytes.fromhex(case["message_hex"]), case["digest"])
    for signer, signature in case["signatures"].items():
        assert sign(SECRET_KEYS[signer], message) == signature
        verify_signature(public_key=public_key_of(SECRET_KEYS[signer]), message=message, signature=signature)
refused = 0
for case in REFUSED.values():
    told = CASES[case["case"]]
    message = build_message(told["kind"], VECTORS["signing_domain"], told["fields"])
    key = public_key_of(SECRET_KEYS[case["signer"]])
    try:
        verify_signature(public_key=key, message=message, signature=case["signature"])
    except CryptoError:
        refused += 1
print(json.dumps([len(CASES), len(REFUSED), refused]))
"""

OF_OTHERS = {"Crypto", "asgiref", "channels", "crypto", "django"}
"""What none of those modules loads, though it may be there."""

NEIGHBOURS = """
import channels, channels.layers, Crypto
from Crypto.Cipher import AES
sealed, tag = AES.new(bytes(16), AES.MODE_GCM, nonce=bytes(12)).encrypt_and_digest(b"Bob")
assert AES.new(bytes(16), AES.MODE_GCM, nonce=bytes(12)).decrypt_and_verify(sealed, tag) == b"Bob"
print(channels.__version__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment that holds the client and what it needs, and nothing else."""
    return Environment(tmp_path_factory.mktemp("alone"), lock="client.lock", wheel=wheel)


@pytest.fixture(scope="module")
def crowded(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment in which Django Channels and pycryptodome were first."""
    return Environment(tmp_path_factory.mktemp("crowded"), lock="beside.lock", wheel=wheel)


def test_the_wheel_holds_one_package_with_types_licence_and_specification(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())

    assert {name.partition("/")[0] for name in held} == {
        "agrenting_client",
        f"agrenting_client-{agrenting.__version__}.dist-info",
    }
    assert {f"agrenting_client/{name}" for name in ("py.typed", "crypto/py.typed", "crypto/SIGNING.md")} <= held
    assert f"agrenting_client-{agrenting.__version__}.dist-info/licenses/LICENSE" in held
    assert [name for name in held if re.search(r"hatch_build|pyproject|__pycache__", name)] == []


def test_the_wheel_holds_every_module_as_it_is_but_for_the_seam(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    held = {
        name.removeprefix("agrenting_client/"): archive.read(name).decode()
        for name in archive.namelist()
        if name.startswith("agrenting_client/") and name.endswith(".py")
    }
    sources = {path.relative_to(CLIENT).as_posix(): path for path in CLIENT.rglob("*.py")}
    sources |= {f"crypto/{path.name}": path for path in (ROOT / "crypto").glob("*.py")}
    del sources["hatch_build.py"]

    assert held.keys() == sources.keys()
    assert [name for name, path in sources.items() if path.read_text("utf-8") != held[name]] == ["_crypto.py"]
    assert held["_crypto.py"] == (CLIENT / "_crypto.py").read_text("utf-8").replace("from crypto", "from .crypto")


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("_crypto.py", "from crypto import (", "from crypto.keys import (", "0 times"),
        ("rest.py", "import httpx\n", "import httpx\nfrom channels import limits\n", "rest.py: `from channels`"),
        ("rest.py", "import httpx\n", "import httpx, crypto\nimport crypto\n", "rest.py: `import crypto`"),
    ],
)
def test_no_wheel_is_built_of_sources_with_another_seam(
    tmp_path: Path, name: str, old: str, new: str, complaint: str
) -> None:
    shutil.copytree(CLIENT, tmp_path / "agrenting/client", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "crypto", tmp_path / "crypto", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "agrenting/__init__.py", tmp_path / "agrenting")
    source = tmp_path / "agrenting/client" / name
    text = source.read_text("utf-8")
    assert old in text
    source.write_text(text.replace(old, new), "utf-8")
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]

    done = subprocess.run(command, cwd=tmp_path / "agrenting/client", capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert complaint in done.stderr
    assert not (tmp_path / "dist").exists() or not [*(tmp_path / "dist").iterdir()]


def test_both_distributions_say_the_same_of_themselves() -> None:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    client = tomllib.loads((CLIENT / "pyproject.toml").read_text("utf-8"))["project"]

    assert (CLIENT / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {*client["dependencies"]} <= {*server["dependencies"]}
    assert all(client[name] == server[name] for name in ("requires-python", "license", "authors"))
    assert client["dynamic"] == ["version"]


def test_it_installs_into_an_empty_environment_and_loads_nothing_but_what_it_says(alone: Environment) -> None:
    asked_for = {entry["name"] for entry in json.loads(alone.pip("list", "--format=json", "--not-required"))}

    assert alone.pip("check") == "No broken requirements found.\n"
    assert asked_for - {"pip", "setuptools"} == {"agrenting-client"}
    assert "agrenting_client" in alone.script(EVERY_MODULE).split()


def test_it_breaks_neither_django_channels_nor_pycryptodome_and_they_do_not_break_it(crowded: Environment) -> None:
    pinned = re.search(r"^channels==(\S+)", (LOCKS / "beside.lock").read_text("utf-8"), re.MULTILINE)
    assert pinned is not None

    assert crowded.pip("check") == "No broken requirements found.\n"
    assert {*crowded.script(EVERY_MODULE).split()} & OF_OTHERS == set()
    assert crowded.script(EVERY_MODULE + NEIGHBOURS).splitlines()[-1] == pinned[1]
    assert crowded.script(NEIGHBOURS + EVERY_MODULE).splitlines()[0] == pinned[1]


def test_what_is_installed_signs_and_verifies_the_published_vectors(alone: Environment) -> None:
    source = (ROOT / "tests/crypto/signing_vectors.py").read_text("utf-8")
    site = alone.folder / "vectors_here"
    (site / "vectors").mkdir(parents=True)
    (site / "signing_vectors.py").write_text(source.replace("from crypto", "from agrenting_client.crypto"), "utf-8")
    shutil.copy(ROOT / "tests/crypto/vectors/signing.json", site / "vectors")

    cases, refusals, refused = json.loads(alone.script(f"import sys; sys.path.insert(0, {str(site)!r}){VECTORS}"))

    assert (cases > 5, refusals > 5) == (True, True)
    assert refused == refusals


def test_its_command_is_there_and_knows_its_version(alone: Environment) -> None:
    command = str(alone.bin / "agrenting-client")

    assert alone.run(command, "--version") == f"agrenting-client {agrenting.__version__}\n"
    assert json.loads(alone.run(command, "keygen", "--json"))["did"].startswith("did:key:z6Mk")


# Types, as an agent's author sees them.


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples in a folder of their own, where nothing else of this checkout is found."""
    folder = tmp_path_factory.mktemp("examples")
    for path in EXAMPLES:
        shutil.copy(path, folder)
    return folder


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_mypy_strict_passes_on_the_examples(alone: Environment, examples: Path) -> None:
    names = [path.name for path in EXAMPLES]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        alone.python,
        "--no-incremental",
        *names,
    ]

    done = subprocess.run(
        command, cwd=examples, env=bare_environment(BIN), capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_strict_passes_on_the_examples(alone: Environment, examples: Path) -> None:
    (examples / "pyrightconfig.json").write_text('{"include": ["."], "strict": ["."]}', "utf-8")
    command = [sys.executable, "-m", "pyright", "--pythonpath", alone.python, "--warnings", "--outputjson"]

    done = subprocess.run(
        command, cwd=examples, env=bare_environment(BIN), capture_output=True, text=True, check=False, timeout=300
    )

    told = json.loads(done.stdout)
    assert [f"{one['file']}: {one['message']}" for one in told["generalDiagnostics"]] == []
    assert told["summary"]["filesAnalyzed"] == len(EXAMPLES)
    assert done.returncode == 0
