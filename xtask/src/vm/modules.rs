//! A kernel's modules: which a list needs, in the order in which they load.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

/// The files of an unpacked kernel.
pub struct KernelFiles {
    /// What `uname -r` will say.
    pub release: String,
    /// The kernel itself.
    pub image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with `_`.
    pub name: String,
    /// Its file's content, decompressed.
    pub bytes: Vec<u8>,
}

impl KernelFiles {
    /// Looks for a kernel in unpacked packages.
    ///
    /// # Errors
    /// When there is not exactly one, or not one whose release begins with `release`.
    pub fn find(packages: &[PathBuf], release: &str) -> Result<Self> {
        let mut places = Vec::new();
        let mut trees = Vec::new();
        for package in packages {
            places.push(package.join("boot"));
            for modules in ["usr/lib/modules", "lib/modules"] {
                trees.extend(entries(&package.join(modules))?);
            }
        }
        // Since 6.19 it lies with its modules.
        places.extend(trees.iter().cloned());
        let mut images = Vec::new();
        for place in &places {
            images.extend(entries(place)?.into_iter().filter(|path| name_of(path).starts_with("vmlinu")));
        }
        let names: BTreeSet<_> = trees.iter().map(|tree| name_of(tree)).collect();
        let ([image], Some(name), 1) = (images.as_slice(), names.first(), names.len()) else {
            bail!("the packages hold {} kernels and the modules of {}, not one of each", images.len(), names.len());
        };
        if !name.starts_with(release) {
            bail!("the packages hold kernel {name}, not {release}*\ncure: a package of that release, or its own name");
        }
        let (mut modules, mut builtin) = (BTreeMap::new(), BTreeSet::new());
        for tree in &trees {
            collect(&tree.join("kernel"), &mut modules)?;
            let list = fs::read_to_string(tree.join("modules.builtin")).unwrap_or_default();
            builtin.extend(list.lines().filter_map(|line| module_name(Path::new(line))));
        }
        Ok(Self { release: name.clone(), image: image.clone(), modules, builtin })
    }

    /// The modules that `wanted` and `if_any` need, each after those that it needs itself.
    ///
    /// # Errors
    /// When one of `wanted` is neither a module nor built in, or a file cannot be read.
    pub fn closure(&self, wanted: &[String], if_any: &[String]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            if !self.add(name, &mut seen, &mut order)? {
                bail!("kernel {} has no module {name}, nor is it built in", self.release);
            }
        }
        for name in if_any {
            self.add(name, &mut seen, &mut order)?;
        }
        Ok(order)
    }

    /// Adds a module behind those that it needs; false if the kernel does not have it.
    fn add(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<Module>) -> Result<bool> {
        let name = name.replace('-', "_");
        if seen.contains(&name) || self.builtin.contains(&name) {
            return Ok(true);
        }
        let Some(path) = self.modules.get(&name) else { return Ok(false) };
        seen.insert(name.clone());
        let bytes = read(path)?;
        let needs = needs(&bytes).with_context(|| format!("cannot understand {}", path.display()))?;
        for need in &needs.hard {
            if !self.add(need, seen, order)? {
                bail!("module {name} of kernel {} needs {need}, which is not there", self.release);
            }
        }
        for need in &needs.soft {
            self.add(need, seen, order)?;
        }
        order.push(Module { name, bytes });
        Ok(true)
    }
}

/// What a module says that it needs before itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    hard: Vec<String>,
    soft: Vec<String>,
}

fn needs(module: &[u8]) -> Result<Needs> {
    let file = object::File::parse(module)?;
    let section = file.section_by_name(".modinfo").context("it has no section .modinfo")?;
    Ok(parse_modinfo(section.data()?))
}

/// `name=value` strings, each with a zero at its end.
fn parse_modinfo(section: &[u8]) -> Needs {
    let mut needs = Needs::default();
    for entry in section.split(|byte| *byte == 0) {
        let entry = String::from_utf8_lossy(entry);
        match entry.split_once('=') {
            Some(("depends", list)) => {
                needs.hard.extend(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned));
            }
            // `pre: a b post: c`
            Some(("softdep", list)) => {
                let mut before = false;
                for word in list.split_whitespace() {
                    match word {
                        "pre:" => before = true,
                        "post:" => before = false,
                        name if before => needs.soft.push(name.to_owned()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    needs
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => Ok(bytes),
        Some("xz") => {
            let mut plain = Vec::new();
            let mut reader = lzma_rust2::XzReader::new(bytes.as_slice(), true);
            reader.read_to_end(&mut plain).with_context(|| format!("cannot decompress {}", path.display()))?;
            Ok(plain)
        }
        other => bail!("{} is compressed by {other:?}, of which only xz is understood", path.display()),
    }
}

fn collect(dir: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for path in entries(dir)? {
        if path.is_dir() {
            collect(&path, modules)?;
        } else if let Some(name) = module_name(&path) {
            modules.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/drivers/net/virtio-net.ko.xz` is `virtio_net`.
fn module_name(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What a folder holds, sorted; nothing if it is not there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot read {}", dir.display()))?,
    };
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_names_what_comes_before() {
        let needs =
            parse_modinfo(b"license=GPL\0depends=ib_core,ib-uverbs\0softdep=pre: crc32 a post: b\0softdep=post: c\0\0");
        assert_eq!(needs.hard, ["ib_core", "ib-uverbs"]);
        assert_eq!(needs.soft, ["crc32", "a"]);
        assert_eq!(parse_modinfo(b"depends=\0"), Needs::default());
    }

    #[test]
    fn a_kernel_is_found_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().to_owned();
        let find = || KernelFiles::find(std::slice::from_ref(&package), "6.12.");
        assert!(find().is_err());
        fs::create_dir_all(package.join("boot")).unwrap();
        fs::create_dir_all(package.join("usr/lib/modules/6.12.1-amd64/kernel/net")).unwrap();
        fs::write(package.join("boot/vmlinuz-6.12.1-amd64"), "k").unwrap();
        fs::write(package.join("usr/lib/modules/6.12.1-amd64/modules.builtin"), "kernel/fs/ext-4.ko\n").unwrap();
        let files = find().unwrap();
        assert_eq!(files.release, "6.12.1-amd64");
        assert_eq!(files.closure(&["ext_4".to_owned()], &["none".to_owned()]).unwrap(), []);
        let error = files.closure(&["none".to_owned()], &[]).unwrap_err().to_string();
        assert!(error.contains("has no module none"), "{error}");
        assert!(KernelFiles::find(std::slice::from_ref(&package), "6.1.").is_err());
    }
}
