//! Rules of this repository that no general tool knows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// One subject a file; more lines than this are more than one.
const LINES_MAX: usize = 600;
const SOURCES: [&str; 6] = ["rs", "c", "h", "sh", "py", "lua"];
/// Folders with nothing written by hand.
const SKIPPED: [&str; 4] = ["target", ".git", ".naam", "node_modules"];

/// Words that announce unfinished work; in pieces here, so that this file does not contain them.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
];
const IGNORED_TEST: &str = concat!("#[", "ignore");

/// Checks every source file and every manifest.
///
/// # Errors
/// Lists what breaks a rule, as `file:line: rule`.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let mut files = Vec::new();
    collect(workspace.root(), &mut files)?;
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let found = if is_source(file) { check_source(&text) } else { check_manifest(&text) };
        broken.extend(found.into_iter().map(|(line, rule)| format!("{}:{line}: {rule}", workspace.shorten(file))));
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(())
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| SOURCES.iter().any(|known| extension == *known))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot read {}", dir.display()))?;
        let path = entry.path();
        let kind = entry.file_type().with_context(|| format!("cannot read {}", path.display()))?;
        if kind.is_dir() {
            if !SKIPPED.iter().any(|name| entry.file_name() == *name) {
                collect(&path, files)?;
            }
        } else if kind.is_file() && (is_source(&path) || entry.file_name() == "Cargo.toml") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_source(text: &str) -> Vec<(usize, String)> {
    let mut broken = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in UNFINISHED.iter().filter(|word| has_word(line, word)) {
            broken.push((number, format!("`{word}`: finish it, or open an issue")));
        }
        if line.trim_start().starts_with(IGNORED_TEST) {
            broken.push((number, "an ignored test: print `SKIPPED name: reason` where it cannot run".to_owned()));
        }
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        broken.push((lines, format!("{lines} lines, more than {LINES_MAX}: split it by subject")));
    }
    broken
}

/// Whether `word` stands in `line` by itself and not inside a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !is_name(line[..at].chars().next_back())
            && (word.ends_with('(') || !is_name(line[at + word.len()..].chars().next()))
    })
}

/// A member without the workspace's lints would escape clippy's check of `unsafe` blocks.
fn check_manifest(text: &str) -> Vec<(usize, String)> {
    let mut lines = text.lines().map(str::trim);
    let is_package = text.lines().any(|line| line.trim() == "[package]");
    let takes_lints = text.lines().any(|line| line.trim() == "lints.workspace = true")
        || lines.any(|line| line == "[lints]") && {
            let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
            first == Some("workspace = true")
        };
    if is_package && !takes_lints {
        return vec![(1, "the crate does not take the workspace's lints: [lints] workspace = true".to_owned())];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_as_a_word() {
        let word = UNFINISHED[0];
        assert_eq!(check_source(&format!("fine\n// {word}: later\n")).len(), 1);
        assert_eq!(check_source(&format!("{word}(name)\n"))[0].0, 1);
        assert_eq!(check_source(&format!("let MAS{word}S = {word}X;\n")).len(), 0);
        assert_eq!(check_source(&format!("    {});\n", UNFINISHED[3])).len(), 1);
        assert_eq!(check_source(&format!("    {IGNORED_TEST}]\n")).len(), 1);
    }

    #[test]
    fn length_is_limited() {
        assert_eq!(check_source(&"x\n".repeat(LINES_MAX)).len(), 0);
        assert_eq!(check_source(&"x\n".repeat(LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn manifests_take_the_lints() {
        assert_eq!(check_manifest("[workspace]\nmembers = []\n").len(), 0);
        assert_eq!(check_manifest("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n").len(), 0);
        assert_eq!(check_manifest("[package]\nname = \"x\"\nlints.workspace = true\n").len(), 0);
        assert_eq!(check_manifest("[package]\nname = \"x\"\n").len(), 1);
        assert_eq!(check_manifest("[package]\nname = \"x\"\n[lints]\n[dependencies]\nworkspace = true\n").len(), 1);
    }
}
