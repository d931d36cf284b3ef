"""The simulated disk: equal to the real one while nothing fails, and as bad as promised after."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streambus_storage._filesystem import FileSystem, RealFileSystem
from streambus_storage.testing import (
    CUT_MODES,
    Call,
    PowerCut,
    SimulatedFileSystem,
    random_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "missing/a", "d"])
ONE_NAME = (
    *("create", "open_append", "unlink", "exists", "list_directory", "remove_directory"),
    *("make_directory", "sync_directory", "read", "lock", "lock_twice"),
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(ONE_NAME), NAMES),
    st.tuples(st.sampled_from(["rename", "link"]), NAMES, NAMES),
)


def perform(disk: FileSystem, root: str, step: tuple[str, ...], number: int) -> object:
    """Do one step; return what it returned, or the class and number of what it raised."""
    kind, *paths = step[0], *(f"{root}/{path}" for path in step[1:])
    try:
        if kind in ("create", "open_append"):
            file = disk.create(paths[0]) if kind == "create" else disk.open_append(paths[0])
            try:
                before = file.size
                file.append(b"%d;" % number)
                file.append_parts([b"x", memoryview(b"yz")])
                file.sync()
                return before, file.size
            finally:
                file.close()
                file.close()
        if kind == "read":
            reader = disk.open_read(paths[0])
            try:
                return reader.size(), reader.read(1, 4), reader.read(10_000, 1)
            finally:
                reader.close()
        if kind == "lock":
            disk.lock(f"{paths[0]}.lock").release()
            return None
        if kind == "lock_twice":
            first = disk.lock(f"{paths[0]}.lock")
            try:
                disk.lock(f"{paths[0]}.lock")
            finally:
                first.release()
        if kind == "list_directory":
            return sorted(disk.list_directory(paths[0]))
        return getattr(disk, kind)(*paths)
    except OSError as error:
        return type(error), error.errno


def is_ambiguous(answer: object) -> bool:
    """Errors that differ between systems: a directory where a file was expected."""
    return isinstance(answer, tuple) and answer[-1] in (
        errno.EISDIR,
        errno.EPERM,
        errno.ENOTDIR,
        errno.EINVAL,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25))
def test_disk_answers_like_the_real_one(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, ...]]
) -> None:
    root = str(tmp_path_factory.mktemp("real"))
    real, simulated = RealFileSystem(), SimulatedFileSystem()
    simulated.make_directory("/sim")
    for disk, place in ((real, root), (simulated, "/sim")):
        disk.make_directory(f"{place}/d/e")
    for number, step in enumerate(steps):
        if step[0] == "rename" and os.path.isdir(f"{root}/{step[1]}"):
            continue  # whole directories are not renamed through this door
        one = perform(real, root, step, number)
        two = perform(simulated, "/sim", step, number)
        if is_ambiguous(one) or is_ambiguous(two):
            assert isinstance(one, tuple), (step, one, two)
            assert isinstance(two, tuple), (step, one, two)
            assert issubclass(one[0], OSError), (step, one, two)
            assert issubclass(two[0], OSError), (step, one, two)
        else:
            assert one == two, (step, one, two)
    found = {
        f"/sim/{path.relative_to(root)}": path.stat().st_size
        for path in Path(root).rglob("*")
        if path.is_file()
    }
    assert simulated.files() == dict(sorted(found.items()))
    assert simulated.used_bytes == sum(
        {os.stat(f"{root}{path[4:]}").st_ino: size for path, size in found.items()}.values()
    )


def disk_with(synced: bytes, unsynced: bytes) -> SimulatedFileSystem:
    disk = SimulatedFileSystem()
    disk.make_directory("/d")
    disk.sync_directory("/")
    file = disk.create("/d/f")
    disk.sync_directory("/d")
    file.append(synced)
    file.sync()
    file.append(unsynced)
    file.close()
    return disk


@pytest.mark.parametrize("mode", CUT_MODES)
@pytest.mark.parametrize("seed", range(30))
def test_cut_keeps_what_was_synced_and_never_invents_length(mode: str, seed: int) -> None:
    synced, unsynced = b"s" * 700, b"u" * 2_000
    disk = disk_with(synced, unsynced)
    after = disk.power_cut(random_source(seed), mode)  # type: ignore[arg-type] # one of CUT_MODES
    left = after.content("/d/f")
    assert left.startswith(synced)
    assert len(left) <= 2_700
    if mode == "drop":
        assert left == synced
    if mode == "keep":
        assert left == synced + unsynced
    if mode == "torn":
        assert left == (synced + unsynced)[: len(left)]
    if mode == "blocks":
        for at in range(1024, len(left), 512):
            assert len(set(left[at : at + 512])) == 1
    assert disk.content("/d/f") == synced + unsynced, "the cut disk itself is not changed"
    assert after.power_cut(random_source(0), "drop").content("/d/f") == left


def test_cut_is_the_same_for_the_same_seed() -> None:
    disk = disk_with(b"s" * 100, b"u" * 9_000)
    for mode in CUT_MODES:
        outcomes = {disk.power_cut(random_source(4), mode).content("/d/f") for _ in range(3)}
        assert len(outcomes) == 1
    several = {disk.power_cut(random_source(seed), "blocks").content("/d/f") for seed in range(9)}
    assert len(several) > 1


def test_name_is_lost_without_a_directory_sync() -> None:
    disk = SimulatedFileSystem()
    disk.make_directory("/d")
    file = disk.create("/d/f")
    file.append(b"x")
    file.sync()
    file.close()
    assert disk.power_cut(random_source(0), "drop").files() == {}
    disk.sync_directory("/d")
    assert disk.power_cut(random_source(0), "drop").files() == {}, "the directory has no name"
    disk.sync_directory("/")
    assert disk.power_cut(random_source(0), "drop").files() == {"/d/f": 1}


def test_rename_is_kept_whole_or_undone_whole() -> None:
    disk = disk_with(b"new", b"")
    old = disk.create("/d/CURRENT")
    old.append(b"old")
    old.sync()
    old.close()
    disk.sync_directory("/d")
    disk.rename("/d/f", "/d/CURRENT")
    seen = set()
    for seed in range(40):
        after = disk.power_cut(random_source(seed), "random")
        seen.add(tuple(after.files()))
        assert after.content("/d/CURRENT") == (b"old" if "/d/f" in after.files() else b"new")
    assert seen == {("/d/CURRENT",), ("/d/CURRENT", "/d/f")}
    disk.sync_directory("/d")
    assert disk.power_cut(random_source(0), "drop").content("/d/CURRENT") == b"new"


def test_unlink_is_undone_and_hard_links_share_their_content() -> None:
    disk = disk_with(b"data", b"")
    disk.link("/d/f", "/d/g")
    disk.sync_directory("/d")
    disk.unlink("/d/f")
    after = disk.power_cut(random_source(0), "drop")
    assert after.files() == {"/d/f": 4, "/d/g": 4}
    assert after.used_bytes == 4
    after.unlink("/d/f")
    assert after.used_bytes == 4
    after.unlink("/d/g")
    assert after.used_bytes == 0


def test_lock_and_open_files_end_with_the_cut() -> None:
    disk = disk_with(b"", b"")
    lock = disk.lock("/d/LOCK")
    with pytest.raises(BlockingIOError):
        disk.lock("/d/LOCK")
    disk.power_cut(random_source(0), "keep").lock("/d/LOCK").release()
    lock.release()
    lock.release()
    disk.lock("/d/LOCK").abandon()
    with pytest.raises(BlockingIOError):
        disk.lock("/d/LOCK")


def test_full_disk_keeps_a_part_and_takes_more_when_there_is_room() -> None:
    disk = SimulatedFileSystem(capacity_bytes=10)
    file = disk.create("/f")
    file.append(b"12345678")
    with pytest.raises(OSError, match="No space") as caught:
        file.append(b"abcd")
    assert caught.value.errno == errno.ENOSPC
    assert file.size == 8
    assert disk.content("/f") == b"12345678ab"
    disk.capacity_bytes = 12
    file.append(b"ABCD")
    assert disk.content("/f") == b"12345678ABCD"
    assert disk.used_bytes == 12
    assert disk.room_bytes == 0
    file.close()
    with pytest.raises(OSError, match="Bad file"):
        file.append(b"")


def test_fault_strikes_the_nth_matching_call() -> None:
    disk = disk_with(b"", b"")
    fault = disk.fail("append", nth=2, path="/d/f", error=errno.EDQUOT)
    other = disk.create("/d/g")
    file = disk.open_append("/d/f")
    other.append(b"1")
    file.append(b"1")
    with pytest.raises(OSError, match="quota") as caught:
        file.append(b"2")
    assert caught.value.filename == "/d/f"
    file.append(b"3")
    assert disk.content("/d/f") == b"13"
    assert (fault.seen, fault.hits) == (3, 1)
    disk.fail("*", times=None)
    for call in (lambda: file.append(b""), lambda: disk.list_directory("/d"), file.sync):
        with pytest.raises(OSError, match="Input/output"):
            call()
    disk.heal()
    file.sync()
    file.close()
    other.close()


def test_failed_sync_that_loses_its_pages_then_succeeds() -> None:
    disk = disk_with(b"safe", b"")
    file = disk.open_append("/d/f")
    file.append(b"gone")
    disk.fail("sync", effect="lost")
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.append(b"more")
    file.sync()
    file.close()
    assert disk.content("/d/f") == b"safegonemore", "the page cache still shows it"
    after = disk.power_cut(random_source(0), "drop")
    assert after.content("/d/f") == b"safe\0\0\0\0more"


@pytest.mark.parametrize("effect", ["none", "done"])
def test_failed_call_takes_effect_only_when_asked(effect: str) -> None:
    calls: dict[str, tuple[Callable[[SimulatedFileSystem], object], Callable[..., bool]]] = {
        "create": (lambda d: d.create("/d/n"), lambda d: d.exists("/d/n")),
        "rename": (lambda d: d.rename("/d/f", "/d/n"), lambda d: d.exists("/d/n")),
        "link": (lambda d: d.link("/d/f", "/d/n"), lambda d: d.exists("/d/n")),
        "unlink": (lambda d: d.unlink("/d/f"), lambda d: not d.exists("/d/f")),
        "make_directory": (lambda d: d.make_directory("/e"), lambda d: d.exists("/e")),
        "remove_directory": (lambda d: d.remove_directory("/x"), lambda d: not d.exists("/x")),
        "sync_directory": (
            lambda d: d.sync_directory("/"),
            lambda d: d.power_cut(random_source(0), "drop").exists("/x"),
        ),
    }
    for kind, (call, happened) in calls.items():
        disk = disk_with(b"1", b"")
        disk.make_directory("/x")
        disk.fail(kind, effect=effect)  # type: ignore[arg-type] # one of Effect
        with pytest.raises(OSError, match="Input/output"):
            call(disk)
        assert happened(disk) is (effect == "done"), kind


@pytest.mark.parametrize(("effect", "left"), [("partial", b"ab"), ("done", b"abcd")])
def test_failed_append_leaves_a_part_or_all(effect: str, left: bytes) -> None:
    disk = disk_with(b"", b"")
    file = disk.open_append("/d/f")
    disk.fail("append", effect=effect)  # type: ignore[arg-type] # one of Effect
    with pytest.raises(OSError, match="Input/output"):
        file.append(b"abcd")
    file.close()
    assert disk.content("/d/f") == left
    disk = disk_with(b"", b"xy")
    file = disk.open_append("/d/f")
    disk.fail("sync", effect="done")
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    file.close()
    assert disk.power_cut(random_source(0), "drop").content("/d/f") == b"xy"


def test_cut_at_stops_every_later_call() -> None:
    disk = disk_with(b"1", b"2")
    disk.cut_at(disk.call_count + 2)
    disk.exists("/d")
    for _ in range(2):
        with pytest.raises(PowerCut, match="exists /d"):
            disk.exists("/d")
    disk.heal()
    assert disk.exists("/d")


def test_every_call_is_counted_traced_and_shown_before_it_takes_effect() -> None:
    disk = disk_with(b"1", b"")
    disk.trace = []
    shown: list[tuple[Call, bool]] = []
    disk.on_call = lambda call: shown.append((call, "/d/n" in disk.files()))
    disk.create("/d/n").close()
    reader = disk.open_read("/d/n")
    reader.size()
    reader.read(0, 1)
    kinds = [call.kind for call in disk.trace]
    assert kinds == ["create", "open_read", "size", "read"]
    assert [present for _, present in shown] == [False, True, True, True]
    assert str(disk.trace[0]) == f"{disk.call_count - 3} create /d/n"
    assert disk.calls["create"] == 2
    reader.close()
    with pytest.raises(OSError, match="Bad file"):
        reader.read(0, 1)
    for kind in ("read", "size"):
        reader = disk.open_read("/d/n")
        disk.fail(kind)
        with pytest.raises(OSError, match="Input/output"):
            reader.read(0, 1) if kind == "read" else reader.size()
        reader.close()


def test_damage_is_durable_and_seen_at_once() -> None:
    disk = disk_with(b"0123456789", b"")
    clone = disk.power_cut(random_source(0), "keep")
    reader = disk.open_read("/d/f")
    disk.flip_bit("/d/f", 1, 3)
    assert reader.read(0, 3) == b"092"
    disk.damage("/d/f", 8, b"abcd")
    disk.shorten("/d/f", 11)
    assert disk.power_cut(random_source(0), "drop").content("/d/f") == b"09234567abc"
    assert disk.used_bytes == 11
    assert clone.content("/d/f") == b"0123456789", "clones share nothing that can change"
    reader.close()
    writer = clone.open_append("/d/f")
    clone.damage("/d/f", 0, b"_")
    writer.append(b"!")
    writer.close()
    assert clone.content("/d/f") == b"_123456789!"


def test_writing_after_a_clone_does_not_reach_the_clone() -> None:
    disk = disk_with(b"1", b"")
    one = disk.power_cut(random.Random(0), "keep")
    two = one.power_cut(random.Random(0), "keep")
    for each, letter in ((disk, b"a"), (one, b"b"), (two, b"c")):
        file = each.open_append("/d/f")
        file.append(letter)
        file.close()
    assert [each.content("/d/f") for each in (disk, one, two)] == [b"1a", b"1b", b"1c"]


def test_kill_keeps_what_is_unsynced_unsynced() -> None:
    disk = disk_with(b"safe", b"cached")
    lock = disk.lock("/d/LOCK")
    disk.link("/d/f", "/d/g")
    disk.make_directory("/e")
    disk.unlink("/d/LOCK")
    killed = disk.process_kill()
    assert killed.files() == disk.files()
    assert killed.content("/d/f") == b"safecached"
    assert killed.used_bytes == disk.used_bytes
    lost = killed.power_cut(random_source(0), "drop")
    assert {path: lost.content(path) for path in lost.files()} == {"/d/f": b"safe"}
    killed.sync_directory("/d")
    file = killed.open_append("/d/g")
    file.sync()
    file.close()
    kept = killed.power_cut(random_source(0), "drop")
    assert {path: kept.content(path) for path in kept.files()} == {
        "/d/f": b"safecached",
        "/d/g": b"safecached",
    }
    assert disk.power_cut(random_source(0), "drop").files() == {"/d/f": 4}, "nothing is shared"
    lock.release()


@pytest.mark.parametrize("real", [False, True])
def test_taken_names_and_directories_are_refused_as_by_the_real_one(
    tmp_path: Path, real: bool
) -> None:
    disk: FileSystem = RealFileSystem() if real else SimulatedFileSystem()
    root = str(tmp_path)
    disk.make_directory(f"{root}/d")
    disk.create(f"{root}/f").close()
    disk.create(f"{root}/g").close()
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/f")
    with pytest.raises(FileExistsError):
        disk.link(f"{root}/f", f"{root}/g")
    with pytest.raises(IsADirectoryError):
        disk.rename(f"{root}/f", f"{root}/d")
    with pytest.raises(IsADirectoryError):
        disk.lock(f"{root}/d")
    with pytest.raises(FileExistsError):
        disk.make_directory(f"{root}/f")
    with pytest.raises(OSError, match="not empty"):
        disk.remove_directory(os.path.dirname(f"{root}/d"))
    with pytest.raises(IsADirectoryError):
        disk.open_append(f"{root}/d")
    assert not disk.exists(f"{root}/missing/f")
    with pytest.raises(NotADirectoryError):
        disk.list_directory(f"{root}/f")
    with pytest.raises(FileNotFoundError):
        disk.list_directory(f"{root}/missing")
    disk.rename(f"{root}/f", f"{root}/f")
    assert sorted(disk.list_directory(root)) == ["d", "f", "g"]


def test_sync_that_fails_with_nothing_to_lose_loses_nothing() -> None:
    disk = SimulatedFileSystem()
    disk.make_directory("/d")
    file = disk.create("/d/f")
    file.append(b"safe")
    file.sync()
    disk.sync_directory("/")
    disk.sync_directory("/d")
    disk.fail("sync", effect="lost")
    with pytest.raises(OSError, match="Input/output"):
        file.sync()
    assert disk.power_cut(random_source(0), "drop").content("/d/f") == b"safe"
