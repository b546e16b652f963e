//! Whether what several clients saw of one key can have happened in some order.

use std::collections::HashSet;

use naam_handlers::mica::Code;

use crate::store::{Call, Outcome};

/// A call with the times between which it took effect, if it did.
#[derive(Clone, Debug)]
pub struct Event {
    pub call: Call,
    /// `None` if the message was cut: it may have taken effect at any time after its beginning.
    pub outcome: Option<Outcome>,
    pub begin: u64,
    pub end: u64,
}

/// The key's version (`None`: not known, the message that wrote it was cut) and value.
type Item = Option<(Option<u64>, Vec<u8>)>;

/// Looks for an order of all events on one key that respects time and in which each outcome is
/// that of a map (Wing & Gong's search). At most 64 events.
///
/// A cache may forget the key at any time; calls that write may see it for a while after that.
pub fn is_linearizable(events: &[Event], initial: Item, is_cache: bool) -> bool {
    assert!(events.len() <= 64);
    let finished: u64 = (0..events.len()).filter(|&i| events[i].outcome.is_some()).map(|i| 1 << i).sum();
    let mut seen = HashSet::new();
    let mut open = vec![(0u64, initial)];
    while let Some((done, item)) = open.pop() {
        if done & finished == finished {
            return true;
        }
        if !seen.insert((done, item.clone())) {
            continue;
        }
        if is_cache && item.is_some() {
            open.push((done, None));
        }
        let is_open = |i: &usize| done >> i & 1 == 0;
        // Nothing may come after an event that ended before it began.
        let bound = (0..events.len()).filter(is_open).filter(|&i| events[i].outcome.is_some()).map(|i| events[i].end);
        let bound = bound.min().unwrap_or(u64::MAX);
        for i in (0..events.len()).filter(is_open).filter(|&i| events[i].begin <= bound) {
            let after = apply(&events[i], &item).or_else(|| after_forgotten(&events[i]).filter(|_| is_cache));
            open.extend(after.map(|item| (done | 1 << i, item)));
        }
    }
    false
}

/// The item after the event; `None` if its outcome is not that of a map which holds `item`.
fn apply(event: &Event, item: &Item) -> Option<Item> {
    let version_is = |expected: u64, known: Option<u64>| known.is_none_or(|known| known == expected);
    match (&event.call, &event.outcome, item) {
        (_, Some(Outcome::Not(Code::Retry | Code::StoreFull | Code::ChainFull)), _) => Some(item.clone()),
        (Call::Get, Some(Outcome::Found(version, value)), Some((known, held))) => {
            (held == value && version_is(*version, *known)).then(|| Some((Some(*version), value.clone())))
        }
        (Call::Get | Call::Delete | Call::Cas(..), Some(Outcome::Not(Code::NotFound)), None) => Some(None),
        (Call::Set(value), Some(Outcome::Stored(version)), _) => {
            Some(Some(((*version != 0).then_some(*version), value.clone())))
        }
        (Call::Set(value), None, _) => Some(Some((None, value.clone()))),
        (Call::Delete, Some(Outcome::Deleted), Some(_)) => Some(None),
        (Call::Delete, None, _) => Some(None),
        (Call::Cas(expected, value), Some(Outcome::Stored(version)), Some((known, _))) => {
            version_is(*expected, *known).then(|| Some((Some(*version), value.clone())))
        }
        (Call::Cas(expected, value), None, Some((known, _))) => {
            version_is(*expected, *known).then(|| Some((None, value.clone())))
        }
        (Call::Cas(expected, _), Some(Outcome::Differs(version)), Some((known, held))) => {
            (version != expected && version_is(*version, *known)).then(|| Some((Some(*version), held.clone())))
        }
        _ => None,
    }
}

/// The item after an event that saw what a cache has forgotten for those who read.
fn after_forgotten(event: &Event) -> Option<Item> {
    match (&event.call, event.outcome.as_ref()?) {
        (Call::Delete, Outcome::Deleted) | (Call::Cas(..), Outcome::Differs(_)) => Some(None),
        (Call::Cas(expected, value), Outcome::Stored(version)) => {
            (*version == expected.wrapping_add(1)).then(|| Some((Some(*version), value.clone())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(call: Call, outcome: Outcome, begin: u64, end: u64) -> Event {
        Event { call, outcome: Some(outcome), begin, end }
    }

    #[test]
    fn finds_what_cannot_have_happened() {
        let set = |n: u8, begin, end| event(Call::Set(vec![n]), Outcome::Stored(u64::from(n)), begin, end);
        let get = |n: u8, begin, end| event(Call::Get, Outcome::Found(u64::from(n), vec![n]), begin, end);
        assert!(is_linearizable(&[set(1, 0, 5), set(2, 1, 6), get(1, 7, 8)], None, false));
        assert!(!is_linearizable(&[set(1, 0, 5), set(2, 6, 7), get(1, 8, 9)], None, false), "an old value");
        assert!(
            !is_linearizable(&[set(1, 0, 9), set(2, 0, 9), get(2, 10, 11), get(1, 12, 13)], None, false),
            "back and forth"
        );
        let miss = event(Call::Get, Outcome::Not(Code::NotFound), 6, 7);
        assert!(!is_linearizable(&[set(1, 0, 5), miss], None, false), "a value that is lost");
        let cas = |n: u8| event(Call::Cas(1, vec![n]), Outcome::Stored(u64::from(n)), 6, 9);
        assert!(!is_linearizable(&[set(1, 0, 5), cas(2), cas(3)], None, false), "two win");
        let cut = Event { call: Call::Set(vec![4]), outcome: None, begin: 0, end: 0 };
        assert!(is_linearizable(&[cut.clone(), get(4, 90, 95)], None, false) && is_linearizable(&[cut], None, false));
    }
}
