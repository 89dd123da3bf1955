//! Who was asked what and has not answered yet: tells answers from nonsense and
//! counts the latter. Pure.
//!
//! Must stay true: one request brings at most one answer to the engine, whatever
//! arrives; the rest is counted here. Anybody on this host can send to the port
//! of the answers.

use std::collections::HashMap;

use super::wire::Response;
use crate::table::EntityName;

/// Of a kind of nonsense the first is told, and then every hundredth
/// (spec/pmond.md §4.1).
const TOLD_OF: u64 = 100;

/// The requests that are out.
#[derive(Debug, Default)]
pub struct Correspondence {
    asked: HashMap<EntityName, Correspondent>,
    strays: Strays,
}

#[derive(Debug, Default)]
struct Correspondent {
    /// The request that has no answer yet.
    open: Option<u64>,
    faults: Faults,
}

/// What was wrong with answers that carry the name of an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Their magic was not the complement of the request's.
    pub bad_magic: u64,
    /// No answer was waited for.
    pub not_waiting: u64,
}

/// Datagrams that belong to no entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// They carry the name of nobody who was asked.
    pub wrong_name: u64,
    /// They are no responses.
    pub malformed: u64,
}

/// What a datagram was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first answer since that request.
    Answer {
        /// Whose.
        entity: EntityName,
        /// Since which request.
        round: u64,
        /// Its sequence number, right or wrong.
        sequence: u32,
    },
    /// Nonsense, with what to tell of it when it is time to.
    Nonsense(Option<String>),
}

impl Correspondence {
    /// A request went out.
    pub fn asked(&mut self, entity: &EntityName, round: u64) {
        self.asked
            .entry(EntityName::clone(entity))
            .or_default()
            .open = Some(round);
    }

    /// Nobody waits for an answer to this request any more. Whether there was
    /// none until now; false also if that cannot be known.
    pub fn close(&mut self, entity: &EntityName, round: u64) -> bool {
        let correspondent = self.asked.get_mut(entity);
        correspondent.is_some_and(|one| one.open.take_if(|open| *open == round).is_some())
    }

    /// Answers to what was asked until now may have been lost.
    pub fn interrupt(&mut self) {
        for correspondent in self.asked.values_mut() {
            correspondent.open = None;
        }
    }

    /// The entity is gone.
    pub fn forget(&mut self, entity: &EntityName) {
        self.asked.remove(entity);
    }

    /// Whether nobody has been asked who is not gone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// A datagram arrived.
    pub fn hear(&mut self, datagram: &[u8]) -> Heard {
        let Some(response) = Response::parse(datagram) else {
            return nonsense(&mut self.strays.malformed, || {
                format!("`{}` is no response", datagram.escape_ascii())
            });
        };
        let name = response.name;
        let Some((entity, correspondent)) = self.asked.get_key_value(name) else {
            return nonsense(&mut self.strays.wrong_name, || {
                format!("a response in the name of `{name}`, who was not asked")
            });
        };
        let (entity, open) = (EntityName::clone(entity), correspondent.open);
        let Some(correspondent) = self.asked.get_mut(&entity) else {
            return Heard::Nonsense(None);
        };
        let faults = &mut correspondent.faults;
        if !response.is_genuine() {
            let magic = response.magic;
            return nonsense(&mut faults.bad_magic, || {
                format!("a response of `{name}` has the wrong magic {magic:x}")
            });
        }
        let Some(round) = open else {
            return nonsense(&mut faults.not_waiting, || {
                format!("a response of `{name}` that nobody waits for")
            });
        };
        correspondent.open = None;
        Heard::Answer {
            entity,
            round,
            sequence: response.sequence,
        }
    }

    /// What was wrong with answers of this entity.
    #[must_use]
    pub fn faults(&self, entity: &EntityName) -> Faults {
        let known = self.asked.get(entity);
        known.map(|one| one.faults).unwrap_or_default()
    }

    /// What belongs to nobody.
    #[must_use]
    pub const fn strays(&self) -> Strays {
        self.strays
    }
}

fn nonsense(count: &mut u64, what: impl FnOnce() -> String) -> Heard {
    *count += 1;
    let told = *count % TOLD_OF == 1;
    Heard::Nonsense(told.then(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> EntityName {
        EntityName::from(name)
    }

    fn answer(entity: &str, round: u64, sequence: u32) -> Heard {
        Heard::Answer {
            entity: name(entity),
            round,
            sequence,
        }
    }

    #[test]
    fn one_answer_for_each_request() {
        let mut out = Correspondence::default();
        out.asked(&name("web"), 7);
        assert_eq!(out.hear(b"web edcba987 3"), answer("web", 7, 3));
        let again = out.hear(b"web edcba987 3");
        let told = "a response of `web` that nobody waits for".to_owned();
        assert_eq!(again, Heard::Nonsense(Some(told)));
        assert_eq!(out.faults(&name("web")).not_waiting, 1);
        out.asked(&name("web"), 8);
        // Whether the sequence is right is not judged here.
        assert_eq!(out.hear(b"web edcba987 3"), answer("web", 8, 3));
    }

    #[test]
    fn a_bad_magic_leaves_the_request_open() {
        let mut out = Correspondence::default();
        out.asked(&name("web"), 1);
        let heard = out.hear(b"web 12345678 1");
        let told = "a response of `web` has the wrong magic 12345678".to_owned();
        assert_eq!(heard, Heard::Nonsense(Some(told)));
        assert_eq!(out.faults(&name("web")).bad_magic, 1);
        assert_eq!(out.hear(b"web edcba987 1"), answer("web", 1, 1));
    }

    #[test]
    fn names_are_matched_exactly() {
        let mut out = Correspondence::default();
        out.asked(&name("web"), 1);
        for other in ["xxb", "we", "webs", "Web", "db"] {
            let heard = out.hear(format!("{other} edcba987 1").as_bytes());
            assert!(matches!(heard, Heard::Nonsense(_)), "{heard:?}");
        }
        assert_eq!(out.strays().wrong_name, 5);
        assert_eq!(out.faults(&name("web")), Faults::default());
        assert!(out.close(&name("web"), 1), "still open");
    }

    #[test]
    fn complaints_are_throttled() {
        let mut out = Correspondence::default();
        let complaints = (0..250)
            .filter(|_| matches!(out.hear(b"?"), Heard::Nonsense(Some(_))))
            .count();
        assert_eq!((complaints, out.strays().malformed), (3, 250));
    }

    #[test]
    fn closing_says_whether_there_was_no_answer() {
        let mut out = Correspondence::default();
        let web = name("web");
        assert!(!out.close(&web, 1), "never asked");
        out.asked(&web, 1);
        assert!(!out.close(&web, 2), "another request");
        assert!(out.close(&web, 1));
        assert!(!out.close(&web, 1), "once");
        let late = out.hear(b"web edcba987 1");
        assert!(matches!(late, Heard::Nonsense(_)), "{late:?}");
        out.asked(&web, 2);
        out.interrupt();
        assert!(!out.close(&web, 2), "its answer may have been lost");
    }

    #[test]
    fn who_is_forgotten_is_a_stranger() {
        let mut out = Correspondence::default();
        out.asked(&name("web"), 1);
        out.asked(&name("db"), 1);
        out.forget(&name("web"));
        assert!(!out.is_empty());
        assert!(matches!(out.hear(b"web edcba987 1"), Heard::Nonsense(_)));
        assert_eq!(out.strays().wrong_name, 1);
        out.forget(&name("db"));
        assert!(out.is_empty());
    }
}
