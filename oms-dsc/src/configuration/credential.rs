//! Passwords in documents: encrypted for the node that reads them.
//!
//! A [`Recipient`] is who encrypts, [`RecipientKey`] who decrypts, on the node and as late as it can.
//! A password is a message of RFC 5652: enveloped data for one recipient, whose RSA key carries an
//! AES-256 key (PKCS #1 version 1.5), with the content in CBC mode, in PEM between
//! `-----BEGIN CMS-----` and `-----END CMS-----`. That is what configuration managers of version 2
//! read, and so does `openssl cms -decrypt`.

mod decrypt;

pub(crate) use decrypt::opened;
pub use decrypt::{MESSAGE_BYTES_MAX, RecipientKey};

use crate::Error;
use crate::mof::{self, Diagnostic, Document, Instance, Item, Property, Value, ValueKind};
use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use oms_core::{Entropy, Secret};
use rsa::rand_core::{Infallible, TryCryptoRng, TryRng};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Encrypt, PublicKey};
use sha1::Sha1;
use sha2::Digest as _;
use std::collections::HashMap;
use std::fmt::Write as _;
use x509_cert::Certificate;
use x509_cert::der::Encode as _;
use x509_cert::ext::pkix::SubjectKeyIdentifier;

/// The first line of an encrypted password.
pub const CMS_BEGIN: &str = "-----BEGIN CMS-----";

const CMS_END: &str = "-----END CMS-----";

/// The smallest RSA key that is taken, in bits.
const KEY_BITS_MIN: u64 = 2048;

pub(crate) const CREDENTIAL_CLASS: &str = "MSFT_Credential";

/// A node's certificate, for which passwords are encrypted.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Issuer and serial number in DER, which tell the node which of its keys is meant.
    issuer_and_serial: Vec<u8>,
    /// The identifier of its key, if it has one: some name it by that.
    key_identifier: Option<Vec<u8>>,
    key: PublicKey,
    thumbprint: String,
}

impl Recipient {
    /// Reads a certificate in PEM; the first, if there are several.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none, or its key is not RSA of at least 2048 bits.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let refused = |reason: String| Error::Invalid { what: "certificate", reason };
        let chain = Certificate::load_pem_chain(pem).map_err(|error| refused(error.to_string()))?;
        let first = chain.into_iter().next();
        let certificate = first.ok_or_else(|| refused("there is none".to_owned()))?;
        let whole = certificate.to_der().map_err(|error| refused(error.to_string()))?;
        let about = certificate.tbs_certificate();
        let der = |encoded: Result<Vec<u8>, x509_cert::der::Error>| {
            encoded.map_err(|error| refused(error.to_string()))
        };
        let issuer = der(about.issuer().to_der())?;
        let serial = der(about.serial_number().to_der())?;
        let spki = der(about.subject_public_key_info().to_der())?;
        let key = rsa::pkcs8::DecodePublicKey::from_public_key_der(&spki);
        let key: PublicKey = key.map_err(|_other| refused("its key is not RSA".to_owned()))?;
        let bits = u64::from(key.n().bit_width());
        if bits < KEY_BITS_MIN {
            let reason = format!("its key has {bits} bits, and at least {KEY_BITS_MIN} are needed");
            return Err(refused(reason));
        }
        let mut thumbprint = String::new();
        for byte in Sha1::digest(&whole) {
            // Writing to a string cannot fail.
            let _ = write!(thumbprint, "{byte:02X}");
        }
        // One that cannot be read names nobody.
        let identifier = about.get_extension::<SubjectKeyIdentifier>().ok().flatten();
        let key_identifier = identifier.map(|(_, identifier)| identifier.0.as_bytes().to_vec());
        let issuer_and_serial = tlv(SEQUENCE, &[&issuer, &serial]);
        Ok(Self { issuer_and_serial, key_identifier, key, thumbprint })
    }

    /// SHA-1 of the certificate: 40 hexadecimal digits in upper case, as `CertificateID` has it.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Encrypts a text, so that only who holds the certificate's private key reads it.
    ///
    /// # Errors
    /// [`Error::Internal`] would be a defect of this version.
    pub fn encrypt(&self, text: &Secret, entropy: &dyn Entropy) -> Result<String, Error> {
        let (mut key, mut iv) = (zeroize::Zeroizing::new([0; 32]), [0; 16]);
        entropy.fill(&mut *key);
        entropy.fill(&mut iv);
        let sealed = self
            .key
            .encrypt(&mut Generator(entropy), Pkcs1v15Encrypt, &*key)
            .map_err(|error| Error::Internal { reason: error.to_string() })?;
        let cipher = cbc::Encryptor::<Aes256>::new(&(*key).into(), &iv.into());
        let content = cipher.encrypt_padded_vec::<Pkcs7>(text.expose());
        let message = enveloped(&self.issuer_and_serial, &sealed, &iv, &content);
        let encoded = STANDARD.encode(message);
        let mut pem = format!("{CMS_BEGIN}\n");
        for line in encoded.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        Ok(pem + CMS_END)
    }
}

/// The generator that the RSA library draws its padding from.
struct Generator<'a>(&'a dyn Entropy);

impl TryRng for Generator<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for Generator<'_> {}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]` of one octet string, and of what lies in it.
const IMPLICIT_0: u8 = 0x80;
const EXPLICIT_0: u8 = 0xa0;

/// 1.2.840.113549.1.7.3
const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// 1.2.840.113549.1.7.1
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.1.1
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 2.16.840.1.101.3.4.1.42
const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
/// `NULL`
const NULL: &[u8] = &[0x05, 0x00];

/// `ContentInfo` of `EnvelopedData`. See RFC 5652, 6.1.
fn enveloped(issuer_and_serial: &[u8], key: &[u8], iv: &[u8], content: &[u8]) -> Vec<u8> {
    let version = tlv(INTEGER, &[&[0]]);
    let by_rsa = tlv(SEQUENCE, &[&tlv(OID, &[RSA_ENCRYPTION]), NULL]);
    let recipient = tlv(SEQUENCE, &[&version, issuer_and_serial, &by_rsa, &tlv(OCTETS, &[key])]);
    let by_aes = tlv(SEQUENCE, &[&tlv(OID, &[AES256_CBC]), &tlv(OCTETS, &[iv])]);
    let content = tlv(SEQUENCE, &[&tlv(OID, &[DATA]), &by_aes, &tlv(IMPLICIT_0, &[content])]);
    let data = tlv(SEQUENCE, &[&version, &tlv(SET, &[&recipient]), &content]);
    tlv(SEQUENCE, &[&tlv(OID, &[ENVELOPED_DATA]), &tlv(EXPLICIT_0, &[&data])])
}

/// One value of the Distinguished Encoding Rules: tag, length, and the parts in a row.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut encoded = vec![tag];
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => encoded.push(short),
        _ => {
            let bytes = len.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let digits = bytes.get(zeros..).unwrap_or_default();
            encoded.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            encoded.extend_from_slice(digits);
        }
    }
    parts.iter().for_each(|part| encoded.extend_from_slice(part));
    encoded
}

/// What becomes of passwords in a document.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Passwords<'a> {
    /// One in the clear is refused.
    Refuse,
    /// Each in the clear is encrypted.
    Encrypt(&'a Recipient),
    /// They stay as they are. Whoever reads the document reads them.
    LeaveClear,
}

/// Whether a password is one that only its node can read.
#[must_use]
pub fn is_encrypted(password: &str) -> bool {
    password.trim_start().starts_with(CMS_BEGIN)
}

/// Treats every password of a document: of each `MSFT_Credential`, wherever it lies. The document
/// then says in its `ContentType` what it has. A password that one user has twice is encrypted once.
///
/// # Errors
/// One diagnostic for each password in the clear, if they are refused; a defect of this version
/// otherwise.
pub fn protect(
    document: &mut Document,
    passwords: Passwords<'_>,
    entropy: &dyn Entropy,
) -> Result<(), Vec<Diagnostic>> {
    let mut work = Protection {
        passwords,
        entropy,
        encrypted: HashMap::new(),
        diagnostics: Vec::new(),
        found: 0,
        clear: 0,
    };
    for item in &mut document.items {
        if let Item::Instance(instance) = item {
            work.instance(instance);
        }
    }
    if !work.diagnostics.is_empty() {
        work.diagnostics.truncate(mof::DIAGNOSTICS_MAX);
        return Err(work.diagnostics);
    }
    if work.found == 0 {
        return Ok(());
    }
    let content_type = if work.clear == 0 { "PasswordEncrypted" } else { "NotEncrypted" };
    for item in &mut document.items {
        let Item::Instance(about) = item else { continue };
        if about.class.eq_ignore_ascii_case("OMI_ConfigurationDocument") {
            set_text(about, "ContentType", content_type);
            if let Passwords::Encrypt(recipient) = passwords {
                set_text(about, "CertificateID", recipient.thumbprint());
            }
        }
    }
    Ok(())
}

/// The number of passwords in the clear.
#[must_use]
pub fn clear_passwords(document: &Document) -> usize {
    fn within(value: &Value) -> usize {
        match &value.kind {
            ValueKind::Array(values) => values.iter().map(within).sum(),
            ValueKind::Instance(instance) => of(instance),
            _ => 0,
        }
    }
    fn of(instance: &Instance) -> usize {
        let below: usize = instance.properties.iter().map(|p| within(&p.value)).sum();
        let is_credential = instance.class.eq_ignore_ascii_case(CREDENTIAL_CLASS);
        let password = instance.text("Password").filter(|_| is_credential);
        below + usize::from(password.is_some_and(|password| !is_encrypted(password)))
    }
    document.instances().map(of).sum()
}

struct Protection<'a> {
    passwords: Passwords<'a>,
    entropy: &'a dyn Entropy,
    /// What a user's password was encrypted to. Equal credentials stay equal: what has one twice wants
    /// the same twice.
    encrypted: HashMap<(String, String), String>,
    diagnostics: Vec<Diagnostic>,
    found: usize,
    clear: usize,
}

impl Protection<'_> {
    fn instance(&mut self, instance: &mut Instance) {
        let is_credential = instance.class.eq_ignore_ascii_case(CREDENTIAL_CLASS);
        let user = instance.text("UserName").unwrap_or_default().to_owned();
        for property in &mut instance.properties {
            if is_credential && property.name.eq_ignore_ascii_case("Password") {
                self.password(&user, &mut property.value);
            } else {
                self.within(&mut property.value);
            }
        }
    }

    fn within(&mut self, value: &mut Value) {
        match &mut value.kind {
            ValueKind::Array(values) => values.iter_mut().for_each(|value| self.within(value)),
            ValueKind::Instance(instance) => self.instance(instance),
            _ => {}
        }
    }

    fn password(&mut self, user: &str, value: &mut Value) {
        let ValueKind::Text(text) = &mut value.kind else { return };
        self.found += 1;
        if is_encrypted(text) {
            return;
        }
        let problem = match self.passwords {
            Passwords::LeaveClear => {
                self.clear += 1;
                return;
            }
            Passwords::Refuse => {
                "the password is in the clear; give the node's certificate to encrypt it for"
                    .to_owned()
            }
            Passwords::Encrypt(recipient) => {
                let key = (user.to_owned(), text.clone());
                if let Some(encrypted) = self.encrypted.get(&key) {
                    text.clone_from(encrypted);
                    return;
                }
                match recipient.encrypt(&Secret::from(text.as_str()), self.entropy) {
                    Ok(encrypted) => {
                        text.clone_from(&encrypted);
                        self.encrypted.insert(key, encrypted);
                        return;
                    }
                    Err(error) => error.to_string(),
                }
            }
        };
        self.diagnostics.push(Diagnostic { position: value.position, message: problem });
    }
}

/// Gives a property a text, in place of what it had.
fn set_text(instance: &mut Instance, name: &str, text: &str) {
    let value = Value { kind: ValueKind::Text(text.to_owned()), position: instance.position };
    let found = instance.properties.iter_mut().find(|p| p.name.eq_ignore_ascii_case(name));
    match found {
        Some(property) => property.value = value,
        None => instance.properties.push(Property {
            qualifiers: Vec::new(),
            name: name.to_owned(),
            value,
            position: instance.position,
        }),
    }
}
