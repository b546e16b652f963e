//! An archive as the kernel unpacks it at boot: cpio in the format "newc", the same bytes for the same content.

use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const END: &str = "TRAILER!!!";

/// An archive that grows. Times are 0, owner is root, and files come in the order in which they are added.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a folder and those above it, as far as they are not there.
    pub fn directory(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.directories.contains(path) {
            return;
        }
        self.directory(parent(path));
        self.directories.insert(path.to_owned());
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds a file and the folders above it.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        let path = path.trim_matches('/');
        self.directory(parent(path));
        self.entry(path, FILE | permissions, content);
    }

    /// Adds a symbolic link and the folders above it.
    pub fn link(&mut self, path: &str, target: &str) {
        let path = path.trim_matches('/');
        self.directory(parent(path));
        self.entry(path, LINK | 0o777, target.as_bytes());
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of an image is smaller than 4 GiB");
        let name_size = name.len() as u32 + 1;
        // Number, mode, owner, group, links, time, size, device (2), device of a device file (2), name's size, check.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and content of every entry, read by the format's rules.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |number: usize| {
                let digits = &archive[at + 6 + 8 * number..at + 14 + 8 * number];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            assert_eq!(field(5), 0, "time");
            let name_end = at + 110 + field(11) as usize - 1;
            let name = String::from_utf8(archive[at + 110..name_end].to_vec()).unwrap();
            let content = (name_end + 1).next_multiple_of(4);
            let end = content + field(6) as usize;
            if name == END {
                assert_eq!(end.next_multiple_of(4), archive.len());
                return entries;
            }
            entries.push((name, field(1), archive[content..end].to_vec()));
            at = end.next_multiple_of(4);
        }
    }

    fn build() -> Vec<u8> {
        let mut archive = Archive::default();
        archive.file("/usr/bin/naam", 0o755, b"program");
        archive.link("bin", "usr/bin");
        archive.file("usr/bin/x", 0o644, b"");
        archive.directory("usr");
        archive.finish()
    }

    #[test]
    fn entries_are_what_was_added_and_folders_come_first() {
        let found = entries(&build());
        let names: Vec<_> = found.iter().map(|(name, mode, _)| (name.as_str(), *mode)).collect();
        let expected = [
            ("usr", 0o40755),
            ("usr/bin", 0o40755),
            ("usr/bin/naam", 0o100755),
            ("bin", 0o120777),
            ("usr/bin/x", 0o100644),
        ];
        assert_eq!(names, expected);
        assert_eq!(found[2].2, b"program");
        assert_eq!(found[3].2, b"usr/bin");
        assert_eq!(build(), build());
    }
}
