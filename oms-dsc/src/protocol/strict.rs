//! What the pull server of Windows refuses and the protocol does not.
//!
//! It reads a registration into objects of its own, and writes those again to check the signature.
//! So a property that it does not know is a bad request, fields in another order do not have the
//! signature that was sent, and a value of another kind is a failure of the server. Clients of other
//! makers that are tried with this mode do not meet these refusals for the first time in production.

use super::{RegisterDscAgentRequest, StatusReport, decode};
use crate::Error;
use jiff::Timestamp;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// The properties of an agent's computer.
const AGENT: [&str; 3] = ["LCMVersion", "NodeName", "IPAddress"];

/// The properties of a certificate, in the only order whose signature fits.
const CERTIFICATE: [&str; 8] = [
    "FriendlyName",
    "Issuer",
    "NotAfter",
    "NotBefore",
    "Subject",
    "PublicKey",
    "Thumbprint",
    "Version",
];

/// Reads a registration as the Windows server does.
///
/// # Errors
/// [`Error::Invalid`] for a property that is not known; [`Error::AsWindows`] for the others.
pub fn registration(body: &[u8]) -> Result<RegisterDscAgentRequest, Error> {
    const WHAT: &str = "registration";
    let shape: Shape = decode(WHAT, body)?;
    let certificate = shape.registration_information.certificate_information;
    for (place, properties, known) in [
        ("AgentInformation", &shape.agent_information, &AGENT[..]),
        ("CertificateInformation", &certificate, &CERTIFICATE[..]),
    ] {
        let stranger = properties.0.iter().find(|(name, _)| !known.contains(&name.as_str()));
        if let Some((name, _)) = stranger {
            let reason = format!("{place} has a property that is not known: `{name}`");
            return Err(Error::Invalid { what: WHAT, reason });
        }
    }
    let places = certificate.0.iter().map(|(name, _)| CERTIFICATE.iter().position(|p| p == name));
    if !places.is_sorted_by(|one, next| one < next) {
        let reason = "fields of CertificateInformation are out of order or repeated";
        return Err(Error::AsWindows { status: 401, reason });
    }
    if certificate.0.iter().any(|(name, is_text)| name == "Version" && *is_text) {
        let reason = "Version of CertificateInformation is text";
        return Err(Error::AsWindows { status: 500, reason });
    }
    decode(WHAT, body)
}

/// Checks the dates of a report as the Windows server does.
///
/// # Errors
/// [`Error::AsWindows`] for a date that cannot be read.
pub fn report(report: &StatusReport) -> Result<(), Error> {
    let dates = [&report.start_time, &report.end_time].into_iter().flatten();
    for date in dates {
        if date.trim().parse::<Timestamp>().is_err() {
            let reason = "StartTime or EndTime is not a date";
            return Err(Error::AsWindows { status: 500, reason });
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    agent_information: Properties,
    registration_information: ShapeOfRegistration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShapeOfRegistration {
    certificate_information: Properties,
}

/// The names of an object in their order, each with whether its value is text.
#[derive(Debug)]
struct Properties(Vec<(String, bool)>);

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfMap;
        impl<'de> Visitor<'de> for OfMap {
            type Value = Properties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut properties = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    properties.push((name, value.get().starts_with('"')));
                }
                Ok(Properties(properties))
            }
        }
        deserializer.deserialize_map(OfMap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oms_core::ErrorKind;
    use proptest::prelude::*;

    const BODY: &str = r#"{"AgentInformation":{"LCMVersion":"2.0","NodeName":"pc","IPAddress":"x"},
        "RegistrationInformation":{"CertificateInformation":{"FriendlyName":"a","Issuer":"b",
        "NotAfter":"c","NotBefore":"d","Subject":"e","PublicKey":"f","Thumbprint":"AB","Version":3},
        "RegistrationMessageType":"ReportServer"}}"#;

    #[test]
    fn what_windows_sends_is_read_and_the_rest_refused_as_it_does() {
        let read = registration(BODY.as_bytes()).expect("it is right");
        assert_eq!(read.registration_information.certificate_information.version, 3);
        for (from, to, kind) in [
            (r#""NodeName""#, r#""Tag":1,"NodeName""#, ErrorKind::Invalid),
            (r#""Issuer""#, r#""SerialNumber":"1","Issuer""#, ErrorKind::Invalid),
            (r#""Issuer":"b","#, r#""Subject":"e","Issuer":"b","#, ErrorKind::Unauthenticated),
            (
                r#""FriendlyName":"a","Issuer":"b""#,
                r#""Issuer":"b","FriendlyName":"a""#,
                ErrorKind::Unauthenticated,
            ),
            (r#""Version":3"#, r#""Version":"3""#, ErrorKind::Internal),
            ("{\"LCMVersion\"", "[\"LCMVersion\"", ErrorKind::Invalid),
        ] {
            let body = BODY.replace(from, to);
            assert_ne!(body, BODY, "{from}");
            let error = registration(body.as_bytes()).expect_err(to);
            assert_eq!(error.kind(), kind, "{error}: {body}");
        }
    }

    #[test]
    fn dates_of_real_clients_are_read() {
        let of = |date: &str| {
            report(&StatusReport { end_time: Some(date.to_owned()), ..Default::default() })
        };
        for good in ["2016-08-15T14:25:51.2030000-07:00", "2016-08-15T14:25:51.203000000+00:00"] {
            assert!(of(good).is_ok(), "{good}");
        }
        for bad in ["", "yesterday", "2016-13-01T00:00:00Z"] {
            assert_eq!(of(bad).expect_err(bad).kind(), ErrorKind::Internal);
        }
        assert!(report(&StatusReport::default()).is_ok());
    }

    proptest! {
        /// Whatever it takes, the lenient reading takes.
        #[test]
        fn any_body_is_read_or_refused(at in 0..BODY.len(), byte in any::<u8>()) {
            let mut body = BODY.as_bytes().to_vec();
            body[at] = byte;
            let lenient: Result<RegisterDscAgentRequest, _> = decode("registration", &body);
            if registration(&body).is_ok() {
                prop_assert!(lenient.is_ok());
            }
        }
    }
}
