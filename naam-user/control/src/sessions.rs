//! Session numbers, leases and tickets: pure, with the time given by the caller.
//!
//! A session's number is `generation * 1024 + index`. The index is its place in the shell's tables;
//! the generation tells apart the uses of a place, so that late datagrams of an ended session meet
//! no other. Places are reused in the order in which they became free, for the same reason.

use std::collections::VecDeque;

use naam_abi::limits::SESSIONS_MAX;
use thiserror::Error;

/// Bits of a session number that are its index.
const INDEX_BITS: u32 = SESSIONS_MAX.trailing_zeros();
/// Generations go from 1 to this, and then from 1 again: number 0 is no session.
pub const GENERATION_MAX: u32 = u32::MAX >> INDEX_BITS;

/// A session that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number, never 0.
    pub number: u32,
    /// The app it calls.
    pub app: u16,
    /// Proves who opened it.
    pub ticket: u64,
    /// When it was opened, in the caller's milliseconds.
    pub opened_ms: u64,
    /// When it ends unless renewed.
    pub expires_ms: u64,
}

impl Session {
    /// Its place in the shell's tables.
    pub fn index(&self) -> usize {
        index(self.number)
    }
}

/// The place of session `number` in the shell's tables.
pub fn index(number: u32) -> usize {
    number as usize % SESSIONS_MAX
}

/// The use of that place which `number` is.
pub fn generation(number: u32) -> u32 {
    number >> INDEX_BITS
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Every place is taken.
    #[error("all {SESSIONS_MAX} sessions of this host are in use")]
    Full,
    /// The app has as many as it may.
    #[error("all {limit} sessions of this app are in use")]
    AppFull {
        /// As many.
        limit: usize,
    },
    /// The session was closed, has expired, or never was; or the ticket is not its own (which is
    /// not told apart, so that nobody can probe for sessions).
    #[error("there is no session {number} with this ticket: it was closed, or has expired")]
    Unknown {
        /// The number asked for.
        number: u32,
    },
    /// A session found in the pinned tables cannot be taken over.
    #[error("session {number} cannot be adopted: its place is taken, or it is no session number")]
    NotAdoptable {
        /// The number found.
        number: u32,
    },
}

/// The sessions of a host.
#[derive(Clone, Debug)]
pub struct Sessions {
    places: Vec<Place>,
    /// Free places, the longest free first.
    free: VecDeque<usize>,
}

#[derive(Clone, Debug, Default)]
struct Place {
    /// The last use of this place.
    generation: u32,
    session: Option<Session>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

impl Sessions {
    /// No sessions, and no memory of any. After a restart, tell what the pinned tables hold with
    /// [`Self::adopt`] and [`Self::skip_generation`] before opening new ones.
    pub fn new() -> Self {
        Self { places: vec![Place::default(); SESSIONS_MAX], free: (0..SESSIONS_MAX).collect() }
    }

    /// Takes over a session found in the pinned table; it lives for `lease_ms` from now.
    pub fn adopt(
        &mut self,
        number: u32,
        app: u16,
        ticket: u64,
        now_ms: u64,
        lease_ms: u64,
    ) -> Result<(), SessionError> {
        let place = &mut self.places[index(number)];
        if generation(number) == 0 || place.session.is_some() {
            return Err(SessionError::NotAdoptable { number });
        }
        place.generation = generation(number);
        let expires_ms = now_ms.saturating_add(lease_ms);
        place.session = Some(Session { number, app, ticket, opened_ms: now_ms, expires_ms });
        self.free.retain(|free| *free != index(number));
        Ok(())
    }

    /// Makes sure that the next session at `index` has a generation after `generation`, as found in
    /// the pinned slots of an ended session.
    ///
    /// # Panics
    /// If `index` is not below 1024.
    pub fn skip_generation(&mut self, index: usize, generation: u32) {
        let place = &mut self.places[index];
        place.generation = place.generation.max(generation.min(GENERATION_MAX));
    }

    /// Opens a session. `app_limit` bounds the app's sessions, so that no app takes them all;
    /// `ticket` makes the number that proves who opened it, which nobody else can guess.
    pub fn open(
        &mut self,
        app: u16,
        app_limit: usize,
        ticket: impl FnOnce(u32) -> u64,
        now_ms: u64,
        lease_ms: u64,
    ) -> Result<&Session, SessionError> {
        if self.of_app(app).count() >= app_limit {
            return Err(SessionError::AppFull { limit: app_limit });
        }
        let index = self.free.pop_front().ok_or(SessionError::Full)?;
        let place = &mut self.places[index];
        place.generation = if place.generation >= GENERATION_MAX { 1 } else { place.generation + 1 };
        let number = place.generation << INDEX_BITS | index as u32;
        let expires_ms = now_ms.saturating_add(lease_ms);
        let ticket = ticket(number);
        Ok(place.session.insert(Session { number, app, ticket, opened_ms: now_ms, expires_ms }))
    }

    /// The session, if it is open and has not expired.
    pub fn get(&self, number: u32, now_ms: u64) -> Option<&Session> {
        let session = self.places[index(number)].session.as_ref()?;
        (session.number == number && now_ms < session.expires_ms).then_some(session)
    }

    /// Lets a session live for `lease_ms` from now.
    pub fn renew(&mut self, number: u32, ticket: u64, now_ms: u64, lease_ms: u64) -> Result<&Session, SessionError> {
        self.require(number, ticket, now_ms)?;
        let session = self.places[index(number)].session.as_mut().expect("required");
        session.expires_ms = now_ms.saturating_add(lease_ms);
        Ok(session)
    }

    /// Ends a session.
    pub fn close(&mut self, number: u32, ticket: u64, now_ms: u64) -> Result<Session, SessionError> {
        self.require(number, ticket, now_ms)?;
        Ok(self.end(index(number)).expect("required"))
    }

    /// Ends the sessions whose lease is over, and returns them: their table entries must be cleared.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Session> {
        self.end_where(|session| now_ms >= session.expires_ms)
    }

    /// Ends an app's sessions, and returns them.
    pub fn remove_app(&mut self, app: u16) -> Vec<Session> {
        self.end_where(|session| session.app == app)
    }

    /// All sessions that have not been ended, by index.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.places.iter().filter_map(|place| place.session.as_ref())
    }

    /// An app's sessions, by index.
    pub fn of_app(&self, app: u16) -> impl Iterator<Item = &Session> {
        self.iter().filter(move |session| session.app == app)
    }

    /// When the next lease ends.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.iter().map(|session| session.expires_ms).min()
    }

    fn require(&self, number: u32, ticket: u64, now_ms: u64) -> Result<(), SessionError> {
        let known = self.get(number, now_ms).is_some_and(|session| session.ticket == ticket);
        if known { Ok(()) } else { Err(SessionError::Unknown { number }) }
    }

    fn end_where(&mut self, ended: impl Fn(&Session) -> bool) -> Vec<Session> {
        let indexes: Vec<_> = self.iter().filter(|session| ended(session)).map(Session::index).collect();
        indexes.into_iter().filter_map(|index| self.end(index)).collect()
    }

    fn end(&mut self, index: usize) -> Option<Session> {
        let session = self.places[index].session.take()?;
        self.free.push_back(index);
        Some(session)
    }
}

const _: () = assert!(SESSIONS_MAX.is_power_of_two());

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    const LEASE: u64 = 100;

    fn open(sessions: &mut Sessions, app: u16) -> u32 {
        sessions.open(app, SESSIONS_MAX, |_| 7, 0, LEASE).unwrap().number
    }

    #[test]
    fn numbers_are_never_zero_and_reused_places_get_new_ones() {
        let mut sessions = Sessions::new();
        let first = open(&mut sessions, 1);
        assert_eq!((index(first), generation(first)), (0, 1));
        sessions.close(first, 7, 0).unwrap();
        for expected in 1..SESSIONS_MAX {
            assert_eq!(index(open(&mut sessions, 1)), expected, "the longest free place comes first");
        }
        let again = open(&mut sessions, 1);
        assert_eq!((index(again), generation(again)), (0, 2));
        assert_eq!(sessions.open(1, SESSIONS_MAX + 1, |_| 7, 0, LEASE), Err(SessionError::Full));
        assert_eq!(sessions.close(first, 7, 0), Err(SessionError::Unknown { number: first }));
    }

    #[test]
    fn generations_wrap_past_zero() {
        let mut sessions = Sessions::new();
        sessions.skip_generation(0, GENERATION_MAX);
        assert_eq!(generation(open(&mut sessions, 1)), 1);
        assert_eq!(generation(u32::MAX), GENERATION_MAX);
    }

    #[test]
    fn leases_end_unless_renewed() {
        let mut sessions = Sessions::new();
        let (a, b) = (open(&mut sessions, 1), open(&mut sessions, 2));
        assert_eq!(sessions.next_expiry_ms(), Some(LEASE));
        assert_eq!(sessions.renew(a, 7, LEASE - 1, LEASE).unwrap().expires_ms, 2 * LEASE - 1);
        assert!(sessions.renew(b, 7, LEASE, LEASE).is_err(), "an expired session cannot be renewed, swept or not");
        let ended = sessions.expire(LEASE);
        assert_eq!(ended.iter().map(|session| session.number).collect::<Vec<_>>(), [b]);
        assert!(sessions.get(a, LEASE).is_some() && sessions.get(b, LEASE).is_none());
        assert!(sessions.get(a, 2 * LEASE).is_none());
    }

    #[test]
    fn ticket_is_needed() {
        let mut sessions = Sessions::new();
        let number = open(&mut sessions, 1);
        assert_eq!(sessions.renew(number, 8, 0, LEASE), Err(SessionError::Unknown { number }));
        assert_eq!(sessions.close(number, 8, 0), Err(SessionError::Unknown { number }));
        assert_eq!(sessions.close(number + 1, 7, 0), Err(SessionError::Unknown { number: number + 1 }));
        assert_eq!(sessions.close(0, 0, 0), Err(SessionError::Unknown { number: 0 }));
        sessions.close(number, 7, 0).unwrap();
    }

    #[test]
    fn apps_are_bounded_listed_and_removed() {
        let mut sessions = Sessions::new();
        for _ in 0..3 {
            sessions.open(5, 3, |_| 0, 0, LEASE).unwrap();
        }
        assert_eq!(sessions.open(5, 3, |_| 0, 0, LEASE), Err(SessionError::AppFull { limit: 3 }));
        open(&mut sessions, 6);
        assert_eq!((sessions.of_app(5).count(), sessions.of_app(6).count()), (3, 1));
        assert_eq!(sessions.remove_app(5).len(), 3);
        assert_eq!(sessions.iter().count(), 1);
    }

    #[test]
    fn adopted_sessions_keep_number_and_place() {
        let mut sessions = Sessions::new();
        let number = 9 << INDEX_BITS | 1;
        sessions.adopt(number, 4, 77, 1000, LEASE).unwrap();
        assert_eq!(sessions.adopt(number, 4, 77, 1000, LEASE), Err(SessionError::NotAdoptable { number }));
        assert_eq!(sessions.adopt(5, 4, 77, 0, 0), Err(SessionError::NotAdoptable { number: 5 }));
        sessions.skip_generation(0, 40);
        assert_eq!(generation(open(&mut sessions, 1)), 41);
        assert_eq!(index(open(&mut sessions, 1)), 2, "place 1 is taken");
        sessions.renew(number, 77, 1050, LEASE).unwrap();
    }

    #[derive(Clone, Debug)]
    enum Act {
        Open(u16),
        Renew(usize),
        Close(usize),
        Pass(u64),
        RemoveApp(u16),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            5 => (0u16..3).prop_map(Act::Open),
            2 => (0usize..64).prop_map(Act::Renew),
            3 => (0usize..64).prop_map(Act::Close),
            2 => (0u64..LEASE).prop_map(Act::Pass),
            1 => (0u16..3).prop_map(Act::RemoveApp),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_leases(acts in proptest::collection::vec(act(), 1..300)) {
            let mut sessions = Sessions::new();
            let mut model: BTreeMap<u32, (u16, u64)> = BTreeMap::new();
            let (mut issued, mut order, mut now) = (HashSet::new(), Vec::new(), 0);
            for act in acts {
                let pick = |at: usize| order.get(at % order.len().max(1)).copied().unwrap_or(1);
                match act {
                    Act::Open(app) => {
                        let number = sessions.open(app, SESSIONS_MAX, |_| app.into(), now, LEASE).unwrap().number;
                        prop_assert!(number != 0 && issued.insert(number), "{} was issued before", number);
                        order.push(number);
                        model.insert(number, (app, now + LEASE));
                    }
                    Act::Renew(at) => {
                        let number = pick(at);
                        let alive = model.get(&number).copied();
                        let ticket = alive.map_or(0, |(app, _)| app.into());
                        prop_assert_eq!(sessions.renew(number, ticket, now, LEASE).is_ok(), alive.is_some());
                        model.entry(number).and_modify(|(_, expires)| *expires = now + LEASE);
                    }
                    Act::Close(at) => {
                        let number = pick(at);
                        let alive = model.remove(&number);
                        let ticket = alive.map_or(0, |(app, _)| app.into());
                        prop_assert_eq!(sessions.close(number, ticket, now).is_ok(), alive.is_some());
                    }
                    Act::Pass(time) => {
                        now += time;
                        let ended = sessions.expire(now).len();
                        let before = model.len();
                        model.retain(|_, (_, expires)| now < *expires);
                        prop_assert_eq!(ended, before - model.len());
                    }
                    Act::RemoveApp(app) => {
                        sessions.remove_app(app);
                        model.retain(|_, (of, _)| *of != app);
                    }
                }
                let mut open: Vec<_> = sessions.iter().map(|session| session.number).collect();
                open.sort();
                prop_assert_eq!(open, model.keys().copied().collect::<Vec<_>>());
            }
        }
    }
}
