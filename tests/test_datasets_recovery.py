"""The picture store under kills, rivals and damage, and the memory that it takes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import pytest
from drawings import encoded, noise
from memory_pictures import Memory, sources, store_of

from anga.datasets.pictures import Entry, Journal, parse
from anga.errors import AngaError

ROOT = Path(__file__).parents[1]
# A package without its own __init__, whose imports take seconds that a child process does not need.
LIGHT = f"""
import sys, types
sys.modules["anga"] = types.ModuleType("anga")
sys.modules["anga"].__path__ = [{str(ROOT / "anga")!r}]
"""


CHILD = """
    import sys, time
    from pathlib import Path
    from memory_pictures import Memory, sources, store_of

    class Slow(Memory):
        def read(self):
            time.sleep(0.03)
            return super().read()

    print("ready", flush=True)
    store_of(Path(sys.argv[1]), [Slow(s.name, s.data) for s in sources(60)])
    print("done", flush=True)
"""


def child(folder) -> subprocess.Popen:
    command = [sys.executable, "-c", LIGHT + textwrap.dedent(CHILD), str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def lines(folder) -> list[bytes]:
    path = Journal(folder).path
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def test_after_a_kill_only_the_rest_is_decoded(tmp_path):
    process = child(tmp_path)
    while len(lines(tmp_path)) < 5:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = {parse(line).name for line in lines(tmp_path)}
    assert 5 <= len(done) < 60, "killed midway"
    with open(Journal(tmp_path).blob, "ab") as blob, open(Journal(tmp_path).path, "ab") as journal:
        blob.write(b"half a picture")  # what a kill at a worse moment leaves
        journal.write(b'["img/59.png", "1", 12')
    read = set()

    class Watched(Memory):
        def read(self):
            read.add(self.name)
            return super().read()

    store = store_of(tmp_path, [Watched(s.name, s.data) for s in sources(60)])
    assert list(store) == [source.data for source in sources(60)]
    assert read == {source.name for source in sources(60)} - done


def test_two_processes_at_once_do_it_once(tmp_path):
    processes = [child(tmp_path), child(tmp_path)]
    assert [process.communicate()[0].split() for process in processes] == [["ready", "done"]] * 2
    assert len(lines(tmp_path)) == 60
    assert Journal(tmp_path).blob.stat().st_size == sum(len(source.data) for source in sources(60))


def spoil(folder: Path, how: str) -> None:
    journal = Journal(folder)
    if how == "blob cut":
        os.truncate(journal.blob, journal.blob.stat().st_size // 2)
    elif how == "blob gone":
        journal.blob.unlink()
    elif how == "journal gone":
        journal.path.unlink()
    elif how == "journal garbage":
        journal.path.write_bytes(b"\x00\xff garbage\n[1, 2]\n{}\n")
    elif how == "a line garbled":
        kept = lines(folder)
        kept[4] = kept[4][:-9]
        journal.path.write_bytes(b"\n".join(kept) + b"\n")


@pytest.mark.parametrize("how", ["blob cut", "blob gone", "journal gone", "journal garbage", "a line garbled"])
def test_what_is_lost_is_made_again(tmp_path, how):
    whole = store_of(tmp_path, sources())
    spoil(tmp_path, how)
    mended = store_of(tmp_path, sources())
    assert list(mended) == [source.data for source in sources()]
    assert mended.content_hash == whole.content_hash


def test_a_place_that_was_lost_never_comes_back_with_other_bytes(tmp_path):
    store_of(tmp_path, sources())
    os.truncate(Journal(tmp_path).blob, 0)
    store_of(tmp_path, [Memory("other", encoded(noise(40, 40)))])
    assert list(store_of(tmp_path, sources())) == [source.data for source in sources()]


def test_flipped_bits_are_one_clear_error_where_they_are(tmp_path):
    store = store_of(tmp_path, sources())
    data = bytearray(store.blob.read_bytes())
    data[int(store.places[7, 0]) + 20] ^= 4
    store.blob.write_bytes(data)
    assert store[6] == sources()[6].data
    with pytest.raises(AngaError, match=rf"damaged at picture 7; delete the folder '{tmp_path}'"):
        store[7]


@pytest.mark.parametrize("how", ["blob cut", "blob gone"])
def test_a_store_in_use_whose_blob_goes_away_is_one_clear_error(tmp_path, how):
    store = store_of(tmp_path, sources())
    spoil(tmp_path, how)
    with pytest.raises(AngaError, match="ends too early or cannot be read"):
        store[11]


def test_a_cache_that_cannot_be_written_names_the_way_out(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AngaError, match="set ANGA_CACHE"):
        Journal(tmp_path / "file" / "cache").entries(sources())


def test_reading_all_pictures_takes_no_more_memory_than_one(tmp_path):
    """A blob of 300 MB of zeros that takes no room on the disk, read from the beginning to the end."""
    size, n = 2**20, 300
    with open(Journal(tmp_path).blob, "wb") as blob:
        blob.truncate(n * size)
    checksum = zlib.crc32(bytes(size))
    entries = [Entry(f"{k}", "1", k * size, size, checksum, "hash") for k in range(n)]
    (tmp_path / "entries.json").write_text(json.dumps(entries))
    script = """
        import json, resource, sys
        from anga.datasets.pictures import Entry, PictureStore
        entries = [Entry(*values) for values in json.load(open(sys.argv[2]))]
        store = PictureStore(sys.argv[1], entries)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = sum(len(picture) for picture in store)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(total, (after - before) / (2**20 if sys.platform == "darwin" else 1024))
    """
    command = [sys.executable, "-c", LIGHT + textwrap.dedent(script)]
    done = subprocess.run([*command, Journal(tmp_path).blob, tmp_path / "entries.json"], capture_output=True, text=True)
    total, grown = done.stdout.split()
    assert int(total) == n * size and float(grown) < 30
