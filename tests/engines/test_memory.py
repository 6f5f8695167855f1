"""Freed memory goes back to the system, and not too often."""

from types import SimpleNamespace

from headatlas.engines import memory


def test_memory_is_given_back_from_time_to_time(monkeypatch):
    now, trimmed = [11.0], []
    library = SimpleNamespace(malloc_trim=trimmed.append)
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="linux"))
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda _: library))
    monkeypatch.setattr(memory, "time", SimpleNamespace(process_time=lambda: now[0]))
    freed = memory.FreedMemory()
    for passed in (1.0, memory.EVERY, 1.0, memory.EVERY - 1):
        now[0] += passed
        freed.give_back()
    assert trimmed == [0, 0]


def test_a_c_library_that_keeps_no_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda _: SimpleNamespace()))
    monkeypatch.setattr(memory, "EVERY", 0.0)
    memory.FreedMemory().give_back()
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.delattr(memory, "ctypes")
    memory.FreedMemory().give_back()
