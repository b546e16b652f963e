//! Files of unpacked packages as one tree, and the libraries that programs need from it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use naam_vm::describe::Architecture;
use object::{
    LittleEndian, elf,
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// As many links lead from one to the next.
const LINKS_MAX: usize = 16;

/// Several unpacked packages, seen as the file system that they are parts of.
pub struct Sysroot {
    packages: Vec<PathBuf>,
    library_dirs: Vec<String>,
}

/// A file of an image, by its place there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Without a slash in front.
    pub place: String,
    /// Where it is now.
    pub file: PathBuf,
}

/// What a program or a library says that it needs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
}

impl Sysroot {
    /// That of some packages.
    pub fn new(packages: Vec<PathBuf>, architecture: Architecture) -> Self {
        let triplet = format!("{}-linux-gnu", architecture.gnu());
        Self { packages, library_dirs: vec![format!("usr/lib/{triplet}"), "usr/lib".to_owned()] }
    }

    /// The file at a place, behind all links.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, place: &str) -> Result<PathBuf> {
        let mut place = merged(place);
        // A program's own words name its libraries: they do not lead out of the packages.
        if Path::new(&place).components().any(|component| component == Component::ParentDir) {
            bail!("/{place} is not written out");
        }
        for _ in 0..LINKS_MAX {
            let Some(file) = self.entry(&place) else { bail!("the packages of the role have no file /{place}") };
            let Ok(target) = fs::read_link(&file) else { return Ok(file) };
            place = merged(&resolve(&place, &target));
        }
        bail!("/{place} is a ring of links")
    }

    /// A program with all that it needs to run, at the places where it looks for it.
    ///
    /// # Errors
    /// When a library is in none of the packages.
    pub fn closure(&self, program: Part) -> Result<BTreeSet<Part>> {
        let mut parts = BTreeSet::new();
        let mut left = vec![program];
        while let Some(part) = left.pop() {
            if parts.contains(&part) {
                continue;
            }
            let bytes = fs::read(&part.file).with_context(|| format!("cannot read {}", part.file.display()))?;
            let needs = needs(&bytes).with_context(|| format!("cannot understand {}", part.file.display()))?;
            if let Some(interpreter) = needs.interpreter {
                left.push(Part { file: self.find(&interpreter)?, place: merged(&interpreter) });
            }
            for library in needs.libraries {
                left.push(self.library(&library).with_context(|| format!("/{} needs it", part.place))?);
            }
            parts.insert(part);
        }
        Ok(parts)
    }

    fn library(&self, name: &str) -> Result<Part> {
        let places = self.library_dirs.iter().map(|dir| format!("{dir}/{name}"));
        let found = places.clone().find_map(|place| Some(Part { file: self.find(&place).ok()?, place }));
        found.with_context(|| {
            format!("no library {name} in the role's packages\ncure: name its package in vm-images/roles, `cargo xtask vm lock`")
        })
    }

    /// What is at a place in one of the packages, a link included.
    fn entry(&self, place: &str) -> Option<PathBuf> {
        // Packages of before the merge of /usr have the other place.
        let places = [Some(place), place.strip_prefix("usr/")];
        let mut files =
            self.packages.iter().flat_map(|package| places.iter().flatten().map(move |place| package.join(place)));
        files.find(|file| file.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()))
    }
}

/// A place as it is since /bin, /lib and the like are links into /usr.
pub fn merged(place: &str) -> String {
    let place = place.trim_start_matches('/');
    let first = place.split('/').next().unwrap_or_default();
    if ["bin", "sbin", "lib", "lib64"].contains(&first) { format!("usr/{place}") } else { place.to_owned() }
}

fn resolve(place: &str, target: &Path) -> String {
    let base = if target.is_absolute() { Path::new("") } else { Path::new(place).parent().unwrap_or(Path::new("")) };
    let mut path = PathBuf::new();
    for component in base.join(target.strip_prefix("/").unwrap_or(target)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    path.to_string_lossy().into_owned()
}

fn needs(bytes: &[u8]) -> Result<Needs> {
    if !bytes.starts_with(&elf::ELFMAG) {
        // A script, or data.
        return Ok(Needs::default());
    }
    let header = elf::FileHeader64::<LittleEndian>::parse(bytes)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, bytes)? {
        if let Some(interpreter) = segment.interpreter(endian, bytes)? {
            needs.interpreter = Some(String::from_utf8(interpreter.to_vec()).context("the interpreter's name")?);
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, strings)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, strings)?;
        for entry in entries.iter().filter(|entry| entry.d_tag.get(endian) == u64::from(elf::DT_NEEDED)) {
            let at = u32::try_from(entry.d_val.get(endian)).context("a library's name")?;
            let name = strings.get(at).ok().context("a library's name lies outside of the strings")?;
            needs.libraries.push(String::from_utf8(name.to_vec()).context("a library's name")?);
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(root: &Path, place: &str, content: &str) {
        let path = root.join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn links_lead_through_all_packages() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        write(&one, "usr/lib/x86_64-linux-gnu/libx.so.1.2", "x");
        symlink("libx.so.1.2", one.join("usr/lib/x86_64-linux-gnu/libx.so.1")).unwrap();
        write(&other, "bin/tool", "old place");
        symlink("/lib/x86_64-linux-gnu/libx.so.1", other.join("bin/absolute")).unwrap();
        symlink("ring", other.join("bin/ring")).unwrap();
        let sysroot = Sysroot::new(vec![one.clone(), other.clone()], Architecture::Amd64);
        assert_eq!(sysroot.find("/bin/tool").unwrap(), other.join("bin/tool"));
        assert_eq!(sysroot.find("/usr/bin/tool").unwrap(), other.join("bin/tool"));
        let library = one.join("usr/lib/x86_64-linux-gnu/libx.so.1.2");
        assert_eq!(sysroot.find("/bin/absolute").unwrap(), library);
        let part = sysroot.library("libx.so.1").unwrap();
        assert_eq!(part, Part { place: "usr/lib/x86_64-linux-gnu/libx.so.1".to_owned(), file: library });
        assert!(sysroot.find("/bin/none").is_err());
        assert!(sysroot.find("/bin/../../one").is_err());
        assert!(sysroot.find("/bin/ring").unwrap_err().to_string().contains("ring of links"));
        assert!(sysroot.library("liby.so").unwrap_err().to_string().contains("no library liby.so"));
    }

    #[test]
    fn our_own_program_needs_the_c_library() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&own).unwrap();
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")), "{needs:?}");
        assert!(needs.interpreter.is_some_and(|name| name.contains("ld")));
        assert_eq!(super::needs(b"#!/bin/sh\n").unwrap(), Needs::default());
    }
}
