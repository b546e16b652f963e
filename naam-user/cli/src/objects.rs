//! The build's BPF objects, inside this executable: it needs no file beside it.

use naam_loader::Objects;

use crate::failure::Failure;

/// ELF readers take structures in place, so objects start on a word.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

/// Name and bytes of every object, by name.
static OBJECTS: &[(&str, &Aligned<[u8]>)] = &include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// Objects that are no handlers: the datapath, the AF_XDP program, the yardstick of benches.
const RUNTIME: [&str; 4] = ["baseline", "entry", "shell", "xsk"];

fn object(name: &str) -> Option<&'static [u8]> {
    let at = OBJECTS.binary_search_by_key(&name, |(name, _)| name).ok()?;
    Some(&OBJECTS[at].1.0)
}

fn needed(name: &str) -> &'static [u8] {
    object(name).expect("build.rs refuses to go on without")
}

/// Entry and shell.
pub fn datapath() -> Objects<'static> {
    Objects { entry: needed("entry"), shell: needed("shell") }
}

/// The XDP program of AF_XDP clients.
pub fn xsk() -> &'static [u8] {
    needed("xsk")
}

/// Names of the embedded handlers.
pub fn builtins() -> impl Iterator<Item = &'static str> {
    OBJECTS.iter().map(|(name, _)| *name).filter(|name| !RUNTIME.contains(name))
}

/// The embedded handler of that name.
pub fn builtin(name: &str) -> Option<&'static [u8]> {
    if RUNTIME.contains(&name) { None } else { object(name) }
}

/// The embedded handler of that name, or which there are.
pub fn require_builtin(name: &str) -> Result<&'static [u8], Failure> {
    builtin(name).ok_or_else(|| {
        let names: Vec<_> = builtins().collect();
        let cause = "this program carries no handler of that name";
        Failure::new("find", format!("built-in handler `{name}`"), cause)
            .way_out(format!("there are {}; others are given as files", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_found_by_its_name_and_aligned() {
        for (name, bytes) in OBJECTS {
            let found = object(name).unwrap();
            assert_eq!(found, &bytes.0, "{name}");
            assert_eq!(found.as_ptr().align_offset(8), 0, "{name}");
            assert_eq!(&found[..4], b"\x7fELF", "{name}");
        }
    }

    #[test]
    fn runtime_objects_are_no_handlers() {
        assert!(builtin("echo").is_some() && builtin("entry").is_none() && builtin("none").is_none());
        assert!(builtins().all(|name| !RUNTIME.contains(&name)));
        let error = require_builtin("none").unwrap_err().to_string();
        assert!(error.contains("`none`") && error.contains("echo"), "{error}");
    }

    #[test]
    fn embedded_handlers_are_admitted() {
        for name in builtins() {
            let admitted = naam_admission::admit(builtin(name).unwrap());
            assert_eq!(admitted.map(|admitted| admitted.name().to_owned()), Ok(name.to_owned()));
        }
    }
}
