//! The example configuration is one.

use std::path::{Path, PathBuf};

use naam_control::config::{Capability, Config, ObjectSource, Steer};
use naam_control::protocol::admin::{Hook, Site};

#[test]
fn example_is_read_as_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/naam.toml");
    let config = Config::read(&path).unwrap();
    assert_eq!(config.instance.as_str(), "host");
    assert_eq!(config.control.group.as_deref(), Some("naam"));
    assert_eq!(config.control.tcp, Some("127.0.0.1:7626".parse().unwrap()));
    assert_eq!(config.daemon.capabilities, [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon]);
    assert_eq!((config.interfaces[0].name.as_str(), config.interfaces[0].hook), ("eth0", Hook::Auto));
    assert_eq!(config.rdma, None);
    let kv = &config.apps[0];
    assert_eq!((kv.id, kv.integrity, kv.sessions_max, kv.regions[0].bytes), (0, true, 512, 64 << 20));
    assert_eq!(kv.functions[1].object, ObjectSource::File(path.with_file_name("bpf/mica_set.o")));
    let steer = [Steer { shards: vec![62, 63], site: Site::Client, lease_ms: Some(100) }];
    assert_eq!(kv.steer, steer);
    let echo = &config.apps[1];
    assert_eq!((echo.name.as_str(), &echo.functions[0].object), ("echo", &ObjectSource::Builtin("echo".to_owned())));
}

#[test]
fn what_the_example_leaves_out_is_right_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/naam.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Keys follow their mark at once, words come after a space.
    let lines = text.lines().map(|line| line.strip_prefix('#').filter(|key| !key.starts_with(' ')).unwrap_or(line));
    let config = Config::parse(&lines.collect::<Vec<_>>().join("\n"), &path).unwrap();
    assert_eq!(config.rdma, Some("rxe0:1:1".parse().unwrap()));
}

#[test]
fn missing_file_is_named() {
    let error = Config::read(Path::new("/nowhere/naam.toml")).unwrap_err();
    assert_eq!(error.path, PathBuf::from("/nowhere/naam.toml"));
    assert!(error.to_string().contains("cannot be read"), "{error}");
}
