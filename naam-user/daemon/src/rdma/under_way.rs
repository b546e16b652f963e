//! Requests for queue pairs that are being worked on: few at a time, one a session.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use naam_control::ControlError;
use naam_control::limits::{RDMA_CONNECTS, RDMA_CONNECTS_APP};

use super::refused;

/// The app of each session whose queue pair is being connected.
#[derive(Debug, Default)]
pub struct UnderWay(RefCell<BTreeMap<u32, u16>>);

/// A place among them, until it is dropped.
#[derive(Debug)]
pub struct Place {
    all: Rc<UnderWay>,
    session: u32,
}

impl UnderWay {
    /// Takes a place.
    ///
    /// # Errors
    /// When there is none, or the session has one.
    pub fn begin(self: &Rc<Self>, session: u32, app: u16) -> Result<Place, ControlError> {
        let mut all = self.0.borrow_mut();
        let busy =
            |cause: &str| Err(refused(session, &cause).way_out("try again in a few seconds, go on without RDMA"));
        if all.contains_key(&session) {
            return busy("busy: an earlier request of the session is still worked on");
        }
        let of_app = all.values().filter(|of| **of == app).count();
        if all.len() >= RDMA_CONNECTS || of_app >= RDMA_CONNECTS_APP {
            return busy("busy: too many other sessions are being connected");
        }
        all.insert(session, app);
        Ok(Place { all: Rc::clone(self), session })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wait_at_a_time_and_no_app_keeps_others_waiting() {
        let all = Rc::new(UnderWay::default());
        let begin = |session, app| all.begin(session, app).map_err(|error| error.to_string());
        let first = begin(1, 0).unwrap();
        assert!(begin(1, 0).unwrap_err().contains("earlier request"));
        let mut places: Vec<_> = (2..=RDMA_CONNECTS_APP as u32).map(|session| begin(session, 0).unwrap()).collect();
        assert!(begin(100, 0).unwrap_err().contains("too many"));
        places.extend(
            (101..).take(RDMA_CONNECTS - RDMA_CONNECTS_APP).map(|number| begin(number, number as u16).unwrap()),
        );
        assert!(begin(999, 999).unwrap_err().contains("too many"));
        drop(first);
        drop((begin(1, 0).unwrap(), places));
        assert!(all.0.borrow().is_empty());
    }
}
