//! `naam handler step`: one message of a handler, offline, a step at a time.
//!
//! The engine runs what the kernel would run, on copies of saved regions. Nothing is sent, loaded or changed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use naam_abi::limits::{ARGS_BYTES, REGIONS_MAX, REPLY_BYTES, SHARDS_MAX};
use naam_abi::wire::STATUS_NAMES;
use naam_admission::{Admitted, admit};
use naam_engine::{Action, Effect, Engine, Image, Machine, Request, Run};
use naam_region::snapshot;
use serde::Serialize;

use super::bytes;
use super::call::Arguments;
use crate::failure::Failure;
use crate::objects;
use crate::output::Output;

/// Bytes of the view that are shown.
const SHOWN: usize = 32;

#[derive(Debug, Args)]
pub struct Step {
    /// A handler object's file, or the name of a handler that this program carries
    #[arg(value_name = "OBJECT|NAME")]
    handler: String,
    #[command(flatten)]
    arguments: Arguments,
    /// A region, as `naam region save` wrote it; the first is the handler's region 0
    #[arg(long = "region", value_name = "SNAPSHOT")]
    regions: Vec<PathBuf>,
    /// Bytes to leave for the reply [default: the handler's longest]
    #[arg(long, value_name = "N")]
    reply: Option<usize>,
    /// The shard that the handler is told
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(..SHARDS_MAX as i64))]
    shard: u16,
    /// Run it by the interpreter, which checks every access once more
    #[arg(long)]
    interpreter: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Stepped {
    handler: String,
    machine: &'static str,
    steps: Vec<Shown>,
    status: &'static str,
    code: u32,
    reply_len: usize,
    reply_hex: String,
    /// The reply's whole words.
    reply_u64: Vec<u64>,
}

/// One step, and what it asked for.
#[derive(Debug, Serialize)]
struct Shown {
    step: u32,
    /// The view's first bytes, as the step saw them.
    view: String,
    /// The state that the step left, without zeros at the end.
    state: Vec<u64>,
    #[serde(flatten)]
    asked: Asked,
}

#[derive(Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Asked {
    Read { region: u32, offset: u64, len: u32 },
    Write { region: u32, offset: u64, len: usize, bytes: String },
    Cas { region: u32, offset: u64, expect: u64, new: u64 },
    Faa { region: u32, offset: u64, addend: u64 },
    Budget,
    End,
}

impl Step {
    pub fn run(self, output: Output) -> anyhow::Result<()> {
        output.show(&self.stepped()?, text)
    }

    fn stepped(&self) -> anyhow::Result<Stepped> {
        let admitted = self.admitted()?;
        let memory = self.memory()?;
        let args = self.arguments.bytes()?;
        if args.len() > ARGS_BYTES {
            let cause = format!("{} bytes; a message has up to {ARGS_BYTES}", args.len());
            return Err(Failure::new("take", "arguments", cause).into());
        }
        let machine = if self.interpreter { Machine::Interpreter } else { Machine::Best };
        let program = Engine::new(machine)
            .load(&admitted)
            .map_err(|error| Failure::new("load", format!("handler {}", self.handler), error))?;
        let reply_room = self.reply.map_or(REPLY_BYTES, |bytes| bytes.next_multiple_of(8));
        let mut run = Run::start(&program, &Request { args: &args, reply_room, shard: self.shard })?;
        let mut steps = vec![shown(&run)];
        while run.perform(&memory)? {
            steps.push(shown(&run));
        }
        let Action::Ended(end) = run.action() else { unreachable!("perform has said that it ended") };
        if end.steps as usize > steps.len() {
            steps.push(shown(&run));
        }
        Ok(Stepped {
            handler: admitted.name().to_owned(),
            machine: if program.is_compiled() { "jit" } else { "interpreter" },
            status: STATUS_NAMES[end.status as usize],
            code: end.code,
            reply_len: end.reply.len(),
            reply_hex: bytes::hex(end.reply),
            reply_u64: end.reply.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect(),
            steps,
        })
    }

    fn admitted(&self) -> Result<Admitted, Failure> {
        let path = Path::new(&self.handler);
        let object = if path.is_file() {
            std::fs::read(path)
                .map_err(|error| Failure::new("read", format!("handler object {}", self.handler), error))?
        } else {
            objects::require_builtin(&self.handler)?.to_vec()
        };
        admit(&object).map_err(|refusal| Failure::new("admit", format!("handler {}", self.handler), refusal))
    }

    fn memory(&self) -> Result<Image, Failure> {
        let mut memory = Image::new();
        if self.regions.len() > REGIONS_MAX {
            let cause = format!("{} regions; an app has up to {REGIONS_MAX}", self.regions.len());
            return Err(Failure::new("take", "regions", cause));
        }
        for path in &self.regions {
            let named = || format!("region from {}", path.display());
            let (_, bytes) = snapshot::read(path).map_err(|error| Failure::new("read", named(), error))?;
            memory
                .push(&bytes)
                .map_err(|bytes| Failure::new("read", named(), format!("no region has {bytes} bytes")))?;
        }
        Ok(memory)
    }
}

fn shown(run: &Run) -> Shown {
    let asked = match run.action() {
        Action::Read { region, offset, len } => Asked::Read { region, offset, len },
        Action::Effect(Effect::Write { region, offset, bytes }) => {
            let head = bytes::hex(&bytes[..bytes.len().min(SHOWN)]);
            Asked::Write { region, offset, len: bytes.len(), bytes: head }
        }
        Action::Effect(Effect::CompareExchange { region, offset, expect, new }) => {
            Asked::Cas { region, offset, expect, new }
        }
        Action::Effect(Effect::FetchAdd { region, offset, addend }) => Asked::Faa { region, offset, addend },
        Action::Spent => Asked::Budget,
        Action::Ended(_) => Asked::End,
    };
    let message = run.message();
    let used = message.state.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
    Shown { step: message.step, view: bytes::hex(&run.view()[..SHOWN]), state: message.state[..used].to_vec(), asked }
}

fn text(stepped: &Stepped) -> String {
    let mut text = format!("{} by the {}\n", stepped.handler, stepped.machine);
    // Writing to a String cannot fail.
    for step in &stepped.steps {
        let _ = writeln!(text, "step {}", step.step);
        let _ = writeln!(text, "  view   {}…", step.view);
        if !step.state.is_empty() {
            let words: Vec<_> = step.state.iter().map(|word| format!("{word:#x}")).collect();
            let _ = writeln!(text, "  state  {}", words.join(" "));
        }
        let _ = match &step.asked {
            Asked::Read { region, offset, len } => {
                writeln!(text, "  READ   region {region}, offset {offset:#x}, {len} bytes")
            }
            Asked::Write { region, offset, len, bytes } => {
                writeln!(text, "  WRITE  region {region}, offset {offset:#x}, {len} bytes: {bytes}")
            }
            Asked::Cas { region, offset, expect, new } => {
                writeln!(text, "  CAS    region {region}, offset {offset:#x}, {expect:#x} to {new:#x}")
            }
            Asked::Faa { region, offset, addend } => {
                writeln!(text, "  FAA    region {region}, offset {offset:#x}, add {addend:#x}")
            }
            Asked::Budget => writeln!(text, "  another op, but the steps of a visit are used up"),
            Asked::End => Ok(()),
        };
    }
    let _ = write!(text, "status {}, code {}, reply of {} bytes", stepped.status, stepped.code, stepped.reply_len);
    if stepped.reply_len > 0 {
        let _ = write!(text, "\nhex  {}", stepped.reply_hex);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use naam_handlers::mica::{Code, args, layout::Geometry};
    use naam_region::format::{self, CHUNK_BYTES, Chunk, Header};

    use super::*;

    /// Saves a region's bytes as `naam region save` does.
    fn save(path: &Path, bytes: &[u8]) {
        let chunks: Vec<_> = (0..).zip(bytes.chunks_exact(CHUNK_BYTES as usize)).collect();
        let header = Header {
            bytes: bytes.len() as u64,
            saved: SystemTime::UNIX_EPOCH,
            app: "kv".into(),
            region: "store".into(),
            chunks: chunks.iter().map(|(number, chunk)| Chunk::of(*number, chunk)).collect(),
        };
        let mut file = header.encode();
        file.resize(format::data_offset(header.bytes) as usize, 0);
        for ((_, bytes), chunk) in chunks.iter().zip(&header.chunks) {
            if *chunk != Chunk::Zero {
                file.extend(*bytes);
            }
        }
        std::fs::write(path, file).unwrap();
    }

    fn step(handler: &str, region: &Path, args: &[u8]) -> Stepped {
        let hex = bytes::hex(args);
        let region = region.to_str().unwrap();
        let words = ["step", handler, "--args", &hex, "--region", region];
        let parsed = <Parsed as clap::Parser>::try_parse_from(words).unwrap();
        parsed.step.stepped().unwrap()
    }

    #[derive(Debug, clap::Parser)]
    struct Parsed {
        #[command(flatten)]
        step: Step,
    }

    #[test]
    fn a_message_is_followed_through_a_saved_store() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.naam");
        let mut store = vec![0; 2 << 20];
        let geometry = Geometry::plan(store.len() as u64, 16, 100).unwrap();
        geometry.format(|at, word| store[at as usize..at as usize + 8].copy_from_slice(&word.to_le_bytes()));
        save(&path, &store);

        let arguments = args::get(&mut [0; args::GET_ARGS_MAX], geometry, b"nobody").to_vec();
        let get = step("mica_get", &path, &arguments);
        assert_eq!((get.status, get.code), ("ok", Code::NotFound as u32));
        assert!(matches!(get.steps[0].asked, Asked::Read { region: 0, len: 64, .. }), "{get:?}");
        assert!(matches!(get.steps.last().unwrap().asked, Asked::End), "{get:?}");

        let arguments = args::set(&mut [0; args::WRITE_ARGS_MAX], b"somebody", b"something").to_vec();
        let set = step("mica_set", &path, &arguments);
        assert_eq!((set.status, set.code), ("ok", Code::Ok as u32));
        let wrote = |step: &Shown| matches!(&step.asked, Asked::Write { bytes, .. } if !bytes.is_empty());
        assert!(set.steps.iter().any(wrote), "{set:?}");
        assert_eq!(
            set.steps.iter().map(|step| step.step).collect::<Vec<_>>(),
            (0..set.steps.len() as u32).collect::<Vec<_>>()
        );
        // The file stays as it was: the next message finds nothing of it.
        assert_eq!(snapshot::read(&path).unwrap().1, store);
        assert!(text(&set).contains("WRITE  region 0") && text(&set).ends_with(&set.reply_hex), "{}", text(&set));
        let json = serde_json::to_value(&set).unwrap();
        assert_eq!((&json["steps"][0]["op"], &json["status"]), (&"read".into(), &"ok".into()));
    }

    #[test]
    fn damaged_snapshots_and_unknown_handlers_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.naam");
        save(&path, &vec![7; 2 << 20]);
        let mut damaged = std::fs::read(&path).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let told = |words: &[&str]| {
            let parsed = <Parsed as clap::Parser>::try_parse_from(words).unwrap();
            parsed.step.stepped().unwrap_err().to_string()
        };
        let error = told(&["step", "counter", "--region", path.to_str().unwrap()]);
        assert!(error.contains("chunk 1"), "{error}");
        assert!(told(&["step", "nobody"]).contains("`nobody`"));
    }
}
