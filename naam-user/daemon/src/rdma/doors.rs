//! Which sets of regions sessions reach by RDMA.
//!
//! Whatever a set holds is pinned once more for it. So peers do not choose among all subsets: there are the regions that the
//! configuration opens to anybody, all together, and each region by itself; and of either what may be read, what may be
//! written, and both. A session gets the largest set that its rights cover; what it may reach besides, it reaches by
//! one-sided functions. How much can be pinned is so up to the configuration: twice what it opens, where it opens no WRITE.

use naam_abi::limits::REGIONS_MAX;
use naam_control::Name;
use naam_control::protocol::session::Rights;

/// A region, and what may be done to it by RDMA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    pub region: Name,
    pub index: u8,
    /// Tells it from another region of its name.
    pub map_id: u32,
    /// By sessions that have the same right raw.
    pub verbs: Rights,
    /// Of these, what any session may ask for.
    pub anyone: Rights,
}

/// A region that is open to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub region: Name,
    pub index: u8,
    pub map_id: u32,
    pub rights: Rights,
}

const READ: Rights = Rights { read: true, ..Rights::NONE };
const WRITE: Rights = Rights { write: true, ..Rights::NONE };
/// Atomics are never open: devices do them on their own, not as processors and handlers do.
const BOTH: Rights = Rights { read: true, write: true, atomic: false };

/// All sets that sessions of an app may have, each once.
pub fn sets(doors: &[Door]) -> Vec<Vec<Open>> {
    let mut sets: Vec<Vec<Open>> = Vec::new();
    for mask in [BOTH, READ, WRITE] {
        let of = |door: &Door, rights: Rights| {
            let rights = Rights::from_bits(rights.bits() & mask.bits());
            let Door { region, index, map_id, .. } = door.clone();
            (rights != Rights::NONE).then_some(Open { region, index, map_id, rights })
        };
        let all: Vec<Open> = doors.iter().filter_map(|door| of(door, door.anyone)).collect();
        let alone = doors.iter().map(|door| of(door, door.verbs).into_iter().collect());
        for set in std::iter::once(all).chain(alone) {
            if !set.is_empty() && !sets.contains(&set) {
                sets.push(set);
            }
        }
    }
    sets
}

/// The set that a session with these raw rights reaches; empty for none.
pub fn largest(doors: &[Door], raw: [u8; REGIONS_MAX]) -> Vec<Open> {
    let may = |open: &Open| {
        raw.get(usize::from(open.index)).is_some_and(|bits| Rights::from_bits(*bits).include(open.rights))
    };
    let covered = sets(doors).into_iter().filter(|set| set.iter().all(may));
    let size = |set: &Vec<Open>| {
        let readable = set.iter().filter(|open| open.rights.read).count();
        (readable, set.iter().map(|open| open.rights.bits().count_ones()).sum::<u32>())
    };
    // Of those of one size the first, always.
    let best = covered.fold(None::<Vec<Open>>, |best, set| match best {
        Some(best) if size(&best) >= size(&set) => Some(best),
        _ => Some(set),
    });
    best.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: u8 = Rights::ALL.bits();

    fn doors(each: &[(Rights, Rights)]) -> Vec<Door> {
        let door = |(index, &(verbs, anyone)): (u8, &(Rights, Rights))| {
            let region = Name::new(format!("r{index}")).unwrap();
            Door { region, index, map_id: 100 + u32::from(index), verbs, anyone }
        };
        (0..).zip(each).map(door).collect()
    }

    /// `(index, rights)` of each.
    fn reached(doors: &[Door], raw: &[u8]) -> Vec<(u8, Rights)> {
        let mut rights = [0; REGIONS_MAX];
        rights[..raw.len()].copy_from_slice(raw);
        largest(doors, rights).iter().map(|open| (open.index, open.rights)).collect()
    }

    #[test]
    fn a_session_reaches_the_most_that_its_rights_cover() {
        let doors = doors(&[(BOTH, BOTH), (READ, READ), (READ, Rights::NONE), (Rights::NONE, Rights::NONE)]);
        let (read, write) = (READ.bits(), WRITE.bits());
        assert_eq!(reached(&doors, &[ALL, ALL, ALL, ALL]), [(0, BOTH), (1, READ)]);
        assert_eq!(reached(&doors, &[read, read]), [(0, READ), (1, READ)]);
        assert_eq!(reached(&doors, &[BOTH.bits(), 0]), [(0, BOTH)]);
        assert_eq!(reached(&doors, &[read, 0]), [(0, READ)]);
        assert_eq!(reached(&doors, &[write, 0]), [(0, WRITE)]);
        assert_eq!(reached(&doors, &[write, read]), [(1, READ)]);
        // One that the configuration opens to nobody is reached alone, by who has got the right.
        assert_eq!(reached(&doors, &[0, 0, read]), [(2, READ)]);
        for nothing in [[0, 0, 0, ALL], [0, 0, write, ALL], [Rights { atomic: true, ..Rights::NONE }.bits(), 0, 0, 0]] {
            assert_eq!(reached(&doors, &nothing), []);
        }
    }

    #[test]
    fn raw_write_is_no_write_by_rdma() {
        let doors = doors(&[(READ, READ)]);
        assert_eq!(reached(&doors, &[ALL]), [(0, READ)]);
        assert_eq!(reached(&doors, &[WRITE.bits()]), []);
    }

    #[test]
    fn peers_do_not_choose_how_often_everything_is_pinned() {
        let open = doors(&[(READ, READ); REGIONS_MAX]);
        // Every subset of eight regions that may be read: all of them, or one.
        let mut had = BTreeSet::new();
        for subset in 0u32..256 {
            let raw: Vec<u8> = (0..8).map(|at| if subset >> at & 1 == 1 { ALL } else { 0 }).collect();
            had.insert(format!("{:?}", reached(&open, &raw)));
        }
        assert_eq!(had.len(), 1 + REGIONS_MAX + 1, "{had:?}");
        assert_eq!(sets(&open).len(), 1 + REGIONS_MAX);
        assert_eq!(sets(&doors(&[(BOTH, BOTH); REGIONS_MAX])).len(), 3 * (1 + REGIONS_MAX));
        // All regions are one region: the same set.
        assert_eq!(sets(&doors(&[(READ, READ)])).len(), 1);
    }

    #[test]
    fn nothing_is_reached_without_the_right_to_it() {
        let kinds = [Rights::NONE, READ, WRITE, BOTH];
        for (first, second, third) in (0..4 * 4 * 4).map(|at| (at % 4, at / 4 % 4, at / 16)) {
            let verbs = [kinds[first], kinds[second], kinds[third]];
            let doors = doors(&verbs.map(|verbs| (verbs, verbs)));
            for raw in 0u16..512 {
                let raw = [(raw & 7) as u8, (raw >> 3 & 7) as u8, (raw >> 6) as u8];
                for (index, rights) in reached(&doors, &raw) {
                    let at = usize::from(index);
                    assert!(
                        Rights::from_bits(raw[at]).include(rights) && verbs[at].include(rights),
                        "{verbs:?} {raw:?}"
                    );
                }
            }
        }
    }
}
