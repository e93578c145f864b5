//! A service's event enum in the journal's envelopes, and back.

use super::{Envelope, JournalError};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Value, json};

/// How an event enum's JSON form becomes the body of an envelope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BodyShape {
    /// The whole of it: `{"Started": {..}}` for an enum without further serde attributes.
    Whole,
    /// The content of an enum with `#[serde(tag = "kind", content = "body")]`, whose tag is the
    /// envelope's kind.
    Content,
}

/// An event enum whose values are kept in a journal; [`journal_event!`](crate::journal_event)
/// implements it.
///
/// ```
/// use oms_core::journal::{Envelope, JournalError, JournalEvent};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum DoorEvent {
///     Opened { by: String },
///     Shut,
/// }
///
/// oms_core::journal_event!(DoorEvent, format 1, whole, {
///     Self::Opened { .. } => "door-opened",
///     Self::Shut => "door-shut",
/// });
///
/// let opened = DoorEvent::Opened { by: "me".into() };
/// let envelope = opened.seal("2026-01-01T00:00:00Z".parse()?, "local")?;
/// assert_eq!((envelope.kind.as_str(), envelope.format), ("door-opened", 1));
/// assert_eq!(DoorEvent::open(&envelope)?, opened);
///
/// // What a newer version wrote is refused by name, and never taken for something else.
/// let newer = Envelope { format: 2, ..envelope };
/// let refused = DoorEvent::open(&newer).unwrap_err();
/// assert!(matches!(refused, JournalError::UnknownEvent { format: 2, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// `oms_core::testkit::Fixture` (feature `testkit`) holds a crate to the events that its earlier
/// versions wrote.
pub trait JournalEvent: Serialize + DeserializeOwned {
    /// Every kind of the enum.
    const KINDS: &'static [&'static str];

    /// Version of the bodies' format that is written, from 1.
    const FORMAT: u16;

    /// What of the JSON form is the body.
    const SHAPE: BodyShape;

    /// The kind of this event.
    fn kind(&self) -> &'static str;

    /// A body of an earlier format in the form of [`JournalEvent::FORMAT`]; none if there was no
    /// such format of this kind.
    #[must_use]
    fn upgrade(kind: &str, format: u16, body: &Value) -> Option<Value> {
        let _ = (kind, format, body);
        None
    }

    /// Puts the event into an envelope.
    ///
    /// # Errors
    /// [`JournalError::Body`] if it has no JSON form.
    fn seal(&self, time: Timestamp, actor: &str) -> Result<Envelope, JournalError> {
        let kind = self.kind();
        let sealed = Envelope::new(kind, Self::FORMAT, time, actor, self)?;
        Ok(match Self::SHAPE {
            BodyShape::Whole => sealed,
            BodyShape::Content => {
                let mut whole = sealed.body;
                if whole["kind"] != kind {
                    let found = &whole["kind"];
                    let source = serde_json::Error::custom(format!("is serialized as {found}"));
                    return Err(JournalError::Body { kind: kind.to_owned(), source });
                }
                Envelope { body: whole["body"].take(), ..sealed }
            }
        })
    }

    /// Takes an event out of its envelope.
    ///
    /// # Errors
    /// [`JournalError::UnknownEvent`] if it is of another kind or a format that is not known here;
    /// [`JournalError::Body`] if its body is not of that kind.
    fn open(envelope: &Envelope) -> Result<Self, JournalError> {
        let (kind, format) = (&envelope.kind, envelope.format);
        let unknown = || JournalError::UnknownEvent { kind: kind.clone(), format };
        let misfit = |source| JournalError::Body { kind: kind.clone(), source };
        if !Self::KINDS.contains(&kind.as_str()) {
            return Err(unknown());
        }
        let upgraded = match format == Self::FORMAT {
            true => None,
            false if format > Self::FORMAT => return Err(unknown()),
            false => Some(Self::upgrade(kind, format, &envelope.body).ok_or_else(unknown)?),
        };
        let body = upgraded.as_ref().unwrap_or(&envelope.body);
        let event = match Self::SHAPE {
            BodyShape::Whole => Self::deserialize(body),
            BodyShape::Content => serde_json::from_value(json!({"kind": kind, "body": body})),
        };
        let event = event.map_err(misfit)?;
        if event.kind() != kind {
            let source = serde_json::Error::custom(format!("is of kind {}", event.kind()));
            return Err(misfit(source));
        }
        Ok(event)
    }
}

/// Implements [`JournalEvent`](crate::journal::JournalEvent) for an enum: its format, `whole` or
/// `content` (see [`BodyShape`](crate::journal::BodyShape)), and the kind of each variant.
#[macro_export]
macro_rules! journal_event {
    ($event:ty, format $format:literal, $shape:ident, {
        $($variant:pat => $kind:literal),+ $(,)?
    }) => {
        impl $crate::journal::JournalEvent for $event {
            const KINDS: &'static [&'static str] = &[$($kind),+];
            const FORMAT: u16 = $format;
            const SHAPE: $crate::journal::BodyShape = $crate::journal_event!(@ $shape);

            fn kind(&self) -> &'static str {
                match self {
                    $($variant => $kind),+
                }
            }
        }
    };
    (@ whole) => { $crate::journal::BodyShape::Whole };
    (@ content) => { $crate::journal::BodyShape::Content };
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Plain {
        Opened { by: String },
        Shut,
    }
    journal_event!(Plain, format 1, whole, {
        Self::Opened { .. } => "opened",
        Self::Shut => "shut",
    });

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "kind", content = "body")]
    enum Tagged {
        #[serde(rename = "tagged-opened")]
        Opened { by: String },
        #[serde(rename = "tagged-shut")]
        Shut {},
        #[serde(rename = "tagged-mistaken")]
        Mistaken {},
    }
    journal_event!(Tagged, format 1, content, {
        Self::Opened { .. } => "tagged-opened",
        Self::Shut {} => "tagged-shut",
        Self::Mistaken {} => "tagged-spelled-otherwise",
    });

    fn sealed(event: &impl JournalEvent) -> Envelope {
        event.seal(Timestamp::UNIX_EPOCH, "me").expect("a body")
    }

    #[test]
    fn both_shapes_come_back_and_their_bodies_are_as_documented() {
        let opened = sealed(&Plain::Opened { by: "me".into() });
        assert_eq!((&*opened.kind, &opened.body), ("opened", &json!({"Opened": {"by": "me"}})));
        assert_eq!(Plain::open(&opened).expect("opens"), Plain::Opened { by: "me".into() });
        assert_eq!(sealed(&Plain::Shut).body, json!("Shut"));
        assert_eq!(Plain::open(&sealed(&Plain::Shut)).expect("opens"), Plain::Shut);

        let opened = sealed(&Tagged::Opened { by: "me".into() });
        assert_eq!((&*opened.kind, &opened.body), ("tagged-opened", &json!({"by": "me"})));
        assert_eq!(Tagged::open(&opened).expect("opens"), Tagged::Opened { by: "me".into() });
        assert_eq!(Tagged::open(&sealed(&Tagged::Shut {})).expect("opens"), Tagged::Shut {});
    }

    #[test]
    fn other_kinds_formats_and_bodies_are_refused() {
        let shut = sealed(&Plain::Shut);
        for (kind, format) in [("locked", 1), ("shut", 0), ("shut", 2)] {
            let other = Envelope { kind: kind.to_owned(), format, ..shut.clone() };
            let refused = Plain::open(&other).expect_err("unknown");
            let expected =
                format!("event is not known to this version. kind=`{kind}`, format=`{format}`");
            assert_eq!(refused.to_string(), expected);
            assert_eq!(refused.kind(), crate::ErrorKind::Unsupported);
        }
        for body in [json!("Locked"), json!({"Opened": {"by": "me"}}), json!(null)] {
            let other = Envelope { body, ..shut.clone() };
            assert!(matches!(Plain::open(&other), Err(JournalError::Body { .. })), "{other:?}");
        }
        let mistaken = Tagged::Mistaken {}.seal(Timestamp::UNIX_EPOCH, "me");
        assert!(matches!(mistaken, Err(JournalError::Body { .. })));
    }

    /// Format 1 had a name where format 2 has a list of them.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Grown {
        Named { names: Vec<String> },
    }

    impl JournalEvent for Grown {
        const KINDS: &'static [&'static str] = &["named"];
        const FORMAT: u16 = 2;
        const SHAPE: BodyShape = BodyShape::Whole;

        fn kind(&self) -> &'static str {
            "named"
        }

        fn upgrade(_kind: &str, format: u16, body: &Value) -> Option<Value> {
            (format == 1).then(|| json!({"Named": {"names": [body["Named"]["name"]]}}))
        }
    }

    #[test]
    fn an_earlier_format_is_upgraded() {
        let now = sealed(&Grown::Named { names: vec!["a".into()] });
        let earlier = Envelope { format: 1, body: json!({"Named": {"name": "a"}}), ..now.clone() };
        assert_eq!(Grown::open(&earlier).expect("opens"), Grown::open(&now).expect("opens"));
        assert!(Grown::open(&Envelope { format: 0, ..now }).is_err());
    }
}
