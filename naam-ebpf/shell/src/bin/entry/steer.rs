//! Steer: which program serves the datagram, or why none does.

use naam_abi::{
    limits::{APPS_MAX, FUNCTIONS_MAX, SESSIONS_MAX, SHARDS_MAX},
    onesided::is_builtin,
    siphash::PUBLIC_KEY,
    stats::Drop,
    tables::{APP_SERVING, APP_TAG, ProgramRef, Site, SteerEntry},
    wire::{Kind, Status},
};

use naam_shell::{
    count,
    frame::{Frame, Verdict},
    loops::Looping,
    maps::{APPS, FUNCTIONS, SESSIONS, STEER},
    opaque::set,
    reply::{self, Answer},
    tag,
    visit::Visit,
};

use crate::{
    log::{Event, log},
    parse::Datagram,
};

/// Why a datagram is answered with an error.
struct Refusal {
    status: Status,
    /// The version that serves, if there is one.
    handler: u16,
}

/// What messages may do, a byte per region.
struct Rights {
    /// Those that begin here.
    fresh: u64,
    /// Those that the client carries.
    carried: u64,
}

impl From<Status> for Refusal {
    #[inline(always)]
    fn from(status: Status) -> Self {
        Self { status, handler: 0 }
    }
}

/// Believes nothing before the tag is checked, then finds the handler program and goes there.
#[inline(always)]
pub fn steer<F: Frame, L: Looping>(frame: F, datagram: &Datagram) -> Verdict {
    let Some(app) = APPS.get_ptr(datagram.app % APPS_MAX as u32) else { return F::DROP };
    // Read once: the daemon may be ending the app.
    // SAFETY: an array's value lives as long as the map.
    let flags = unsafe { (&raw const (*app).flags).read_volatile() };
    // An unknown app answers under the public key: who can tell that it is unknown learns nothing.
    let serving = flags & APP_SERVING != 0;
    // SAFETY: as above. A key changes only while the app is not served.
    let (tagged, key) = if serving { (flags & APP_TAG != 0, unsafe { (*app).key }) } else { (true, PUBLIC_KEY) };
    if tagged && tag::tag::<F, L>(frame, datagram.at, datagram.length, key) != Some(datagram.tag) {
        count::drop(datagram.app, Drop::Tag);
        log(Event::Tag, datagram.app);
        return F::DROP;
    }
    let placement = STEER.get(datagram.app * SHARDS_MAX as u32 + datagram.shard).copied().unwrap_or_default();
    let Some(visit) = Visit::get() else { return F::DROP };
    set(&mut visit.ip, datagram.ip as u32);
    set(&mut visit.datagram, datagram.at as u32);
    set(&mut visit.length, datagram.length);
    set(&mut visit.v6, u32::from(datagram.v6));
    set(&mut visit.app, datagram.app);
    set(&mut visit.shard, datagram.shard);
    set(&mut visit.count, datagram.count);
    set(&mut visit.session, datagram.session);
    set(&mut visit.placement, placement);
    set(&mut visit.key, key);
    let refusal = match find(datagram, serving, placement) {
        Ok((reference, rights)) => {
            visit.rights = rights.fresh;
            visit.carried_rights = rights.carried;
            visit.function = datagram.function;
            visit.version = u32::from(reference.version);
            frame.tail_call(reference.program + datagram.offset);
            count::drop(datagram.app, Drop::Program);
            log(Event::Program, datagram.app);
            return F::DROP;
        }
        Err(refusal) => refusal,
    };
    if !serving {
        log(Event::App, datagram.app);
    }
    let Some(stats) = count::of(datagram.app) else { return F::DROP };
    count::status(stats, refusal.status as u16);
    let answer = Answer { kind: Kind::Error as u8, status: refusal.status, handler: refusal.handler };
    reply::send::<F, L>(frame, visit, stats, tagged, &answer)
}

/// The version that serves the datagram, and the session's rights.
#[inline(always)]
fn find(datagram: &Datagram, serving: bool, placement: u64) -> Result<(ProgramRef, Rights), Refusal> {
    if !serving {
        return Err(Status::NoApp.into());
    }
    // A shard at the client is served here all the same: its placement is a hint, and this memory is the truth.
    if SteerEntry::from_word(placement).site == Site::Dpu as u8 {
        return Err(Status::Elsewhere.into());
    }
    let session = SESSIONS.get(datagram.session % SESSIONS_MAX as u32).ok_or(Status::Session)?;
    if session.session != datagram.session || session.session == 0 || session.app != datagram.app {
        return Err(Status::Session.into());
    }
    if datagram.function >= FUNCTIONS_MAX as u32 {
        return Err(Status::NoFunction.into());
    }
    let function =
        FUNCTIONS.get_ptr(datagram.app * FUNCTIONS_MAX as u32 + datagram.function).ok_or(Status::NoFunction)?;
    // Each word is read once: the daemon may be replacing the handler.
    // SAFETY: an array's value lives as long as the map.
    let (current, draining) = unsafe {
        ((&raw const (*function).current).read_volatile(), (&raw const (*function).draining).read_volatile())
    };
    let (current, draining) = (ProgramRef::from_word(current), ProgramRef::from_word(draining));
    if current.version == 0 {
        return Err(Status::NoFunction.into());
    }
    // The one place that decides by which door an op comes: what the runtime's own functions do is the client's word.
    // A message that the client carries could say anything, so it may no more than both doors allow.
    let (handler, raw) = (u64::from_le_bytes(session.handler_rights), u64::from_le_bytes(session.raw_rights));
    let fresh = if is_builtin(datagram.function) { raw } else { handler };
    let rights = Rights { fresh, carried: fresh & raw };
    // The place may have been given to another session since its number was read.
    // SAFETY: an array's value lives as long as the map.
    if unsafe { (&raw const session.session).read_volatile() } != datagram.session {
        return Err(Status::Session.into());
    }
    // A state is one version's: a Continue names it.
    let any = datagram.handler == 0 && datagram.offset == 0;
    if any || datagram.handler == current.version {
        Ok((current, rights))
    } else if draining.version != 0 && datagram.handler == draining.version {
        Ok((draining, rights))
    } else {
        Err(Refusal { status: Status::Version, handler: current.version })
    }
}
