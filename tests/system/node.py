"""Scripts of the unmodified npm client, run in the Node.js of the environment: they print a line of JSON a step."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.system.harness import MarketProcess, free_environment


def steps_of(
    node: str, script: Path, market: MarketProcess, tokens: list[str], *, timeout_s: float = 60, **environment: str
) -> dict[str, Any]:
    """What a script tells, by the names of its steps.

    Args:
        node: The program.
        script: The script, which ends well.
        market: The server that it talks to.
        tokens: Session tokens of the two agents that it is.
        timeout_s: How long it may take.
        environment: What it is told besides.
    """
    done = subprocess.run(
        [node, str(script)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=script.parent,
        env=free_environment(
            URL=market.url.replace("http", "ws", 1) + "/socket",
            TOKEN=tokens[0],
            OTHER_TOKEN=tokens[1],
            **environment,
        ),
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n" + "\n".join(market.log)
    return {step["step"]: step["value"] for step in map(json.loads, done.stdout.splitlines())}
