//! Claims about this crate that only a kernel can confirm. Needs root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use naam_sys::map::{MMAPABLE, possible_cpus};
use naam_sys::program::{Log, enable_statistics};
use naam_sys::*;

/// A bpffs of this test's own, gone when dropped.
struct Bpffs(PathBuf);

impl Bpffs {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("naam-sys-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        pin::ensure_bpffs(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn map(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32, flags: u32) -> Map {
    Map::create(&MapSpec { name: "naam_sys_test", map_type, key_size, value_size, max_entries, flags, btf: None })
        .unwrap()
}

const EXIT: Insn = Insn::new(0x95, 0, 0, 0, 0);

/// XDP: `return value`.
fn returns(value: i32) -> [Insn; 2] {
    [Insn::new(0xb7, 0, 0, 0, value), EXIT]
}

fn load(insns: &[Insn]) -> Program {
    Program::load(&ProgramSpec::new(ProgramType::Xdp, "naam_sys_test", insns)).unwrap().program
}

#[test]
fn hash_elements_come_and_go() {
    let map = map(MapType::Hash, 4, 12, 8, 0);
    assert_eq!(map.lookup(&[1; 4]).unwrap(), None);
    map.update(&[1; 4], &[7; 12], Update::Insert).unwrap();
    assert_eq!(map.update(&[1; 4], &[8; 12], Update::Insert).unwrap_err().errno, Errno::EXIST);
    assert_eq!(map.update(&[2; 4], &[8; 12], Update::Overwrite).unwrap_err().errno, Errno::NOENT);
    assert_eq!(map.lookup(&[1; 4]).unwrap(), Some(vec![7; 12]));
    let first = map.next_key(None).unwrap().unwrap();
    assert_eq!(first, [1; 4]);
    assert_eq!(map.next_key(Some(&first)).unwrap(), None);
    assert!(map.delete(&[1; 4]).unwrap());
    assert!(!map.delete(&[1; 4]).unwrap());
}

#[test]
fn wrong_lengths_never_reach_the_kernel() {
    let map = map(MapType::Array, 4, 16, 2, 0);
    let errors = [
        map.lookup(&[0; 3]).unwrap_err(),
        map.lookup_into(&[0; 4], &mut [0; 15]).unwrap_err(),
        map.update(&[0; 4], &[0; 17], Update::Any).unwrap_err(),
        map.delete(&[]).unwrap_err(),
        map.next_key(Some(&[0; 8])).unwrap_err(),
        map.lookup_per_cpu(&[0; 4]).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.errno, Errno::INVAL);
        assert!(error.hint.is_some() && error.object.contains("naam_sys_test"), "{error}");
    }
}

#[test]
fn every_cpu_has_its_value() {
    let map = map(MapType::PerCpuArray, 4, 12, 2, 0);
    let cpus = possible_cpus().unwrap();
    let values: Vec<_> = (0..cpus).map(|cpu| vec![cpu as u8 + 1; 12]).collect();
    let slices: Vec<_> = values.iter().map(Vec::as_slice).collect();
    map.update_per_cpu(&1u32.to_ne_bytes(), &slices, Update::Any).unwrap();
    assert_eq!(map.lookup_per_cpu(&1u32.to_ne_bytes()).unwrap().unwrap(), values);
    assert_eq!(map.lookup_per_cpu(&2u32.to_ne_bytes()).unwrap(), None);
    assert!(map.lookup(&0u32.to_ne_bytes()).is_err(), "one buffer for several values would overflow");
    assert!(map.update_per_cpu(&0u32.to_ne_bytes(), &slices[1..], Update::Any).is_err());
}

#[test]
fn elements_of_unknown_kinds_are_not_touched() {
    use std::os::fd::FromRawFd;
    let kind = libbpf_sys::BPF_MAP_TYPE_LRU_PERCPU_HASH;
    // SAFETY: name and options are null-terminated and null; no other memory is passed.
    let fd = unsafe { libbpf_sys::bpf_map_create(kind, c"naam_sys_test".as_ptr(), 4, 8, 4, std::ptr::null()) };
    assert!(fd >= 0);
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let map = Map::from_fd(unsafe { OwnedFd::from_raw_fd(fd) }).unwrap();
    assert_eq!(map.info().map_type(), None);
    // The kernel would write a value for every CPU into a buffer of one.
    assert_eq!(map.lookup(&[0; 4]).unwrap_err().errno, Errno::INVAL);
    assert_eq!(map.update(&[0; 4], &[0; 8], Update::Any).unwrap_err().errno, Errno::INVAL);
    assert_eq!(map.lookup_per_cpu(&[0; 4]).unwrap_err().errno, Errno::INVAL);
}

#[test]
fn mapping_and_elements_are_the_same_memory() {
    let map = map(MapType::Array, 4, 4096, 4, MMAPABLE);
    let pages = map.mmap().unwrap();
    assert_eq!(pages.len(), 4 * 4096);
    map.update(&2u32.to_ne_bytes(), &[0x5a; 4096], Update::Any).unwrap();
    assert_eq!(pages.load(2 * 4096, Ordering::Acquire), Ok(0x5a5a_5a5a_5a5a_5a5a));
    assert_eq!(pages.load(3 * 4096, Ordering::Acquire), Ok(0));
    pages.copy_in(4096 - 8, &[3; 16]).unwrap();
    assert_eq!(map.lookup(&0u32.to_ne_bytes()).unwrap().unwrap()[4088..], [3; 8]);
    assert_eq!(
        map.lookup(&1u32.to_ne_bytes()).unwrap().unwrap()[..16],
        [3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    let mut bytes = [0; 24];
    pages.copy_out(4096 - 16, &mut bytes).unwrap();
    assert_eq!(bytes[..8], [0; 8]);
    assert_eq!(bytes[8..], [3; 16]);
    assert_eq!(pages.fetch_add(0, 5), Ok(0));
    assert_eq!(pages.compare_exchange(0, 5, 9), Ok(Ok(5)));
    assert_eq!(pages.compare_exchange(0, 5, 1), Ok(Err(9)));
}

#[test]
fn mapping_refuses_what_lies_outside() {
    let map = map(MapType::Array, 4, 4096, 1, MMAPABLE);
    let pages = map.mmap().unwrap();
    assert_eq!(pages.load(4088, Ordering::Relaxed), Ok(0));
    for offset in [4096, 1 << 40, u64::MAX - 7] {
        assert!(pages.load(offset, Ordering::Relaxed).is_err(), "{offset:#x}");
        assert!(pages.copy_in(offset, &[0; 8]).is_err(), "{offset:#x}");
    }
    assert!(matches!(pages.copy_in(4088, &[0; 16]), Err(OutOfRange::End { .. })));
    assert!(matches!(pages.load(4, Ordering::Relaxed), Err(OutOfRange::Unaligned { .. })));
    assert!(matches!(pages.copy_out(0, &mut [0; 7]), Err(OutOfRange::Unaligned { .. })));
}

#[test]
fn only_mmapable_arrays_are_mapped() {
    assert!(map(MapType::Array, 4, 4096, 1, 0).mmap().is_err());
    assert!(map(MapType::Hash, 4, 4096, 1, 0).mmap().is_err());
}

#[test]
fn frozen_map_refuses_updates() {
    let map = map(MapType::Array, 4, 8, 1, 0);
    map.freeze().unwrap();
    assert_eq!(map.update(&[0; 4], &[0; 8], Update::Any).unwrap_err().errno, Errno::PERM);
}

#[test]
fn program_runs_on_given_bytes() {
    // r2 = data; r3 = data_end; if data + 14 > data_end return 1; data[0] = 0x77; return 3
    let insns = [
        Insn::new(0x61, 2, 1, 0, 0),
        Insn::new(0x61, 3, 1, 4, 0),
        Insn::new(0xbf, 4, 2, 0, 0),
        Insn::new(0x07, 4, 0, 0, 14),
        Insn::new(0xb7, 0, 0, 0, 1),
        Insn::new(0x2d, 4, 3, 2, 0),
        Insn::new(0x72, 2, 0, 0, 0x77),
        Insn::new(0xb7, 0, 0, 0, 3),
        EXIT,
    ];
    let program = load(&insns);
    let mut frame = [0u8; 64];
    frame[63] = 9;
    let output =
        program.test_run(&RunInput { data: &frame, data_out_max: 256, repeat: 3, ..Default::default() }).unwrap();
    assert_eq!((output.retval, output.data.len(), output.data[0], output.data[63]), (3, 64, 0x77, 9));
    let bare = program.test_run(&RunInput { data: &frame, ..Default::default() }).unwrap();
    assert_eq!((bare.retval, bare.data.len()), (3, 0));
    let error = program.test_run(&RunInput { data: &frame, data_out_max: 10, ..Default::default() }).unwrap_err();
    assert_eq!(error.errno, Errno::NOSPC);
    assert!(error.to_string().contains("64 bytes"), "{error}");
    assert!(program.test_run(&RunInput::default()).is_err());
}

#[test]
fn refused_program_brings_the_log() {
    let error = Program::load(&ProgramSpec::new(ProgramType::Xdp, "leak", &[EXIT])).unwrap_err();
    assert!(error.log.contains("R0 !read_ok"), "{}", error.log);
    assert!(error.to_string().contains("`leak`"), "{error}");
}

#[test]
fn log_longer_than_the_first_buffer_is_kept() {
    // 60,000 instructions are traced in some megabytes of text.
    let mut insns = vec![Insn::new(0xb7, 0, 0, 0, 1); 60_000];
    insns.push(EXIT);
    let spec = ProgramSpec { log: Log::Trace, ..ProgramSpec::new(ProgramType::Xdp, "long", &insns) };
    let loaded = Program::load(&spec).unwrap();
    assert_eq!(loaded.verified_insns, 60_001);
    assert!(loaded.log.starts_with("func#0"), "{}", &loaded.log[..100]);
    assert!(loaded.log.contains("processed 60001 insns"));
}

#[test]
fn statistics_log_is_short() {
    let insns = returns(2);
    let spec = ProgramSpec { log: Log::Stats, ..ProgramSpec::new(ProgramType::Xdp, "short", &insns) };
    let loaded = Program::load(&spec).unwrap();
    assert_eq!(loaded.verified_insns, 2);
    assert!(loaded.log.contains("processed 2 insns"), "{}", loaded.log);
}

#[test]
fn kernel_reports_what_was_loaded() {
    let info = load(&returns(2)).info().unwrap();
    assert_eq!(info.name, "naam_sys_test");
    assert_eq!(info.raw_type, ProgramType::Xdp as u32);
    assert!(info.id > 0 && info.map_ids.is_empty());
    assert_eq!(info.tag_text().len(), 16);

    let counted = load(&returns(1));
    let statistics = enable_statistics().unwrap();
    counted.test_run(&RunInput { data: &[0; 64], repeat: 10, ..Default::default() }).unwrap();
    drop(statistics);
    assert_eq!(counted.info().unwrap().runs, 10);
}

#[test]
fn program_knows_its_maps() {
    let map = map(MapType::Array, 4, 8, 1, 0);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&map.as_fd());
    // ld_imm64 r1 = map[fd]; r0 = 2; exit
    let insns = [Insn::new(0x18, 1, 1, 0, fd), Insn::default(), Insn::new(0xb7, 0, 0, 0, 2), EXIT];
    assert_eq!(load(&insns).info().unwrap().map_ids, [map.info().id]);
}

#[test]
fn pins_outlive_and_replace() {
    let bpffs = Bpffs::new();
    let path = bpffs.path("program");
    let (first, second) = (load(&returns(1)), load(&returns(2)));
    first.pin(&path).unwrap();
    assert_eq!(second.pin(&path).unwrap_err().errno, Errno::EXIST);
    let id = first.info().unwrap().id;
    drop(first);
    assert_eq!(Program::open_pinned(&path).unwrap().info().unwrap().id, id);
    second.pin_replacing(&path).unwrap();
    assert_eq!(Program::open_pinned(&path).unwrap().info().unwrap().id, second.info().unwrap().id);
    let ours = std::fs::read_dir(&bpffs.0)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("program"));
    assert_eq!(ours.count(), 1, "the temporary name is gone");
    pin::unpin(&path).unwrap();
    assert_eq!(Program::open_pinned(&path).unwrap_err().errno, Errno::NOENT);
}

#[test]
fn kinds_are_not_confused() {
    let bpffs = Bpffs::new();
    let (map_path, program_path) = (bpffs.path("map"), bpffs.path("program"));
    map(MapType::Array, 4, 8, 1, 0).pin(&map_path).unwrap();
    load(&returns(1)).pin(&program_path).unwrap();
    assert!(Map::open_pinned(&program_path).unwrap_err().to_string().contains("not anon_inode:bpf-map"));
    assert!(Program::open_pinned(&map_path).is_err());
    let file: OwnedFd = std::fs::File::open("/proc/self/stat").unwrap().into();
    assert!(Map::from_fd(file).is_err());
    assert_eq!(Map::open_pinned(&map_path).unwrap().info().map_type(), Some(MapType::Array));
}

#[test]
fn pinning_outside_bpffs_says_where_to() {
    let path = std::env::temp_dir().join(format!("naam-sys-{}-no-bpffs", std::process::id()));
    let error = map(MapType::Array, 4, 8, 1, 0).pin(&path).unwrap_err();
    assert!(error.to_string().contains("bpffs"), "{error}");
    assert!(!pin::is_bpffs(Path::new("/proc")));
}

#[test]
fn program_array_holds_programs() {
    let array = map(MapType::ProgArray, 4, 4, 2, 0);
    let program = load(&returns(1));
    array.update_fd(1, program.as_fd()).unwrap();
    let id = program.info().unwrap().id;
    assert_eq!(array.lookup(&1u32.to_ne_bytes()).unwrap().unwrap(), id.to_ne_bytes());
    assert_eq!(array.lookup(&0u32.to_ne_bytes()).unwrap(), None);
}

#[test]
fn malformed_btf_is_refused_with_the_log() {
    let error = Btf::load(&[0; 24]).unwrap_err();
    assert_eq!(error.error.operation, Operation::LoadBtf);
    assert!(!error.log.is_empty());
}

#[test]
fn may_goto_agrees_with_the_release() {
    let version = features::kernel_version().unwrap();
    if version >= features::KernelVersion::new(6, 9, 0) && cfg!(target_arch = "x86_64") {
        assert!(features::may_goto(), "{version}");
    } else if version < features::KernelVersion::new(6, 9, 0) {
        assert!(!features::may_goto(), "{version}");
    }
}

/// A process that was killed between pin and rename leaves a name; the next may have its number.
#[test]
fn names_left_by_the_killed_are_in_nobodys_way() {
    let bpffs = Bpffs::new();
    let left = map(MapType::Array, 4, 8, 1, 0);
    for number in 0..64 {
        left.pin(&bpffs.path(&format!("m-new-{}-{number}", std::process::id()))).unwrap();
    }
    let new = map(MapType::Array, 4, 8, 1, 0);
    new.pin_replacing(&bpffs.path("m")).unwrap();
    assert_eq!(Map::open_pinned(&bpffs.path("m")).unwrap().info().id, new.info().id);
}
