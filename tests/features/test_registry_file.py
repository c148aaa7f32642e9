from pathlib import Path


def test_the_file_is_replaced_atomically(tmp_path: Path) -> None:
    from feast.infra.registry.registry import RegistryConfig
    from feast.protos.feast.core.Registry_pb2 import Registry

    from immr.features.registry_file import WholeFileRegistryStore

    path = tmp_path / "registry.db"
    store = WholeFileRegistryStore(RegistryConfig(path=str(path)), tmp_path)
    store.update_registry_proto(Registry(registry_schema_version="1"))
    first = path.stat().st_ino
    with path.open("rb") as reader:  # another process reads while the registry is written
        store.update_registry_proto(Registry(registry_schema_version="2"))
        assert Registry.FromString(reader.read()).registry_schema_version == "1"
    assert path.stat().st_ino != first
    assert store.get_registry_proto().registry_schema_version == "2"
    assert [each.name for each in tmp_path.iterdir()] == ["registry.db"]
