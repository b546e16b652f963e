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
/// Buckets of the store, as a power of two.
pub const BUCKETS: u32 = 10;

const HOST: &str = "host";

static MACHINES: Shared = Shared::new("pair");

/// The machines, for one test.
pub struct Pair {
    pub lab: Lease<'static>,
}

impl Pair {
    /// Without a daemon.
    pub fn take() -> Self {
        Self { lab: MACHINES.take() }
    }

    /// With a host that serves a store at `hook`, for all tests that ask for this: to verify programs takes longer than to call
    /// them. Nothing, and words to that effect, if its kernel does not take these handlers.
    pub fn serving(test: &str, hook: &str, handlers: &[&str]) -> Option<Self> {
        let (name, kernel) = naam_vm::host_kernel("pair");
        let refused = handlers.iter().find(|handler| kernel.refuses.iter().any(|refused| refused == *handler));
        if let Some(refused) = refused {
            println!("SKIPPED {test}: the verifier of {name} refuses {refused}, as vm-images/kernels says");
            return None;
        }
        let lab = MACHINES.take_as("serving", |lab| {
            let host = lab.machine(HOST).unwrap();
            host.serve("naam -v serve", "naam status").unwrap().leave();
            host.sh(&format!("naam store format --app kv --log2-buckets {BUCKETS}")).unwrap();
        });
        let pair = Self { lab };
        let wanted = if hook == "xdp" { "xdp-native" } else { hook };
        if pair.hook().as_deref() != Some(wanted) {
            pair.host().sh(&format!("naam detach eth0; naam attach eth0 --hook {hook}")).unwrap();
            assert_eq!(pair.hook().as_deref(), Some(wanted));
        }
        Some(pair)
    }

    /// Where the host serves.
    fn hook(&self) -> Option<String> {
        let status: Value = serde_json::from_str(&self.host().sh("naam --json status").unwrap()).unwrap();
        status["attachments"][0]["hook"].as_str().map(|hook| hook.replace('_', "-"))
    }

    pub fn host(&self) -> &Machine {
        self.lab.machine(HOST).unwrap()
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
