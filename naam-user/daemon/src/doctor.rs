//! Doctor: what is wrong with a running instance, and what is not.

use naam_abi::stats::{DROP_NAMES, Drop};
use naam_control::protocol::admin::{AttachedHook, Unserved};
use naam_control::protocol::inspect::{Finding, Verdict};

use crate::capabilities;
use crate::host::{App, Host};
use crate::pins;

impl Host {
    /// Looks at what commonly goes wrong.
    pub fn examine(&mut self) -> Vec<Finding> {
        self.notice_losses();
        let mut findings: Vec<_> = self.unserved.iter().map(examine_unserved).collect();
        findings.extend(self.pins.is_hidden().then(examine_hidden_pins));
        findings.extend([self.examine_interfaces(), self.examine_functions(), self.examine_sessions()]);
        findings.extend(self.examine_rdma());
        findings.extend(self.examine_drops());
        findings
    }

    fn examine_interfaces(&self) -> Finding {
        let generic = self.interfaces.iter().filter(|attached| attached.hook == AttachedHook::XdpGeneric).count();
        let names: Vec<_> = self.interfaces.iter().map(|attached| attached.interface.as_str()).collect();
        if self.interfaces.is_empty() {
            let detail = "no interface is attached: no frame reaches the datapath".into();
            return finding("interfaces", Verdict::Warning, detail).way_out("naam attach IFACE");
        }
        if generic > 0 {
            let detail = format!("{generic} of {} run generic XDP, behind the driver", names.len());
            return finding("interfaces", Verdict::Warning, detail)
                .way_out("use --hook tc, or a driver with native XDP");
        }
        finding("interfaces", Verdict::Good, names.join(", "))
    }

    fn examine_functions(&self) -> Finding {
        let functions = self.apps.values().flat_map(|app| app.functions.values().map(move |served| (app, served)));
        for (app, served) in functions.clone() {
            let current = self.tables().function(app.id, served.function.id).0;
            if current.is_none_or(|current| current.version != served.function.version) {
                let detail = format!("{}/{} is not what the function table names", app.name, served.function.name);
                return finding("functions", Verdict::Bad, detail).way_out("restart the daemon");
            }
            if served.regions < app.regions.len() {
                let detail = format!(
                    "{}/{} is bound to {} of {} regions",
                    app.name,
                    served.function.name,
                    served.regions,
                    app.regions.len()
                );
                return finding("functions", Verdict::Warning, detail).way_out("naam handler replace binds it to all");
            }
        }
        finding("functions", Verdict::Good, format!("{} served", functions.count()))
    }

    fn examine_sessions(&self) -> Finding {
        let open = self.sessions.iter().count();
        let most = naam_abi::limits::SESSIONS_MAX;
        if open * 10 > most * 9 {
            let detail = format!("{open} of {most} are in use");
            return finding("sessions", Verdict::Warning, detail).way_out("limit apps by `sessions_max`");
        }
        finding("sessions", Verdict::Good, format!("{open} of {most} in use"))
    }

    fn examine_rdma(&self) -> Option<Finding> {
        let status = self.rdma.as_ref()?.status();
        let name = format!("{}, port {}", status.device, status.port);
        if let Some(away) = status.away {
            let detail = format!("{name} serves nobody: {away}; clients go by datagrams");
            return Some(
                finding("rdma", Verdict::Warning, detail)
                    .way_out("`rdma link` shows it; it is taken up again once there"),
            );
        }
        let regions = self.apps.values().flat_map(|app| &app.regions);
        let largest = regions.map(naam_region::Region::bytes).max().unwrap_or(0);
        let most: u64 = self.apps.values().map(App::registered_most).sum();
        if let Some(limit) = capabilities::memory_lock().filter(|limit| *limit < most.max(largest)) {
            let (verdict, who, bytes) = match limit < largest {
                true => (Verdict::Bad, "the largest region has", largest),
                false => (Verdict::Warning, "all that sessions can have registered is", most),
            };
            let detail = format!("{name}: at most {} KiB may be locked, {who} {}", limit >> 10, bytes >> 10);
            return Some(finding("rdma", verdict, detail).way_out(
                "LimitMEMLOCK=infinity in the unit (ulimit -l unlimited), or ipc_lock in `daemon.capabilities`",
            ));
        }
        let (connections, registered) = (status.connections, status.registered_bytes >> 10);
        let detail =
            format!("{name}: {connections} queue pairs, {registered} KiB registered, {} broken", status.broken);
        Some(finding("rdma", Verdict::Good, detail))
    }

    fn examine_drops(&self) -> Vec<Finding> {
        let drops = self.tables().stats_of(0..=naam_abi::limits::APPS_MAX as u32).map_or([0; 16], |stats| stats.drops);
        let way_out = |reason: usize| match reason {
            reason if reason == Drop::Tag as usize => "clients use another key, or frames are corrupted",
            reason if reason == Drop::Program as usize => {
                "a function was served without its program: restart the daemon"
            }
            reason if reason == Drop::Version as usize => "clients speak another wire version: update them",
            _ => "see the parse table for what makes a datagram malformed",
        };
        let counted = DROP_NAMES.iter().zip(drops).enumerate().filter(|(_, (_, count))| *count > 0);
        let mut findings: Vec<_> = counted
            .map(|(reason, (name, count))| {
                let detail = format!("{count} datagrams dropped: {name}");
                finding("drops", Verdict::Warning, detail).way_out(way_out(reason))
            })
            .collect();
        if findings.is_empty() {
            findings.push(finding("drops", Verdict::Good, "none".into()));
        }
        findings
    }
}

fn examine_hidden_pins() -> Finding {
    let detail = "the bpffs is one of the daemon's own mount namespace: nobody else sees the pins, and the datapath ends with \
                  the daemon";
    finding("bpffs", Verdict::Warning, detail.into()).way_out(pins::SHARED_MOUNTS)
}

fn examine_unserved(unserved: &Unserved) -> Finding {
    let Unserved { interface, cause, .. } = unserved;
    let detail = format!("{interface} is to be served and is not: {cause}");
    finding("interfaces", Verdict::Bad, detail).way_out(&format!(
        "the daemon tries again every second; `naam attach {interface}` tries now, `naam detach {interface}` gives it up"
    ))
}

fn finding(check: &str, verdict: Verdict, detail: String) -> Finding {
    Finding { check: check.into(), verdict, detail, way_out: None }
}

trait WayOut {
    fn way_out(self, way_out: &str) -> Self;
}

impl WayOut for Finding {
    fn way_out(self, way_out: &str) -> Self {
        Self { way_out: Some(way_out.into()), ..self }
    }
}
