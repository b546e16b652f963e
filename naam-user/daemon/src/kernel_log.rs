//! What the entry programs have to say, among the daemon's own words.

use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use naam_loader::{Datapath, LoaderError};

/// The ring buffer that the entry programs log to.
pub struct KernelLog(EbpfLogger<Tracing>);

impl KernelLog {
    /// The log of these entry programs.
    pub fn of(datapath: &mut Datapath) -> Result<Self, LoaderError> {
        datapath.log_to(Tracing).map(Self)
    }

    /// Passes on what has come since the last time.
    pub fn forward(&mut self) {
        self.0.flush();
    }
}

impl std::fmt::Debug for KernelLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KernelLog")
    }
}

/// A logger that speaks through tracing.
#[derive(Clone, Copy, Debug)]
struct Tracing;

impl Log for Tracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        const TARGET: &str = "naam::entry";
        let words = record.args();
        match record.level() {
            Level::Error => tracing::error!(target: TARGET, "{words}"),
            Level::Warn => tracing::warn!(target: TARGET, "{words}"),
            Level::Info => tracing::info!(target: TARGET, "{words}"),
            Level::Debug => tracing::debug!(target: TARGET, "{words}"),
            Level::Trace => tracing::trace!(target: TARGET, "{words}"),
        }
    }

    fn flush(&self) {}
}
