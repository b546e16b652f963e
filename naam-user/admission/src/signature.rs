//! The handler's function in BTF: the only global one, with the right prototype.

use std::collections::HashSet;

use naam_abi::limits::{VIEW_LARGE, VIEW_SMALL};

use crate::btf::{Btf, Kind, LINKAGE_GLOBAL};
use crate::refusal::{Refusal, Rule};
use crate::{View, link};

const MESSAGE_BYTES: usize = size_of::<naam_abi::handler::NaamMsg>();

/// Finds the handler's function among the BTF types and says which view it takes.
///
/// BTF calls hidden functions global; `exported` says what ELF calls them.
pub(crate) fn check(btf: &Btf<'_>, name: &str, exported: &HashSet<&str>) -> Result<(u32, View), Refusal> {
    let mut entry = None;
    let mut others = Vec::new();
    for (id, found) in btf.types() {
        let Kind::Func { prototype, linkage: LINKAGE_GLOBAL } = found.kind else { continue };
        let found_name = btf.string(found.name);
        if found_name == name && entry.is_none() {
            entry = Some((id, prototype));
        } else if found_name == name
            || exported.contains(found_name.as_str()) && !link::COMPILER_MADE.contains(&found_name.as_str())
        {
            others.push(found_name);
        }
        // Enough to tell the author.
        others.truncate(4);
    }
    let Some((id, prototype)) = entry else {
        let detail = if others.is_empty() {
            format!("BTF has no global function, .naam names {name}")
        } else {
            format!("BTF has no global function {name}, but {}", others.join(", "))
        };
        return Err(Refusal::object(Rule::EntryMissing, detail));
    };
    if !others.is_empty() {
        let detail = format!("besides {name}, BTF has the global functions {}", others.join(", "));
        return Err(Refusal::object(Rule::EntryAmbiguous, detail));
    }
    let view = prototype_view(btf, prototype)
        .map_err(|detail| Refusal { function: Some(name.into()), ..Refusal::object(Rule::WrongSignature, detail) })?;
    Ok((id, view))
}

fn prototype_view(btf: &Btf<'_>, prototype: u32) -> Result<View, String> {
    let Some(Kind::Prototype { returns, params }) = btf.resolve(prototype).map(|found| &found.kind) else {
        return Err("the function has no prototype in BTF".into());
    };
    let [message, view] = params[..] else {
        return Err(format!("the function takes {} parameters, a handler takes 2", params.len()));
    };
    match btf.resolve(*returns).map(|found| &found.kind) {
        Some(Kind::Int { bytes: 4 } | Kind::Enum { bytes: 4 }) => {}
        _ => return Err("the function does not return a 32-bit integer".into()),
    }
    let (name, bytes) = btf.pointee(message).ok_or("the first parameter is not a pointer to a struct")?;
    if !matches!(name.as_str(), "NaamMsg" | "naam_msg") || bytes as usize != MESSAGE_BYTES {
        return Err(format!("the first parameter points to {name} of {bytes} bytes, naam_msg has {MESSAGE_BYTES}"));
    }
    let (name, bytes) = btf.pointee(view).ok_or("the second parameter is not a pointer to a struct")?;
    match (name.as_str(), bytes as usize) {
        ("NaamView64" | "naam_view64", VIEW_SMALL) => Ok(View::Small),
        ("NaamView1k" | "naam_view1k", VIEW_LARGE) => Ok(View::Large),
        _ => Err(format!(
            "the second parameter points to {name} of {bytes} bytes, not to naam_view64 ({VIEW_SMALL}) or naam_view1k ({VIEW_LARGE})"
        )),
    }
}
