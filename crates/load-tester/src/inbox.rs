//! What a user has heard and not yet waited for, so that nothing said between two steps is lost.
//!
//! Only users whose flow waits for something have one, and only for what it waits for.

use std::collections::VecDeque;
use std::time::Instant;

use crate::metrics::StepId;

/// What one user may leave unread. More is dropped and told: a flow that listens and never waits would fill the machine.
pub(crate) const MOST_LETTERS: usize = 1000;
pub(crate) const MOST_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    wanted: Vec<Wanted>,
    letters: VecDeque<Letter>,
    bytes: usize,
    /// Letters that a wait has looked at and left.
    passed_over: usize,
    /// Of those so many had to make room.
    dropped: u64,
    /// Number of the next letter.
    next: u64,
    next_topic: u32,
}

/// A kind of message that is kept: an event of a namespace, or a plain WebSocket's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Topic(u32);

#[derive(Debug)]
struct Wanted {
    topic: Topic,
    /// Empty for frames.
    namespace: Box<str>,
    event: Box<str>,
    /// Whom to blame for what is dropped.
    step: StepId,
}

/// One message, kept.
#[derive(Debug)]
pub(crate) struct Letter {
    number: u64,
    topic: Topic,
    passed_over: bool,
    /// Raw: of an event the JSON array, name first; a text frame as it is; a binary frame in base64.
    pub(crate) data: String,
    pub(crate) received: Instant,
}

/// There was no room; the step that asked for such messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full(pub(crate) StepId);

impl Inbox {
    /// From now on such events are kept.
    pub(crate) fn want(&mut self, namespace: &str, event: &str, step: StepId) -> Topic {
        if let Some(topic) = self.topic(namespace, event) {
            return topic;
        }
        let topic = Topic(self.next_topic);
        self.next_topic += 1;
        self.wanted.push(Wanted { topic, namespace: namespace.into(), event: event.into(), step });
        topic
    }

    /// From now on every frame of a plain WebSocket is kept.
    pub(crate) fn want_frames(&mut self, step: StepId) -> Topic {
        self.want("", "", step)
    }

    /// Nobody will wait for such messages any more.
    pub(crate) fn forget(&mut self, namespace: &str, event: &str) {
        let Some(topic) = self.topic(namespace, event) else { return };
        self.wanted.retain(|wanted| wanted.topic != topic);
        self.letters.retain(|letter| letter.topic != topic);
        self.bytes = self.letters.iter().map(|letter| letter.data.len()).sum();
        self.passed_over = self.letters.iter().filter(|letter| letter.passed_over).count();
    }

    /// Whether such messages are kept.
    pub(crate) fn wants(&self, namespace: &str, event: &str) -> bool {
        self.wanted(namespace, event).is_some()
    }

    fn topic(&self, namespace: &str, event: &str) -> Option<Topic> {
        self.wanted(namespace, event).map(|wanted| wanted.topic)
    }

    fn wanted(&self, namespace: &str, event: &str) -> Option<&Wanted> {
        self.wanted.iter().find(|wanted| *wanted.event == *event && *wanted.namespace == *namespace)
    }

    /// Keeps what is wanted; where there is no room, what a wait has left already makes some. `data` is only called for
    /// what is wanted.
    pub(crate) fn offer(
        &mut self,
        namespace: &str,
        event: &str,
        received: Instant,
        data: impl FnOnce() -> String,
    ) -> Result<(), Full> {
        let Some(wanted) = self.wanted(namespace, event) else { return Ok(()) };
        let topic = wanted.topic;
        let full = Full(wanted.step);
        if self.letters.len() >= MOST_LETTERS && self.passed_over == 0 {
            return Err(full);
        }
        let data = data();
        if data.len() > MOST_BYTES {
            return Err(full);
        }
        while self.letters.len() >= MOST_LETTERS || self.bytes + data.len() > MOST_BYTES {
            if !self.drop_one() {
                return Err(full);
            }
        }
        self.bytes += data.len();
        self.letters.push_back(Letter { number: self.next, topic, passed_over: false, data, received });
        self.next += 1;
        Ok(())
    }

    /// Drops the oldest letter that a wait has left; false when there is none.
    fn drop_one(&mut self) -> bool {
        if self.passed_over == 0 {
            return false;
        }
        let oldest = self.letters.iter().find(|letter| letter.passed_over).map(Letter::number);
        let dropped = oldest.and_then(|number| self.take(number));
        self.dropped += u64::from(dropped.is_some());
        dropped.is_some()
    }

    /// How many letters that a wait had left were dropped to make room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number the next letter will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The oldest letter of the topic whose number is at least `from`.
    pub(crate) fn find(&self, topic: Topic, from: u64) -> Option<&Letter> {
        self.letters.iter().find(|letter| letter.topic == topic && letter.number >= from)
    }

    /// A letter that was taken and is still wanted by others, in its old place.
    pub(crate) fn put_back(&mut self, mut letter: Letter) {
        letter.passed_over = true;
        self.passed_over += 1;
        let at = self.letters.partition_point(|known| known.number < letter.number);
        self.bytes += letter.data.len();
        self.letters.insert(at, letter);
    }

    pub(crate) fn take(&mut self, number: u64) -> Option<Letter> {
        let at = self.letters.iter().position(|letter| letter.number == number)?;
        let letter = self.letters.remove(at)?;
        self.bytes -= letter.data.len();
        self.passed_over -= usize::from(letter.passed_over);
        Some(letter)
    }
}

impl Letter {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(inbox: &mut Inbox, event: &str, data: &str) -> Result<(), Full> {
        inbox.offer("/", event, Instant::now(), || data.to_owned())
    }

    #[test]
    fn what_is_wanted_is_kept_in_order_and_the_rest_is_not() {
        let mut inbox = Inbox::default();
        offer(&mut inbox, "a", "before anybody wanted it").unwrap();
        let a = inbox.want("/", "a", StepId(1));
        assert_eq!(inbox.want("/", "a", StepId(2)), a);
        let b = inbox.want("/", "b", StepId(2));
        assert_ne!(inbox.want("/other", "a", StepId(2)), a);
        for (event, data) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
            offer(&mut inbox, event, data).unwrap();
        }
        let first = inbox.find(a, 0).unwrap();
        assert_eq!(first.data, "1");
        let next = inbox.find(a, first.number() + 1).unwrap();
        assert_eq!((next.data.as_str(), inbox.find(b, 0).unwrap().data.as_str()), ("4", "2"));
        let number = next.number();
        assert_eq!(inbox.take(number).unwrap().data, "4");
        assert!(inbox.take(number).is_none());
        assert_eq!(inbox.bytes, 2);
        inbox.forget("/", "a");
        offer(&mut inbox, "a", "nobody waits").unwrap();
        assert!(inbox.find(a, 0).is_none());
        assert_eq!(inbox.bytes, 1);
    }

    #[test]
    fn what_a_wait_has_left_makes_room_and_is_counted() {
        let mut inbox = Inbox::default();
        let topic = inbox.want("/", "a", StepId(7));
        for _ in 0..MOST_LETTERS {
            offer(&mut inbox, "a", "x").unwrap();
        }
        for number in [3, 5, 700] {
            let left = inbox.take(number).unwrap();
            inbox.put_back(left);
        }
        let read = inbox.take(5).unwrap();
        inbox.put_back(read);
        offer(&mut inbox, "a", "new").unwrap();
        assert!(inbox.take(3).is_none() && inbox.find(topic, 3).unwrap().number() == 4);
        // Nothing of what was left is worth more than its room.
        offer(&mut inbox, "a", &"x".repeat(MOST_BYTES - MOST_LETTERS - 1)).unwrap();
        assert!(inbox.take(5).is_none());
        assert_eq!(offer(&mut inbox, "a", &"x".repeat(MOST_BYTES + 1)), Err(Full(StepId(7))));
        assert_eq!((inbox.dropped(), inbox.passed_over), (2, 1), "what never fits takes nobody's room");
        offer(&mut inbox, "a", "x").unwrap();
        assert_eq!(offer(&mut inbox, "a", "x"), Err(Full(StepId(7))), "the rest nobody has looked at");
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let mut inbox = Inbox::default();
        let topic = inbox.want("/", "a", StepId(7));
        for _ in 0..MOST_LETTERS {
            offer(&mut inbox, "a", "x").unwrap();
        }
        assert_eq!(offer(&mut inbox, "a", "x"), Err(Full(StepId(7))));
        let number = inbox.find(topic, 0).unwrap().number();
        inbox.take(number);
        let large = "x".repeat(MOST_BYTES - MOST_LETTERS + 1);
        offer(&mut inbox, "a", &large).unwrap();
        assert_eq!(inbox.bytes, MOST_BYTES);
        let number = inbox.find(topic, 0).unwrap().number();
        inbox.take(number);
        assert_eq!(offer(&mut inbox, "a", "xx"), Err(Full(StepId(7))), "one byte is left");
        offer(&mut inbox, "a", "x").unwrap();
    }
}
