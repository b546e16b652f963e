//! The two machines.
//!
//! ```text
//!   client                                        host: the kernel in question
//!   naam call, store, bench ─ eth0 ── wire ── eth0 ─ XDP or TC: entry, shell, handlers    naam serve
//! ```
//! They share nothing: sessions are opened over the wire too.

use std::time::Duration;

use naam_vm::{Lease, Machine, Shared};
use serde_json::Value;

/// More than anything takes that is called here.
const CALL_TIME: Duration = Duration::from_secs(300);
/// What a daemon leaves when it is killed goes on serving; TC before 6.6 has a filter of its own.
const RESET: &str = "naam detach eth0 2>/dev/null; rm -rf /sys/fs/bpf/naam /sys/fs/bpf/xsk /run/naam";

static MACHINES: Shared = Shared::new("pair", RESET);

/// The machines, for one test.
pub struct Pair {
    pub lab: Lease<'static>,
}

impl Pair {
    /// Without a daemon.
    pub fn take() -> Self {
        Self { lab: MACHINES.take() }
    }

    /// With a host that serves at `hook`. Nothing, and words to that effect, if its kernel does not take these handlers.
    pub fn serving(test: &str, hook: &str, handlers: &[&str]) -> Option<Self> {
        let (name, kernel) = naam_vm::host_kernel("pair");
        let refused = handlers.iter().find(|handler| kernel.refuses.iter().any(|refused| refused == *handler));
        if let Some(refused) = refused {
            println!("SKIPPED {test}: the verifier of {name} refuses {refused}, as vm-images/kernels says");
            return None;
        }
        let pair = Self::take();
        let serve = format!("naam -v serve --interface eth0 --hook {hook}");
        pair.host().serve(&serve, "naam status").unwrap().leave();
        let status: Value = serde_json::from_str(&pair.host().sh("naam --json status").unwrap()).unwrap();
        let served = status["attachments"][0]["hook"].as_str().unwrap_or_default().replace('_', "-");
        assert_eq!(served, if hook == "xdp" { "xdp-native" } else { hook });
        Some(pair)
    }

    pub fn host(&self) -> &Machine {
        self.lab.machine("host").unwrap()
    }

    pub fn client(&self) -> &Machine {
        self.lab.machine("client").unwrap()
    }

    /// `naam LINE` on the client, talking to the host at `address`.
    pub fn naam(&self, address: &str, line: &str) -> String {
        let control = if address.contains(':') { format!("[{address}]:7626") } else { format!("{address}:7626") };
        self.client().sh_within(&format!("NAAM_CONTROL={control} naam --json {line}"), CALL_TIME).unwrap()
    }

    /// The same; what it prints, understood.
    pub fn json(&self, address: &str, line: &str) -> Value {
        serde_json::from_str(&self.naam(address, line)).unwrap()
    }

    /// `naam LINE` on the host, which may verify programs for a long time.
    pub fn at_host(&self, line: &str) {
        self.host().sh_within(&format!("naam {line}"), CALL_TIME).unwrap();
    }
}
