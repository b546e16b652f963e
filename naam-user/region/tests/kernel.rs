//! Regions in the running kernel. Needs root.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use naam_region::{AccessError, Region, RegionError, Regions, dump};
use naam_sys::{MapSpec, MapType, Update, pin};

const MIB: u64 = 1 << 20;

/// A bpffs and a directory of this test's own, gone when dropped.
struct Place {
    dir: PathBuf,
    bpffs: PathBuf,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("naam-region-{}-{number}", std::process::id()));
        let bpffs = dir.join("bpf");
        std::fs::create_dir_all(&bpffs).unwrap();
        pin::ensure_bpffs(&bpffs).unwrap();
        Self { dir, bpffs }
    }

    fn regions(&self) -> Regions {
        Regions::new(self.bpffs.join("host"))
    }

    fn region(&self, bytes: u64) -> Region {
        self.regions().create("kv", "store", bytes).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Files beside the bpffs.
    fn files(&self) -> usize {
        std::fs::read_dir(&self.dir).unwrap().count() - 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.bpffs, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn sizes() -> Vec<u64> {
    let mut sizes: Vec<_> = (1..=6).map(|bits| MIB << bits).collect();
    if std::env::var_os("NAAM_SOAK").is_some() {
        sizes.push(1 << 30);
    }
    sizes
}

#[test]
fn every_size_is_created_mapped_and_zero() {
    for bytes in sizes() {
        let place = Place::new();
        let region = place.region(bytes);
        let memory = region.map().unwrap();
        assert_eq!(memory.bytes(), bytes);
        for offset in [0, bytes / 2, bytes - 8] {
            assert_eq!(memory.load(offset), Ok(0));
            memory.store(offset, offset | 1).unwrap();
            assert_eq!(memory.load(offset), Ok(offset | 1));
        }
        assert!(matches!(memory.load(bytes), Err(AccessError::End { .. })));
        let end = region.geometry().value_len();
        memory.copy_in(end - 64, &[1; 64]).unwrap();
        if bytes > end {
            assert!(matches!(memory.copy_in(end - 8, &[1; 16]), Err(AccessError::Straddles { .. })));
        } else {
            assert!(matches!(memory.copy_in(end - 8, &[1; 16]), Err(AccessError::End { .. })));
        }
    }
}

#[test]
fn kernel_and_owner_see_the_same_bytes() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    let memory = region.map().unwrap();
    memory.copy_in(4096, &[7; 64]).unwrap();
    let value = region.bpf_map().lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
    assert_eq!(value[4096..4160], [7; 64]);
    assert_eq!(value[4160..4168], [0; 8]);
    region.bpf_map().update(&0u32.to_ne_bytes(), &vec![3; 2 << 20], Update::Any).unwrap();
    assert_eq!(memory.load(8), Ok(0x0303_0303_0303_0303));
}

#[test]
fn bpftool_would_find_name_and_types() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    let info = region.bpf_map().info();
    assert_eq!(info.name, "store");
    assert!(info.btf_id != 0 && info.btf_key_type != 0 && info.btf_value_type != 0);
}

#[test]
fn pin_is_all_that_is_needed_to_open_again() {
    let place = Place::new();
    let before = SystemTime::now() - Duration::from_secs(5);
    let region = place.region(4 * MIB);
    region.map().unwrap().store(16, 99).unwrap();
    let (id, created) = (region.bpf_map().info().id, region.created());
    drop(region);

    let again = place.regions().open("kv", "store").unwrap();
    assert_eq!(again.bpf_map().info().id, id);
    assert_eq!((again.app(), again.name(), again.bytes()), ("kv", "store", 4 * MIB));
    assert_eq!(again.created(), created);
    assert!(created > before && created < SystemTime::now() + Duration::from_secs(5));
    assert_eq!(again.map().unwrap().load(16), Ok(99));
}

#[test]
fn regions_are_listed_by_app_and_removed() {
    let place = Place::new();
    let regions = place.regions();
    assert!(regions.list().unwrap().is_empty());
    for (app, name) in [("kv", "store"), ("kv", "index"), ("chain", "store")] {
        regions.create(app, name, 2 * MIB).unwrap();
    }
    assert!(matches!(regions.create("kv", "store", 2 * MIB), Err(RegionError::Exists { .. })));
    let names = |regions: &Regions| -> Vec<String> {
        regions.list().unwrap().iter().map(|region| format!("{}/{}", region.app(), region.name())).collect()
    };
    assert_eq!(names(&regions), ["chain/store", "kv/index", "kv/store"]);
    regions.remove("chain", "store").unwrap();
    assert_eq!(names(&regions), ["kv/index", "kv/store"]);
    assert!(regions.open("chain", "store").is_err());
    assert!(regions.remove("chain", "store").is_err());
}

#[test]
fn a_region_has_one_owner_for_as_long_as_that_lives() {
    let place = Place::new();
    let (region, other) = (place.region(2 * MIB), place.regions().create("kv", "index", 2 * MIB).unwrap());
    let again = place.regions().open("kv", "store").unwrap();
    let ownership = region.own().unwrap();
    let refused = again.own().unwrap_err();
    assert!(
        matches!(&refused, RegionError::Owned { app, region } if (app.as_str(), region.as_str()) == ("kv", "store"))
    );
    other.own().unwrap();
    again.map().unwrap().store(0, 7).unwrap();
    drop(ownership);
    let ownership = again.own().unwrap();
    // A region of the same name is another one.
    place.regions().remove("kv", "store").unwrap();
    place.region(2 * MIB).own().unwrap();
    drop(ownership);
    assert_eq!(place.regions().list().unwrap().len(), 2);
}

#[test]
fn other_maps_are_not_taken_for_regions() {
    let place = Place::new();
    place.region(2 * MIB);
    let spec = MapSpec {
        name: "other",
        map_type: MapType::Array,
        key_size: 4,
        value_size: 64,
        max_entries: 1,
        flags: 0,
        btf: None,
    };
    let other = naam_sys::Map::create(&spec).unwrap();
    other.pin(&place.bpffs.join("host/regions/kv/other")).unwrap();
    assert!(matches!(place.regions().open("kv", "other"), Err(RegionError::NotARegion { .. })));
}

/// Some words here and there, with long stretches of zeros.
fn fill(region: &Region, seed: u64) {
    let memory = region.map().unwrap();
    let mut x = seed;
    for _ in 0..1000 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Every second MiB stays zero.
        let offset = (x >> 20) % region.bytes() / 8 * 8;
        if (offset / MIB).is_multiple_of(2) {
            memory.store(offset, x).unwrap();
        }
    }
}

fn contents(region: &Region) -> Vec<u8> {
    let memory = region.map().unwrap();
    let mut bytes = vec![0; region.bytes() as usize];
    memory.copy_out(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn saved_region_is_restored() {
    for bytes in [2 * MIB, 8 * MIB, 64 * MIB] {
        let place = Place::new();
        let region = place.region(bytes);
        fill(&region, bytes);
        let (before, file) = (contents(&region), place.file("store.naam"));
        let mut calls = 0;
        let header = region.save(&file, &mut |_| calls += 1).unwrap();
        assert_eq!(calls, bytes / MIB);
        assert_eq!(header.stored(), bytes / MIB / 2, "zero chunks are left out");
        assert_eq!(std::fs::metadata(&file).unwrap().len(), header.file_bytes());
        assert_eq!(place.files(), 1, "the temporary file is gone");
        assert_eq!(naam_region::snapshot::read_header(&file).unwrap().region, "store");

        // Restore over other contents, zero chunks included.
        let memory = region.map().unwrap();
        for offset in (0..bytes).step_by(4096) {
            memory.store(offset, u64::MAX).unwrap();
        }
        region.restore(&file, &mut |_| ()).unwrap();
        assert!(contents(&region) == before, "{bytes}");
    }
}

#[test]
fn empty_region_is_saved_and_restored() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    let file = place.file("empty.naam");
    assert_eq!(region.save(&file, &mut |_| ()).unwrap().stored(), 0);
    region.map().unwrap().store(0, 5).unwrap();
    region.restore(&file, &mut |_| ()).unwrap();
    assert_eq!(region.map().unwrap().load(0), Ok(0));
}

#[test]
fn corruption_is_found_before_the_region_changes() {
    let place = Place::new();
    let region = place.region(8 * MIB);
    fill(&region, 1);
    let file = place.file("store.naam");
    let header = region.save(&file, &mut |_| ()).unwrap();
    let good = std::fs::read(&file).unwrap();
    fill(&region, 2);
    let before = contents(&region);

    // One bit in the last stored chunk, which is chunk 6.
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bad).unwrap();
    let error = region.restore(&file, &mut |_| ()).unwrap_err();
    assert!(matches!(error, RegionError::CorruptChunk { chunk: 6, chunks: 8, .. }), "{error}");

    // Two chunks exchanged.
    let mut bad = good.clone();
    let data = good.len() - (header.stored() << 20) as usize;
    let (first, second) = bad[data..].split_at_mut(1 << 20);
    first.swap_with_slice(&mut second[..1 << 20]);
    std::fs::write(&file, &bad).unwrap();
    assert!(matches!(region.restore(&file, &mut |_| ()), Err(RegionError::CorruptChunk { chunk: 0, .. })));

    for bad in [
        &good[..good.len() - 1],
        &good[..4096],
        &good[..100],
        &good[..10],
        b"",
        b"not a snapshot at all, but a text that is longer than a header is",
    ] {
        std::fs::write(&file, bad).unwrap();
        let error = region.restore(&file, &mut |_| ()).unwrap_err();
        assert!(matches!(error, RegionError::Format { .. }), "{error}");
    }
    assert!(contents(&region) == before, "a refused file changed the region");

    std::fs::write(&file, &good).unwrap();
    region.restore(&file, &mut |_| ()).unwrap();
}

#[test]
fn interrupted_restore_is_told_until_it_is_mended_or_accepted() {
    use naam_region::Stage;
    let place = Place::new();
    let region = place.region(4 * MIB);
    fill(&region, 1);
    let path = place.file("snapshot");
    region.save(&path, &mut |_| ()).unwrap();
    fill(&region, 2);
    let interrupt = |at: Stage| {
        let restore = || region.restore(&path, &mut |progress| assert_ne!(progress.stage, at, "interrupted"));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(restore)).unwrap_err();
        place.regions().open("kv", "store").unwrap().is_torn()
    };
    assert!(!interrupt(Stage::Verify), "nothing has changed yet");
    assert!(interrupt(Stage::Copy));
    region.restore(&path, &mut |_| ()).unwrap();
    assert!(!region.is_torn());
    assert!(interrupt(Stage::Copy));
    region.accept().unwrap();
    assert!(!region.is_torn());
    assert!(interrupt(Stage::Copy));
    place.regions().remove("kv", "store").unwrap();
    assert!(!place.region(2 * MIB).is_torn(), "another region of the name is whole");
}

#[test]
fn snapshot_of_another_size_is_refused() {
    let place = Place::new();
    let file = place.file("store.naam");
    place.region(2 * MIB).save(&file, &mut |_| ()).unwrap();
    let other = place.regions().create("kv", "larger", 4 * MIB).unwrap();
    let error = other.restore(&file, &mut |_| ()).unwrap_err();
    assert!(matches!(error, RegionError::SizeMismatch { .. }), "{error}");
    assert!(error.to_string().contains("2 MiB") && error.to_string().contains("4 MiB"), "{error}");
}

#[test]
fn failed_save_leaves_the_old_file_and_nothing_else() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    assert!(region.save(&place.file("no-such-dir/store.naam"), &mut |_| ()).is_err());
    let file = place.file("taken");
    std::fs::create_dir(&file).unwrap();
    std::fs::write(file.join("inside"), "x").unwrap();
    assert!(region.save(&file, &mut |_| ()).is_err(), "a directory is not replaced");
    assert_eq!(place.files(), 1);
}

#[test]
fn saves_at_the_same_time_do_not_mix() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    fill(&region, 3);
    let file = place.file("store.naam");
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| region.save(&file, &mut |_| ()).unwrap());
        }
    });
    assert_eq!(place.files(), 1);
    region.restore(&file, &mut |_| ()).unwrap();
}

#[test]
fn plain_file_lands_at_its_offset() {
    let place = Place::new();
    let region = place.region(4 * MIB);
    let memory = region.map().unwrap();
    let bytes: Vec<u8> = (0..(2 * MIB + 13)).map(|i| ((i * 31) >> 3) as u8).collect();
    let file = place.file("plain");
    std::fs::write(&file, &bytes).unwrap();
    let offset = MIB / 2 + 8;
    memory.store(offset + 2 * MIB + 8, u64::MAX).unwrap();
    assert_eq!(region.load_file(&file, offset, &mut |_| ()).unwrap(), bytes.len() as u64);
    let all = contents(&region);
    assert!(all[offset as usize..][..bytes.len()] == bytes);
    assert_eq!(all[offset as usize + bytes.len()..][..4], [0xff, 0xff, 0xff, 0], "the last word's other bytes stay");
    assert!(all[..offset as usize].iter().all(|byte| *byte == 0));

    assert!(matches!(region.load_file(&file, 2 * MIB, &mut |_| ()), Err(RegionError::DoesNotFit { .. })));
    assert!(matches!(region.load_file(&file, 4, &mut |_| ()), Err(RegionError::Access(AccessError::Unaligned { .. }))));
}

/// Shorter than a word, and of more pieces than are read at a time with a short one at the end.
#[test]
fn files_of_every_length_are_loaded() {
    let place = Place::new();
    let region = place.region(16 * MIB);
    let file = place.file("plain");
    for len in [1, 3, 7, 8, 9, 9 * MIB as usize + 5] {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(region.load_file(&file, 8, &mut |_| ()).unwrap(), len as u64, "{len}");
        assert!(contents(&region)[8..8 + len] == bytes, "{len}");
    }
    for path in ["/dev/zero", "/dev"] {
        let refused = region.load_file(path.as_ref(), 0, &mut |_| ());
        assert!(matches!(refused, Err(RegionError::NotAFile { .. })), "{path}: {refused:?}");
    }
}

#[test]
fn dump_shows_a_range() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    let memory = region.map().unwrap();
    memory.copy_in(65536 - 8, b"boundary of pace").unwrap();
    let (start, bytes) = dump::read_range(&memory, 65536 - 3, 20).unwrap();
    assert_eq!((start, bytes.len()), (65536 - 16, 48));
    let mut text = Vec::new();
    dump::write_hex(start, &bytes, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("|........boundary|") && text.contains("| of pace........|"), "{text}");
    assert_eq!(dump::read_range(&memory, 2 * MIB - 8, u64::MAX).unwrap().1.len(), 16);
    assert!(dump::read_range(&memory, 2 * MIB, 8).is_err());
}

#[test]
fn words_are_never_torn() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    let (writer, reader) = (region.map().unwrap(), region.map().unwrap());
    let stop = AtomicBool::new(false);
    let patterns = [0u64, u64::MAX, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let bytes = patterns[round % patterns.len()].to_ne_bytes().repeat(64);
                writer.copy_in(512, &bytes).unwrap();
            }
        });
        let mut bytes = [0; 512];
        for _ in 0..20_000 {
            reader.copy_out(512, &mut bytes).unwrap();
            for word in bytes.chunks_exact(8) {
                let word = u64::from_ne_bytes(word.try_into().unwrap());
                assert!(patterns.contains(&word), "{word:#x}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn owners_count_together() {
    let place = Place::new();
    let region = place.region(2 * MIB);
    let memories = [region.map().unwrap(), region.map().unwrap()];
    std::thread::scope(|scope| {
        for memory in &memories {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    memory.fetch_add(64, 1).unwrap();
                }
            });
        }
    });
    assert_eq!(memories[0].load(64), Ok(20_000));
}
