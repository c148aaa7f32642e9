from immr.recipes import grocery, many_classes


def test_only_towers_that_are_trained_on_frozen_features_need_those_of_all_photos():
    assert grocery().train.frozen_photos is None
    assert many_classes().train.frozen_photos == 8192
