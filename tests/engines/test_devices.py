"""Threads and devices of a run: checked, and the threads of the process restored after it."""

import pytest
import torch

from headatlas.engines.devices import check_device, count_threads, use_threads
from headatlas.errors import SettingsError


def test_threads_are_restored_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), use_threads(before + 1) as n_threads:
        assert n_threads == torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    with use_threads(None) as n_threads:
        assert n_threads == torch.get_num_threads() == before


def test_less_than_one_thread_is_refused():
    with pytest.raises(SettingsError, match="threads: expected a whole number of at least 1, found 0"):
        count_threads(0)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "meta"])
def test_unknown_devices_are_refused(device):
    with pytest.raises(SettingsError, match=f"device: expected cpu, cuda or cuda:N, found '{device}'"):
        check_device(device)
