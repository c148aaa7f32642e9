from immr.events.query_ids import new_query_id, order_key, user_key


def test_queries_of_a_user_share_an_order_key_but_no_id():
    first, second = (new_query_id(user_key("ann")) for _ in range(2))
    assert first != second
    assert order_key(first) == order_key(second) == user_key("ann")


def test_without_a_user_each_query_has_its_own_order_key():
    assert user_key("") == ""
    query_id = new_query_id()
    assert order_key(query_id) == query_id


def test_user_keys_are_too_short_to_identify_a_user():
    assert len(user_key("ann@example.com")) == 4
