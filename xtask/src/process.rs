//! Running other programs: live progress, a log of everything, and errors that show what the program said.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How many of a failed program's last lines go into the error.
const ERROR_TAIL_LINES: usize = 25;
/// Without a terminal, a long step says this often that it is alive.
const QUIET_REPORT_EVERY: Duration = Duration::from_secs(20);

/// The command as one would type it, for messages.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// An error with all its causes, one a line and the outermost first, without the backtrace that `{:?}` may add.
pub fn explain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\nbecause: ")
}

/// Runs `command` to its end and returns what it wrote to standard output.
///
/// # Errors
/// When it cannot start or fails; the text then holds the last lines of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("`{line}` cannot be started"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed ({})\n{}", output.status, tail(&stderr.lines().collect::<Vec<_>>()));
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote something that is not UTF-8"))
}

/// Runs `command` to its end with its output on ours, e.g. a compiler whose messages are for the user.
///
/// # Errors
/// When it cannot start or fails.
pub fn inherit(command: &mut Command) -> Result<()> {
    let line = shown(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("`{line}` cannot be started"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a long `command`: one live line on a terminal (a sign of life now and then elsewhere), everything in `log`.
///
/// # Errors
/// When it cannot start or fails; the text then holds its last lines and names the log.
pub fn logged(label: &str, command: &mut Command, log: &Path) -> Result<()> {
    let line = shown(command);
    let mut file = create_log(log)?;
    writeln!(file, "$ {line}").with_context(|| format!("cannot write {}", log.display()))?;
    let started = Instant::now();
    let mut child = command
        // The tail of a failed program's output goes into our error: its message, not its backtrace.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{line}` cannot be started"))?;

    let (lines, received) = mpsc::channel();
    let stdout = child.stdout.take().context("standard output was not captured")?;
    let stderr = child.stderr.take().context("standard error was not captured")?;
    let copy_stdout = forward_lines(stdout, lines.clone());
    let copy_stderr = forward_lines(stderr, lines);

    let mut live = LiveLine::new(label);
    let mut seen = Vec::new();
    loop {
        match received.recv_timeout(Duration::from_secs(1)) {
            Ok(text) => {
                writeln!(file, "{text}").with_context(|| format!("cannot write {}", log.display()))?;
                live.show(&text, started.elapsed());
                seen.push(text);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => live.tick(started.elapsed()),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    live.clear();
    for copier in [copy_stdout, copy_stderr] {
        if copier.join().is_err() {
            bail!("reading the output of `{line}` failed");
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}); all of its output: {}\n{}", log.display(), tail(&seen));
    }
    Ok(())
}

/// Where `program` is: on PATH, or where administrators' tools live on a PATH without them.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn create_log(log: &Path) -> Result<File> {
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    File::create(log).with_context(|| format!("cannot create {}", log.display()))
}

fn forward_lines(source: impl std::io::Read + Send + 'static, lines: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for bytes in BufReader::new(source).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&bytes);
            // Progress bars redraw with carriage returns; the last state is the one that counts.
            let text = text.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
            if lines.send(text).is_err() {
                return;
            }
        }
    })
}

fn tail<S: AsRef<str>>(lines: &[S]) -> String {
    let start = lines.len().saturating_sub(ERROR_TAIL_LINES);
    lines[start..].iter().map(|line| format!("    {}\n", line.as_ref())).collect()
}

/// One line that is overwritten on a terminal; elsewhere a line now and then.
struct LiveLine {
    label: String,
    terminal: bool,
    reported: Duration,
}

impl LiveLine {
    fn new(label: &str) -> Self {
        Self { label: label.to_owned(), terminal: std::io::stderr().is_terminal(), reported: Duration::ZERO }
    }

    fn show(&mut self, text: &str, elapsed: Duration) {
        if self.terminal && !text.is_empty() {
            let text: String = text.trim().chars().take(70).collect();
            eprint!("\r\x1b[2K  {} {:3}s  {text}", self.label, elapsed.as_secs());
        } else {
            self.tick(elapsed);
        }
    }

    fn tick(&mut self, elapsed: Duration) {
        if !self.terminal && elapsed - self.reported >= QUIET_REPORT_EVERY {
            self.reported = elapsed;
            eprintln!("  {} … {} s", self.label, elapsed.as_secs());
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
    }
}
