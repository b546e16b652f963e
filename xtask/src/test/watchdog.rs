//! A test program that hangs is ended, and what it was running is named.
//!
//! cargo runs one test program after another and says on standard error which. The programs are its children; with all of
//! theirs they are killed, and cargo goes on with the next.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Time that one test program may take.
pub const PROGRAM_TIME: Duration = Duration::from_mins(10);
/// The same with `--soak`.
pub const PROGRAM_TIME_SOAK: Duration = Duration::from_mins(60);

/// What is known of the program that runs.
#[derive(Default)]
struct Seen {
    /// cargo's words for it, and since when.
    program: Option<(String, Instant)>,
    /// The last words on standard output that say something, be the line whole or not: libtest names a
    /// test before it runs where one runs at a time.
    words: String,
    /// Programs that were killed, with those words.
    killed: Vec<String>,
}

/// Watches the children of a process.
#[derive(Clone)]
pub struct Watchdog {
    seen: Arc<Mutex<Seen>>,
    ended: Arc<AtomicBool>,
}

impl Watchdog {
    /// Watches the children of `parent`, each for `limit`, until [`Watchdog::end`].
    pub fn start(parent: u32, limit: Duration) -> Self {
        let watchdog = Self { seen: Arc::default(), ended: Arc::default() };
        let watching = watchdog.clone();
        thread::spawn(move || {
            while !watching.ended.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(200).min(limit));
                watching.look(parent, limit);
            }
        });
        watchdog
    }

    /// Takes a line of standard error, where cargo says what it runs.
    pub fn stderr_line(&self, line: &str) {
        let line = line.trim();
        if line.starts_with("Running ") || line.starts_with("Doc-tests ") {
            let mut seen = self.seen();
            seen.program = Some((line.to_owned(), Instant::now()));
            seen.words.clear();
        }
    }

    /// Takes what stands on standard output, whether its line has ended or not.
    pub fn stdout(&self, words: &str) {
        if words.starts_with("test ") {
            words.trim().clone_into(&mut self.seen().words);
        }
    }

    /// Ends the watch; what was killed, in words.
    pub fn end(&self) -> Vec<String> {
        self.ended.store(true, Ordering::Release);
        std::mem::take(&mut self.seen().killed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, parent: u32, limit: Duration) {
        let mut seen = self.seen();
        if self.ended.load(Ordering::Acquire) || seen.program.as_ref().is_none_or(|(_, since)| since.elapsed() < limit)
        {
            return;
        }
        let Some((program, since)) = seen.program.take() else { return };
        let killed = format!("{program}: killed after {} s, at `{}`", since.elapsed().as_secs(), seen.words);
        seen.killed.push(killed);
        for pid in descendants(parent) {
            // One that has just ended is as good.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Processes below `ancestor`.
fn descendants(ancestor: u32) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: HashMap<u32, u32> = pids.filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    let mut found = HashSet::from([ancestor]);
    loop {
        let more: Vec<_> = parents
            .iter()
            .filter(|(pid, parent)| found.contains(*parent) && !found.contains(*pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.remove(&ancestor);
    found.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `PID (NAME) STATE PARENT ...`, and a name may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
