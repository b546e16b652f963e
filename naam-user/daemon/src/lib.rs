//! The daemon of NAAM: `naam serve`.
//!
//! It sets up the datapath of one instance, or adopts the one that an earlier daemon has left, and
//! then answers requests of administrators and clients on the control sockets. Messages do not pass
//! through it: the kernel serves them, also while no daemon runs.
//!
//! ```no_run
//! use naam_control::config::Config;
//! use naam_daemon::{ServeOptions, serve};
//!
//! let config = Config::read("/etc/naam/naam.toml".as_ref())?;
//! let (entry, shell) = (std::fs::read("target/bpf/entry.o")?, std::fs::read("target/bpf/shell.o")?);
//! let (entry, shell) = (entry.into(), shell.into());
//! serve(ServeOptions { config, entry, shell, builtins: |_| None, detach_on_exit: false })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`mod@serve`] | from start to stop: locks, adoption, privileges, sockets, signals |
//! | `daemon` | requests of the control plane, one by one |
//! | `host` | what the instance consists of; one thread owns it |
//! | `adopt` | start: what the configuration wants, what the kernel still has, what is left to do |
//! | `apps`, `functions`, `regions`, `sessions`, `steering`, `interfaces` | the parts of a host |
//! | `rdma` | regions as memory regions of a device, a queue pair a session |
//! | `state` | what the next daemon must know, beside the socket |
//! | `pins` | the directory in bpffs: locked, within reach of another user, cleared by a start that fails |
//! | `folder` | a directory in which a privileged process follows no link |
//! | `inspect`, `doctor` | what the kernel holds, what is wrong |
//! | `kernel_log` | what the entry programs have to say |
//! | [`capabilities`] | rights given up after the start |
//! | `notify` | systemd's readiness protocol |
//!
//! # After a restart
//! Maps, links, programs, regions and sessions are found by their pins and taken over as they are; a
//! function is loaded again only if its object, the shell, or what it is bound to has changed. What
//! the kernel does not know (names, hashes, tickets) is in a state file beside the socket. Without
//! that file functions are loaded again from the configuration, and clients open new sessions.
//!
//! Entry and handler programs fit each other only within a build of the BPF objects. A daemon of
//! another build detaches, loads everything again, and attaches: a gap, after which regions,
//! sessions and request slots are as they were.
#![forbid(unsafe_code)]

mod adopt;
mod apps;
pub mod capabilities;
mod daemon;
mod doctor;
mod error;
mod folder;
mod functions;
mod host;
mod inspect;
mod interfaces;
mod kernel_log;
mod notify;
mod pins;
mod rdma;
mod regions;
pub mod serve;
mod sessions;
mod state;
mod steering;

pub use error::ServeError;
pub use functions::Builtins;
pub use serve::{ServeOptions, serve};
