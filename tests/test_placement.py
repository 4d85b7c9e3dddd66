"""Where the token bank lies: the choice, the same rows from everywhere, and no wait on the way."""

import copy

import numpy as np
import pytest
import torch
from host_waits import HostWaits
from tiny_world import MAX_LENGTH, tiny_config

from anga import placement
from anga.aligner import UPDATE_RULES, GradientAligner
from anga.gradients import FORMS, Group
from anga.missing import MISSING_TYPES
from anga.model import build_model
from anga.placement import choose_placement, fetch, free_host_bytes, host_bytes, place, send
from anga.tokens import BatchMaker, TokenBank

CPU, META = torch.device("cpu"), torch.device("meta")
GB = 10**9
BYTES = {name: n * 145 * 768 * 2 for name, n in {"hatememes": 10_000, "mmimdb": 25_959, "food101": 90_688}.items()}


@pytest.mark.parametrize(
    "free_device, free_host, expected",
    [
        (140, 120, {"hatememes": "device", "mmimdb": "device", "food101": "device"}),
        (23, 120, {"hatememes": "device", "mmimdb": "device", "food101": "pinned"}),
        (23, 32, {"hatememes": "device", "mmimdb": "device", "food101": "mapped"}),
        (7, 60, {"hatememes": "pinned", "mmimdb": "pinned", "food101": "pinned"}),
        (7, 8, {"hatememes": "mapped", "mmimdb": "mapped", "food101": "mapped"}),
    ],
)
def test_the_paper_s_sets_go_where_they_fit(free_device, free_host, expected):
    chosen = {name: choose_placement(n, free_device * GB, free_host * GB, "cuda") for name, n in BYTES.items()}
    assert chosen == expected


@pytest.mark.parametrize("needed", [1, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**33])
def test_room_is_left_on_both_sides_and_pinned_memory_is_counted_as_torch_takes_it(needed):
    taken = 2 ** int(np.ceil(np.log2(needed)))
    device, host = needed + placement.TRAINING_ROOM, taken + placement.HOST_ROOM
    assert choose_placement(needed, device, 0, "cuda") == "device"
    assert choose_placement(needed, device - 1, host, "cuda") == "pinned"
    assert choose_placement(needed, device - 1, host - 1, "cuda") == "mapped"


@pytest.mark.parametrize("device_type", ["cpu", "mps", "meta"])
def test_other_devices_read_the_file(device_type):
    assert choose_placement(1, 10**15, 10**15, device_type) == "mapped"


def test_free_memory_stays_within_the_machine_and_its_container(monkeypatch):
    files = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 1000 kB\n"}
    files |= {"/sys/fs/cgroup/memory.max": "500000\n", "/sys/fs/cgroup/memory.current": "100000\n"}
    monkeypatch.setattr(placement.Path, "read_text", lambda path: files[str(path)])
    assert free_host_bytes() == 400_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert free_host_bytes() == 1_024_000
    files["/proc/meminfo"] = "nothing of use"
    assert free_host_bytes() == 0


def test_memory_is_that_of_the_container_or_of_the_machine(monkeypatch):
    def limited(text: str) -> int:
        monkeypatch.setattr(placement.Path, "read_text", lambda path: {"/sys/fs/cgroup/memory.max": text}[str(path)])
        return host_bytes()

    machine = limited("max\n")
    assert machine == limited(f"{2**60}\n") > 2**28
    assert limited("300000\n") == 300_000


def stored_rows(n: int = 12) -> torch.Tensor:
    return torch.randn(n, 3, 4, generator=torch.Generator().manual_seed(0)).half()


@pytest.mark.parametrize("where", ["device", "pinned", "mapped"])
@pytest.mark.parametrize("rows", [np.array([7, 2, 7]), np.array([[0, 11], [5, 5]]), np.zeros((2, 3, 1), np.int32)])
def test_rows_come_as_indexing_gives_them(where, rows):
    stored = stored_rows()
    found = fetch(place(stored, where, CPU), where, rows, CPU)
    assert found.dtype == torch.float16 and torch.equal(found, stored[torch.from_numpy(rows).long()])


@pytest.mark.parametrize("where", ["pinned", "mapped"])
def test_rows_that_travel_are_the_distinct_ones_in_order(where):
    stored, rows = stored_rows(), np.array([9, 1, 9, 4, 1])
    numbers, distinct = placement._numbered(rows)
    assert distinct.tolist() == [1, 4, 9] and distinct[numbers].tolist() == rows.tolist()
    assert torch.equal(placement._move_rows(stored, where, distinct, CPU), stored[distinct])


def test_what_is_sent_arrives_unchanged():
    for array in (np.arange(5), np.array([[True, False]]), np.arange(6).reshape(2, 3)[:, ::2]):
        np.testing.assert_array_equal(send(array, CPU).numpy(), array)


def test_a_pinned_copy_is_a_copy():
    stored = stored_rows()
    copy = place(stored, "pinned", CPU)
    stored[0] += 1
    assert not torch.equal(copy[0], stored[0]) and torch.equal(copy[1:], stored[1:])
    assert place(stored, "mapped", CPU) is stored


# --- on a device without values: what moves, and whether the host waits for it


def on_meta(inputs, where: str) -> BatchMaker:
    """The inputs' batch maker, with a bank that delivers to the device "meta"."""
    bank, dataset = inputs.bank, inputs.dataset
    ids, mask = bank.backbone.tokenize(list(dataset.texts), MAX_LENGTH)
    image = np.ascontiguousarray(bank.image.numpy())
    there = TokenBank(bank.backbone, ids.numpy(), mask.numpy(), image, dataset.image_rows, META, where)
    return BatchMaker(there, dataset.labels, inputs.table, inputs.neighbours, True, inputs.integer_mask)


@pytest.fixture
def backbone_on_meta(binary_world, monkeypatch):
    """Text embedding is a table look-up: on that device, one of shapes."""
    monkeypatch.setattr(
        type(binary_world.backbone), "embed_text", lambda _, ids, n: torch.empty((*ids.shape, 16), device=ids.device)
    )


@pytest.mark.parametrize("missing_type", MISSING_TYPES)
@pytest.mark.parametrize("where", ["device", "pinned", "mapped"])
@pytest.mark.usefixtures("backbone_on_meta")
def test_making_a_batch_never_waits_and_moves_each_picture_once(binary_world, where, missing_type):
    inputs = binary_world.inputs(tiny_config(missing_type=missing_type))
    make_batch, rows = on_meta(inputs, where), np.arange(20, 44)
    with HostWaits() as waits:
        batch = make_batch(rows)
    assert waits.places == []
    assert batch.image_pool.shape == (24, 3, 5, 16) and batch.image_pool.is_meta
    pictures = len(rows) + len(np.unique(inputs.neighbours.image[rows]))
    tokens = 0 if where == "device" else pictures * 5 * 16
    index = 24 * 3 * 6  # rows, neighbours, masks: a few numbers per sample
    assert tokens <= waits.sent < tokens + 2 * index


@pytest.mark.usefixtures("backbone_on_meta")
def test_the_integer_mask_never_waits(binary_world):
    inputs = binary_world.inputs(tiny_config(integer_mask=True))
    make_batch = on_meta(inputs, "mapped")
    with HostWaits() as waits:
        make_batch(np.arange(8))
    assert waits.places == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", UPDATE_RULES)
@pytest.mark.usefixtures("backbone_on_meta")
def test_a_step_never_waits(binary_world, form, rule):
    config = tiny_config()
    inputs = binary_world.inputs(config)
    model, rows = copy.deepcopy(build_model(config, inputs)).to(META), np.arange(20, 44)
    group = np.where(
        inputs.table.complete, Group.COMPLETE, np.where(np.arange(90) % 3, Group.REMAINING, Group.ADMITTED)
    )
    aligner, batch = GradientAligner(model.trainable().values(), rule=rule), on_meta(inputs, "device")(rows)
    with HostWaits() as waits:
        gradients = FORMS[form](model, batch, group[rows])
        alignment = aligner.apply(gradients.vectors, gradients.counts)
    assert waits.places == [] and min(gradients.counts) > 0
    assert alignment.weights.is_meta and all(p.grad.is_meta for p in aligner.parameters)


@pytest.mark.parametrize(
    "call",
    [
        lambda there: torch.arange(3).to(META),
        lambda there: there.new_tensor([1.0, 2.0]),
        lambda there: torch.tensor([1.0], device=META),
        lambda there: there.copy_(torch.arange(3.0)),
    ],
)
def test_waits_are_found(call):
    """Guards the tests above."""
    with HostWaits() as waits:
        call(torch.zeros(3, device=META))
    assert waits.places == ["not in the package"]
