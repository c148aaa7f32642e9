from immr.index import names


def test_a_content_belongs_to_its_collection_and_version():
    collection = names.collection_name("immr-3")
    content = names.content_name(collection, "9f3a" * 16)
    assert (collection, content) == ("immr_immr-3", "immr_immr-3--9f3a9f3a9f3a")
    assert names.collection_of(content) == collection
    assert names.version_of(collection) == "immr-3"
    assert names.is_content(content) and not names.is_content(collection)


def test_collections_of_others_have_no_version():
    assert names.version_of("their-collection") is None
    assert not names.is_content("their--collection")
