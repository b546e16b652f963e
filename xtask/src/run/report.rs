//! What a run found, for people and programs.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use super::{
    config::APP,
    daemon::{Attachment, Daemon},
};

/// What goes before and after the workload: its key in the summary, its name here.
const PHASES: [(&str, &str); 3] = [("load", "filled"), ("read_back", "read back"), ("read_back_after", "read again")];

/// The summary of a run: what `naam bench` measured, and what the host counted.
pub struct Report {
    summary: Map<String, Value>,
}

impl Report {
    /// Adds to the client's summary where the host is attached and what it counted.
    ///
    /// # Errors
    /// When the summary is none, or the daemon does not answer.
    pub fn new(summary: Value, attachment: &Attachment, daemon: &Daemon) -> Result<Self> {
        Self::of(summary, attachment, &daemon.ask(&["stats"])?)
    }

    fn of(summary: Value, attachment: &Attachment, counters: &Value) -> Result<Self> {
        let Value::Object(mut summary) = summary else { bail!("the client's summary is no JSON object: {summary}") };
        let counters = counters.as_array().context("the daemon's counters are no list")?;
        let own =
            counters.iter().find(|counters| counters["app"] == APP).context("the daemon has no counters of kv")?;
        // Drops of datagrams whose app nobody can tell are counted apart; here they are the run's as well.
        let mut drops: Map<String, Value> = Map::new();
        for counts in counters.iter().filter_map(|counters| counters["drops"].as_object()) {
            for (reason, count) in counts.iter().filter(|(_, count)| count.as_u64() != Some(0)) {
                let sum = drops.get(reason).and_then(Value::as_u64).unwrap_or(0) + count.as_u64().unwrap_or(0);
                drops.insert(reason.clone(), sum.into());
            }
        }
        summary.insert("drops".to_owned(), drops.into());
        summary.insert("host".to_owned(), own.clone());
        summary.insert("hook".to_owned(), attachment.hook.clone().into());
        summary.insert("hook_reason".to_owned(), attachment.reason.clone().into());
        Ok(Self { summary })
    }

    /// Writes the summary as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(&self.summary).context("the summary is no JSON")?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Whether every operation ended well.
    ///
    /// # Errors
    /// When one did not.
    pub fn verdict(&self) -> Result<()> {
        let (errors, lost) = (self.count("errors"), self.count("lost"));
        let phases = PHASES.iter().filter_map(|(key, _)| self.summary.get(*key));
        let bad: u64 =
            phases.flat_map(|phase| ["mismatches", "errors", "lost"].map(|key| phase[key].as_u64())).flatten().sum();
        if errors + lost + bad > 0 {
            bail!(
                "{errors} operations of the workload failed and {lost} were lost; {bad} failed when the store was filled or \
                 read back; see the summary"
            );
        }
        Ok(())
    }

    fn count(&self, key: &str) -> u64 {
        self.summary.get(key).and_then(Value::as_u64).unwrap_or(0)
    }

    fn number(&self, key: &str) -> f64 {
        self.summary.get(key).and_then(Value::as_f64).unwrap_or(0.0)
    }

    fn text(&self, key: &str) -> &str {
        self.summary.get(key).and_then(Value::as_str).unwrap_or("unknown")
    }

    /// `name 12, other 3`, or `none`.
    fn counts(&self, key: &str) -> String {
        let counts = self.summary.get(key).and_then(Value::as_object);
        let shown: Vec<_> = counts
            .into_iter()
            .flatten()
            .map(|(name, count)| format!("{name} {}", grouped(count.as_u64().unwrap_or(0))))
            .collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, text: String| writeln!(f, "  {name:10} {text}");
        if let Some(data) = self.summary.get("data") {
            let faulty = match data["faulty"].as_u64() {
                None | Some(0) => String::new(),
                Some(_) => format!(", {} faulty lines passed over", shown(&data["faulty"])),
            };
            row("data", format!("{} pairs, {} keys{faulty}", shown(&data["pairs"]), shown(&data["keys"])))?;
        }
        for (key, name) in PHASES {
            if let Some(phase) = self.summary.get(key) {
                let (ok, mismatches) = (shown(&phase["ok"]), shown(&phase["mismatches"]));
                let (errors, lost) = (shown(&phase["errors"]), shown(&phase["lost"]));
                let seconds = phase["seconds"].as_f64().unwrap_or(0.0);
                row(name, format!("{ok} values, {mismatches} differ, {errors} errors, {lost} lost, {seconds:.2} s"))?;
            }
        }
        row("workload", format!("{} for {:.1} s", self.text("workload"), self.number("seconds")))?;
        row(
            "operations",
            format!("{}, {} a second", grouped(self.count("ops_total")), grouped(self.number("ops_per_s") as u64)),
        )?;
        row(
            "latency",
            format!(
                "p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
                self.number("p50_us"),
                self.number("p99_us"),
                self.number("p999_us")
            ),
        )?;
        row(
            "errors",
            format!(
                "{} ({}), lost {}",
                grouped(self.count("errors")),
                self.counts("errors_by_kind"),
                grouped(self.count("lost"))
            ),
        )?;
        row("sites", format!("{} messages of the workload", self.counts("sites")))?;
        row("drops", self.counts("drops"))?;
        row("transport", format!("{}: {}", self.text("transport"), self.text("transport_reason")))?;
        row("hook", format!("{}: {}", self.text("hook"), self.text("hook_reason")))
    }
}

/// A count of the summary.
fn shown(count: &Value) -> String {
    count.as_u64().map_or_else(|| "unknown".to_owned(), grouped)
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(errors: u64, lost: u64, mismatches: u64) -> Report {
        let summary = json!({
            "workload": "B", "seconds": 5.0, "ops_total": 1_234_567, "ops_per_s": 246_913.4, "errors": errors,
            "lost": lost, "p50_us": 10.0, "p99_us": 20.0, "p999_us": 30.0, "sites": { "host": 1_300_000 }, "drops": {},
            "read_back": { "ok": 1_000 - mismatches, "mismatches": mismatches, "errors": 0, "lost": 0, "seconds": 0.5 },
            "errors_by_kind": {}, "transport": "af_xdp", "transport_reason": "as chosen",
        });
        let counters = json!([
            { "app": null, "messages": 0, "drops": { "app": 2, "tag": 0 } },
            { "app": "kv", "messages": 1_500_000, "drops": { "app": 1, "tag": 3, "room": 0 } },
        ]);
        let attachment = Attachment { hook: "xdp-native".to_owned(), reason: "the fastest".to_owned() };
        Report::of(summary, &attachment, &counters).unwrap()
    }

    #[test]
    fn what_the_host_counted_is_added() {
        let report = report(0, 0, 0);
        assert_eq!(report.summary["drops"], json!({ "app": 3, "tag": 3 }));
        assert_eq!(report.summary["sites"], json!({ "host": 1_300_000 }));
        assert_eq!(report.summary["host"]["messages"], 1_500_000);
        assert_eq!(report.summary["hook"], "xdp-native");
        assert!(report.verdict().is_ok());
        let text = report.to_string();
        for part in [
            "1,234,567, 246,913 a second",
            "p99.9 30.0 us",
            "host 1,300,000",
            "app 3, tag 3",
            "af_xdp",
            "1,000 values, 0 differ",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn errors_and_losses_are_failures() {
        assert!(report(1, 0, 0).verdict().unwrap_err().to_string().starts_with("1 operations of"));
        assert!(report(0, 2, 0).verdict().unwrap_err().to_string().contains("2 were lost"));
        assert!(report(0, 0, 3).verdict().unwrap_err().to_string().contains("3 failed when"));
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
