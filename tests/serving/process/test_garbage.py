import gc

from serving.process.garbage import freeze_loaded_objects


def test_loaded_objects_are_not_scanned_again() -> None:
    before = gc.get_freeze_count()
    try:
        freeze_loaded_objects()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
