from pathlib import Path

import pyarrow as pa

from immr.features import forgotten_users


def test_a_forgotten_user_is_left_out_and_not_named(tmp_path: Path) -> None:
    users = pa.table({"user_id": ["ann", "ben", "cy"]})
    assert forgotten_users.without(tmp_path, users) is users
    for user in ("ben", "cy", "ben"):
        forgotten_users.add(tmp_path, user)
    assert forgotten_users.without(tmp_path, users)["user_id"].to_pylist() == ["ann"]
    [file] = tmp_path.iterdir()
    assert "ben" not in file.read_text()
