//! The daemon's configuration, and how large the store must be for its data.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader},
    net::SocketAddr,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::options::{Options, Workload};

/// The app that serves the store.
pub const APP: &str = "kv";
/// The region that holds it.
pub const REGION: &str = "store";
/// The store's functions, by the names of their objects.
pub const FUNCTIONS: [&str; 4] = ["mica_get", "mica_set", "mica_delete", "mica_cas"];

/// Numbers below are the runtime's own functions.
const FIRST_FUNCTION: usize = 16;

/// A bucket has 7 places before it needs another.
const RECORDS_PER_BUCKET: u64 = 4;
/// Most bytes that the store takes for a record besides key and value: the item's header, the padding of value, key
/// and block (3 words, 7, 7 and 63 bytes), and half a bucket of 64 bytes, because their number is a power of two.
const RECORD_OVERHEAD: u64 = 24 + 7 + 7 + 63 + 32;
/// A key and a value as YCSB generates them: `user` and 20 digits, 100 bytes.
const GENERATED_BYTES: u64 = 24 + 100;
/// More than a client inserts in a second.
const INSERTS_PER_S: u64 = 100_000;
const REGION_MIN: u64 = 2 << 20;
/// A region above this is a multiple of it; up to this, a power of two.
const REGION_STEP: u64 = 512 << 20;
const REGION_MAX: u64 = 4 << 30;

/// What a daemon is to serve.
pub struct Config<'a> {
    /// The instance's name.
    pub instance: &'a str,
    /// The interface, in the daemon's namespace.
    pub interface: &'a str,
    /// `auto`, `xdp` or `tc`.
    pub hook: &'a str,
    /// Folder of the handlers' objects.
    pub objects: &'a Path,
    /// The store.
    pub store: Store,
    /// Where clients on other machines open sessions.
    pub control: Option<SocketAddr>,
}

impl Config<'_> {
    /// The configuration file.
    pub fn to_toml(&self) -> String {
        let Self { instance, interface, hook, objects, store: Store { region_bytes, .. }, control } = self;
        let control = control.map(|address| format!("[control]\ntcp = \"{address}\"\n\n")).unwrap_or_default();
        let mut text = format!(
            "instance = {instance:?}\n\n{control}[[interface]]\nname = {interface:?}\nhook = {hook:?}\n\n\
             [[app]]\nname = {APP:?}\nid = 0\n\n[[app.region]]\nname = {REGION:?}\nsize = {region_bytes}\n"
        );
        for (id, function) in (FIRST_FUNCTION..).zip(FUNCTIONS) {
            let object = objects.join(format!("{function}.o"));
            text.push_str(&format!("\n[[app.function]]\nname = {function:?}\nid = {id}\nobject = {object:?}\n"));
        }
        text
    }
}

/// How the store is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bytes of its region.
    pub region_bytes: u64,
    /// Its buckets, as a power of two.
    pub log2_buckets: u32,
}

impl Store {
    /// A store for the data file or the generated records, and for what the workload inserts.
    ///
    /// # Errors
    /// When the file cannot be read, or no region is large enough.
    pub fn plan(options: &Options) -> Result<Self> {
        let contents = Contents::of(options)?.with_inserts(options.workload, options.seconds);
        Ok(Self { region_bytes: contents.region_bytes()?, log2_buckets: contents.log2_buckets() })
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mib, buckets) = (self.region_bytes >> 20, 1u64 << self.log2_buckets);
        write!(f, "app {APP}, {mib} MiB, {buckets} buckets, functions {}", FUNCTIONS.join(", "))
    }
}

/// What the store will hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Contents {
    /// Records, at most.
    records: u64,
    /// Bytes of their keys and values, at most.
    bytes: u64,
}

impl Contents {
    /// Of the data file or of generated records.
    ///
    /// # Errors
    /// When the file cannot be read, or is empty.
    fn of(options: &Options) -> Result<Self> {
        let Some(path) = &options.data else {
            return Ok(Self { records: options.records, bytes: options.records * GENERATED_BYTES });
        };
        let contents = File::open(path).and_then(|file| Self::of_lines(BufReader::new(file)));
        let contents = contents.with_context(|| format!("cannot read the data file {}", path.display()))?;
        if contents.records == 0 {
            bail!("the data file {} is empty: it needs a key and a value a line", path.display());
        }
        Ok(contents)
    }

    /// A line may be no pair, or the second one of a key: then less is stored.
    fn of_lines(mut lines: impl io::BufRead) -> io::Result<Self> {
        let mut contents = Self { records: 0, bytes: 0 };
        loop {
            let passed = lines.skip_until(b'\n')? as u64;
            if passed == 0 {
                return Ok(contents);
            }
            contents.records += 1;
            contents.bytes += passed;
        }
    }

    /// Buckets that suit them, as a power of two: 2 to 4 records in each.
    fn log2_buckets(self) -> u32 {
        self.records.div_ceil(RECORDS_PER_BUCKET).next_power_of_two().trailing_zeros()
    }

    fn with_inserts(self, workload: Workload, seconds: u32) -> Self {
        let inserts = match workload {
            Workload::D | Workload::E => u64::from(seconds) * INSERTS_PER_S,
            _ => 0,
        };
        Self { records: self.records + inserts, bytes: self.bytes + inserts * GENERATED_BYTES }
    }

    /// Bytes of a region with room for them, and for blocks that are taken by updates before others are free again.
    ///
    /// # Errors
    /// When no region is large enough.
    fn region_bytes(self) -> Result<u64> {
        let needed = (self.bytes + self.records * RECORD_OVERHEAD).saturating_mul(3) / 2;
        if needed > REGION_MAX {
            bail!(
                "the records need a store of {} MiB, and the largest region has {} MiB: take fewer",
                needed >> 20,
                REGION_MAX >> 20
            );
        }
        Ok(if needed <= REGION_STEP {
            needed.next_power_of_two().max(REGION_MIN)
        } else {
            needed.next_multiple_of(REGION_STEP)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_everything() {
        let config = Config {
            instance: "run7",
            interface: "naam0",
            hook: "tc",
            objects: Path::new("/naam/target/bpf"),
            store: Store { region_bytes: 64 << 20, log2_buckets: 15 },
            control: Some(([127, 0, 0, 1], 7626).into()),
        };
        let text = config.to_toml();
        for part in [
            "instance = \"run7\"\n\n[control]\ntcp = \"127.0.0.1:7626\"\n",
            "[[interface]]\nname = \"naam0\"\nhook = \"tc\"\n",
            "[[app]]\nname = \"kv\"\nid = 0\n",
            "name = \"store\"\nsize = 67108864\n",
            "name = \"mica_get\"\nid = 16\nobject = \"/naam/target/bpf/mica_get.o\"\n",
            "name = \"mica_cas\"\nid = 19\n",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn lines_are_counted_with_or_without_an_end() {
        let of = |text: &str| Contents::of_lines(text.as_bytes()).expect("memory can be read");
        assert_eq!(of("a\t1\nbb\t22\n"), Contents { records: 2, bytes: 10 });
        assert_eq!(of("a\t1\nbb\t22"), Contents { records: 2, bytes: 9 });
        assert_eq!(of(""), Contents { records: 0, bytes: 0 });
    }

    #[test]
    fn regions_have_sizes_that_exist() {
        let region = |records, bytes| Contents { records, bytes }.region_bytes();
        assert_eq!(region(1, 10).unwrap(), 2 << 20);
        assert_eq!(region(100_000, 12_400_000).unwrap(), 64 << 20);
        assert_eq!(region(2_000_000, 248_000_000).unwrap(), 1 << 30);
        let error = region(20_000_000, 20_000_000_000).unwrap_err().to_string();
        assert!(error.contains("largest region"), "{error}");
    }

    #[test]
    fn buckets_hold_two_to_four_records() {
        for records in [1, 7, 100, 100_000, 127_328] {
            let buckets = 1 << Contents { records, bytes: 0 }.log2_buckets();
            assert!(records <= 4 * buckets && (buckets == 1 || records > 2 * buckets), "{records}: {buckets}");
        }
    }

    #[test]
    fn inserting_workloads_have_room_for_inserts() {
        let contents = Contents { records: 1_000, bytes: 124_000 };
        let reading = contents.with_inserts(Workload::C, 5).region_bytes().unwrap();
        let inserting = contents.with_inserts(Workload::D, 5).region_bytes().unwrap();
        assert!(inserting >= reading + 5 * INSERTS_PER_S * GENERATED_BYTES, "{reading} {inserting}");
    }
}
