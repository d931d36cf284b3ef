"""The README's Python runs as it is printed, against a real broker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from streambus_broker import EmbeddedBroker

README = Path(__file__).parents[2] / "packages" / "streambus-client" / "README.md"


def test_examples_of_the_readme_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    with EmbeddedBroker() as broker:
        here = [block.replace("127.0.0.1:9092", broker.address) for block in blocks]
        outputs = [
            subprocess.run(
                [sys.executable, "-W", "error", "-c", block],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
            for block in here
        ]
    assert outputs[0].count("b'alice' b'2 plums' (('source', b'web'),)") == 1
    for value in ("5 figs", "1 pear", "3 nuts"):
        assert f"b'{value}'" in outputs[0]
    assert "b'7 plums'" in outputs[1]
