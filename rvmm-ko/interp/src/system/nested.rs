//! What becomes of a fault met while an event is delivered (SDM vol. 3 §6.15, tables 6-4 and 6-5).

use rvmm_arch::fault::{Event, EventSource};
use rvmm_arch::{Exception, Vector};

/// More attempts than any chain of events takes: benign, contributory, page fault, double fault.
pub(super) const ROUNDS: usize = 5;

/// The classes of the table, from harmless to fatal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// Handled one after the other.
    Benign,
    /// #DE, #TS, #NP, #SS, #GP.
    Contributory,
    /// #PF.
    PageFault,
    /// #DF.
    DoubleFault,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// Deliver this instead.
    Deliver(Event),
    /// Give up: a triple fault.
    Shutdown,
}

const fn class(vector: Vector) -> Class {
    match vector {
        Vector::DE | Vector::TS | Vector::NP | Vector::SS | Vector::GP => Class::Contributory,
        Vector::PF => Class::PageFault,
        Vector::DF => Class::DoubleFault,
        _ => Class::Benign,
    }
}

/// The event that follows from `second` being raised while `first` was delivered. Interrupts are benign whatever their
/// vector.
pub(super) fn combine(first: &Event, second: Exception) -> After {
    let before = match first.source {
        EventSource::Exception => class(first.vector),
        _ => Class::Benign,
    };
    match (before, class(second.vector)) {
        (Class::DoubleFault, Class::Contributory | Class::PageFault | Class::DoubleFault) => After::Shutdown,
        (Class::Contributory, Class::Contributory) | (Class::PageFault, Class::Contributory | Class::PageFault) => {
            After::Deliver(Event::from(Exception::with_code(Vector::DF, 0)))
        }
        _ => After::Deliver(Event::from(second)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: first exception; columns: second exception; as in SDM vol. 3 table 6-5.
    #[test]
    fn the_table() {
        const BENIGN: Vector = Vector::UD;
        let all = [BENIGN, Vector::DE, Vector::TS, Vector::NP, Vector::SS, Vector::GP, Vector::PF, Vector::DF];
        for first in all {
            for second in all {
                if second == Vector::DF {
                    continue;
                }
                let got = combine(&Event::from(Exception::new(first)), Exception::new(second));
                let contributory = |v: Vector| matches!(v.0, 0 | 10..=13);
                let expected = match (first, second) {
                    (Vector::DF, s) if s != BENIGN => None,
                    (Vector::PF, s) if s == Vector::PF || contributory(s) => Some(Vector::DF),
                    (f, s) if contributory(f) && contributory(s) => Some(Vector::DF),
                    (_, s) => Some(s),
                };
                let got = match got {
                    After::Shutdown => None,
                    After::Deliver(e) => Some(e.vector),
                };
                assert_eq!(got, expected, "{first:?} then {second:?}");
            }
        }
    }

    #[test]
    fn interrupts_are_benign() {
        let event = Event { vector: Vector::GP, error: None, payload: 0, source: EventSource::External };
        assert_eq!(combine(&event, Exception::gp(8)), After::Deliver(Event::from(Exception::gp(8))));
    }
}
