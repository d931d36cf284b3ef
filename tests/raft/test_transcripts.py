"""Conversations between nodes, compared word by word with ``scenarios/*.txt``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.raft.transcript import Transcript

FOLDER = Path(__file__).parent / "scenarios"
FILES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_transcript_is_as_written(path: Path) -> None:
    transcript = Transcript()
    written = path.read_text(encoding="utf-8")
    blocks = []
    for block in written.strip().split("\n\n"):
        commands = block.partition("\n----")[0].splitlines()
        remarks = [line for line in commands if line.startswith("#")]
        output = transcript.run([line for line in commands if not line.startswith("#")])
        lines = [*remarks, *(line for line in commands if not line.startswith("#")), "----"]
        blocks.append("\n".join([*lines, output] if output else lines))
    found = "\n\n".join(blocks) + "\n"
    if os.environ.get("RAFT_TRANSCRIPTS") == "write":
        path.write_text(found, encoding="utf-8")
    assert found == written


def test_there_are_transcripts() -> None:
    assert len(FILES) >= 8
