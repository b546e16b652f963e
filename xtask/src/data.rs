//! `cargo xtask data`: real pairs of keys and values for `cargo xtask run --data`, from what every Debian machine
//! knows without a network: the list of all packages.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The store's longest key and value, bytes.
const KEY_MAX: usize = 64;
const VALUE_MAX: usize = 1_000;

/// Writes two kinds of pairs to `path`, a tab between key and value: a package's name and what it is and depends on;
/// the SHA-256 of a package's file and that file's place.
///
/// # Errors
/// When there is no list of packages, or the file cannot be written.
pub fn write(path: &Path) -> Result<()> {
    let mut command = Command::new("apt-cache");
    command.arg("dumpavail").stdin(Stdio::null()).stdout(Stdio::piped());
    let line = process::shown(&command);
    let mut child =
        command.spawn().with_context(|| format!("`{line}` cannot be started; this is no Debian machine"))?;
    let stanzas = child.stdout.take().context("standard output was not captured")?;
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut out = BufWriter::new(file);
    let pairs =
        convert(BufReader::new(stanzas), &mut out).with_context(|| format!("cannot write {}", path.display()))?;
    out.flush().with_context(|| format!("cannot write {}", path.display()))?;
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    if !status.success() || pairs == 0 {
        bail!("`{line}` lists no packages ({status})\ncure: apt-get update");
    }
    println!("{pairs} pairs in {}", path.display());
    Ok(())
}

/// What is used of a package.
#[derive(Default)]
struct Package {
    name: String,
    description: String,
    depends: String,
    sha256: String,
    place: String,
}

impl Package {
    fn write(&self, out: &mut impl io::Write) -> io::Result<u64> {
        let Self { name, description, depends, sha256, place } = self;
        let about = if depends.is_empty() { description.clone() } else { format!("{description}; needs {depends}") };
        let mut pairs = 0;
        for (key, value) in [(name, &about), (sha256, place)] {
            if (1..=KEY_MAX).contains(&key.len()) && !value.is_empty() {
                writeln!(out, "{key}\t{}", &value[..value.floor_char_boundary(VALUE_MAX)])?;
                pairs += 1;
            }
        }
        Ok(pairs)
    }
}

/// Reads stanzas of `Field: value` lines; returns the number of pairs written.
fn convert(stanzas: impl BufRead, out: &mut impl io::Write) -> io::Result<u64> {
    let mut pairs = 0;
    let mut package = Package::default();
    for line in stanzas.split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            pairs += std::mem::take(&mut package).write(out)?;
            continue;
        }
        let Some((field, value)) = line.split_once(": ") else { continue };
        let slot = match field {
            "Package" => &mut package.name,
            "Description" => &mut package.description,
            "Depends" => &mut package.depends,
            "SHA256" => &mut package.sha256,
            "Filename" => &mut package.place,
            _ => continue,
        };
        *slot = value.replace('\t', " ");
    }
    Ok(pairs + package.write(out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_become_pairs() {
        let long = "x".repeat(2_000);
        let text = format!(
            "Package: naam\nDepends: libc6\nFilename: pool/n/naam.deb\nSHA256: 00ff\nDescription: active\tmessages\n \
             longer text\n\nPackage: big\nDescription: {long}\n\nPackage: {long}\nDescription: no key\n"
        );
        let mut out = Vec::new();
        assert_eq!(convert(text.as_bytes(), &mut out).unwrap(), 3);
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[..2], ["naam\tactive messages; needs libc6", "00ff\tpool/n/naam.deb"]);
        assert_eq!(lines[2], format!("big\t{}", &long[..VALUE_MAX]));
    }
}
