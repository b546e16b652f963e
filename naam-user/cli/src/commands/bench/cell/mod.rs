//! `naam bench cell`: YCSB on a B-tree that this process owns and handlers read.

mod target;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Args;
use naam_abi::limits::MESSAGES_MAX;
use naam_client::site::SiteStats;
use naam_handlers::cell::layout::INLINE_MAX;
use naam_loadgen::keyspace::KeySpace;
use naam_loadgen::records::{Records, ValueSize};
use naam_loadgen::report::Summary;
use naam_loadgen::runner::{self, Load, RunConfig, Stop};
use naam_loadgen::source::WorkloadSource;
use naam_loadgen::target::TargetError;
use naam_loadgen::workload::Workload;
use serde::Serialize;

use super::phases::{line, live};
use super::report::Clients;
use crate::cell::{Owned, Place};
use crate::client::{Connect, Connected};
use crate::commands::site::{self, SiteChoice};
use crate::failure::Verdict;
use crate::mica::require;
use crate::options::Global;
use crate::output::Output;
use target::{CellTarget, Plan, Totals};

#[derive(Debug, Args)]
pub struct Cell {
    /// C (reads) or E (95 % scans of up to 100 records, 5 % inserts, which the owner does); any other works too
    #[arg(long, default_value = "C")]
    workload: Workload,
    /// Records to load
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Bytes of values
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=INLINE_MAX as i64))]
    value_bytes: u16,
    /// Seconds to run the workload
    #[arg(long, default_value_t = 10.0, value_parser = super::seconds)]
    seconds: f64,
    /// Seconds before these that are not counted
    #[arg(long, default_value_t = 1.0, value_parser = super::seconds)]
    warmup: f64,
    /// Operations in flight
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    window: u32,
    /// Messages of a datagram, at most
    #[arg(long, default_value_t = MESSAGES_MAX as u16, value_parser = clap::value_parser!(u16).range(1..=MESSAGES_MAX as i64))]
    per_datagram: u16,
    /// Check every value that the workload reads
    #[arg(long)]
    verify: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Make a tree even of a region that holds something else; that is lost
    #[arg(long)]
    force: bool,
    /// Where reads and scans run: at the host, here, or where the host says; the owner writes by its own hand
    #[arg(long, default_value = "host")]
    site: SiteChoice,
    #[command(flatten)]
    connect: Connect,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(flatten)]
    summary: Summary,
    app: String,
    records: u64,
    load_seconds: f64,
    /// Levels of the tree.
    height: u32,
    /// Nodes of the tree, in the end.
    nodes: u64,
    /// Keys that scans brought.
    scanned: u64,
    #[serde(flatten)]
    clients: Clients,
}

/// What all targets counted.
#[derive(Debug, Default)]
struct Counted {
    clients: Clients,
    sites: SiteStats,
    scanned: u64,
}

impl Cell {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let app = self.connect.app(global)?;
        let place = Place::find(global, &app)?;
        let records = Records::Generated(ValueSize::Constant(self.value_bytes));
        let begin = Instant::now();
        let mut owned = place.format(false, self.force)?;
        self.fill(&mut owned, &records).map_err(|error| place.failure("load keys into", error))?;
        let load_seconds = begin.elapsed().as_secs_f64();
        let owned = Arc::new(Mutex::new(owned));
        let client_site = (self.site != SiteChoice::Host).then(SiteStats::default);
        let clients = Clients { client_site, ..Clients::default() };
        let counted = Arc::new(Mutex::new(Counted { clients, ..Counted::default() }));
        let config = RunConfig {
            threads: 1,
            load: Load::Closed { window: self.window as usize },
            stop: Stop::After(Duration::from_secs_f64(self.seconds)),
            warmup: Duration::from_secs_f64(self.warmup),
            op_timeout: self.connect.timeout() * 4,
            verify: self.verify,
            seed: self.seed,
            ..RunConfig::default()
        };
        let space = Arc::new(KeySpace::new(self.records));
        let what = format!("workload {}", self.workload.name);
        let bar = live(&what);
        let build = |thread| -> Result<(WorkloadSource, CellTarget), TargetError> {
            let source = WorkloadSource::new(&self.workload, records.clone(), space.clone(), self.seed, thread)?;
            Ok((source, self.target(global, owned.clone(), counted.clone())?))
        };
        let result = runner::run(&config, build, &mut |progress| {
            bar.set_message(line(&what, progress));
            bar.tick();
            true
        });
        bar.finish_and_clear();
        let result = result?;
        let owned = owned.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { clients, sites, scanned } =
            std::mem::take(&mut *counted.lock().unwrap_or_else(PoisonError::into_inner));
        let mut summary = Summary::new(&self.workload.name, &result);
        // Messages, by where they ended: a scan may take some.
        summary.sites =
            [("host", sites.ended_at_host), ("client", sites.ended_here)].map(|(site, n)| (site.to_owned(), n)).into();
        let report = Report {
            summary,
            app: app.to_string(),
            records: self.records,
            load_seconds,
            height: owned.tree.height(),
            nodes: owned.tree.nodes(),
            scanned,
            clients,
        };
        output.show(&report, text)?;
        let is_clean = result.stats.failed() + result.stats.lost == 0;
        if is_clean { Ok(()) } else { Err(Verdict::Bad.into()) }
    }

    /// Loads all records.
    fn fill(&self, owned: &mut Owned, records: &Records) -> Result<(), naam_cell::CellError> {
        let mut pairs: Vec<(Vec<u8>, u64)> = (0..self.records)
            .map(|record| {
                let mut key = Vec::new();
                records.key(record, &mut key);
                (key, record)
            })
            .collect();
        pairs.sort_unstable();
        owned.tree.load(pairs.into_iter().map(|(key, record)| {
            let mut value = Vec::new();
            records.value(record, 0, &mut value);
            (key, value)
        }))
    }

    fn target(
        &self,
        global: &Global,
        owned: Arc<Mutex<Owned>>,
        counted: Arc<Mutex<Counted>>,
    ) -> anyhow::Result<CellTarget> {
        let options = naam_client::Options {
            window: self.window as usize,
            messages_max: self.per_datagram.into(),
            seed: self.seed,
            ..naam_client::Options::default()
        };
        let connected = match self.site {
            SiteChoice::Host => self.connect.open(global, &options)?,
            choice => site::open(&self.connect, global, &options, vec![], choice == SiteChoice::Client)?,
        };
        let app = connected.app();
        let Connected { client, lease, reason } = connected;
        let plan = Plan {
            get: require(client.function("cell_get"), "cell_get", &app)?,
            scan: require(client.function("cell_scan"), "cell_scan", &app)?,
            value_max: self.value_bytes.into(),
            timeout: self.connect.timeout(),
        };
        counted.lock().unwrap_or_else(PoisonError::into_inner).clients.transport(client.transport_name(), &reason);
        let way = (&self.connect, &self.connect.control(global));
        let site = site::over(client, &lease, way, &["cell_get", "cell_scan"], self.site)?;
        counted.lock().unwrap_or_else(PoisonError::into_inner).clients.memory(&site);
        let report = move |Totals { base, scanned }: Totals| {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.clients.add(&base);
            counted.sites.add(&base.site);
            counted.scanned += scanned;
        };
        Ok(CellTarget::new(site, lease, plan, owned, Box::new(report)))
    }
}

fn text(report: &Report) -> String {
    let Report { records, load_seconds, height, nodes, scanned, clients, .. } = report;
    format!(
        "{records} records loaded in {load_seconds:.2} s: {nodes} nodes, {height} levels\n\
         {}\n{scanned} keys scanned, {} messages asked again, over {}",
        report.summary, clients.retries, clients.transport
    )
}
