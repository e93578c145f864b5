//! Messages.

use super::{Facility, Severity, time};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The highest priority: facility 23, severity 7.
const PRIORITY_MAX: u16 = 191;

/// The longest name of a program in front of a message, in bytes. RFC 3164 has 32, which paths of
/// programs exceed.
const TAG_BYTES_MAX: usize = 256;

/// The form a message was found in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Form {
    /// `<PRI>1 TIME HOST APP PROCID MSGID DATA TEXT`. See RFC 5424, 6.
    Rfc5424,
    /// `<PRI>` and whatever follows. See RFC 3164, 4.
    Rfc3164,
    /// A line of a log file, which has no priority.
    File,
    /// None of them.
    Raw,
}

/// A message, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The form it was found in.
    pub form: Form,
    /// What part of the system it is from.
    pub facility: Option<Facility>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// The sender's time.
    pub time: Option<Timestamp>,
    /// The sender.
    pub host: Option<String>,
    /// The program.
    pub process: Option<String>,
    /// Its process, mostly a number.
    pub process_id: Option<String>,
    /// The kind of message (`MSGID`).
    pub message_id: Option<String>,
    /// The structured data as it was written, with its brackets.
    pub structured_data: Option<String>,
    /// The text.
    pub text: String,
}

impl Message {
    /// Takes a message apart. Times without a year are near `now`, times without an offset are in
    /// `zone`. What has no known form is a text ([`Form::Raw`]): nothing is refused.
    #[must_use]
    pub fn parse(line: &str, now: Timestamp, zone: &TimeZone) -> Self {
        let line = line.trim_end_matches(['\n', '\r', '\0']);
        let Some((priority, rest)) = priority(line) else {
            return Self::headed(line, Form::File, now, zone).unwrap_or_else(|| Self::raw(line));
        };
        let mut message = Self::rfc5424(rest)
            .or_else(|| Self::headed(rest, Form::Rfc3164, now, zone))
            .unwrap_or_else(|| Self { form: Form::Rfc3164, ..Self::raw(rest) });
        message.facility = u8::try_from(priority / 8).ok().and_then(Facility::new);
        message.severity = u8::try_from(priority % 8).ok().and_then(Severity::new);
        message
    }

    /// The structured data, without what describes the sender's clock, and the text.
    #[must_use]
    pub fn text_with_data(&self) -> String {
        let mut out = String::new();
        let mut rest = self.structured_data.as_deref().unwrap_or("");
        while let Some(end) = element_end(rest) {
            if !rest.starts_with("[timeQuality ") {
                out.push_str(&rest[..end]);
            }
            rest = &rest[end..];
        }
        if !out.is_empty() && !self.text.is_empty() {
            out.push(' ');
        }
        out + &self.text
    }

    fn raw(text: &str) -> Self {
        Self {
            form: Form::Raw,
            facility: None,
            severity: None,
            time: None,
            host: None,
            process: None,
            process_id: None,
            message_id: None,
            structured_data: None,
            text: text.to_owned(),
        }
    }

    /// What follows the priority in RFC 5424, 6.
    fn rfc5424(rest: &str) -> Option<Self> {
        let mut words = rest.strip_prefix("1 ")?.splitn(6, ' ');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let stated = |word: &str| (word != "-").then(|| word.to_owned());
        let time = match word()? {
            "-" => None,
            // An offset is required, so the zone does not matter.
            text if text.contains(['Z', '+']) || text.matches('-').count() == 3 => {
                Some(time::iso(text, &TimeZone::UTC)?.0)
            }
            _ => return None,
        };
        let host = stated(word()?);
        let process = stated(word()?);
        let process_id = stated(word()?);
        let message_id = stated(word()?);
        let rest = word()?;
        let end = if rest.starts_with('-') { 1 } else { data_end(rest)? };
        let (data, rest) = rest.split_at(end);
        let text = match rest.strip_prefix(' ') {
            Some(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            None if rest.is_empty() => "",
            None => return None,
        };
        let form = Form::Rfc5424;
        let structured_data = stated(data);
        let message = Self { form, time, host, process, process_id, ..Self::raw(text) };
        Some(Self { message_id, structured_data, ..message })
    }

    /// `TIME HOST TAG: TEXT`, of which the host may be missing where there is a priority, and the
    /// tag everywhere.
    fn headed(rest: &str, form: Form, now: Timestamp, zone: &TimeZone) -> Option<Self> {
        let (time, rest) = time::iso(rest, zone).or_else(|| time::traditional(rest, now, zone))?;
        let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        let is_tag = tag(rest).is_some_and(|tag| tag.text.len() < rest.len());
        if word.is_empty() || (form == Form::File && behind.is_empty() && !is_tag) {
            return None;
        }
        // A program that writes to the local socket does not name the host.
        let (host, rest) = if is_tag { (None, rest) } else { (Some(word.to_owned()), behind) };
        let base = Self { form, time: Some(time), host, ..Self::raw(rest) };
        Some(match tag(rest) {
            None => base,
            Some(tag) => Self {
                process: Some(tag.process.to_owned()),
                process_id: tag.process_id.map(str::to_owned),
                text: tag.text.to_owned(),
                ..base
            },
        })
    }
}

/// Takes `<PRI>` off the beginning.
fn priority(line: &str) -> Option<(u16, &str)> {
    let (digits, rest) = line.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = is_number.then(|| digits.parse().ok())??;
    (priority <= PRIORITY_MAX).then_some((priority, rest))
}

struct Tag<'a> {
    process: &'a str,
    process_id: Option<&'a str>,
    text: &'a str,
}

/// Takes `process[id]: ` or `process: ` off the beginning.
fn tag(rest: &str) -> Option<Tag<'_>> {
    let bytes = rest.as_bytes();
    let ends_here = |at: usize| matches!(bytes.get(at), None | Some(b' '));
    let end = (0..bytes.len().min(TAG_BYTES_MAX + 1)).find(|&at| match bytes[at] {
        b' ' | b'[' => true,
        b':' => ends_here(at + 1),
        _ => false,
    })?;
    let process = &rest[..end];
    let (process_id, behind) = match bytes[end] {
        b':' => (None, &rest[end..]),
        b'[' => {
            let (id, behind) = rest[end + 1..].split_once(']')?;
            (Some(id).filter(|id| !id.is_empty()), behind)
        }
        _ => return None,
    };
    let text = match behind.strip_prefix(':') {
        Some(text) if text.is_empty() || text.starts_with(' ') => text,
        _ => return None,
    };
    let is_name = !process.is_empty() && process_id.is_none_or(|id| !id.contains([' ', '[']));
    is_name.then(|| Tag { process, process_id, text: text.strip_prefix(' ').unwrap_or(text) })
}

/// Where structured data of one or more elements ends. See RFC 5424, 6.3.
fn data_end(text: &str) -> Option<usize> {
    let mut end = 0;
    while text[end..].starts_with('[') {
        end += element_end(&text[end..])?;
    }
    (end > 0).then_some(end)
}

/// Where the element at the beginning ends: `[id name="value" ...]`, in whose values a backslash
/// takes the meaning off the character behind it.
fn element_end(text: &str) -> Option<usize> {
    if !text.starts_with('[') {
        return None;
    }
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return (at > 1).then_some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "2026-11-24T15:00:00Z";

    /// The parts as `form|facility.severity|time|host|process|id|msgid|data|text`.
    fn check(line: &str, expect: &str) {
        let message = Message::parse(line, NOW.parse().expect("a time"), &TimeZone::UTC);
        let or_dash = |part: &Option<String>| part.clone().unwrap_or_else(|| "-".to_owned());
        let got = format!(
            "{:?}|{}.{}|{}|{}|{}|{}|{}|{}|{}",
            message.form,
            message.facility.map_or("-", Facility::name),
            message.severity.map_or("-", Severity::name),
            message.time.map_or_else(|| "-".to_owned(), |time| time.to_string()),
            or_dash(&message.host),
            or_dash(&message.process),
            or_dash(&message.process_id),
            or_dash(&message.message_id),
            or_dash(&message.structured_data),
            message.text,
        );
        assert_eq!(got, expect, "{line}");
    }

    /// The first two are what util-linux `logger` sends.
    #[test]
    fn messages_as_they_are_sent() {
        check(
            "<37>Nov 23 02:06:02 vm app: hello",
            "Rfc3164|auth.notice|2026-11-23T02:06:02Z|vm|app|-|-|-|hello",
        );
        check(
            "<13>1 2026-11-23T02:06:02.123456+00:00 vm app - - [timeQuality tzKnown=\"1\" isSynced=\"0\"] hi",
            "Rfc5424|user.notice|2026-11-23T02:06:02.123456Z|vm|app|-|-|\
             [timeQuality tzKnown=\"1\" isSynced=\"0\"]|hi",
        );
        check(
            "<165>1 2003-10-11T22:14:15.003Z m.example.com evntslog - ID47 \
             [exampleSDID@32473 iut=\"3\" eventSource=\"A \\\"b\\] c\"][x@1 y=\"]\"] \u{feff}An entry\n",
            "Rfc5424|local4.notice|2003-10-11T22:14:15.003Z|m.example.com|evntslog|-|ID47|\
             [exampleSDID@32473 iut=\"3\" eventSource=\"A \\\"b\\] c\"][x@1 y=\"]\"]|An entry",
        );
        check("<0>1 - - - - - -", "Rfc5424|kern.emerg|-|-|-|-|-|-|");
        check(
            "<86>Nov 24 14:00:00 sudo[77]: pam_unix(sudo:session): opened",
            "Rfc3164|authpriv.info|2026-11-24T14:00:00Z|-|sudo|77|-|-|pam_unix(sudo:session): opened",
        );
        check("<191>no header at all", "Rfc3164|local7.debug|-|-|-|-|-|-|no header at all");
        check(
            "<14>2026-11-24T14:00:00+01:00 fw kernel: [  12.5] eth0: up",
            "Rfc3164|user.info|2026-11-24T13:00:00Z|fw|kernel|-|-|-|[  12.5] eth0: up",
        );
    }

    #[test]
    fn lines_as_they_stand_in_files() {
        check(
            "Nov  3 15:00:00 web-1 CRON[1234]: (root) CMD (run-parts /etc/cron.hourly)",
            "File|-.-|2026-11-03T15:00:00Z|web-1|CRON|1234|-|-|(root) CMD (run-parts /etc/cron.hourly)",
        );
        check(
            "2026-11-24T15:00:00.123456+00:00 web-1 systemd[1]: Started session-4.scope.",
            "File|-.-|2026-11-24T15:00:00.123456Z|web-1|systemd|1|-|-|Started session-4.scope.",
        );
        check(
            "Nov 24 15:00:00 web-1 message repeated 2 times: [ x]",
            "File|-.-|2026-11-24T15:00:00Z|web-1|-|-|-|-|message repeated 2 times: [ x]",
        );
        check(
            "Nov 24 15:00:00 web-1 postfix/smtpd[9]: connect from http://a",
            "File|-.-|2026-11-24T15:00:00Z|web-1|postfix/smtpd|9|-|-|connect from http://a",
        );
        check(
            "Nov 24 15:00:00 web-1 http://a b",
            "File|-.-|2026-11-24T15:00:00Z|web-1|-|-|-|-|http://a b",
        );
    }

    #[test]
    fn what_has_no_form_is_text() {
        for line in ["hello", "", "<192>x", "<1x>x", "<>x", "<-1>x", "Nov 24 15:00:00", "\u{feff}"]
        {
            check(line, &format!("Raw|-.-|-|-|-|-|-|-|{line}"));
        }
        // A priority, and then not what it promises.
        for rest in ["1 2026", "1 - - - - - [x", "1 - - - - - [x]y", "1 yesterday - - - - - z"] {
            check(&format!("<1>{rest}"), &format!("Rfc3164|kern.alert|-|-|-|-|-|-|{rest}"));
        }
    }

    #[test]
    fn data_about_the_clock_is_left_out_of_the_text() {
        let line = "<13>1 - - - - - [timeQuality tzKnown=\"1\"][a b=\"1\"] hi";
        let message = Message::parse(line, NOW.parse().expect("a time"), &TimeZone::UTC);
        assert_eq!(message.text_with_data(), "[a b=\"1\"] hi");
    }

    fn arbitrary_time() -> impl Strategy<Value = Timestamp> {
        // From 2000 to 2026, in microseconds.
        (946_684_800_000_000_i64..1_795_000_000_000_000)
            .prop_map(|micros| Timestamp::from_microsecond(micros).expect("within range"))
    }

    proptest! {
        #[test]
        fn no_text_is_refused(line in "\\PC{0,200}", seconds in 0_i64..253_000_000_000) {
            let now = Timestamp::from_second(seconds).expect("within range");
            let message = Message::parse(&line, now, &TimeZone::UTC);
            if message.form == Form::Raw {
                prop_assert_eq!(message.text, line);
            }
        }

        #[test]
        fn near_misses_are_not_refused(
            line in "(<[0-9]{0,4}>)?(1 )?(Nov|Feb|2026-11-24T)?[ 0-9:.TZ+-]{0,24}[ \\[\\]a:\"\\\\=-]{0,30}"
        ) {
            let now = NOW.parse().expect("a time");
            let _ = Message::parse(&line, now, &TimeZone::UTC).text_with_data();
        }

        #[test]
        fn rfc5424_round_trip(
            priority in 0_u8..=191,
            time in proptest::option::of(arbitrary_time()),
            host in proptest::option::of("[!-,.-~]{1,20}"),
            process in proptest::option::of("[!-,.-~]{1,20}"),
            id in proptest::option::of("[!-,.-~]{1,20}"),
            kind in proptest::option::of("[!-,.-~]{1,20}"),
            data in proptest::option::of("(\\[[a-z]{1,8}@1( [a-z]{1,5}=\"([a-z ]|\\\\\"|\\\\\\]|\\\\\\\\){0,8}\"){0,3}\\]){1,3}"),
            text in "[^\u{feff}\r\n\0][^\r\n\0]{0,60}",
        ) {
            let dash = || "-".to_owned();
            let line = format!(
                "<{priority}>1 {} {} {} {} {} {} {text}",
                time.map_or_else(dash, |time| time.to_string()),
                host.clone().unwrap_or_else(dash),
                process.clone().unwrap_or_else(dash),
                id.clone().unwrap_or_else(dash),
                kind.clone().unwrap_or_else(dash),
                data.clone().unwrap_or_else(dash),
            );
            let got = Message::parse(&line, NOW.parse().expect("a time"), &TimeZone::UTC);
            prop_assert_eq!(got, Message {
                form: Form::Rfc5424,
                facility: Facility::new(priority / 8),
                severity: Severity::new(priority % 8),
                time, host, process, process_id: id, message_id: kind, structured_data: data, text,
            });
        }

        #[test]
        fn rfc3164_round_trip(
            priority in 0_u8..=191,
            // Less than a year before now, so that the year is found again.
            back in 0_i64..364 * 86_400,
            host in "[a-z][a-z0-9.-]{0,20}",
            process in "[a-zA-Z][a-zA-Z0-9_/.-]{0,20}",
            id in proptest::option::of(1_u32..4_194_304),
            text in "[^ \r\n\0][^\r\n\0]{0,60}",
        ) {
            let now: Timestamp = NOW.parse().expect("a time");
            let time = now.checked_sub(jiff::SignedDuration::from_secs(back)).expect("in range");
            let id = id.map(|id| id.to_string());
            let tag = match &id {
                Some(id) => format!("{process}[{id}]"),
                None => process.clone(),
            };
            let line = format!("<{priority}>{} {host} {tag}: {text}", time.strftime("%b %e %H:%M:%S"));
            let got = Message::parse(&line, now, &TimeZone::UTC);
            prop_assert_eq!(got, Message {
                form: Form::Rfc3164,
                facility: Facility::new(priority / 8),
                severity: Severity::new(priority % 8),
                time: Some(time),
                host: Some(host),
                process: Some(process),
                process_id: id,
                message_id: None,
                structured_data: None,
                text,
            });
        }
    }
}
