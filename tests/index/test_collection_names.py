from immr.index import collection_names


def test_a_content_belongs_to_its_collection_and_version():
    collection = collection_names.collection_name("immr-3")
    content = collection_names.content_name(collection, "9f3a" * 16)
    assert (collection, content) == ("immr_immr-3", "immr_immr-3--9f3a9f3a9f3a")
    assert collection_names.collection_of(content) == collection
    assert collection_names.version_of(collection) == "immr-3"
    assert collection_names.is_content(content) and not collection_names.is_content(collection)


def test_collections_of_others_have_no_version():
    assert collection_names.version_of("their-collection") is None
    assert not collection_names.is_content("their--collection")
