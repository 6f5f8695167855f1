"""Busy servers and broken transfers: requests are repeated after growing pauses, and given up after several."""

import pytest

from headatlas.checkpoints.remote import cache as range_cache
from headatlas.checkpoints.remote import retrying
from headatlas.checkpoints.remote.file import Broken
from headatlas.errors import CheckpointError
from remote_tensors import NAME, file_of, same, store_of


@pytest.mark.parametrize("statuses", [[503, 429], [500], [502, 504, 408]])
def test_requests_to_busy_servers_are_repeated(server, tensors, statuses):
    store = store_of(server)
    server.statuses += statuses
    same(store.read("E"), tensors["E"])


def test_a_server_that_stays_busy(server):
    server.statuses += [503] * 9
    with pytest.raises(CheckpointError) as refused:
        store_of(server)
    assert str(refused.value) == (
        "model.safetensors: the transfer failed 4 times at byte 0 (HTTP 503). Run the same again; what was "
        "fetched is kept."
    )


def test_a_broken_transfer_continues_where_it_broke(server, tensors):
    store = store_of(server)
    start = server.bytes_of(NAME)
    server.breaks += [700, 900, 0]
    same(store.read("E"), tensors["E"])
    assert server.bytes_of(NAME) - start == tensors["E"].nbytes


def test_after_giving_up_only_missing_pieces_are_transferred(server, tensors, monkeypatch):
    monkeypatch.setattr(range_cache, "PIECE", 4000)
    monkeypatch.setattr(range_cache, "N_TRANSFERS", 1)
    store = store_of(server)
    server.breaks += [None, None, 0, 0, 0, 0]
    with pytest.raises(CheckpointError, match=r"the transfer failed 4 times at byte [\d,]+ \(the connection broke: "):
        store.fetch([("E", None)])
    del server.breaks[:], server.asked[:]
    again = store_of(server)
    same(again.read("E"), tensors["E"])
    assert server.bytes_of(NAME) == 1 + tensors["E"].nbytes - 2 * 4000


def test_pauses_grow_and_a_server_can_ask_for_one(server, monkeypatch):
    monkeypatch.setattr(retrying, "PAUSES", (1.0, 2.0))
    file = file_of(server)
    for failures, least in ((1, 0.8), (2, 1.6), (9, 1.6)):
        assert least <= retrying.next_pause(file, failures, Broken("busy"), retries=9) <= least * 1.5
    assert retrying.next_pause(file, 1, Broken("busy", pause=30.0)) == 30.0
    assert retrying.next_pause(file, 1, Broken("busy", pause=1e9)) == retrying.LONGEST_PAUSE
    with pytest.raises(retrying.Unreachable, match=r"the transfer failed 3 times at byte 7 \(busy\)"):
        retrying.next_pause(file, 3, Broken("busy"), at=7)
