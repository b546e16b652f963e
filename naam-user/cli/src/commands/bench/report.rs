//! What a bench found.

use std::fmt::Write as _;
use std::path::Path;

use naam_client::site::choice::Choice;
use naam_client::site::{SiteClient, SiteStats};
use naam_loadgen::report::Summary;
use naam_loadgen::runner::RunResult;
use naam_loadgen::target::Failure as OpFailure;
use serde::Serialize;

use super::target::Totals;
use crate::failure::Failure;

/// Everything, as `--json` writes it: the workload's summary, and around it how it came about.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of the workload; without one, of the last phase.
    #[serde(flatten)]
    pub summary: Summary,
    pub app: String,
    /// Records that the workload began with.
    pub records: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Phase>,
    /// Every value read and compared, before the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_back: Option<Phase>,
    /// The same after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_back_after: Option<Phase>,
    pub threads: u16,
    pub window: u32,
    #[serde(flatten)]
    pub clients: Clients,
    /// Percentile distribution, for a file of its own.
    #[serde(skip)]
    pub hgrm: String,
}

/// A data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Data {
    /// Pairs, repeated keys included.
    pub pairs: u64,
    /// Keys.
    pub keys: u64,
    /// Pairs of a key that was there already; the last one counts.
    pub repeated: u64,
    /// Faulty lines passed over.
    pub faulty: u64,
}

/// A phase before or after the workload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// Records written, or read and right.
    pub ok: u64,
    /// Values read that are not those that were written, or not there.
    pub mismatches: u64,
    /// Operations that failed otherwise.
    pub errors: u64,
    /// Operations without an end.
    pub lost: u64,
    pub seconds: f64,
    pub ops_per_s: f64,
}

impl Phase {
    pub fn new(result: &RunResult) -> Self {
        let stats = &result.stats;
        let mismatches = stats.failures(OpFailure::Wrong) + stats.failures(OpFailure::Missing);
        Self {
            ok: stats.ok(),
            mismatches,
            errors: stats.failed() - mismatches,
            lost: stats.lost,
            seconds: result.measured.as_secs_f64(),
            ops_per_s: result.ops_per_s(),
        }
    }

    fn is_clean(&self) -> bool {
        self.mismatches + self.errors + self.lost == 0
    }
}

/// The clients of all threads together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Clients {
    pub transport: String,
    pub transport_reason: String,
    pub datagrams: u64,
    pub messages: u64,
    pub messages_per_datagram: f64,
    /// Messages sent again because no answer came.
    pub resent: u64,
    /// Writes answered from their slot: they had run before.
    pub from_slot: u64,
    /// Operations asked again because others changed the same record.
    pub retries: u64,
    pub timeouts: u64,
    /// Datagrams received that were dropped: wrong tag, malformed, of others.
    pub strange: u64,
    /// What READs of operations that run here go by: `verbs`, `onesided`, or `mixed` if clients differ.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub memory: &'static str,
    /// What came of trying RDMA beside one-sided functions, by client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory_choices: Vec<Choice>,
    /// Operations and steps by site, unless all were meant for the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_site: Option<SiteStats>,
}

impl Clients {
    /// Notes how a client travels.
    pub fn transport(&mut self, name: &str, reason: &str) {
        if self.transport.is_empty() {
            (self.transport, self.transport_reason) = (name.to_owned(), reason.to_owned());
        }
    }

    /// Notes how a client reads regions.
    pub fn memory(&mut self, site: &SiteClient) {
        let name = site.memory_name();
        self.memory = if self.memory.is_empty() || self.memory == name { name } else { "mixed" };
        self.memory_choices.extend(site.choice().cloned());
    }

    /// Adds a client's totals.
    pub fn add(&mut self, totals: &Totals) {
        let Totals { client, site, retries } = totals;
        self.datagrams += client.datagrams;
        self.messages += client.messages;
        self.messages_per_datagram = self.messages as f64 / self.datagrams.max(1) as f64;
        self.resent += client.retries;
        self.from_slot += client.from_slot;
        self.retries += retries;
        self.timeouts += client.timeouts;
        self.strange += client.malformed + client.unexpected + client.foreign + client.wrong_tag;
        if let Some(sum) = &mut self.client_site {
            sum.add(site);
        }
    }
}

impl Report {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        let phases = [&self.load, &self.read_back, &self.read_back_after];
        self.summary.is_clean() && phases.into_iter().flatten().all(Phase::is_clean)
    }
}

/// For people.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    if let Some(Data { pairs, keys, repeated, faulty }) = report.data {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "data: {pairs} pairs, {keys} keys, {repeated} repeated, {faulty} faulty lines");
    }
    let phases =
        [("filled", &report.load), ("read back", &report.read_back), ("read back after", &report.read_back_after)];
    for (name, phase) in phases {
        if let Some(Phase { ok, mismatches, errors, lost, seconds, ops_per_s }) = phase {
            let _ = writeln!(
                text,
                "{name}: {ok} records, {mismatches} mismatches, {errors} errors, {lost} lost, {seconds:.2} s, {ops_per_s:.0} ops/s"
            );
        }
    }
    let Clients { transport, transport_reason, messages_per_datagram, resent, retries, .. } = &report.clients;
    let _ = write!(
        text,
        "{}transport: {transport} ({transport_reason}); {messages_per_datagram:.1} messages a datagram, {resent} resent, \
         {retries} asked again",
        report.summary
    );
    if !report.clients.memory.is_empty() {
        let _ = write!(text, "; READs from here by {}", report.clients.memory);
    }
    for choice in &report.clients.memory_choices {
        let _ = write!(text, "\n{choice}");
    }
    text
}

/// Writes a file whole.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::new("write", path.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use naam_client::ClientStats;
    use naam_loadgen::runner::Stats;
    use naam_loadgen::workload::OpKind;

    use super::*;

    fn result(wrong: u64) -> RunResult {
        let mut stats = Stats::new();
        stats.kinds[OpKind::Read as usize].latency_ns.record_n(5_000, 90).unwrap();
        stats.kinds[OpKind::Read as usize].failures[OpFailure::Wrong as usize] = wrong;
        stats.in_window = 90 + wrong;
        RunResult { stats, measured: Duration::from_secs(1), intervals: vec![] }
    }

    fn report(wrong: u64) -> Report {
        let mut clients = Clients::default();
        clients.transport("udp", "as chosen");
        let client = ClientStats { datagrams: 10, messages: 90, retries: 2, ..ClientStats::default() };
        clients.add(&Totals { client, site: SiteStats::default(), retries: 1 });
        Report {
            summary: Summary::new("B", &result(0)),
            app: "kv".into(),
            records: 90,
            data: Some(Data { pairs: 91, keys: 90, repeated: 1, faulty: 0 }),
            load: Some(Phase::new(&result(0))),
            read_back: Some(Phase::new(&result(wrong))),
            read_back_after: None,
            threads: 1,
            window: 256,
            clients,
            hgrm: String::new(),
        }
    }

    #[test]
    fn json_has_what_is_promised() {
        let json = serde_json::to_value(report(3)).unwrap();
        for field in ["ops_total", "ops_per_s", "errors", "lost", "p50_us", "p99_us", "sites", "drops", "transport"] {
            assert!(json.get(field).is_some(), "{field}: {json}");
        }
        assert_eq!((&json["read_back"]["mismatches"], &json["read_back"]["ok"]), (&3.into(), &90.into()));
        assert_eq!((&json["messages_per_datagram"], &json["resent"]), (&9.0.into(), &2.into()));
        assert_eq!(json["data"]["repeated"], 1);
        assert!(json.get("hgrm").is_none() && json.get("read_back_after").is_none());
    }

    #[test]
    fn mismatches_spoil_a_bench() {
        assert!(report(0).is_clean() && !report(1).is_clean());
        let text = text(&report(1));
        for part in [
            "read back: 90 records, 1 mismatches",
            "filled: 90",
            "udp (as chosen); 9.0 messages a datagram",
            "91 pairs",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
