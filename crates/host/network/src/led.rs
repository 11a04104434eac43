//! Names that lead to other names, by a CNAME record: what is known of them, and how it is made whole with the answer to
//! where they lead.
//!
//! **Invariant:** an answer of somebody else's is read within its bounds, and what cannot be read is a failure of its own,
//! never a part of an answer.

use crate::dns::{SERVFAIL, unanswered};
use crate::zones::{Question, begin, name};

const HEADER_LEN: usize = 12;
const NAME_LEN_MAX: usize = 255;
const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
const SOA: u16 = 6;
const PTR: u16 = 12;
const MX: u16 = 15;
const SRV: u16 = 33;
const TRUNCATED: u8 = 0x02;

/// What is said of a question.
#[derive(Debug)]
pub(crate) enum Answered {
    Whole(Vec<u8>),
    /// Somebody else knows the rest.
    Led(Led),
}

/// A question's name leads to one that is nobody's here.
#[derive(Debug)]
pub(crate) struct Led {
    asked: Vec<u8>,
    /// Without records.
    begun: Vec<u8>,
    records: Vec<Vec<u8>>,
    next: Vec<u8>,
    /// How long the answer may be; none: as long as messages are.
    room: Option<usize>,
}

impl Led {
    /// None: there is no such name. `records` say how the name of `question`, which `message` asks, leads to `target`.
    pub(crate) fn new(
        message: &[u8],
        question: &Question,
        records: Vec<Vec<u8>>,
        target: &str,
        is_datagram: bool,
    ) -> Option<Self> {
        let mut next = message[..HEADER_LEN].to_vec();
        next.extend(name(target)?);
        // The kind and class, and what the asker says of itself.
        next.extend(&message[question.end - 4..]);
        Some(Self {
            asked: message.to_vec(),
            begun: begin(message, question),
            records,
            next,
            room: is_datagram.then_some(question.room),
        })
    }

    /// What is to be asked to know the rest.
    pub(crate) fn next(&self) -> &[u8] {
        &self.next
    }

    /// What is known alone, for whoever asks further by itself.
    pub(crate) fn alone(self) -> Vec<u8> {
        self.whole(Rest::default())
    }

    /// The answer, with what was answered to [`Led::next`].
    pub(crate) fn with(self, answer: &[u8]) -> Vec<u8> {
        match Rest::read(answer) {
            Some(rest) => self.whole(rest),
            None => unanswered(&self.asked, SERVFAIL),
        }
    }

    fn whole(self, rest: Rest) -> Vec<u8> {
        let mut whole = self.begun.clone();
        whole[3] |= rest.code;
        let count = |all: usize| u16::try_from(all).unwrap_or(u16::MAX).to_be_bytes();
        whole[6..8].copy_from_slice(&count(self.records.len() + rest.answers.len()));
        whole[8..10].copy_from_slice(&count(rest.authorities.len()));
        let records = self.records.iter().chain(&rest.answers).chain(&rest.authorities);
        records.for_each(|record| whole.extend(record));
        if rest.is_cut || self.room.is_some_and(|room| room < whole.len()) {
            // The asker comes again by a stream.
            let mut cut = self.begun;
            cut[2] |= TRUNCATED;
            return cut;
        }
        match u16::try_from(whole.len()) {
            Ok(_) => whole,
            Err(_) => unanswered(&self.asked, SERVFAIL),
        }
    }
}

/// What an answer says, each record for itself.
#[derive(Debug, Default)]
struct Rest {
    code: u8,
    is_cut: bool,
    answers: Vec<Vec<u8>>,
    /// How long it may be remembered that there is nothing.
    authorities: Vec<Vec<u8>>,
}

impl Rest {
    fn read(message: &[u8]) -> Option<Self> {
        let number =
            |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let mut rest = Self {
            code: message.get(3)? & 0xf,
            is_cut: message[2] & TRUNCATED != 0,
            ..Self::default()
        };
        let (questions, answers, authorities) = (number(4)?, number(6)?, number(8)?);
        let mut at = HEADER_LEN;
        for _ in 0..questions {
            at = read_name(message, at)?.1 + 4;
        }
        if rest.is_cut {
            return Some(rest);
        }
        for number in 0..u32::from(answers) + u32::from(authorities) {
            let (kind, record, end) = read_record(message, at)?;
            at = end;
            if number < u32::from(answers) {
                rest.answers.push(record);
            } else if kind == SOA {
                rest.authorities.push(record);
            }
        }
        Some(rest)
    }
}

/// A record's kind, itself with all names in full, and where it ends.
fn read_record(message: &[u8], at: usize) -> Option<(u16, Vec<u8>, usize)> {
    const FIXED_LEN: usize = 10;
    let (mut record, at) = read_name(message, at)?;
    let fixed = message.get(at..at + FIXED_LEN)?;
    let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let (from, end) = (at + FIXED_LEN, at + FIXED_LEN + length);
    // Names are read by where they are in the message; nothing of the record is behind its end.
    let message = message.get(..end)?;
    let data = match kind {
        NS | CNAME | PTR => read_name(message, from)?.0,
        MX => prefixed(message, from, 2)?,
        SRV => prefixed(message, from, 6)?,
        SOA => {
            let (mut data, at) = read_name(message, from)?;
            let (second, at) = read_name(message, at)?;
            data.extend(second);
            data.extend(message.get(at..)?);
            data
        }
        _ => message[from..].to_vec(),
    };
    record.extend(&fixed[..FIXED_LEN - 2]);
    record.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    record.extend(data);
    Some((kind, record, end))
}

/// Data that ends with a name, behind so many bytes.
fn prefixed(message: &[u8], from: usize, length: usize) -> Option<Vec<u8>> {
    let mut data = message.get(from..from + length)?.to_vec();
    data.extend(read_name(message, from + length)?.0);
    Some(data)
}

/// A name in full, and where it ends.
fn read_name(message: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    const POINTER: u8 = 0xc0;
    let (mut name, mut at, mut end) = (Vec::new(), at, None);
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                return Some((name, end.unwrap_or(at + 1)));
            }
            1..64 => {
                let next = at + 1 + usize::from(length);
                name.extend(message.get(at..next)?);
                at = next;
            }
            POINTER.. => {
                let low = *message.get(at + 1)?;
                end = end.or(Some(at + 2));
                let to = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                // Always back, so that it comes to an end.
                at = Some(to).filter(|to| *to < at)?;
            }
            64..POINTER => return None,
        }
        if NAME_LEN_MAX <= name.len() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::zones::tests::question;
    use crate::zones::{A, SAME_NAME, read, resource};

    fn led(asked: &[u8], is_datagram: bool) -> Led {
        let question = read(asked).unwrap();
        let record = resource(&SAME_NAME, CNAME, 5, &name("www.example.com").unwrap());
        Led::new(asked, &question, vec![record], "www.example.com", is_datagram).unwrap()
    }

    /// As a resolver answers, which says names once: `www` leads to `cdn` of the same domain.
    fn answer(next: &[u8], addresses: u8) -> Vec<u8> {
        let mut answer = next.to_vec();
        answer[2] |= 0x80;
        answer[7] = addresses + 1;
        let cdn = u8::try_from(answer.len() + 12).unwrap();
        answer.extend(resource(&SAME_NAME, CNAME, 60, &[3, b'c', b'd', b'n', 0xc0, 16]));
        for last in 0..addresses {
            answer.extend(resource(&[0xc0, cdn], A, 60, &[192, 0, 2, last]));
        }
        answer
    }

    #[test]
    fn what_a_name_leads_to_is_asked_as_the_name_was() {
        let mut asked = question("web.prod.local", A);
        asked[11] = 1;
        asked.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        let mut next = question("www.example.com", A);
        next[11] = 1;
        next.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(led(&asked, true).next(), next);
    }

    #[test]
    fn an_answer_goes_on_where_the_name_leads() {
        let asked = question("web.prod.local", A);
        let led = led(&asked, true);
        let whole = led.with(&answer(&question("www.example.com", A), 2));
        assert_eq!((whole[3] & 0xf, whole[7]), (0, 4));
        let mut expected = asked.clone();
        expected.extend(resource(&SAME_NAME, CNAME, 5, &name("www.example.com").unwrap()));
        let [www, cdn] = ["www.example.com", "cdn.example.com"].map(|it| name(it).unwrap());
        expected.extend(resource(&www, CNAME, 60, &cdn));
        expected.extend(resource(&cdn, A, 60, &[192, 0, 2, 0]));
        expected.extend(resource(&cdn, A, 60, &[192, 0, 2, 1]));
        assert_eq!(whole[12..], expected[12..]);
    }

    #[test]
    fn that_there_is_nothing_is_said_with_how_long_it_holds() {
        let asked = question("web.prod.local", A);
        let mut none = question("www.example.com", A);
        none[2] |= 0x80;
        (none[3], none[9]) = (3, 1);
        let soa = [vec![2, b'n', b's', 0xc0, 16, 0xc0, 16], vec![0; 20]].concat();
        none.extend(resource(&[0xc0, 16], SOA, 9, &soa));
        let whole = led(&asked, true).with(&none);
        assert_eq!((whole[3] & 0xf, whole[7], whole[9]), (3, 1, 1));
        let domain = name("example.com").unwrap();
        let soa = [name("ns.example.com").unwrap(), domain.clone(), vec![0; 20]].concat();
        assert!(whole.ends_with(&resource(&domain, SOA, 9, &soa)));
    }

    #[test]
    fn what_does_not_fit_is_asked_again_by_a_stream() {
        let asked = question("web.prod.local", A);
        let long = answer(&question("www.example.com", A), 40);
        let cut = led(&asked, true).with(&long);
        assert_eq!((cut[2] & TRUNCATED, cut[7]), (TRUNCATED, 0));
        assert_eq!(led(&asked, false).with(&long)[7], 42);
        let mut short = question("www.example.com", A);
        short[2] |= 0x80 | TRUNCATED;
        assert_eq!(led(&asked, true).with(&short)[2] & TRUNCATED, TRUNCATED);
    }

    #[test]
    fn what_points_to_itself_is_a_failure() {
        let asked = question("web.prod.local", A);
        let mut round = answer(&question("www.example.com", A), 1);
        let at = round.len() - 16;
        round[at + 1] = u8::try_from(at).unwrap();
        let failed = led(&asked, true).with(&round);
        assert_eq!((failed[3] & 0xf, failed[7]), (SERVFAIL, 0));
    }

    proptest! {
        #[test]
        fn no_answer_upsets_it(
            answer in prop::collection::vec(any::<u8>(), 0..120),
            at in 12_usize..80,
            byte in any::<u8>(),
        ) {
            let asked = question("web.prod.local", A);
            prop_assert!(led(&asked, true).with(&answer).len() >= HEADER_LEN);
            let mut bent = self::answer(&question("www.example.com", A), 2);
            if let Some(place) = bent.get_mut(at) {
                *place = byte;
            }
            prop_assert!(led(&asked, true).with(&bent)[..2] == asked[..2]);
        }
    }
}
