//! The same look-up by site, and what a one-sided READ costs.

use std::time::Instant;

use anyhow::{Result, ensure};
use naam_abi::onesided;
use naam_abi::tables::{APP_SERVING, RIGHT_READ};
use naam_admission::admit;
use naam_engine::{Engine, Image, Machine, Request, Run};
use naam_handlers::cell;
use naam_handlers::mica::args;
use naam_loadgen::report::bench::{Bench as PairedBench, Row};
use naam_sys::Map;
use naam_tests::bench::{Bench, SESSION, region};
use naam_tests::frame::Message;
use naam_tests::objects;

use crate::cell::{Served, VALUE_BYTES};
use crate::meter::Baseline;
use crate::mica::{REPLY_BYTES, Store};
use crate::shell::{frame, pair, repeatable};

const APP: u16 = 2;
const KEYS: u64 = 256;
const KEY: u64 = 37;

/// `site.mica.get.jit` and `.interpreter`: a GET of one key in the cache by the engine on memory of its own process,
/// against the same GET by the host's kernel (entry, shell, handler, one message a datagram). `site.cell.lookup.jit` and
/// `.interpreter`: likewise a look-up in a tree of a million keys. `onesided.read.64` and `.1024`:
/// built-in function 0 against bare echo of the same frame.
pub fn benches(wanted: &dyn Fn(&str) -> bool, runs: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let machines = [("jit", Machine::Jit, 100_000), ("interpreter", Machine::Interpreter, 2_000)];
    for (name, machine, repeat) in machines {
        for (what, measure) in [("mica.get", get as fn(&str, usize, Machine, u32) -> _), ("cell.lookup", look_up)] {
            let name = format!("site.{what}.{name}");
            if wanted(&name) {
                rows.push(measure(&name, runs, machine, repeat)?);
            }
        }
    }
    for len in [64, 1024] {
        let name = format!("onesided.read.{len}");
        if wanted(&name) {
            rows.push(read(&name, runs, len)?);
        }
    }
    Ok(rows)
}

/// The GET, in the kernel and here.
fn get(name: &str, runs: usize, machine: Machine, repeat: u32) -> Result<Row> {
    let store = Store::new(APP_SERVING, KEYS)?;
    let frame = store.get(std::iter::once(KEY));
    store.check(&frame)?;
    let mut buffer = [0; args::GET_ARGS_MAX];
    let args = args::get(&mut buffer, store.geometry, &KEY.to_le_bytes());
    let request = Request { args, reply_room: args.len() + REPLY_BYTES, shard: 0 };
    let here = Here { handler: "mica_get", region: &store.region, request, machine, repeat };
    here.against(name, runs, &store.bench, &frame)
}

/// The look-up, in the kernel and here.
fn look_up(name: &str, runs: usize, machine: Machine, repeat: u32) -> Result<Row> {
    let served = Served::new()?;
    let frame = Served::get(std::iter::once(KEY));
    served.check(&frame)?;
    let mut buffer = [0; cell::args::ARGS_MAX];
    let args = cell::args::get(&mut buffer, &KEY.to_be_bytes());
    let request = Request { args, reply_room: args.len() + VALUE_BYTES, shard: 0 };
    let here = Here { handler: "cell_get", region: &served.region, request, machine, repeat };
    here.against(name, runs, &served.bench, &frame)
}

/// A message that the engine runs on a copy of a region, many times.
struct Here<'a> {
    handler: &'a str,
    region: &'a Map,
    request: Request<'a>,
    machine: Machine,
    repeat: u32,
}

impl Here<'_> {
    /// Measures it against the kernel's run of `frame`, the same message.
    fn against(&self, name: &str, runs: usize, bench: &Bench, frame: &[u8]) -> Result<Row> {
        let pages = self.region.mmap()?;
        let mut bytes = vec![0; pages.len() as usize];
        pages.copy_out(0, &mut bytes)?;
        let mut memory = Image::new();
        ensure!(memory.push(&bytes).is_ok(), "these are no region's bytes");
        let handler = admit(&objects::read(self.handler)).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
        let program = Engine::new(self.machine).load(&handler)?;
        let mut run = Run::start(&program, &self.request)?;
        let end = run.finish(&memory)?;
        ensure!(end.code == 0 && end.reply.len() >= VALUE_BYTES, "the engine found nothing: {end:?}");
        let mut engine = || -> Result<f64> {
            let began = Instant::now();
            for _ in 0..self.repeat {
                run.restart(&program, &self.request)?;
                std::hint::black_box(run.finish(&memory)?);
            }
            Ok(began.elapsed().as_nanos() as f64 / f64::from(self.repeat))
        };
        let plain = |result: Result<f64>| result.map_err(|error| std::io::Error::other(format!("{error:#}")));
        let row = PairedBench::new(name, "time per message", "ns")
            .runs(runs)
            .paired(&mut || plain(Baseline::repeated(&bench.entry, frame)), &mut || plain(engine()))?;
        Ok(row)
    }
}

fn read(name: &str, runs: usize, len: u32) -> Result<Row> {
    let bench = repeatable();
    bench.app_with(APP, APP_SERVING);
    bench.datapath.tables().set_rights(SESSION, [0; 8], [RIGHT_READ; 8]);
    let region = region(2 << 20, 1);
    let code = admit(&objects::read(onesided::NAMES[usize::from(onesided::READ)]));
    let code = code.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    bench.load((APP, onesided::READ, 1), &code, &[&region])?;
    let args = onesided::read_args(0, 4096, len);
    let message = Message::new(1, &args, args.len() + len as usize);
    pair(name, runs, &Baseline::load()?, &bench, &frame(APP, onesided::READ, vec![message]), 1)
}
