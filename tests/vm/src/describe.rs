//! What `vm-images/` describes: kernels, roles, and topologies of machines that have both.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Error, Places};

/// Machines of a topology, network cards of a machine: what fits into the last bytes of a MAC address.
const COUNT_MAX: usize = 250;

/// A processor architecture, by Debian's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// Of the machine that this runs on, if it is one of these.
    pub fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// Debian's name.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The name in GNU triplets and in Rust's targets.
    pub fn gnu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// `kernels/NAME.toml`: a kernel out of Debian.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// What it runs on.
    pub architecture: Architecture,
    /// The suite of Debian's archive that has it.
    pub suite: String,
    /// The package, or one that depends on it.
    pub package: String,
    /// What `uname -r` begins with.
    pub release: String,
    /// Handlers of ours that its verifier is known not to take.
    #[serde(default)]
    pub refuses: Vec<String>,
}

/// `roles/NAME.toml`: what a machine of a role has inside.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Memory.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// The suite of Debian's archive that the packages come from.
    pub suite: String,
    /// Packages that programs and libraries are taken from; nothing of them is installed as such.
    pub packages: Vec<String>,
    /// Kernel modules to load at boot, with what they need. A kernel may have them built in.
    pub modules: Vec<String>,
    /// The same, for modules that not every kernel has.
    #[serde(default)]
    pub modules_if_any: Vec<String>,
    /// Programs of this workspace, by package; they go to `/usr/bin`.
    #[serde(default)]
    pub programs: Vec<Program>,
    /// Test programs of this workspace, which go to `/usr/lib/naam/tests`.
    #[serde(default)]
    pub tests: Vec<Program>,
    /// Files of the packages, with the libraries that they need; they keep their places. `{triplet}` stands for the
    /// architecture's name in places of libraries, such as `x86_64-linux-gnu`.
    #[serde(default)]
    pub from_packages: Vec<String>,
    /// Other files: from where in the checkout or the target folder to where in the image.
    #[serde(default)]
    pub files: Vec<File>,
    /// A shell script that takes away what NAAM leaves behind when all its processes are killed: it runs between two tests that
    /// share a machine.
    pub reset: String,
}

/// A program of this workspace, or a test program.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its package.
    pub package: String,
    /// Its name.
    pub name: String,
}

/// A file or all files of a folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// In the checkout, or in the target folder where it begins with `target/`.
    pub from: String,
    /// In the image.
    pub to: String,
}

/// `topologies/NAME.toml`: machines and how they are joined.
#[derive(Clone, Debug)]
pub struct Topology {
    name: String,
    places: Places,
    file: TopologyFile,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopologyFile {
    description: String,
    vm: Vec<Vm>,
}

/// A machine of a topology.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vm {
    /// Its name, unique in the topology.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its kernel, unless the boot says otherwise.
    pub kernel: String,
    /// Its network cards: `eth0`, `eth1`, …
    #[serde(default)]
    pub nic: Vec<Nic>,
    /// What `vm run` has it do: shell commands, in the topology's order of machines.
    #[serde(default)]
    pub start: Vec<Start>,
}

/// A network card.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nic {
    /// What joins it with one other card.
    pub network: String,
    /// Addresses with their prefix lengths.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// A command of a machine's start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// For the shell.
    pub command: String,
    /// The command goes on running; the next one begins when this one succeeds.
    pub until: Option<String>,
}

/// `10.77.0.2/24`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network's part.
    pub prefix: u8,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (ip, prefix) = text.split_once('/')?;
            let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
            (prefix <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Self { ip, prefix })
        };
        parse().ok_or_else(|| format!("`{text}` is no address with a prefix length, such as 10.77.0.2/24"))
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

impl Kernel {
    /// Reads a kernel's description.
    ///
    /// # Errors
    /// When there is none of this name, or it is not understood.
    pub fn load(places: &Places, name: &str) -> Result<Self, Error> {
        load(places, "kernels", name)
    }
}

impl Role {
    /// Reads a role's description.
    ///
    /// # Errors
    /// When there is none of this name, or it is not understood.
    pub fn load(places: &Places, name: &str) -> Result<Self, Error> {
        load(places, "roles", name)
    }
}

impl Topology {
    /// Reads a topology's description.
    ///
    /// # Errors
    /// When there is none of this name, it is not understood, or its machines and networks do not fit together.
    pub fn load(places: &Places, name: &str) -> Result<Self, Error> {
        let file: TopologyFile = load(places, "topologies", name)?;
        let topology = Self { name: name.to_owned(), places: places.clone(), file };
        topology.check().map_err(|problem| Error::Description { path: path(places, "topologies", name), problem })?;
        Ok(topology)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One sentence about it.
    pub fn description(&self) -> &str {
        &self.file.description
    }

    /// Its machines.
    pub fn vms(&self) -> &[Vm] {
        &self.file.vm
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// The networks, each with the two cards that it joins, as numbers of machine and card.
    pub(crate) fn networks(&self) -> BTreeMap<&str, Vec<(usize, usize)>> {
        let mut networks = BTreeMap::<_, Vec<_>>::new();
        for (number, vm) in self.vms().iter().enumerate() {
            for (card, nic) in vm.nic.iter().enumerate() {
                networks.entry(nic.network.as_str()).or_default().push((number, card));
            }
        }
        networks
    }

    fn check(&self) -> Result<(), String> {
        let vms = self.vms();
        if vms.is_empty() || vms.len() > COUNT_MAX {
            return Err(format!("{} machines: a topology has 1 to {COUNT_MAX}", vms.len()));
        }
        for (number, vm) in vms.iter().enumerate() {
            if !is_name(&vm.name) {
                return Err(format!("machine `{}`: a name has small letters, digits, - and .", vm.name));
            }
            if vms[..number].iter().any(|other| other.name == vm.name) {
                return Err(format!("two machines are called `{}`", vm.name));
            }
            if vm.nic.len() > COUNT_MAX {
                return Err(format!("machine `{}` has more than {COUNT_MAX} network cards", vm.name));
            }
        }
        for (network, cards) in self.networks() {
            if cards.len() != 2 {
                return Err(format!("network `{network}` has {} cards: it is a wire, with two ends", cards.len()));
            }
        }
        Ok(())
    }
}

/// All names that a folder of `vm-images/` describes, sorted.
///
/// # Errors
/// When it cannot be read.
pub fn names(places: &Places, kind: &str) -> Result<Vec<String>, Error> {
    let dir = places.descriptions().join(kind);
    let failed = |source| Error::File { action: "list", path: dir.clone(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn load<T: DeserializeOwned>(places: &Places, kind: &str, name: &str) -> Result<T, Error> {
    let path = path(places, kind, name);
    if !is_name(name) || !path.is_file() {
        let known = names(places, kind)?.join(", ");
        return Err(Error::Unknown { kind: kind.trim_end_matches('s').to_owned(), name: name.to_owned(), known });
    }
    let text =
        fs::read_to_string(&path).map_err(|source| Error::File { action: "read", path: path.clone(), source })?;
    toml::from_str(&text).map_err(|problem| Error::Description { path, problem: problem.to_string() })
}

fn path(places: &Places, kind: &str, name: &str) -> PathBuf {
    places.descriptions().join(kind).join(Path::new(name)).with_added_extension("toml")
}

/// Names become names of files and folders.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(text: &str) -> Result<Topology, Error> {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::new(dir.path(), dir.path());
        fs::create_dir_all(places.descriptions().join("topologies")).unwrap();
        fs::write(places.descriptions().join("topologies/test.toml"), text).unwrap();
        Topology::load(&places, "test")
    }

    fn vm(name: &str, networks: &[&str]) -> String {
        let nics: String = networks.iter().map(|network| format!("[[vm.nic]]\nnetwork = {network:?}\n")).collect();
        format!("[[vm]]\nname = {name:?}\nrole = \"r\"\nkernel = \"k\"\n{nics}")
    }

    #[test]
    fn a_chain_of_three() {
        let text =
            format!("description = \"d\"\n{}{}{}", vm("client", &["a"]), vm("dpu", &["a", "b"]), vm("host", &["b"]));
        let chain = topology(&text).unwrap();
        let networks = chain.networks();
        assert_eq!(networks["a"], [(0, 0), (1, 0)]);
        assert_eq!(networks["b"], [(1, 1), (2, 0)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cases = [
            (String::new(), "0 machines"),
            (vm("a", &[]) + &vm("a", &[]), "two machines are called `a`"),
            (vm("../a", &[]), "a name has"),
            (vm("a", &["wire"]), "network `wire` has 1 cards"),
            (vm("a", &["wire", "wire"]) + &vm("b", &["wire"]), "network `wire` has 3 cards"),
        ];
        for (vms, problem) in cases {
            let vms = if vms.is_empty() { "vm = []".to_owned() } else { vms };
            let error = topology(&format!("description = \"d\"\n{vms}")).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let typo = topology("description = \"d\"\nvms = []\nvm = []").unwrap_err().to_string();
        assert!(typo.contains("unknown field"), "{typo}");
    }

    #[test]
    fn an_unknown_name_says_what_there_is() {
        let error = Topology::load(&Places::locate(), "../pair").unwrap_err().to_string();
        assert!(error.contains("there is no topologie `../pair`") || error.contains("pair"), "{error}");
    }

    #[test]
    fn addresses_have_prefixes() {
        for good in ["10.77.0.2/24", "fd77::2/64", "0.0.0.0/0"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in ["10.77.0.2", "10.77.0.2/33", "fd77::2/129", "host/24", ""] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn everything_in_vm_images_is_understood() {
        let places = Places::locate();
        let load_all = |kind: &str, load: &dyn Fn(&str)| {
            let names = names(&places, kind).unwrap();
            assert!(!names.is_empty(), "{kind}");
            names.iter().for_each(|name| load(name));
        };
        load_all("kernels", &|name| drop(Kernel::load(&places, name).unwrap()));
        load_all("roles", &|name| drop(Role::load(&places, name).unwrap()));
        load_all("topologies", &|name| {
            for vm in Topology::load(&places, name).unwrap().vms() {
                Kernel::load(&places, &vm.kernel).unwrap();
                Role::load(&places, &vm.role).unwrap();
            }
        });
    }
}
