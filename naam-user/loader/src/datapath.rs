//! The datapath of one instance: its pinned maps and entry programs.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use naam_abi::limits::PORT_BASE;
use naam_sys::{Map, MapSpec, MapType, features};

use crate::error::LoaderError;
use crate::tables::Tables;
use crate::template::{MapShape, Shell};

/// Maps that the entry object makes and shares with handler programs.
pub(crate) const ENTRY_MAPS: [&str; 9] =
    ["APPS", "FUNCTIONS", "STEER", "SESSIONS", "PROGRAMS", "PROGRAMS_TC", "APP_STATS", "VISIT", "INTERFACES"];
/// Maps that only handler programs share.
pub(crate) const SHELL_MAPS: [&str; 1] = ["SLOTS"];

/// The build's BPF objects.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a> {
    /// Entry programs.
    pub entry: &'a [u8],
    /// Shell templates.
    pub shell: &'a [u8],
}

/// How an instance is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its pins lie: a directory in bpffs, for instance `/sys/fs/bpf/naam/host`.
    pub pins: PathBuf,
    /// First UDP port of its block.
    pub port_base: u16,
    /// Loop variant; `None` asks the kernel.
    pub may_goto: Option<bool>,
    /// Whether TC programs attach by a link (6.6), or as a filter of the qdisc clsact; `None` asks the
    /// kernel.
    pub tcx: Option<bool>,
}

impl Options {
    /// The usual options for an instance's name.
    pub fn instance(name: &str) -> Self {
        Self { pins: Path::new("/sys/fs/bpf/naam").join(name), port_base: PORT_BASE, may_goto: None, tcx: None }
    }
}

/// An instance's kernel side. Dropping it leaves everything that is pinned in place, and serving.
#[derive(Debug)]
pub struct Datapath {
    pub(crate) pins: PathBuf,
    pub(crate) port_base: u16,
    pub(crate) shell: Arc<Shell>,
    pub(crate) entry: Ebpf,
    pub(crate) tables: Tables,
    pub(crate) programs: Map,
    pub(crate) programs_tc: Map,
    pub(crate) visit: Map,
    /// Bound in place of regions that an app does not have.
    pub(crate) nothing: Map,
    pub(crate) may_goto: bool,
    /// The caller has chosen the loops: a handler that does not load with them does not load.
    pub(crate) loops_are_given: bool,
    pub(crate) tcx: Option<bool>,
}

impl Datapath {
    /// Sets up an instance, or adopts what an earlier process of it has pinned. Refuses PREEMPT_RT kernels.
    pub fn open(options: &Options, objects: Objects<'_>) -> Result<Self, LoaderError> {
        if features::is_realtime() {
            return Err(LoaderError::Realtime);
        }
        let maps = options.pins.join("maps");
        // The file system's root is the first ancestor that exists.
        let root = options.pins.ancestors().find(|path| path.exists()).unwrap_or(&options.pins);
        naam_sys::pin::ensure_bpffs(root)?;
        for directory in [&maps, &options.pins.join("links"), &options.pins.join("scratch")] {
            // For nobody else: who can open a directory can lock it, and a pin is a capability.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|source| LoaderError::Pin {
                operation: "create directory",
                path: directory.clone(),
                source,
            })?;
        }
        let shell = Shell::parse(objects.shell)?;
        let paths: Vec<_> = ENTRY_MAPS.iter().chain(&SHELL_MAPS).map(|name| (*name, maps.join(name))).collect();
        require_shapes(&shell, &paths)?;
        let mut loader = EbpfLoader::new();
        for (name, path) in &paths {
            loader.map_pin_path(name, path.as_path());
        }
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: aya::EbpfError| LoaderError::Entry { what, cause: chain(&error) }
        };
        let entry = loader
            .override_global("PORT_BASE", &options.port_base, true)
            .load(objects.entry)
            .map_err(failed("entry object"))?;
        let mut loader = EbpfLoader::new();
        for (name, path) in &paths {
            loader.map_pin_path(name, path.as_path());
        }
        // Makes and pins what is missing; the templates themselves are loaded handler by handler.
        drop(loader.load(objects.shell).map_err(failed("shell object"))?);
        let nothing = Map::create(&MapSpec {
            name: "naam.nothing",
            map_type: MapType::Array,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
            flags: 0,
            btf: None,
        })?;
        let may_goto = options.may_goto.unwrap_or_else(|| features::live_registers() && features::may_goto());
        tracing::debug!(pins = %options.pins.display(), may_goto, "datapath open");
        Ok(Self {
            tables: Tables::open(&maps)?,
            programs: Map::open_pinned(&maps.join("PROGRAMS"))?,
            programs_tc: Map::open_pinned(&maps.join("PROGRAMS_TC"))?,
            visit: Map::open_pinned(&maps.join("VISIT"))?,
            pins: options.pins.clone(),
            port_base: options.port_base,
            shell: Arc::new(shell),
            entry,
            nothing,
            may_goto,
            loops_are_given: options.may_goto.is_some(),
            tcx: options.tcx,
        })
    }

    /// Hands what the entry programs log to `logger`, as it is read by [`EbpfLogger::flush`]. Keep the
    /// reader as long as the datapath: programs that are loaded later log to its ring buffer.
    pub fn log_to<T: log::Log>(&mut self, logger: T) -> Result<EbpfLogger<T>, LoaderError> {
        EbpfLogger::init_with_logger(&mut self.entry, logger)
            .map_err(|error| LoaderError::Entry { what: "log of the entry object".into(), cause: chain(&error) })
    }

    /// The pinned tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// First UDP port of the instance's block.
    pub fn port_base(&self) -> u16 {
        self.port_base
    }

    /// Whether loops run by `may_goto`, or by `bpf_loop`.
    pub fn may_goto(&self) -> bool {
        self.may_goto
    }

    /// The instance's directory in bpffs.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Removes every pin of the instance: links first, so that no frame finds half a datapath.
    pub fn remove(self) -> Result<(), LoaderError> {
        let pins = self.pins.clone();
        drop(self);
        remove_pins(&pins)
    }
}

/// Refuses maps that another build has pinned with other entries: programs of this one would read and
/// write beside what they mean, or not load. aya takes a pinned map as it is.
fn require_shapes(shell: &Shell, paths: &[(&str, PathBuf)]) -> Result<(), LoaderError> {
    for (name, path) in paths.iter().filter(|(_, path)| path.exists()) {
        // A map of the entry alone is looked at where it is opened.
        let Ok(wanted) = shell.map(name) else { continue };
        let map = Map::open_pinned(path)?;
        let found = MapShape { value_size: map.info().value_size, max_entries: map.info().max_entries };
        if found != wanted {
            return Err(LoaderError::Shape { path: path.clone(), found, wanted });
        }
    }
    Ok(())
}

/// Removes an instance's pins, whoever made them. Detaches first: a filter at TC stays by itself, and
/// would go on with programs and maps that nobody finds any more. Call it in the network namespace of
/// the interfaces.
pub fn remove_pins(pins: &Path) -> Result<(), LoaderError> {
    remove_datapath(pins)?;
    remove_tree(pins)
}

/// Removes an instance's pins but for its regions, as [`remove_pins`] does.
pub fn remove_datapath(pins: &Path) -> Result<(), LoaderError> {
    crate::link::remove_filters(pins)?;
    ["links", "functions", "scratch", "maps"].into_iter().try_for_each(|directory| remove_tree(&pins.join(directory)))
}

pub(crate) fn remove_tree(path: &Path) -> Result<(), LoaderError> {
    match fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(LoaderError::Pin { operation: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
