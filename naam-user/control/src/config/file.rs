//! The file as it is written, and what toml cannot check by itself: ranges and repetitions, with
//! the line to blame.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use naam_abi::limits::{
    APPS_MAX, BUILTIN_FUNCTIONS, FUNCTIONS_MAX, PORT_BASE, PORTS, REGIONS_MAX, SESSIONS_MAX, SHARDS_MAX,
};
use naam_abi::tables::{RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE};
use serde::Deserialize;
use toml::Spanned;

use super::{
    App, Capability, Config, ConfigError, Control, Daemon, Function, Interface, ObjectSource, Rdma, Region, RegionSize,
    Steer, VERBS,
};
use crate::protocol::admin::{Hook, Site};
use crate::protocol::session::Rights;
use crate::{FunctionName, Name, limits};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "default_instance")]
    instance: Name,
    port_base: Option<Spanned<u16>>,
    #[serde(default)]
    control: ControlTable,
    #[serde(default)]
    daemon: DaemonTable,
    rdma: Option<Rdma>,
    #[serde(default)]
    interface: Vec<InterfaceTable>,
    #[serde(default)]
    app: Vec<AppTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlTable {
    socket: Option<PathBuf>,
    group: Option<String>,
    tcp: Option<SocketAddr>,
    lease_s: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonTable {
    user: Option<String>,
    capabilities: Option<Vec<Capability>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InterfaceTable {
    name: Spanned<String>,
    #[serde(default)]
    hook: Hook,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppTable {
    name: Spanned<Name>,
    id: Spanned<u16>,
    #[serde(default)]
    integrity: Integrity,
    #[serde(default)]
    timed: bool,
    sessions_max: Option<Spanned<usize>>,
    #[serde(default)]
    onesided: bool,
    #[serde(default)]
    region: Vec<RegionTable>,
    #[serde(default)]
    function: Vec<FunctionTable>,
    #[serde(default)]
    steer: Vec<SteerTable>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Integrity {
    #[default]
    On,
    Off,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RegionTable {
    name: Spanned<Name>,
    size: RegionSize,
    #[serde(default)]
    raw: Vec<RawRight>,
    verbs: Option<Vec<VerbsRight>>,
}

/// A right of `raw` of a region.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawRight {
    Read,
    Write,
    Atomic,
}

impl RawRight {
    fn all(rights: &[Self]) -> Rights {
        let bits = rights.iter().map(|right| match right {
            Self::Read => RIGHT_READ,
            Self::Write => RIGHT_WRITE,
            Self::Atomic => RIGHT_ATOMIC,
        });
        Rights::from_bits(bits.fold(0, |all, bit| all | bit))
    }
}

/// A right of `verbs` of a region. Devices do atomics on their own, not as processors and handlers do: nobody has those.
#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum VerbsRight {
    Read,
    Write,
}

impl VerbsRight {
    fn all(rights: &[Self]) -> Rights {
        Rights { read: rights.contains(&Self::Read), write: rights.contains(&Self::Write), atomic: false }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionTable {
    name: Spanned<FunctionName>,
    id: Spanned<u16>,
    object: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SteerTable {
    shards: Option<Vec<Spanned<u16>>>,
    site: Spanned<Site>,
    lease_ms: Option<Spanned<u16>>,
}

fn default_instance() -> Name {
    Name::new("host").expect("a constant name")
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let blame = Blame { text, path };
    let file: File = toml::from_str(text).map_err(|error| blame.toml(&error))?;
    let mut apps = Vec::new();
    for app in file.app {
        apps.push(blame.app(app)?);
    }
    let apps_seen = apps.iter().map(|(name, id, _)| (name, id));
    let (names, ids): (Vec<_>, Vec<_>) = apps_seen.unzip();
    blame.unique("app.name", names)?;
    blame.unique("app.id", ids)?;
    blame.unique("interface.name", file.interface.iter().map(|interface| &interface.name))?;
    for interface in &file.interface {
        // IFNAMSIZ, without its final zero.
        let name = interface.name.get_ref();
        if name.is_empty() || name.len() > 15 || name.contains(['/', ' ']) {
            return Err(blame.at("interface.name", &interface.name, format!("{name:?} cannot be an interface's name")));
        }
    }
    let lease = file.control.lease_s.map(|lease| blame.range("control.lease_s", lease, 1, 86_400)).transpose()?;
    let port_base = file.port_base.map(|port| blame.range("port_base", port, 1024, u16::MAX - PORTS)).transpose()?;
    let default_socket = || PathBuf::from(format!("/run/naam/{}.sock", file.instance));
    let all = || vec![Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];
    Ok(Config {
        port_base: port_base.unwrap_or(PORT_BASE),
        control: Control {
            socket: file.control.socket.unwrap_or_else(default_socket),
            group: file.control.group,
            tcp: file.control.tcp,
            lease: lease.map_or(limits::LEASE, Duration::from_secs),
        },
        daemon: Daemon { user: file.daemon.user, capabilities: file.daemon.capabilities.unwrap_or_else(all) },
        rdma: file.rdma,
        interfaces: file
            .interface
            .into_iter()
            .map(|interface| Interface { name: interface.name.into_inner(), hook: interface.hook })
            .collect(),
        apps: apps.into_iter().map(|(_, _, app)| app).collect(),
        instance: file.instance,
    })
}

/// Turns what is wrong into an error with its place.
struct Blame<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Blame<'_> {
    fn app(&self, app: AppTable) -> Result<(Spanned<Name>, Spanned<u16>, App), ConfigError> {
        let id = self.range("app.id", app.id.clone(), 0, APPS_MAX as u16 - 1)?;
        let sessions_max =
            app.sessions_max.map(|max| self.range("app.sessions_max", max, 1, SESSIONS_MAX)).transpose()?;
        if app.region.len() > REGIONS_MAX {
            let reason = format!("an app has at most {REGIONS_MAX} regions");
            return Err(self.at("app.region.name", &app.region[REGIONS_MAX].name, reason));
        }
        self.unique("app.region.name", app.region.iter().map(|region| &region.name))?;
        self.unique("app.function.name", app.function.iter().map(|function| &function.name))?;
        self.unique("app.function.id", app.function.iter().map(|function| &function.id))?;
        let dir = self.path.parent().unwrap_or(Path::new(""));
        let mut functions = Vec::new();
        for function in app.function {
            let id = self.range("app.function.id", function.id, BUILTIN_FUNCTIONS, FUNCTIONS_MAX as u16 - 1)?;
            let object = ObjectSource::read(&function.object, dir);
            functions.push(Function { name: function.name.into_inner(), id, object });
        }
        let steer = self.steer(app.steer)?;
        let regions = app
            .region
            .into_iter()
            .map(|region| Region {
                name: region.name.into_inner(),
                bytes: region.size.bytes(),
                raw: RawRight::all(&region.raw),
                verbs: region.verbs.as_deref().map_or(VERBS, VerbsRight::all),
            })
            .collect();
        let checked = App {
            name: app.name.get_ref().clone(),
            id,
            integrity: app.integrity == Integrity::On,
            timed: app.timed,
            sessions_max: sessions_max.unwrap_or(SESSIONS_MAX),
            onesided: app.onesided,
            regions,
            functions,
            steer,
        };
        Ok((app.name, app.id, checked))
    }

    fn steer(&self, tables: Vec<SteerTable>) -> Result<Vec<Steer>, ConfigError> {
        self.unique("app.steer.shards", tables.iter().flat_map(|table| table.shards.iter().flatten()))?;
        let mut checked = Vec::new();
        for table in tables {
            if *table.site.get_ref() == Site::Dpu {
                let reason = "no SmartNIC serves shards in this version: `host` or `client`".to_owned();
                return Err(self.at("app.steer.site", &table.site, reason));
            }
            let lease_ms =
                table.lease_ms.map(|lease| self.range("app.steer.lease_ms", lease, 1, u16::MAX)).transpose()?;
            let shard =
                |shard| self.range("app.steer.shards", shard, 0, SHARDS_MAX as u16 - 1).map(|shard| shard as u8);
            let shards = table.shards.unwrap_or_default().into_iter().map(shard).collect::<Result<_, _>>()?;
            checked.push(Steer { shards, site: table.site.into_inner(), lease_ms });
        }
        Ok(checked)
    }

    fn range<T: PartialOrd + std::fmt::Display + Copy>(
        &self,
        key: &str,
        value: Spanned<T>,
        min: T,
        max: T,
    ) -> Result<T, ConfigError> {
        let number = *value.get_ref();
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(self.at(key, &value, format!("{number} is not between {min} and {max}")))
    }

    fn unique<'v, T: Hash + Eq + std::fmt::Display + 'v>(
        &self,
        key: &str,
        values: impl IntoIterator<Item = &'v Spanned<T>>,
    ) -> Result<(), ConfigError> {
        let mut seen = HashSet::new();
        for value in values {
            if !seen.insert(value.get_ref()) {
                return Err(self.at(key, value, format!("{} is used twice", value.get_ref())));
            }
        }
        Ok(())
    }

    fn at<T>(&self, key: &str, value: &Spanned<T>, reason: String) -> ConfigError {
        let line = Some(self.line(value.span().start));
        ConfigError { path: self.path.to_owned(), line, key: Some(key.to_owned()), reason }
    }

    fn toml(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map(|span| self.line(span.start));
        let key = line.and_then(|line| self.key_of(line));
        let written = line.and_then(|line| self.text.lines().nth(line - 1)).unwrap_or_default().trim();
        let table = written.strip_prefix('[').and_then(|rest| Some(rest.split_once(']')?.0));
        let reason = match (error.message(), table, key.as_deref()) {
            (message, Some(table), _) if message.starts_with("invalid type: map, expected a sequence") => {
                format!("there may be several: write [[{table}]]")
            }
            (message, _, Some("integrity")) if message.starts_with("wanted string") => {
                "write \"on\" or \"off\"".to_owned()
            }
            (message, _, _) => message.to_owned(),
        };
        ConfigError { path: self.path.to_owned(), line, key, reason }
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// The key that a line sets, if it is of the form `key = value`.
    fn key_of(&self, line: usize) -> Option<String> {
        let key = self.text.lines().nth(line - 1)?.split_once('=')?.0.trim();
        (!key.is_empty() && !key.starts_with('#')).then(|| key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[[app]]\nname = \"kv\"\nid = 0\n";

    fn error(text: &str) -> ConfigError {
        parse(text, Path::new("naam.toml")).unwrap_err()
    }

    #[test]
    fn defaults_serve_one_host() {
        let config = parse("", Path::new("naam.toml")).unwrap();
        assert_eq!(config.instance.as_str(), "host");
        assert_eq!(config.control.socket, Path::new("/run/naam/host.sock"));
        assert_eq!((config.port_base, config.control.tcp, config.rdma), (PORT_BASE, None, None));
        assert_eq!(config.daemon.capabilities, [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon]);
        let app = &parse(MINIMAL, Path::new("naam.toml")).unwrap().apps[0];
        assert!(app.integrity && app.regions.is_empty() && app.sessions_max == SESSIONS_MAX && !app.onesided);
    }

    #[test]
    fn raw_rights_are_zero_unless_listed() {
        let region = |name, raw| format!("[[app.region]]\nname = \"{name}\"\nsize = \"2 MiB\"\n{raw}");
        let some = region("b", "raw = [\"read\", \"atomic\"]\n");
        let text = format!("{MINIMAL}onesided = true\n{}{some}", region("a", ""));
        let app = &parse(&text, Path::new("naam.toml")).unwrap().apps[0];
        assert!(app.onesided);
        let rights: Vec<_> = app.regions.iter().map(|region| region.raw).collect();
        assert_eq!(rights, [Rights::NONE, Rights { write: false, ..Rights::ALL }]);
        assert!(error(&format!("{MINIMAL}{}", region("c", "raw = [\"all\"]\n"))).reason.contains("unknown variant"));
    }

    #[test]
    fn rdma_means_read_unless_more_or_less_is_named() {
        let region = |name: &str, verbs: &str| {
            format!("[[app.region]]\nname = \"{name}\"\nsize = \"2 MiB\"\nraw = [\"write\"]\n{verbs}")
        };
        let regions = [("a", ""), ("b", "verbs = []\n"), ("c", "verbs = [\"read\", \"write\"]\n")];
        let text = regions.iter().fold(MINIMAL.to_owned(), |text, (name, verbs)| text + &region(name, verbs));
        let app = &parse(&text, Path::new("naam.toml")).unwrap().apps[0];
        let rights: Vec<_> = app.regions.iter().map(|region| region.verbs).collect();
        let read = Rights { read: true, ..Rights::NONE };
        assert_eq!(rights, [read, Rights::NONE, Rights { write: true, ..read }]);
        let error = error(&format!("{MINIMAL}{}", region("d", "verbs = [\"atomic\"]\n")));
        assert!(error.reason.contains("unknown variant") && error.key.as_deref() == Some("verbs"), "{error}");
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let cases = [
            ("instance = \"Host\"\n", 1, "instance", "is not a name"),
            ("instance = \"host\"\nports = 5\n", 2, "ports", "unknown field"),
            ("port_base = 80\n", 1, "port_base", "between 1024 and"),
            ("port_base = 65000\n", 1, "port_base", "between"),
            ("[control]\ntcp = \"somewhere\"\n", 2, "tcp", "socket address"),
            ("[control]\nlease_s = 0\n", 2, "control.lease_s", "between 1 and 86400"),
            ("[daemon]\ncapabilities = [\"root\"]\n", 2, "capabilities", "unknown variant"),
            ("[rdma]\ndevice = \"rxe0\"\nqp = 1\n", 3, "qp", "unknown field"),
            ("[[interface]]\nname = \"a/b\"\n", 2, "interface.name", "interface"),
            ("[[interface]]\nname = \"e\"\nhook = \"ebpf\"\n", 3, "hook", "unknown variant"),
            ("[[app]]\nname = \"kv\"\nid = 64\n", 3, "app.id", "between 0 and 63"),
            ("[[app]]\nname = \"kv\"\nid = 0\n\n[[app]]\nname = \"kv\"\nid = 1\n", 6, "app.name", "used twice"),
            ("[[app]]\nname = \"a\"\nid = 1\n\n[[app]]\nname = \"b\"\nid = 1\n", 7, "app.id", "used twice"),
        ];
        for (text, line, key, reason) in cases {
            let error = error(text);
            assert_eq!((error.line, error.key.as_deref()), (Some(line), Some(key)), "{error}");
            assert!(error.reason.contains(reason), "{error}");
            assert!(error.to_string().starts_with(&format!("naam.toml:{line}: `{key}`: ")), "{error}");
        }
    }

    #[test]
    fn errors_inside_apps_name_theirs() {
        let cases = [
            ("integrity = \"maybe\"\n", 4, "integrity", "unknown variant"),
            ("integrity = true\n", 4, "integrity", "write \"on\" or \"off\""),
            ("sessions_max = 0\n", 4, "app.sessions_max", "between 1 and 1024"),
            ("[[app.region]]\nname = \"s\"\nsize = \"3 MiB\"\n", 6, "size", "power of two"),
            ("[[app.region]]\nname = \"s\"\nsize = true\n", 6, "size", "a size is text"),
            ("[[app.function]]\nname = \"f\"\nid = 3\nobject = \"f.o\"\n", 6, "app.function.id", "between 16 and 63"),
            ("[[app.steer]]\nshards = [64]\nsite = \"client\"\n", 5, "app.steer.shards", "between 0 and 63"),
            ("[[app.steer]]\nshards = [1, 1]\nsite = \"client\"\n", 5, "app.steer.shards", "used twice"),
            ("[[app.steer]]\nsite = \"dpu\"\n", 5, "app.steer.site", "no SmartNIC"),
            ("[[app.steer]]\nsite = \"client\"\nlease_ms = 0\n", 6, "app.steer.lease_ms", "between 1 and"),
            (
                "[[app.region]]\nname = \"s\"\nsize = 2097152\n[[app.region]]\nname = \"s\"\nsize = 2097152\n",
                8,
                "app.region.name",
                "used twice",
            ),
        ];
        for (text, line, key, reason) in cases {
            let error = error(&format!("{MINIMAL}{text}"));
            assert_eq!((error.line, error.key.as_deref()), (Some(line), Some(key)), "{error}");
            assert!(error.reason.contains(reason), "{error}");
        }
    }

    #[test]
    fn tables_that_may_be_several_are_told_how_to_be_written() {
        for (text, line, words) in [
            ("instance = \"host\"\n[interface]\nname = \"eth0\"\n", 2, "write [[interface]]"),
            ("[app]\nname = \"kv\"\nid = 0\n", 1, "write [[app]]"),
            ("[[app]]\nname = \"kv\"\nid = 0\n[app.region]\nname = \"r\"\n", 4, "write [[app.region]]"),
        ] {
            let error = error(text);
            assert_eq!(error.line, Some(line), "{error}");
            assert!(error.reason.contains(words), "{error}");
        }
    }

    #[test]
    fn ninth_region_is_to_blame() {
        let regions: String = (0..9).map(|i| format!("[[app.region]]\nname = \"r{i}\"\nsize = \"2 MiB\"\n")).collect();
        let error = error(&format!("{MINIMAL}{regions}"));
        assert_eq!(error.line, Some(3 + 8 * 3 + 2));
    }

    #[test]
    fn syntax_errors_have_a_line() {
        assert_eq!(error("instance = \"host\"\n[app\n").line, Some(2));
        assert_eq!(error("[[app]]\nname = \"kv\"\n").reason, "missing field `id`");
    }

    #[test]
    fn objects_are_relative_to_the_file() {
        let text = format!("{MINIMAL}[[app.function]]\nname = \"f\"\nid = 16\nobject = \"bpf/f.o\"\n");
        let config = parse(&text, Path::new("/etc/naam/naam.toml")).unwrap();
        assert_eq!(config.apps[0].functions[0].object, ObjectSource::File("/etc/naam/bpf/f.o".into()));
        let config = parse(&text.replace("bpf/f.o", "builtin:f"), Path::new("/etc/naam/naam.toml")).unwrap();
        let object = &config.apps[0].functions[0].object;
        assert_eq!((object, object.to_string()), (&ObjectSource::Builtin("f".into()), "builtin:f".into()));
    }
}
