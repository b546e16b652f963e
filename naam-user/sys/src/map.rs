//! Maps: made at run time, read and written element by element.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use libbpf_sys as bpf;

use crate::error::check;
use crate::kind::Kind;
use crate::mapping::Mapping;
use crate::{Btf, Errno, Operation, SysError, pin};

/// Kinds of maps that NAAM uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MapType {
    /// Hash table.
    Hash = bpf::BPF_MAP_TYPE_HASH,
    /// Array of values, all memory taken at creation.
    Array = bpf::BPF_MAP_TYPE_ARRAY,
    /// Array of programs to tail-call.
    ProgArray = bpf::BPF_MAP_TYPE_PROG_ARRAY,
    /// One hash table per CPU.
    PerCpuHash = bpf::BPF_MAP_TYPE_PERCPU_HASH,
    /// One array per CPU; a value has at most 32 KiB.
    PerCpuArray = bpf::BPF_MAP_TYPE_PERCPU_ARRAY,
    /// Hash table that forgets the least recently used.
    LruHash = bpf::BPF_MAP_TYPE_LRU_HASH,
    /// AF_XDP sockets by queue.
    XskMap = bpf::BPF_MAP_TYPE_XSKMAP,
    /// Ring buffer to userspace. Kernel 5.8.
    RingBuf = bpf::BPF_MAP_TYPE_RINGBUF,
}

impl MapType {
    fn from_raw(raw: u32) -> Option<Self> {
        [
            Self::Hash,
            Self::Array,
            Self::ProgArray,
            Self::PerCpuHash,
            Self::PerCpuArray,
            Self::LruHash,
            Self::XskMap,
            Self::RingBuf,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == raw)
    }

    fn per_cpu(self) -> bool {
        matches!(self, Self::PerCpuHash | Self::PerCpuArray)
    }
}

/// The map's pages can be brought into a process ([`Map::mmap`]). Arrays only; kernel 5.5.
pub const MMAPABLE: u32 = bpf::BPF_F_MMAPABLE;
/// Elements take memory when they are written, not at creation. Hash tables.
pub const NO_PREALLOC: u32 = bpf::BPF_F_NO_PREALLOC;
/// Programs may only read.
pub const READ_ONLY_FOR_PROGRAMS: u32 = bpf::BPF_F_RDONLY_PROG;

/// What a map is to be.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec<'a> {
    /// Name shown by bpftool: letters, digits, `_` and `.`; the kernel keeps 15 bytes.
    pub name: &'a str,
    /// The kind.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Elements at most.
    pub max_entries: u32,
    /// [`MMAPABLE`], [`NO_PREALLOC`], [`READ_ONLY_FOR_PROGRAMS`].
    pub flags: u32,
    /// BTF with the type numbers of key and value.
    pub btf: Option<MapBtf<'a>>,
}

/// Types of a map's key and value.
#[derive(Clone, Copy, Debug)]
pub struct MapBtf<'a> {
    /// The BTF that both are in.
    pub btf: &'a Btf,
    /// Type number of the key.
    pub key_type: u32,
    /// Type number of the value.
    pub value_type: u32,
}

/// What the kernel reports of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// The kernel's number of this map.
    pub id: u32,
    /// Its name, up to 15 bytes.
    pub name: String,
    /// The kind, as the kernel numbers it.
    pub raw_type: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Elements at most.
    pub max_entries: u32,
    /// Creation flags.
    pub flags: u32,
    /// The kernel's number of the BTF; 0 without.
    pub btf_id: u32,
    /// Type number of the key in that BTF.
    pub btf_key_type: u32,
    /// Type number of the value in that BTF.
    pub btf_value_type: u32,
}

impl MapInfo {
    /// The kind, if it is one of ours.
    pub fn map_type(&self) -> Option<MapType> {
        MapType::from_raw(self.raw_type)
    }
}

/// When an update is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u64)]
pub enum Update {
    /// Insert or overwrite.
    #[default]
    Any = 0,
    /// Insert only: EEXIST if the key is there.
    Insert = 1,
    /// Overwrite only: ENOENT if it is not.
    Overwrite = 2,
}

/// A map that this process has open.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    info: MapInfo,
}

impl Map {
    /// Makes a map.
    pub fn create(spec: &MapSpec<'_>) -> Result<Self, SysError> {
        let object =
            || format!("map `{}` ({:?}, {} x {} B)", spec.name, spec.map_type, spec.max_entries, spec.value_size);
        let name = CString::new(spec.name).map_err(|_| {
            SysError::new(Operation::CreateMap, object(), Errno::INVAL).with_hint("the name contains a zero byte")
        })?;
        let mut opts = bpf::bpf_map_create_opts {
            sz: size_of::<bpf::bpf_map_create_opts>() as _,
            map_flags: spec.flags,
            ..Default::default()
        };
        if let Some(types) = spec.btf {
            opts.btf_fd = types.btf.as_fd().as_raw_fd() as u32;
            opts.btf_key_type_id = types.key_type;
            opts.btf_value_type_id = types.value_type;
        }
        // SAFETY: `name` and `opts` outlive the call; `opts` is fully initialised, with its size.
        let returned = unsafe {
            bpf::bpf_map_create(
                spec.map_type as u32,
                name.as_ptr(),
                spec.key_size,
                spec.value_size,
                spec.max_entries,
                &opts,
            )
        };
        let fd = check(returned).map_err(|errno| SysError::new(Operation::CreateMap, object(), errno))?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Self::from_fd(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Takes over a map's descriptor, such as a duplicate of one that aya holds.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SysError> {
        let object = format!("map on descriptor {}", fd.as_raw_fd());
        Self::adopt(fd, &object)
    }

    /// Opens a pinned map.
    pub fn open_pinned(path: &Path) -> Result<Self, SysError> {
        Self::adopt(pin::open(path)?, &path.display().to_string())
    }

    fn adopt(fd: OwnedFd, object: &str) -> Result<Self, SysError> {
        Kind::Map.require(fd.as_fd(), object)?;
        let info = query(fd.as_fd(), object)?;
        Ok(Self { fd, info })
    }

    /// Pins the map; refuses a path that exists.
    pub fn pin(&self, path: &Path) -> Result<(), SysError> {
        pin::pin(self.as_fd(), path)
    }

    /// Pins the map in place of what stands at `path`, at one instant.
    pub fn pin_replacing(&self, path: &Path) -> Result<(), SysError> {
        pin::pin_replacing(self.as_fd(), path)
    }

    /// What the kernel reported when the map was opened; none of it changes.
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// A second descriptor of the same map.
    pub fn try_clone(&self) -> Result<Self, SysError> {
        let fd =
            self.fd.try_clone().map_err(|error| SysError::new(Operation::Info, self.object(), Errno::of(&error)))?;
        Ok(Self { fd, info: self.info.clone() })
    }

    /// Reads the value at `key`; `None` if there is none.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, SysError> {
        let mut value = vec![0; self.info.value_size as usize];
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// Reads the value at `key` into `value`, which has the very length of a value. False: no such key.
    pub fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<bool, SysError> {
        self.require_shared(Operation::Lookup)?;
        self.require_len(Operation::Lookup, "key", key.len(), self.info.key_size)?;
        self.require_len(Operation::Lookup, "value", value.len(), self.info.value_size)?;
        self.lookup_raw(key, value)
    }

    /// Reads every CPU's value at `key`; `None` if there is none.
    pub fn lookup_per_cpu(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, SysError> {
        self.require_per_cpu(Operation::Lookup)?;
        self.require_len(Operation::Lookup, "key", key.len(), self.info.key_size)?;
        let stride = self.per_cpu_stride();
        let mut values = vec![0; stride * possible_cpus()?];
        if !self.lookup_raw(key, &mut values)? {
            return Ok(None);
        }
        let len = self.info.value_size as usize;
        Ok(Some(values.chunks_exact(stride).map(|value| value[..len].to_vec()).collect()))
    }

    fn lookup_raw(&self, key: &[u8], value: &mut [u8]) -> Result<bool, SysError> {
        // SAFETY: the callers have checked that `key` and `value` have the lengths that the kernel
        // will read and write for this map.
        let returned =
            unsafe { bpf::bpf_map_lookup_elem(self.fd.as_raw_fd(), key.as_ptr().cast(), value.as_mut_ptr().cast()) };
        match check(returned) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error(Operation::Lookup, errno)),
        }
    }

    /// Writes `value` at `key`.
    pub fn update(&self, key: &[u8], value: &[u8], when: Update) -> Result<(), SysError> {
        self.require_shared(Operation::Update)?;
        self.require_len(Operation::Update, "key", key.len(), self.info.key_size)?;
        self.require_len(Operation::Update, "value", value.len(), self.info.value_size)?;
        self.update_raw(key, value, when)
    }

    /// Writes one value per possible CPU at `key`.
    pub fn update_per_cpu(&self, key: &[u8], values: &[&[u8]], when: Update) -> Result<(), SysError> {
        self.require_per_cpu(Operation::Update)?;
        self.require_len(Operation::Update, "key", key.len(), self.info.key_size)?;
        let cpus = possible_cpus()?;
        self.require_len(Operation::Update, "list of per-CPU values", values.len(), cpus as u32)?;
        let stride = self.per_cpu_stride();
        let mut bytes = vec![0; stride * cpus];
        for (place, value) in bytes.chunks_exact_mut(stride).zip(values) {
            self.require_len(Operation::Update, "value", value.len(), self.info.value_size)?;
            place[..value.len()].copy_from_slice(value);
        }
        self.update_raw(key, &bytes, when)
    }

    /// Puts a program (program array) or socket (XSK map) at `index`.
    pub fn update_fd(&self, index: u32, object: BorrowedFd<'_>) -> Result<(), SysError> {
        self.update(&index.to_ne_bytes(), &object.as_raw_fd().to_ne_bytes(), Update::Any)
    }

    fn update_raw(&self, key: &[u8], value: &[u8], when: Update) -> Result<(), SysError> {
        // SAFETY: the callers have checked that `key` and `value` have the lengths that the kernel
        // will read for this map.
        let returned = unsafe {
            bpf::bpf_map_update_elem(self.fd.as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast(), when as u64)
        };
        check(returned).map(drop).map_err(|errno| self.error(Operation::Update, errno))
    }

    /// Removes `key`. False: there was none.
    pub fn delete(&self, key: &[u8]) -> Result<bool, SysError> {
        self.require_len(Operation::Delete, "key", key.len(), self.info.key_size)?;
        // SAFETY: `key` has the length that the kernel will read for this map.
        let returned = unsafe { bpf::bpf_map_delete_elem(self.fd.as_raw_fd(), key.as_ptr().cast()) };
        match check(returned) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error(Operation::Delete, errno)),
        }
    }

    /// The key after `key`, or the first for `None`; `None` at the end. Keys that come and go
    /// meanwhile may be missed or met twice.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, SysError> {
        if let Some(key) = key {
            self.require_len(Operation::NextKey, "key", key.len(), self.info.key_size)?;
        }
        let mut next = vec![0; self.info.key_size as usize];
        let from = key.map_or(std::ptr::null(), |key| key.as_ptr().cast());
        // SAFETY: `from` is null or a key of the map's key length; `next` has that length.
        let returned = unsafe { bpf::bpf_map_get_next_key(self.fd.as_raw_fd(), from, next.as_mut_ptr().cast()) };
        match check(returned) {
            Ok(_) => Ok(Some(next)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(Operation::NextKey, errno)),
        }
    }

    /// Forbids further updates by system call, so that the verifier may take a map that programs
    /// only read for constant. Kernel 5.2; refused while the map is mmapped writably.
    pub fn freeze(&self) -> Result<(), SysError> {
        // SAFETY: the descriptor is open for the whole call; no memory is passed.
        let returned = unsafe { bpf::bpf_map_freeze(self.fd.as_raw_fd()) };
        check(returned).map(drop).map_err(|errno| self.error(Operation::Freeze, errno))
    }

    /// Brings the pages of an array made with [`MMAPABLE`] into this process, writable.
    pub fn mmap(&self) -> Result<Mapping, SysError> {
        let stride = (self.info.value_size as usize).next_multiple_of(8);
        let bytes = stride * self.info.max_entries as usize;
        if self.info.map_type() != Some(MapType::Array) || self.info.flags & MMAPABLE == 0 {
            return Err(self
                .error(Operation::Mmap, Errno::INVAL)
                .with_hint("only arrays made with BPF_F_MMAPABLE can be mapped"));
        }
        Mapping::new(self.as_fd(), bytes).map_err(|errno| self.error(Operation::Mmap, errno))
    }

    fn per_cpu_stride(&self) -> usize {
        (self.info.value_size as usize).next_multiple_of(8)
    }

    fn require_len(&self, operation: Operation, what: &str, len: usize, expected: u32) -> Result<(), SysError> {
        if len == expected as usize {
            return Ok(());
        }
        Err(self.error(operation, Errno::INVAL).with_hint(format!("the {what} has length {len}, not {expected}")))
    }

    /// Elements have one value: the kernel reads and writes `value_size` bytes.
    fn require_shared(&self, operation: Operation) -> Result<(), SysError> {
        match self.known_type(operation)?.per_cpu() {
            false => Ok(()),
            true => Err(self
                .error(operation, Errno::INVAL)
                .with_hint("this map has one value per CPU: use the per_cpu functions")),
        }
    }

    /// Elements have a value per CPU: the kernel reads and writes all of them at once.
    fn require_per_cpu(&self, operation: Operation) -> Result<(), SysError> {
        match self.known_type(operation)?.per_cpu() {
            true => Ok(()),
            false => Err(self.error(operation, Errno::INVAL).with_hint("this map has no per-CPU values")),
        }
    }

    /// Of other kinds it is not known how many bytes the kernel would write to a buffer.
    fn known_type(&self, operation: Operation) -> Result<MapType, SysError> {
        self.info.map_type().ok_or_else(|| {
            let hint = format!("maps of type {} are not read or written here", self.info.raw_type);
            self.error(operation, Errno::INVAL).with_hint(hint)
        })
    }

    fn object(&self) -> String {
        format!("map `{}` (id {})", self.info.name, self.info.id)
    }

    fn error(&self, operation: Operation, errno: Errno) -> SysError {
        SysError::new(operation, self.object(), errno)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// CPUs that may ever appear: the number of values of a per-CPU element.
pub fn possible_cpus() -> Result<usize, SysError> {
    // SAFETY: takes no arguments; reads a file of sysfs.
    let returned = unsafe { bpf::libbpf_num_possible_cpus() };
    check(returned).map(|cpus| cpus as usize).map_err(|errno| {
        SysError::new(Operation::Info, "the list of possible CPUs", errno)
            .with_hint("/sys must be mounted: /sys/devices/system/cpu/possible is read")
    })
}

fn query(fd: BorrowedFd<'_>, object: &str) -> Result<MapInfo, SysError> {
    let mut raw = bpf::bpf_map_info::default();
    let mut len = size_of::<bpf::bpf_map_info>() as u32;
    // SAFETY: `raw` is zeroed and `len` is its size; the descriptor was checked to be a map's.
    let returned = unsafe { bpf::bpf_map_get_info_by_fd(fd.as_raw_fd(), &mut raw, &mut len) };
    check(returned).map_err(|errno| SysError::new(Operation::Info, object, errno))?;
    Ok(MapInfo {
        id: raw.id,
        name: crate::program::name_text(&raw.name),
        raw_type: raw.type_,
        key_size: raw.key_size,
        value_size: raw.value_size,
        max_entries: raw.max_entries,
        flags: raw.map_flags,
        btf_id: raw.btf_id,
        btf_key_type: raw.btf_key_type_id,
        btf_value_type: raw.btf_value_type_id,
    })
}
