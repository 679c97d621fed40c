//! What a relay shows of itself: of several things that are wrong, the worst.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::status::TaskStatus;

/// The signs of one relay, and the status that follows from them.
#[derive(Debug)]
pub(crate) struct Board {
    status: TaskStatus,
    signs: Mutex<Signs>,
}

#[derive(Debug, Default)]
struct Signs {
    /// Why the last session ended; until the next has shown that it works.
    fault: Option<String>,
    /// The broker's own word for its alarm.
    blocked: Option<String>,
    /// How many rounds wait for confirms for so long.
    silent: Option<Duration>,
    waiting: usize,
    /// Messages that came back from the last round that had such.
    returned: usize,
    /// What differs at the broker and can lose messages.
    danger: Option<String>,
    /// What else there is to say.
    remark: String,
}

impl Board {
    pub(crate) fn new(status: TaskStatus) -> Self {
        Self {
            status,
            signs: Mutex::default(),
        }
    }

    /// The session is over; true if that is news.
    pub(crate) fn fault(&self, text: String) -> bool {
        self.change(|signs| {
            let remark = std::mem::take(&mut signs.remark);
            *signs = Signs {
                fault: Some(text),
                remark,
                danger: signs.danger.take(),
                ..Signs::default()
            };
        })
    }

    /// Messages were confirmed and marked, so the session works.
    pub(crate) fn published(&self, messages: usize) {
        self.status.count_published(messages);
        self.works();
    }

    /// The session works: something was confirmed, or it has lived for a while.
    pub(crate) fn works(&self) {
        self.change(|signs| signs.fault = None);
    }

    pub(crate) fn blocked(&self, reason: Option<String>) -> bool {
        self.change(|signs| signs.blocked = reason)
    }

    /// One more round is without a sign of life, or one less.
    pub(crate) fn silent(&self, wait: Option<Duration>) {
        self.change(|signs| match wait {
            Some(wait) => {
                signs.silent = Some(wait);
                signs.waiting += 1;
            }
            None => signs.waiting = signs.waiting.saturating_sub(1),
        });
    }

    /// How many messages of a round came back.
    pub(crate) fn returned(&self, messages: usize) {
        self.change(|signs| signs.returned = messages);
    }

    /// What reading the topology back has shown: what is dangerous, and what else there is to say;
    /// or why nothing was seen. What was dangerous when somebody last looked is so still.
    pub(crate) fn differs(&self, seen: Result<(Option<String>, String), String>) -> bool {
        self.change(|signs| match seen {
            Ok((danger, remark)) => (signs.danger, signs.remark) = (danger, remark),
            Err(why) => signs.remark = why,
        })
    }

    fn change(&self, change: impl FnOnce(&mut Signs)) -> bool {
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut signs);
        self.status.set_blocked(signs.blocked.is_some());
        self.status.set(signs.read())
    }
}

impl Signs {
    fn read(&self) -> Result<String, String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Some(reason) = &self.blocked {
            return Err(format!(
                "the broker blocks publishers by an alarm: {reason}"
            ));
        }
        if let (Some(wait), 1..) = (self.silent, self.waiting) {
            return Err(format!("waiting for confirms for {wait:?} already"));
        }
        if self.returned > 0 {
            let many = self.returned;
            return Err(format!(
                "the broker gives messages back ({many} of the last round); they are tried again"
            ));
        }
        if let Some(danger) = &self.danger {
            return Err(danger.clone());
        }
        Ok(if self.remark.is_empty() {
            "publishing".into()
        } else {
            format!("publishing; {}", self.remark)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_shown_and_the_rest_comes_up_when_it_is_over() {
        let status = TaskStatus::default();
        let board = Board::new(status.clone());
        board.differs(Ok((None, "a remark".into())));
        board.returned(3);
        board.blocked(Some("low on memory".into()));
        board.fault("lost".into());
        assert_eq!(status.check(), Err("lost".into()));
        assert!(!status.is_blocked(), "a session that is over is not");
        board.blocked(Some("low on disk".into()));
        board.works();
        assert!(status.is_blocked());
        assert!(
            status
                .check()
                .is_err_and(|text| text.contains("low on disk"))
        );
        board.blocked(None);
        assert_eq!(status.check(), Ok("publishing; a remark".into()));
    }

    #[test]
    fn a_danger_stands_until_somebody_sees_that_it_is_gone() {
        let status = TaskStatus::default();
        let board = Board::new(status.clone());
        board.differs(Ok((Some("drops messages".into()), String::new())));
        board.differs(Err("not checked: nobody answers".into()));
        assert_eq!(status.check(), Err("drops messages".into()));
        board.differs(Ok((None, String::new())));
        assert_eq!(status.check(), Ok("publishing".into()));
    }

    #[test]
    fn two_rounds_that_wait_are_both_to_be_answered() {
        let status = TaskStatus::default();
        let board = Board::new(status.clone());
        board.silent(Some(Duration::from_secs(5)));
        board.silent(Some(Duration::from_secs(5)));
        board.silent(None);
        assert!(status.check().is_err());
        board.silent(None);
        assert!(status.check().is_ok());
    }
}
