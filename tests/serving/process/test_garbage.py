import gc

from serving.process.garbage import freeze_loaded_objects


def test_loaded_objects_are_not_scanned_again() -> None:
    loaded: list[object] = []
    assert any(each is loaded for each in gc.get_objects())
    freeze_loaded_objects()
    assert not any(each is loaded for each in gc.get_objects())
