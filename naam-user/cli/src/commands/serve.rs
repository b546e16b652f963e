//! `naam serve`.

use std::path::{Path, PathBuf};

use clap::Args;
use naam_control::config::{Config, Interface, Rdma};
use naam_daemon::ServeOptions;

use super::interface::Hook;
use crate::failure::Failure;
use crate::objects;
use crate::options::Global;

/// Where a configuration is looked for if none is named.
const DEFAULT: &str = "/etc/naam/naam.toml";

#[derive(Debug, Args)]
pub struct Serve {
    /// The configuration file [default: /etc/naam/naam.toml if it exists, else an empty one]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this interface too
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,
    /// Where to attach to interfaces named here
    #[arg(long, default_value = "auto", requires = "interface")]
    hook: Hook,
    /// Let sessions reach regions, as far as their raw rights go, by this RDMA device too
    #[arg(long, value_name = "DEVICE[:PORT[:GID]]")]
    rdma: Option<Rdma>,
    /// At the end remove everything from the kernel, regions included; otherwise the datapath goes on serving
    #[arg(long)]
    detach_on_exit: bool,
}

impl Serve {
    pub fn run(self, global: &Global) -> anyhow::Result<()> {
        let config = self.config(global)?;
        // One of the configuration may come later; one that is named here is meant to be there.
        let present = naam_loader::interface::interfaces().unwrap_or_default();
        if let Some(missing) = self.interface.iter().find(|name| !present.contains_key(*name)) {
            let failure = Failure::new("serve", format!("interface {missing}"), "there is no interface of this name");
            return Err(failure.way_out("`ip link` lists the interfaces of this network namespace").into());
        }
        let naam_loader::Objects { entry, shell } = objects::datapath();
        let (entry, shell, detach_on_exit) = (entry.into(), shell.into(), self.detach_on_exit);
        Ok(naam_daemon::serve(ServeOptions { config, entry, shell, builtins: objects::builtin, detach_on_exit })?)
    }

    fn config(&self, global: &Global) -> anyhow::Result<Config> {
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None if Path::new(DEFAULT).exists() => Config::read(Path::new(DEFAULT))?,
            None => {
                let text = format!("instance = \"{}\"\n", global.instance);
                Config::parse(&text, Path::new("(no configuration file)"))?
            }
        };
        if let Some(socket) = &global.socket {
            config.control.socket.clone_from(socket);
        }
        if let Some(rdma) = &self.rdma {
            config.rdma = Some(rdma.clone());
        }
        let hook = self.hook.into();
        for name in &self.interface {
            match config.interfaces.iter_mut().find(|interface| interface.name == *name) {
                Some(interface) => interface.hook = hook,
                None => config.interfaces.push(Interface { name: name.clone(), hook }),
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use naam_control::protocol::admin;

    use super::*;
    use crate::options::{Cli, Command};

    fn config(line: &str) -> Config {
        let Cli { global, command } = Cli::parse_from(line.split_whitespace());
        let Command::Serve(serve) = command else { panic!("{line}") };
        serve.config(&global).unwrap()
    }

    #[test]
    fn the_command_line_completes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("naam.toml");
        std::fs::write(&path, "instance = \"lab\"\n[[interface]]\nname = \"a\"\n").unwrap();
        let path = path.display();
        let read = config(&format!("naam serve -c {path} --interface a --interface b --hook tc --socket /tmp/s"));
        assert_eq!((read.instance.as_str(), &read.control.socket), ("lab", &PathBuf::from("/tmp/s")));
        let hooks: Vec<_> = read.interfaces.iter().map(|interface| (interface.name.as_str(), interface.hook)).collect();
        assert_eq!(hooks, [("a", admin::Hook::Tc), ("b", admin::Hook::Tc)]);
        let read = config(&format!("naam serve -c {path} --rdma rxe0:2"));
        assert_eq!(read.rdma, Some(Rdma { device: "rxe0".into(), port: 2, gid: None }));
        let read = config(&format!("naam serve -c {path}"));
        assert_eq!(read.rdma, None);
        assert_eq!(read.control.socket, PathBuf::from("/run/naam/lab.sock"));
    }
}
