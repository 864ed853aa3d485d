from __future__ import annotations

from pathlib import Path

import pytest

from localllm.kept_facts import MAX_FACTS, KeptFacts


def test_what_is_kept_is_there_next_time(tmp_path: Path) -> None:
    file = tmp_path / "new" / "facts.json"
    KeptFacts(file).put("a", {"x": 1.5})
    KeptFacts(file).put("b", {"x": 2})
    assert KeptFacts(file).get("a") == {"x": 1.5}
    assert KeptFacts(file).get("c") is None
    assert [path.name for path in file.parent.iterdir()] == ["facts.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 3}', "\xff"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "facts.json"
    file.write_bytes(text.encode("latin-1"))
    assert KeptFacts(file).get("a") is None
    KeptFacts(file).put("a", {"x": 1})
    assert KeptFacts(file).get("a") == {"x": 1}


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    KeptFacts(tmp_path / "file" / "facts.json").put("a", {})


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    facts = KeptFacts(tmp_path / "facts.json")
    for index in range(MAX_FACTS + 2):
        facts.put(str(index), {"index": index})
    assert facts.get("1") is None and facts.get("2") == {"index": 2}
