"""A folder that takes another's place: whole or not at all, and named where it cannot be made."""

import errno
import os
import shutil

import pytest
from filelock import FileLock, Timeout

from anga import replacing
from anga.errors import AngaError
from anga.replacing import in_place_of, locked, named_if_not_made


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "all" / "one"
    folder.mkdir(parents=True)
    (folder / "old").touch()
    return folder


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("keep", "left"), [(False, ["new"]), (True, ["new", "old"])])
def test_a_new_folder_replaces_an_old_one_or_adds_to_it(folder, keep, left):
    with in_place_of(folder, keep) as new:
        (new / "new").touch()
        assert names(folder) == ["old"]
    assert names(folder) == left and names(folder.parent) == ["one"]


@pytest.mark.parametrize("keep", [False, True])
def test_where_there_is_none_a_new_folder_is_just_made(tmp_path, keep):
    with in_place_of(tmp_path / "one", keep) as new:
        (new / "new").touch()
    assert names(tmp_path) == ["one"] and names(tmp_path / "one") == ["new"]


def test_a_folder_stays_if_its_successor_is_not_finished(folder):
    with pytest.raises(KeyboardInterrupt), in_place_of(folder, keep=False) as new:
        (new / "new").touch()
        raise KeyboardInterrupt
    assert names(folder) == ["old"] and names(folder.parent) == ["one"]


def test_a_folder_that_gave_way_is_put_back_if_its_successor_did_not_come(folder, monkeypatch):
    rename = os.rename

    def stopped(source, target):
        if source.name == "one.saving":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, target)

    monkeypatch.setattr(replacing.os, "rename", stopped)
    with pytest.raises(OSError), in_place_of(folder, keep=False):
        pass
    assert names(folder) == ["old"] and names(folder.parent) == ["one"]


def test_what_a_killed_process_left_is_undone(folder):
    shutil.copytree(folder, folder.with_name("one.saving"))
    folder.rename(folder.with_name("one.old"))
    with in_place_of(folder, keep=True) as new:
        assert names(folder) == names(new) == ["old"] and names(folder.parent) == ["one", "one.saving"]
    assert names(folder) == ["old"] and names(folder.parent) == ["one"]


def test_one_writes_at_a_time(tmp_path):
    folder = tmp_path / "all"
    with locked(folder), pytest.raises(Timeout), FileLock(folder / ".lock", timeout=0):
        pass
    with FileLock(folder / ".lock", timeout=0):
        pass


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left"), shutil.Error([("from", "to", "No space left")])],
    ids=["one file", "a copied folder"],
)
def test_what_could_not_be_made_is_named(folder, error):
    message = f"^{folder}: could not be made .No space left.; make room"
    with pytest.raises(AngaError, match=message), named_if_not_made(folder):
        raise error
