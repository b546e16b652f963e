//! apt: installing packages, and fetching one package of another suite without touching the system's set-up.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, workspace::Workspace};

/// Signs Debian's own archive, and comes with every Debian.
const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Without it, `apt-get update` takes a failed fetch for a warning and succeeds.
const FAIL_ON_FETCH: &str = "-oAPT::Update::Error-Mode=any";

/// Whether this is a system of Debian's family.
pub fn is_available() -> bool {
    process::find_program("apt-get").is_some() && process::find_program("dpkg-deb").is_some()
}

/// Installs `packages`, refreshing apt's lists only if that is needed.
///
/// # Errors
/// When apt fails; the text holds its last lines.
pub fn install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    if try_install(workspace, packages).is_ok() {
        return Ok(());
    }
    // Lists were missing, or so old that the mirror has dropped what they name. A source that fails may be one that
    // is not needed: what counts is whether the packages can be installed then.
    let updated = update(workspace);
    match (try_install(workspace, packages), updated) {
        (Ok(()), _) => Ok(()),
        (Err(_), Err(no_update)) => Err(no_update),
        (Err(no_install), Ok(())) => Err(no_install),
    }
}

/// Refreshes the system's lists.
///
/// # Errors
/// When apt fails, above all without network.
pub fn update(workspace: &Workspace) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args([FAIL_ON_FETCH, "update"]);
    process::logged("apt-get update", &mut command, &workspace.log("apt-update"))
        .context("apt cannot refresh its lists: is there a network, and does it reach the configured mirror?")
}

fn try_install(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    process::logged("apt-get install", &mut command, &workspace.log("apt-install"))
}

/// The Debian archives that apt is configured with, as base URIs; the security archive is not one of them.
///
/// # Errors
/// When apt cannot say.
pub fn debian_mirrors() -> Result<Vec<String>> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]);
    Ok(parse_mirrors(&process::output(&mut command)?))
}

fn parse_mirrors(targets: &str) -> Vec<String> {
    let mut mirrors = Vec::new();
    for line in targets.lines() {
        let mut fields = line.splitn(3, '|');
        let (Some(origin), Some(label), Some(uri)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let is_main_archive = origin.starts_with("Debian") && (label == "Debian" || label == "Debian Backports");
        if is_main_archive && !mirrors.iter().any(|known| known == uri) {
            mirrors.push(uri.to_owned());
        }
    }
    mirrors
}

/// An apt with its own lists, sources and cache: needs no root, leaves the system as it is, checks signatures as ever.
pub struct PrivateApt {
    root: PathBuf,
    /// Debian's name, if it is not this machine's own.
    architecture: Option<String>,
}

/// What an archive says of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, in hexadecimal digits.
    pub sha256: String,
    /// The packages that it depends on, by name; of alternatives the first.
    pub depends: Vec<String>,
}

impl PrivateApt {
    /// An apt under `root` that knows one suite of one mirror.
    ///
    /// # Errors
    /// When its files cannot be written.
    pub fn new(root: PathBuf, mirror: &str, suite: &str) -> Result<Self> {
        for dir in ["state/lists/partial", "cache/archives/partial", "sources"] {
            let dir = root.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let file = root.join("sources/one.sources");
        fs::write(&file, source_stanza(mirror, suite, Path::new(DEBIAN_KEYRING).is_file()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let status = root.join("state/status");
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))?;
        Ok(Self { root, architecture: None })
    }

    /// The same for packages of another architecture.
    #[must_use]
    pub fn of_architecture(self, debian: &str) -> Self {
        Self { architecture: Some(debian.to_owned()), ..self }
    }

    /// What the suite offers under the name of `package`, newest first.
    ///
    /// # Errors
    /// When apt cannot say.
    pub fn offers(&self, package: &str) -> Result<Vec<Offer>> {
        let mut command = self.command("apt-cache");
        command.args(["show", package]);
        Ok(parse_offers(&process::output(&mut command)?))
    }

    /// Fetches the suite's list of packages.
    ///
    /// # Errors
    /// When the mirror cannot be reached, lacks the suite, or the signature is not good.
    pub fn update(&self, log: &Path) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args([FAIL_ON_FETCH, "update"]);
        process::logged("apt-get update (private)", &mut command, log)
    }

    /// Versions of `package` that the suite offers, newest first.
    ///
    /// # Errors
    /// When apt cannot say.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["madison", package]);
        Ok(parse_madison(&process::output(&mut command)?))
    }

    /// Fetches `package` of `version`, checked by apt, and returns the file.
    ///
    /// # Errors
    /// When apt fails or the file is not where it should be.
    pub fn download(&self, package: &str, version: &str, log: &Path) -> Result<PathBuf> {
        let dir = self.root.join("download");
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", dir.display()));
            }
            _ => fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?,
        }
        let mut command = self.command("apt-get");
        command.current_dir(&dir).arg("download").arg(format!("{package}={version}"));
        process::logged(&format!("fetching {package} {version}"), &mut command, log)?;
        let entries = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        match files.as_slice() {
            [file] => Ok(file.clone()),
            _ => bail!("apt-get download left {} files in {} instead of one", files.len(), dir.display()),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &Path| {
            command.arg("-o").arg(format!("{name}={}", value.display()));
        };
        option("Dir::State", &self.root.join("state"));
        option("Dir::Cache", &self.root.join("cache"));
        option("Dir::Etc::SourceList", Path::new("/dev/null"));
        option("Dir::Etc::SourceParts", &self.root.join("sources"));
        // What is installed here is no offer of the suite.
        option("Dir::State::status", &self.root.join("state/status"));
        if let Some(architecture) = &self.architecture {
            command.args(["-o", &format!("APT::Architecture={architecture}")]);
            command.args(["-o", &format!("APT::Architectures={architecture}")]);
        }
        // As root, apt would otherwise fetch as its own user, who cannot enter a checkout below /root.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

fn source_stanza(mirror: &str, suite: &str, has_keyring: bool) -> String {
    let mut stanza = format!("Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n");
    if has_keyring {
        stanza += &format!("Signed-By: {DEBIAN_KEYRING}\n");
    }
    stanza
}

fn parse_offers(text: &str) -> Vec<Offer> {
    let parse = |stanza: &str| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let depends = field("Depends").unwrap_or_default().split(", ");
        let names = depends.filter_map(|depend| depend.split([' ', ':', '|', '(']).next());
        Some(Offer {
            version: field("Version")?.to_owned(),
            sha256: field("SHA256")?.to_owned(),
            depends: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        })
    };
    text.split("\n\n").filter_map(parse).collect()
}

fn parse_madison(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_apts_own_and_only_the_main_archive() {
        let targets = "Debian|Debian|http://mirror.example/debian/\n\
                       Debian|Debian|http://mirror.example/debian/\n\
                       Debian|Debian-Security|http://mirror.example/debian-security/\n\
                       Debian Backports|Debian Backports|http://other.example/debian/\n\
                       . nodistro|. nodistro|https://vendor.example/\n\
                       $(ORIGIN)|$(LABEL)|http://never-fetched.example/\n";
        assert_eq!(parse_mirrors(targets), ["http://mirror.example/debian/", "http://other.example/debian/"]);
        assert_eq!(parse_mirrors(""), [""; 0]);
    }

    #[test]
    fn madison_lists_versions_newest_first() {
        let text = " rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://m.example/debian s/main amd64 Packages\n\
                    rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m.example/debian s/main amd64 Packages\n";
        assert_eq!(parse_madison(text), ["1.96.1+dfsg1-2~bpo13+1", "1.95.0+dfsg1-2~bpo13+1"]);
        assert_eq!(parse_madison(""), [""; 0]);
    }

    #[test]
    fn offers_have_version_hash_and_dependencies() {
        let text = "Package: image\nVersion: 6.12.1-1\nDepends: modules-6.12 (= 6.12.1-1), kmod | other, libc6:any\n\
                    Filename: pool/x.deb\nSHA256: 00ff\nDescription: d\n continued\n\n\
                    Package: image\nVersion: 6.11.0-1\nSHA256: 11ee\n\nPackage: image\nVersion: installed\n";
        let offers = parse_offers(text);
        assert_eq!(offers.len(), 2, "{offers:?}");
        assert_eq!((offers[0].version.as_str(), offers[0].sha256.as_str()), ("6.12.1-1", "00ff"));
        assert_eq!(offers[0].depends, ["modules-6.12", "kmod", "libc6"]);
        assert_eq!(offers[1].depends, [""; 0]);
    }

    #[test]
    fn the_stanza_names_the_key_that_checks_it() {
        let stanza = source_stanza("http://m.example/debian/", "s-backports", true);
        assert!(stanza.contains("URIs: http://m.example/debian/\nSuites: s-backports\n"), "{stanza}");
        assert!(stanza.contains("Signed-By: /usr/share/keyrings/"), "{stanza}");
        assert!(!source_stanza("http://m.example/debian/", "s", false).contains("Signed-By"));
    }
}
