//! An image: a kernel, and all of a role's files in its first file system.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result};
use naam_vm::{
    Places,
    describe::{Architecture, Kernel, Role},
    image::{INITRD, Image, KERNEL, MANIFEST, Manifest},
};
use naam_vm_agent::MODULES;
use sha2::{Digest as _, Sha256};

use super::{
    cpio::Archive,
    lock::{self, Lock, Wanted},
    modules::KernelFiles,
    packages::{Replaced, Store, hex},
    programs::{self, Programs},
    sysroot::{Part, Sysroot, merged},
    unobtainable,
};
use crate::{process, workspace::Workspace};

/// Raised when images come out otherwise than before for the same content.
const FORMAT: u32 = 1;

/// Where test programs go.
const TESTS: &str = "usr/lib/naam/tests";

/// What a build of several images shares.
pub struct Builder<'a> {
    workspace: &'a Workspace,
    places: &'a Places,
    lock: Lock,
    store: Store<'a>,
    programs: Programs<'a>,
}

impl<'a> Builder<'a> {
    /// Reads the lock.
    ///
    /// # Errors
    /// When it is not there.
    pub fn new(workspace: &'a Workspace, places: &'a Places) -> Result<Self> {
        let (store, programs) = (Store::new(workspace, places), Programs::new(workspace));
        Ok(Self { workspace, places, lock: Lock::read(places)?, store, programs })
    }

    /// Builds the image of a role and a kernel, unless it is there as it would come out.
    ///
    /// # Errors
    /// When something that belongs in is missing.
    pub fn build(&mut self, role_name: &str, kernel_name: &str) -> Result<()> {
        let started = Instant::now();
        let (role, kernel) = (Role::load(self.places, role_name)?, Kernel::load(self.places, kernel_name)?);
        let name = Image::name(role_name, kernel_name);
        let contents = self.contents(&role, &kernel)?;
        let key = contents.key(&role)?;
        if Image::open(self.places, &name).is_ok_and(|image| image.manifest().key == key) {
            return Ok(());
        }
        let files = KernelFiles::find(&contents.kernel, &kernel.release);
        let files = match files {
            // Debian has gone on to another series, and this one is nowhere else.
            Err(error) if contents.is_newer => Err(unobtainable(error, "a kernel of this series")),
            files => files,
        }?;
        let initrd = contents.initrd(&role, &files)?;
        let manifest = Manifest {
            architecture: kernel.architecture,
            memory_mib: role.memory_mib,
            cpus: role.cpus,
            release: files.release.clone(),
            key,
        };
        write(&self.places.image(&name), &files.image, &initrd, &manifest)?;
        let (size, took) = (initrd.len() >> 20, started.elapsed().as_secs_f64());
        println!("  {name:24} kernel {:28} {size:4} MiB  {took:5.1} s", manifest.release);
        Ok(())
    }

    fn contents(&mut self, role: &Role, kernel: &Kernel) -> Result<Contents> {
        let architecture = kernel.architecture;
        let mut is_newer = false;
        let mut unpacked = |suite: &str, package: &str| -> Result<Vec<PathBuf>> {
            let wanted = Wanted { suite: suite.to_owned(), architecture, package: package.to_owned() };
            let locked = self.lock.packages(&wanted)?;
            let dirs: Result<_> = locked.into_iter().map(|locked| self.store.unpacked(locked)).collect();
            match dirs {
                Err(error) if error.is::<Replaced>() => {
                    // There is nothing else to test with, and apt checks this by the archive's signature.
                    println!("  note: {}; taken now, for this time", process::explain(&error));
                    is_newer = true;
                    let offered = lock::resolve(self.store.archive(suite, architecture)?, &wanted)?;
                    offered.iter().map(|offered| self.store.unpacked(offered)).collect()
                }
                dirs => dirs,
            }
        };
        let kernel = unpacked(&kernel.suite, &kernel.package)?;
        let mut packages = Vec::new();
        for package in &role.packages {
            packages.extend(unpacked(&role.suite, package)?);
        }
        let sysroot = Sysroot::new(packages, architecture);
        let mut parts = BTreeSet::new();
        let mut take = |place: &str, file: PathBuf| -> Result<()> {
            parts.extend(sysroot.closure(Part { place: merged(place), file })?);
            Ok(())
        };
        take("init", self.programs.agent(architecture)?)?;
        for program in &role.programs {
            take(&format!("usr/bin/{}", program.name), self.programs.program(architecture, program)?)?;
        }
        for test in &role.tests {
            take(&format!("{TESTS}/{}", test.name), self.programs.test(architecture, test)?)?;
        }
        let triplet = format!("{}-linux-gnu", architecture.gnu());
        for place in &role.from_packages {
            let place = place.replace("{triplet}", &triplet);
            take(&place, sysroot.find(&place)?)?;
        }
        for file in &role.files {
            for part in expand(&programs::source(self.workspace, &file.from), &file.to)? {
                take(&part.place, part.file)?;
            }
        }
        Ok(Contents { architecture, kernel, parts, is_newer })
    }
}

/// What goes into an image.
struct Contents {
    architecture: Architecture,
    /// Unpacked packages; their names hold their hashes.
    kernel: Vec<PathBuf>,
    parts: BTreeSet<Part>,
    /// Some of it is newer than the lock.
    is_newer: bool,
}

impl Contents {
    /// A hash of everything that matters.
    fn key(&self, role: &Role) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        add(format!("{FORMAT} {:?} {} {}", self.architecture, role.memory_mib, role.cpus).as_bytes());
        add(format!("{:?} {:?}", role.modules, role.modules_if_any).as_bytes());
        for package in &self.kernel {
            add(package.file_name().unwrap_or_default().as_encoded_bytes());
        }
        for part in &self.parts {
            add(part.place.as_bytes());
            add(&read(&part.file)?);
        }
        Ok(hex(&hash.finalize()))
    }

    fn initrd(&self, role: &Role, kernel: &KernelFiles) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for dir in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "proc", "sys", "run", "tmp", "etc", "var"] {
            archive.directory(dir);
        }
        for dir in ["bin", "sbin", "lib", "lib64"] {
            archive.link(dir, &format!("usr/{dir}"));
        }
        for part in &self.parts {
            let is_program = part.place == "init" || part.place.contains("bin/") || part.place.contains("/lib");
            archive.file(&part.place, if is_program { 0o755 } else { 0o644 }, &read(&part.file)?);
        }
        let mut list = String::new();
        for module in kernel.closure(&role.modules, &role.modules_if_any)? {
            let place = format!("/modules/{}.ko", module.name);
            archive.file(&place, 0o644, &module.bytes);
            list += &format!("{place}\n");
        }
        archive.file(MODULES, 0o644, list.as_bytes());
        Ok(archive.finish())
    }
}

/// A file, or all files of a folder.
fn expand(from: &Path, to: &str) -> Result<Vec<Part>> {
    if !from.is_dir() {
        return Ok(vec![Part { place: to.to_owned(), file: from.to_owned() }]);
    }
    let mut parts = Vec::new();
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", from.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() {
            parts.push(Part { place: format!("{to}/{name}"), file: path });
        }
    }
    Ok(parts)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The manifest comes last: an image is there whole or not at all.
fn write(dir: &Path, kernel: &Path, initrd: &[u8], manifest: &Manifest) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(MANIFEST);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", path.display()));
        }
        _ => {}
    }
    // Under another name first: a machine that starts now reads one file or the other, and none that is half there.
    let place = |name: &str, write: &dyn Fn(&Path) -> std::io::Result<()>| {
        let (partial, path) = (dir.join(format!("{name}.partial")), dir.join(name));
        let placed = write(&partial).and_then(|()| fs::rename(&partial, &path));
        placed.with_context(|| format!("cannot write {}", path.display()))
    };
    place(KERNEL, &|path| fs::copy(kernel, path).map(drop))?;
    place(INITRD, &|path| fs::write(path, initrd))?;
    let text = serde_json::to_vec_pretty(manifest).context("the manifest is plain data")?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}
