//! The node's side: messages opened with the private key, and instances with their passwords in them.

use super::{
    AES256_CBC, CMS_BEGIN, CMS_END, CREDENTIAL_CLASS, DATA, ENVELOPED_DATA, EXPLICIT_0, Generator,
    IMPLICIT_0, INTEGER, OCTETS, OID, RSA_ENCRYPTION, Recipient, SEQUENCE, SET, is_encrypted,
};
use crate::Error;
use crate::configuration::{ConfigurationDocument, Embedded, PropertyValue, ResourceInstance};
use aes::{Aes128, Aes192, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use oms_core::{Entropy, Secret, SystemEntropy};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Encrypt, PrivateKey};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The longest message that is opened, in bytes of its text.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The most encrypted credentials of one resource.
const CREDENTIALS_MAX: usize = 64;

/// 2.16.840.1.101.3.4.1.2
const AES128_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02];
/// 2.16.840.1.101.3.4.1.22
const AES192_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x16];

/// Algorithms that other software encrypts with and this does not open, for messages.
const KNOWN_ALGORITHMS: [(&[u8], &str); 5] = [
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07], "RSAES-OAEP"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07], "DES-EDE3-CBC"),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x02], "RC2-CBC"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x06], "AES-128-GCM"),
    (&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2e], "AES-256-GCM"),
];

/// A node's certificate with its private key, which opens what a [`Recipient`] encrypts.
#[derive(Clone)]
pub struct RecipientKey {
    recipient: Recipient,
    key: PrivateKey,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for RecipientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecipientKey")
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

impl RecipientKey {
    /// Reads a certificate and its private key, each in PEM; the key is one of PKCS #8 or PKCS #1, and
    /// is not itself encrypted.
    ///
    /// # Errors
    /// [`Error::Invalid`] as [`Recipient::from_pem`], if the key cannot be read, or if it is not that of
    /// the certificate.
    pub fn from_pem(certificate: &[u8], key: &Secret) -> Result<Self, Error> {
        let recipient = Recipient::from_pem(certificate)?;
        let refused = |reason: &str| Error::Invalid {
            what: "private key of the certificate",
            reason: reason.to_owned(),
        };
        let text = key.expose_text().map_err(|_| refused("it is not PEM"))?.trim();
        let read = if text.starts_with("-----BEGIN RSA PRIVATE KEY-----") {
            PrivateKey::from_pkcs1_pem(text).ok()
        } else if text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(refused(
                "it is encrypted itself, and nobody is there to give its password",
            ));
        } else {
            PrivateKey::from_pkcs8_pem(text).ok()
        };
        // What the library says of a wrong key may hold parts of it.
        let key =
            read.ok_or_else(|| refused("it is not an RSA key of PKCS #8 or PKCS #1 in PEM"))?;
        if key.to_public_key() != recipient.key {
            let thumbprint = recipient.thumbprint();
            return Err(refused(&format!("it is not that of the certificate {thumbprint}")));
        }
        Ok(Self { recipient, key, entropy: Arc::new(SystemEntropy) })
    }

    /// SHA-1 of the certificate: 40 hexadecimal digits in upper case, as `CertificateID` has it.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        self.recipient.thumbprint()
    }

    /// Opens a message, as it stands between `-----BEGIN CMS-----` and `-----END CMS-----`: enveloped
    /// data for this certificate, named by issuer and serial number or by the identifier of its key, with
    /// RSA as PKCS #1 version 1.5 has it, and AES of 128, 192 or 256 bits in CBC mode.
    ///
    /// The form has no seal: whoever has the certificate can make such a message, and one that was
    /// changed may open to another text.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none, is for another certificate, or does not open;
    /// [`Error::Unsupported`] names another algorithm; [`Error::TooLarge`].
    pub fn decrypt(&self, message: &str) -> Result<Secret, Error> {
        let (actual, limit) = (message.len(), MESSAGE_BYTES_MAX);
        if actual > limit {
            return Err(Error::TooLarge { what: "encrypted password, in bytes", actual, limit });
        }
        let message = unarmoured(message)?;
        let envelope = Envelope::read(&message)?;
        let sealed = envelope.key_for(&self.recipient)?.ok_or_else(|| {
            let thumbprint = self.thumbprint();
            malformed(format!("it is for another certificate than this node's, {thumbprint}"))
        })?;
        // A padding that is wrong brings a key of chance, and what is wrong later says the same: nobody
        // learns of a key by what is refused, or how soon.
        let closed = || {
            let thumbprint = self.thumbprint();
            malformed(format!("it does not open with the key of the certificate {thumbprint}"))
        };
        let key = self
            .key
            .decrypt_blinded(&mut Generator(&*self.entropy), Pkcs1v15Encrypt, sealed)
            .map(Zeroizing::new)
            .map_err(|_| closed())?;
        envelope.open(&key)?.map(Secret::new).ok_or_else(closed)
    }
}

fn malformed(reason: impl Into<String>) -> Error {
    Error::Invalid { what: "encrypted password", reason: reason.into() }
}

/// The bytes of a message in PEM, whose lines may be of any length.
fn unarmoured(text: &str) -> Result<Vec<u8>, Error> {
    let body = text.trim().strip_prefix(CMS_BEGIN).and_then(|rest| rest.strip_suffix(CMS_END));
    let body =
        body.ok_or_else(|| malformed(format!("it is not between {CMS_BEGIN} and {CMS_END}")))?;
    let plain: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(plain).map_err(|error| malformed(format!("it is not Base64: {error}")))
}

/// The parts of `EnvelopedData` that opening needs. See RFC 5652, 6.1.
struct Envelope<'a> {
    /// Of each `RecipientInfo`: tag and content.
    recipients: Vec<(u8, &'a [u8])>,
    algorithm: &'a [u8],
    iv: &'a [u8],
    content: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Error> {
        let mut whole = Der(message);
        let mut info = Der(whole.take(SEQUENCE, "ContentInfo")?);
        whole.end("ContentInfo")?;
        if info.take(OID, "its type")? != ENVELOPED_DATA {
            return Err(malformed("it is a message of CMS that is not enveloped data"));
        }
        let mut data = Der(info.take(EXPLICIT_0, "its content")?);
        let mut data = Der(data.take(SEQUENCE, "EnvelopedData")?);
        data.take(INTEGER, "its version")?;
        // Certificates of who sent it, which say nothing here.
        if data.tag() == Some(EXPLICIT_0) {
            data.take(EXPLICIT_0, "originatorInfo")?;
        }
        let mut listed = Der(data.take(SET, "recipientInfos")?);
        let mut recipients = Vec::new();
        while let Some(tag) = listed.tag() {
            recipients.push((tag, listed.take(tag, "RecipientInfo")?));
        }
        let mut encrypted = Der(data.take(SEQUENCE, "encryptedContentInfo")?);
        if encrypted.take(OID, "contentType")? != DATA {
            return Err(malformed("what is encrypted in it is not plain data"));
        }
        let mut by = Der(encrypted.take(SEQUENCE, "contentEncryptionAlgorithm")?);
        let algorithm = by.take(OID, "contentEncryptionAlgorithm")?;
        if ![AES128_CBC, AES192_CBC, AES256_CBC].contains(&algorithm) {
            return Err(unsupported(algorithm));
        }
        let iv = by.take(OCTETS, "its initialization vector")?;
        let content = encrypted.take(IMPLICIT_0, "encryptedContent")?;
        Ok(Self { recipients, algorithm, iv, content })
    }

    /// The encrypted key of the one that is meant; none if nobody here is.
    fn key_for(&self, recipient: &Recipient) -> Result<Option<&'a [u8]>, Error> {
        // Other kinds of recipients are told from those of RSA by their tag.
        for (_, info) in self.recipients.iter().filter(|(tag, _)| *tag == SEQUENCE) {
            let mut info = Der(info);
            info.take(INTEGER, "the version of a recipient")?;
            let is_meant = match info.tag() {
                Some(SEQUENCE) => info.whole(SEQUENCE, "rid")? == recipient.issuer_and_serial,
                _ => Some(info.take(IMPLICIT_0, "rid")?) == recipient.key_identifier.as_deref(),
            };
            let mut by = Der(info.take(SEQUENCE, "keyEncryptionAlgorithm")?);
            let algorithm = by.take(OID, "keyEncryptionAlgorithm")?;
            let key = info.take(OCTETS, "encryptedKey")?;
            match (is_meant, algorithm == RSA_ENCRYPTION) {
                (true, true) => return Ok(Some(key)),
                (true, false) => return Err(unsupported(algorithm)),
                (false, _) => {}
            }
        }
        Ok(None)
    }

    /// The content; none if the key is not the right one.
    fn open(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        fn with<C: KeyIvInit + BlockModeDecrypt>(
            key: &[u8],
            iv: &[u8],
            content: &[u8],
        ) -> Option<Vec<u8>> {
            C::new_from_slices(key, iv).ok()?.decrypt_padded_vec::<Pkcs7>(content).ok()
        }
        if self.iv.len() != 16 {
            return Err(malformed("its initialization vector has not 16 bytes"));
        }
        Ok(match self.algorithm {
            AES128_CBC => with::<cbc::Decryptor<Aes128>>(key, self.iv, self.content),
            AES192_CBC => with::<cbc::Decryptor<Aes192>>(key, self.iv, self.content),
            _ => with::<cbc::Decryptor<Aes256>>(key, self.iv, self.content),
        })
    }
}

fn unsupported(algorithm: &[u8]) -> Error {
    let known = KNOWN_ALGORITHMS.iter().find(|(oid, _)| *oid == algorithm);
    let name = match known {
        Some((_, name)) => (*name).to_owned(),
        None => {
            let digits: Vec<String> = algorithm.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("object identifier {}", digits.join(" "))
        }
    };
    Error::Unsupported { what: "algorithm of an encrypted password", name }
}

/// Values of the Distinguished Encoding Rules in a row.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn end(&self, what: &str) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed(format!("bytes behind {what}"))) }
    }

    /// The content of the next value, which has that tag.
    fn take(&mut self, tag: u8, what: &str) -> Result<&'a [u8], Error> {
        let whole = self.0;
        let (found, len) = match whole {
            [found, len, ..] => (*found, *len),
            _ => return Err(malformed(format!("it ends before {what}"))),
        };
        if found != tag {
            return Err(malformed(format!("tag {found:#04x} in place of {what}")));
        }
        let (len, start) = match len {
            0x80 => {
                return Err(malformed(format!("{what} is in pieces, whose length is not told")));
            }
            short @ 0..0x80 => (usize::from(short), 2),
            long => {
                let start = 2 + usize::from(long & 0x7f);
                // Four bytes say more than any message is long.
                let digits = whole.get(2..start).filter(|digits| digits.len() <= 4);
                let digits = digits.ok_or_else(|| malformed(format!("{what} is too long")))?;
                let len = digits.iter().fold(0_usize, |len, digit| len << 8 | usize::from(*digit));
                (len, start)
            }
        };
        let end = start.checked_add(len);
        let content = end.and_then(|end| whole.get(start..end));
        let content = content.ok_or_else(|| malformed(format!("it ends within {what}")))?;
        self.0 = &whole[start + len..];
        Ok(content)
    }

    /// The next value with its tag and length.
    fn whole(&mut self, tag: u8, what: &str) -> Result<&'a [u8], Error> {
        let before = self.0;
        self.take(tag, what)?;
        Ok(&before[..before.len() - self.0.len()])
    }
}

/// The instance with its encrypted passwords opened; itself if it has none. What is opened lives in the
/// answer alone, as [`PropertyValue::Secret`].
///
/// # Errors
/// [`Error::Invalid`] without a key, or as [`RecipientKey::decrypt`], with the resource's id;
/// [`Error::Unsupported`] for a password that says that it is encrypted, in another form.
pub(crate) fn opened<'a>(
    instance: &'a ResourceInstance,
    document: &ConfigurationDocument,
    key: Option<&RecipientKey>,
) -> Result<Cow<'a, ResourceInstance>, Error> {
    let content_type = document.content_type.as_deref().unwrap_or_default();
    let must_be_encrypted = content_type.eq_ignore_ascii_case("PasswordEncrypted");
    let mut work = Opening { key, must_be_encrypted, done: HashMap::new(), opened: 0 };
    let properties = work.properties("", &instance.properties).map_err(|error| {
        let id = &instance.resource_id;
        match error {
            Error::Invalid { what, reason } => {
                Error::Invalid { what, reason: format!("{reason}; resource {id}") }
            }
            Error::Unsupported { what, name } => {
                Error::Unsupported { what, name: format!("{name}, of {id}") }
            }
            other => other,
        }
    })?;
    Ok(match properties {
        None => Cow::Borrowed(instance),
        Some(properties) => Cow::Owned(ResourceInstance { properties, ..instance.clone() }),
    })
}

struct Opening<'a> {
    key: Option<&'a RecipientKey>,
    must_be_encrypted: bool,
    /// Instances by address, with what they become, if that is something else: a small document may
    /// refer to one very often.
    done: HashMap<*const Embedded, Option<PropertyValue>>,
    opened: usize,
}

impl Opening<'_> {
    /// What the properties of an instance become, if that is something else.
    fn properties(
        &mut self,
        class: &str,
        properties: &BTreeMap<String, PropertyValue>,
    ) -> Result<Option<BTreeMap<String, PropertyValue>>, Error> {
        let is_credential = class.eq_ignore_ascii_case(CREDENTIAL_CLASS);
        let mut changed = Vec::new();
        for (name, value) in properties {
            let new = match is_credential && name.eq_ignore_ascii_case("Password") {
                true => self.password(value)?,
                false => self.value(value)?,
            };
            changed.extend(new.map(|new| (name.clone(), new)));
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let mut properties = properties.clone();
        properties.extend(changed);
        Ok(Some(properties))
    }

    fn value(&mut self, value: &PropertyValue) -> Result<Option<PropertyValue>, Error> {
        match value {
            PropertyValue::Array(values) => {
                let mut changed = Vec::with_capacity(values.len());
                let mut is_changed = false;
                for value in values {
                    let new = self.value(value)?;
                    is_changed |= new.is_some();
                    changed.push(new.unwrap_or_else(|| value.clone()));
                }
                Ok(is_changed.then_some(PropertyValue::Array(changed)))
            }
            PropertyValue::Instance(embedded) => {
                let place = Arc::as_ptr(embedded);
                if let Some(done) = self.done.get(&place) {
                    return Ok(done.clone());
                }
                let properties = self.properties(&embedded.class, &embedded.properties)?;
                let new = properties.map(|properties| {
                    let class = embedded.class.clone();
                    PropertyValue::Instance(Arc::new(Embedded { class, properties }))
                });
                self.done.insert(place, new.clone());
                Ok(new)
            }
            _ => Ok(None),
        }
    }

    fn password(&mut self, value: &PropertyValue) -> Result<Option<PropertyValue>, Error> {
        match value {
            PropertyValue::Text(text) if is_encrypted(text) => {
                self.opened += 1;
                if self.opened > CREDENTIALS_MAX {
                    let (actual, limit) = (self.opened, CREDENTIALS_MAX);
                    let what = "encrypted credentials of a resource";
                    return Err(Error::TooLarge { what, actual, limit });
                }
                let key = self.key.ok_or_else(|| {
                    malformed("this node has no certificate whose key would open it")
                })?;
                Ok(Some(PropertyValue::Secret(key.decrypt(text)?)))
            }
            PropertyValue::Text(_) | PropertyValue::Secret(_) if self.must_be_encrypted => {
                Err(Error::Unsupported {
                    what: "form of an encrypted password",
                    name: format!("one that does not begin with {CMS_BEGIN}"),
                })
            }
            _ => Ok(None),
        }
    }
}
