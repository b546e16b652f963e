//! Fill, read back, run the workload, read back again.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use naam_client::site::SiteStats;
use naam_control::Name;
use naam_control::protocol::admin::Counters;
use naam_control::protocol::{AdminReply, AdminRequest};
use naam_handlers::mica::layout::Geometry;
use naam_loadgen::data::{DataReader, FileSource, Policy};
use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::report::{Summary, hgrm};
use naam_loadgen::runner::{self, Load, Progress, RunConfig, RunResult, Stop};
use naam_loadgen::source::{Source, SweepSource, WorkloadSource};
use naam_loadgen::table::KeyTable;
use naam_loadgen::target::TargetError;

use super::Ycsb;
use super::report::{Clients, Data, Phase, Report};
use super::target::{Plan, StoreTarget, Totals};
use crate::client::Connected;
use crate::commands::site::{self, SiteChoice};
use crate::control::{Daemon, expect_reply};
use crate::failure::Failure;
use crate::mica::{self, Functions, require};
use crate::options::Global;

/// Time beyond the call's own that the runner waits for an operation's end.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Nanoseconds in a microsecond, the unit of `.hgrm` files.
const US: f64 = 1e3;

/// A bench that is ready to run.
pub struct Bench<'a> {
    ycsb: &'a Ycsb,
    global: &'a Global,
    app: Name,
    geometry: Geometry,
    records: Records,
    count: u64,
    value_max: usize,
    table: Option<Arc<KeyTable>>,
    data: Option<Data>,
    clients: Arc<Mutex<Clients>>,
}

impl<'a> Bench<'a> {
    /// Reads the data file, if there is one, and asks for the store's geometry.
    pub fn new(ycsb: &'a Ycsb, global: &'a Global) -> anyhow::Result<Self> {
        let app = ycsb.connect.app(global)?;
        let geometry = mica::geometry(global, &ycsb.connect, ycsb.log2_buckets)?;
        let size = ValueSize::Constant(ycsb.value_bytes);
        let (records, count, table, data) = match &ycsb.data {
            None => (Records::Generated(size), ycsb.records, None, None),
            Some(_) => {
                let (table, counts) = Self::reader(ycsb)?.into_table()?;
                let data = Data {
                    pairs: counts.pairs,
                    keys: table.len(),
                    repeated: table.duplicates(),
                    faulty: counts.faulty(),
                };
                let table = Arc::new(table);
                (Records::Table(table.clone(), size), data.keys, Some(table), Some(data))
            }
        };
        let longest = table.as_ref().and_then(|table| (0..table.len()).map(|n| table.value_bytes(n)).max());
        // Inserts of workloads D and E have generated values beside the file's.
        let value_max = longest.unwrap_or(0).max(ycsb.value_bytes.into());
        Ok(Self { ycsb, global, app, geometry, records, count, value_max, table, data, clients: Arc::default() })
    }

    fn reader(ycsb: &Ycsb) -> anyhow::Result<DataReader<std::io::BufReader<std::fs::File>>> {
        let path = ycsb.data.as_deref().unwrap_or(std::path::Path::new(""));
        let policy = if ycsb.skip_faulty { Policy::Skip } else { Policy::Strict };
        Ok(DataReader::open(path, policy)?)
    }

    /// Runs all phases.
    pub fn run(&self) -> anyhow::Result<Report> {
        let Ycsb { seconds, verify, skip_load, .. } = *self.ycsb;
        let check = verify || self.data.is_some();
        let load = (!skip_load).then(|| self.measured("fill", || self.fill())).transpose()?;
        let read_back = check.then(|| self.measured("read back", || self.read_back("read back"))).transpose()?;
        let name = &self.ycsb.workload.name;
        let workload = (seconds > 0.0).then(|| self.measured(name, || self.workload())).transpose()?;
        let again = verify && workload.is_some();
        let read_back_after = again.then(|| self.read_back("read back again")).transpose()?;
        let phase = |measured: &Measured| Phase::new(&measured.result);
        let (load_phase, read_back_phase) = (load.as_ref().map(phase), read_back.as_ref().map(phase));
        let Some(Measured { name, result, clients, counted }) = workload.or(read_back).or(load) else {
            anyhow::bail!("nothing to do: no filling, no reading back, no seconds of workload");
        };
        let mut summary = Summary::new(&name, &result);
        if let Some((messages, drops)) = counted {
            summary.sites.insert("host".to_owned(), messages);
            summary.drops = drops;
        }
        if let Some(site) = &clients.client_site {
            // The host's kernel counts the READs as well; here are operations, by where they ended.
            summary.sites = [("host", site.ended_at_host), ("client", site.ended_here)]
                .map(|(site, operations)| (site.to_owned(), operations))
                .into();
        }
        Ok(Report {
            hgrm: hgrm(&result.stats.latency_ns(), US),
            summary,
            app: self.app.to_string(),
            records: self.count,
            data: self.data,
            load: load_phase,
            read_back: read_back_phase,
            read_back_after: read_back_after.as_ref().map(Phase::new),
            threads: self.ycsb.threads,
            window: self.ycsb.window,
            clients,
        })
    }

    /// Runs a phase, and takes what clients and datapath counted meanwhile.
    fn measured(&self, name: &str, phase: impl FnOnce() -> anyhow::Result<RunResult>) -> anyhow::Result<Measured> {
        let client_site = (self.ycsb.site != SiteChoice::Host).then(SiteStats::default);
        *self.lock() = Clients { client_site, ..Clients::default() };
        let before = self.counters();
        let result = phase()?;
        let counted = before.zip(self.counters()).map(|(before, after)| difference(&self.app, &before, &after));
        Ok(Measured { name: name.to_owned(), result, clients: self.lock().clone(), counted })
    }

    fn fill(&self) -> anyhow::Result<RunResult> {
        let config = self.config(Stop::SourceEnd);
        let result = match &self.table {
            None => self.phase("fill", &config, |thread| {
                Ok(SweepSource::load(self.records.clone(), self.count, thread, config.threads))
            })?,
            Some(table) => {
                // A file is read by one thread.
                let config = RunConfig { threads: 1, ..config };
                let failed = Mutex::new(Arc::default());
                let result = self.phase("fill", &config, |_| {
                    let source = FileSource::new(Self::reader(self.ycsb)?, table.clone());
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = source.outcome();
                    Ok(source)
                })?;
                let outcome = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
                if let Some(error) = outcome.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    return Err(error.into());
                }
                result
            }
        };
        let missing = result.stats.failed() + result.stats.lost;
        if missing > 0 {
            let reasons = Summary::new("fill", &result).errors_by_kind;
            let cause = format!("{missing} of {} records could not be written: {reasons:?}", self.count);
            let failure = Failure::new("fill", format!("the store of app `{}`", self.app), cause);
            let full = "no-space: format a larger region; timeout: is the interface served? naam status, naam doctor";
            return Err(failure.way_out(full).into());
        }
        Ok(result)
    }

    fn read_back(&self, what: &str) -> anyhow::Result<RunResult> {
        let config = RunConfig { verify: true, ..self.config(Stop::SourceEnd) };
        self.phase(what, &config, |thread| {
            Ok(SweepSource::read_back(self.records.clone(), self.count, thread, config.threads))
        })
    }

    fn workload(&self) -> anyhow::Result<RunResult> {
        let Ycsb { workload, seconds, warmup, verify, seed, .. } = self.ycsb;
        let config = RunConfig {
            load: self.ycsb.load(),
            warmup: Duration::from_secs_f64(*warmup),
            verify: *verify,
            ..self.config(Stop::After(Duration::from_secs_f64(*seconds)))
        };
        let space = Arc::new(KeySpace::new(self.count));
        self.phase(&format!("workload {}", workload.name), &config, |thread| {
            Ok(WorkloadSource::new(workload, self.records.clone(), space.clone(), *seed, thread)?)
        })
    }

    fn config(&self, stop: Stop) -> RunConfig {
        RunConfig {
            threads: self.ycsb.threads.into(),
            load: Load::Closed { window: self.ycsb.window as usize },
            stop,
            op_timeout: self.ycsb.connect.timeout() + LOST_AFTER,
            seed: self.ycsb.seed,
            ..RunConfig::default()
        }
    }

    fn phase<S: Source>(
        &self,
        what: &str,
        config: &RunConfig,
        source: impl Fn(usize) -> anyhow::Result<S> + Sync,
    ) -> anyhow::Result<RunResult> {
        let bar = live(what);
        let build = |thread| -> Result<(S, StoreTarget), TargetError> { Ok((source(thread)?, self.target()?)) };
        let result = runner::run(config, build, &mut |progress| {
            bar.set_message(line(what, progress));
            bar.tick();
            tracing::info!("{}", line(what, progress));
            true
        });
        bar.finish_and_clear();
        Ok(result?)
    }

    /// A client of its own for the calling thread.
    fn target(&self) -> anyhow::Result<StoreTarget> {
        let (connect, options) = (&self.ycsb.connect, self.ycsb.client_options());
        let Connected { client, lease, reason } = match self.ycsb.site {
            SiteChoice::Host => connect.open(self.global, &options)?,
            choice => site::open(connect, self.global, &options, vec![], choice == SiteChoice::Client)?,
        };
        let functions = Functions::of(&client);
        let plan = Plan {
            get: require(functions.get, "mica_get", &self.app)?,
            set: require(functions.set, "mica_set", &self.app)?,
            geometry: self.geometry,
            value_max: self.value_max,
            timeout: self.ycsb.connect.timeout(),
        };
        self.lock().transport(client.transport_name(), &reason);
        let control = connect.control(self.global);
        let site = site::over(client, &lease, (connect, &control), &["mica_get"], self.ycsb.site)?;
        self.lock().memory(&site);
        let clients = self.clients.clone();
        let report = move |totals: Totals| clients.lock().unwrap_or_else(PoisonError::into_inner).add(&totals);
        Ok(StoreTarget::new(site, lease, plan, Box::new(report)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the datapath counted so far; none for those who may not ask.
    fn counters(&self) -> Option<Vec<Counters>> {
        let asked = || -> anyhow::Result<Vec<Counters>> {
            let reply = Daemon::connect(self.global)?.ask(AdminRequest::Stats)?;
            Ok(expect_reply!(reply, AdminReply::Stats(counters) => counters))
        };
        asked().inspect_err(|error| tracing::info!(%error, "no counters of the datapath in the summary")).ok()
    }
}

/// A phase, and what was counted meanwhile.
struct Measured {
    name: String,
    result: RunResult,
    clients: Clients,
    counted: Option<Counted>,
}

/// Messages run, and drops by reason.
type Counted = (u64, BTreeMap<String, u64>);

/// What the host ran for `app`, warm-up included, and what was dropped, between two readings.
fn difference(app: &Name, before: &[Counters], after: &[Counters]) -> Counted {
    let mut messages = 0;
    let mut drops = BTreeMap::new();
    for after in after.iter().filter(|counters| counters.app.as_ref().is_none_or(|of| of == app)) {
        let before = before.iter().find(|before| before.app == after.app);
        if after.app.is_some() {
            messages += after.messages - before.map_or(0, |before| before.messages);
        }
        for (reason, count) in &after.drops {
            let new = count - before.and_then(|before| before.drops.get(reason)).copied().unwrap_or(0);
            if new > 0 {
                *drops.entry(reason.clone()).or_default() += new;
            }
        }
    }
    (messages, drops)
}

/// A line on standard error that changes; hidden unless that is a terminal.
pub fn live(what: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg}").expect("a constant template");
    ProgressBar::new_spinner().with_style(style).with_message(what.to_owned())
}

pub fn line(what: &str, progress: &Progress) -> String {
    let Progress { elapsed, warm, ended, ops_per_s, failed, lost, wrong } = progress;
    let warm = if *warm { "" } else { ", warming up" };
    format!(
        "{what}: {:.0} s{warm}, {ended} ops, {ops_per_s:.0} ops/s, {failed} failed, {lost} lost, {wrong} wrong",
        elapsed.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use naam_abi::stats::{AppStats, Drop};

    use super::*;

    #[test]
    fn what_was_counted_between_two_readings_is_told() {
        let app = Name::new("kv").unwrap();
        let counters = |app: Option<&Name>, messages, tags| {
            let mut stats = AppStats::ZERO;
            (stats.messages, stats.drops[Drop::Tag as usize]) = (messages, tags);
            Counters::new(app.cloned(), &stats)
        };
        let other = Name::new("other").unwrap();
        let before = [counters(Some(&app), 10, 1), counters(Some(&other), 5, 5), counters(None, 0, 2)];
        let after = [counters(Some(&app), 17, 1), counters(Some(&other), 50, 50), counters(None, 0, 5)];
        assert_eq!(difference(&app, &before, &after), (7, BTreeMap::from([("tag".to_owned(), 3)])));
        assert_eq!(difference(&app, &[], &after[..1]).0, 17);
    }
}
