"""A full disk is said once, and so is room."""

from mesh_tools.up.disk import FULL_BYTES, ROOM_BYTES, Disk


def test_a_disk_that_fills_and_empties_is_said_each_once_and_a_tremble_is_not() -> None:
    disk = Disk()
    frees = (ROOM_BYTES, FULL_BYTES - 1, 0, FULL_BYTES + 1, ROOM_BYTES, ROOM_BYTES + 1, 0)
    assert [disk.look(free) for free in frees] == ["", "full", "", "", "", "room", "full"]


def test_a_disk_with_room_is_nothing_to_say() -> None:
    assert Disk().look(FULL_BYTES) == ""
