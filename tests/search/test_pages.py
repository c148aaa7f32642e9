import numpy as np

from immr.search.pages import Answer, Wanted, is_photo_search
from immr.types import Filters


def test_words_and_items_are_no_photo_searches() -> None:
    photo, words = Answer(np.ones(1, np.float32)), Answer(None)
    assert is_photo_search(photo, Wanted(1, Filters("Tea"), "category"))
    assert not is_photo_search(words, Wanted(1, text="tea"))
    assert not is_photo_search(photo, Wanted(1, text="tea"))
    assert not is_photo_search(photo, Wanted(1, Filters(exclude="tea")))
