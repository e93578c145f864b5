//! Text in other forms: Base64, URLs, compression, Punycode, code points.

use super::arguments::{Args, Column};
use super::dynamic_text::{self, Dynamic};
use super::kernel::call as kernel_call;
use super::string::bounded;
use super::{Call, Function, Naming, Parameter, coerce, kernel, punycode, special};
use crate::query::bound::Expr;
use crate::query::diagnostic::Problem;
use crate::query::limits::STRING_BYTES_MAX;
use crate::query::types::KqlType;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use datafusion::arrow::array::{ArrayRef, Int64Array};
use datafusion::common::Result;
use flate2::Compression;
use flate2::read::{DeflateEncoder, GzDecoder, ZlibDecoder};
use serde_json::Value as Json;
use std::io::Read;

const PLAIN: Naming = Naming::Default;
const TEXT: &[Parameter] = &[Parameter::Text];

/// With its padding, without which text is none, as for the engine.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// A function of one text that makes text, empty where it fails.
const fn text(name: &'static str, run: super::KernelFn) -> Function {
    kernel(name, PLAIN, TEXT, KqlType::String, run)
}

pub(super) const FUNCTIONS: &[Function] = &[
    text("base64_encode_tostring", encode_base64),
    text("base64_encodestring", encode_base64),
    text("base64_decode_tostring", decode_base64),
    text("base64_decodestring", decode_base64),
    kernel("base64_decode_toarray", PLAIN, TEXT, KqlType::Dynamic, |args| {
        let text = args.text(0)?;
        dynamic_text::make(args, |row| {
            let bytes = BASE64.decode(text.get(row)).ok().filter(|bytes| !bytes.is_empty());
            bytes.map(Json::from)
        })
    }),
    kernel("base64_encode_fromarray", PLAIN, &[Parameter::Any], KqlType::String, |args| {
        let array = Dynamic::read(args, 0)?;
        each_row(args, |row| Some(BASE64.encode(bytes_of(&array.get(row))?)))
    }),
    kernel("base64_decode_toguid", PLAIN, TEXT, KqlType::Guid, |args| {
        let text = args.text(0)?;
        Ok(args.make_text(|row| {
            let bytes: [u8; 16] = BASE64.decode(text.get(row)).ok()?.try_into().ok()?;
            Some(uuid::Uuid::from_bytes_le(bytes).to_string())
        }))
    }),
    special("base64_encode_fromguid", PLAIN, base64_of_guid),
    text("url_encode", |args| each(args, |text| Some(encode_url(text, true)))),
    text("url_encode_component", |args| each(args, |text| Some(encode_url(text, false)))),
    text("url_decode", |args| each(args, |text| Some(decode_url(text)))),
    text("gzip_compress_to_base64_string", |args| each(args, compress_gzip)),
    text("zlib_compress_to_base64_string", |args| each(args, compress_zlib)),
    text("gzip_decompress_from_base64_string", |args| {
        decompress(args, "gzip_decompress_from_base64_string", GzDecoder::new)
    }),
    text("zlib_decompress_from_base64_string", |args| {
        decompress(args, "zlib_decompress_from_base64_string", ZlibDecoder::new)
    }),
    text("punycode_from_string", |args| each(args, punycode::encode)),
    text("punycode_to_string", |args| each(args, punycode::decode)),
    // Named after what the argument is: these two go from names to codes and back.
    text("punycode_domain_to_string", |args| each(args, punycode::encode_domain)),
    text("punycode_domain_from_string", |args| each(args, punycode::decode_domain)),
    kernel("unicode_codepoints_from_string", PLAIN, TEXT, KqlType::Dynamic, code_points),
    kernel("to_utf8", PLAIN, TEXT, KqlType::Dynamic, code_points),
    special("unicode_codepoints_to_string", PLAIN, bind_characters),
    special("make_string", PLAIN, bind_characters),
    kernel("isascii", PLAIN, TEXT, KqlType::Bool, |args| {
        let text = args.text(0)?;
        Ok(args.make_bool(|row| Some(text.get(row).is_ascii())))
    }),
    // Text is UTF-8 always.
    kernel("isutf8", PLAIN, TEXT, KqlType::Bool, |args| Ok(args.make_bool(|_| Some(true)))),
];

const LEVEL: Compression = Compression::new(6);

fn each(args: &Args<'_>, f: impl Fn(&str) -> Option<String>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    each_row(args, |row| f(text.get(row)))
}

/// Text of each row, an error if it is too long.
fn each_row(args: &Args<'_>, f: impl Fn(usize) -> Option<String>) -> Result<ArrayRef> {
    args.try_text(|row| {
        let made = f(row);
        bounded(made.as_ref().map_or(0, String::len), args.function)?;
        Ok(made)
    })
}

fn encode_base64(args: &Args<'_>) -> Result<ArrayRef> {
    each(args, |text| Some(BASE64.encode(text)))
}

/// Empty unless the bytes are UTF-8.
fn decode_base64(args: &Args<'_>) -> Result<ArrayRef> {
    each(args, |text| String::from_utf8(BASE64.decode(text).ok()?).ok())
}

/// Of a guid alone: text that looks like one is not.
fn base64_of_guid(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 1)?;
    if let Some(other) = arguments.iter().find(|argument| argument.kql_type != KqlType::Guid) {
        let message = format!("`{}` takes a guid, not a {}", call.name, other.kql_type);
        return Err(Problem::semantic(other.span, message));
    }
    let encode = |args: &Args<'_>| {
        let guid = args.text(0)?;
        Ok(args.make_text(|row| {
            let guid = uuid::Uuid::try_parse(guid.get(row)).ok()?;
            Some(BASE64.encode(guid.to_bytes_le()))
        }))
    };
    Ok(kernel_call("base64_encode_fromguid", encode, arguments, KqlType::String, call.span))
}

/// The bytes that an array lists.
fn bytes_of(array: &Json) -> Option<Vec<u8>> {
    let bytes = array.as_array()?.iter();
    bytes.map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
}

fn encode_url(text: &str, plus: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'!' | b'*' | b'(' | b')' => encoded.push(char::from(byte)),
            b' ' if plus => encoded.push('+'),
            _ => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 15] {
                    encoded.extend(char::from_digit(u32::from(digit), 16));
                }
            }
        }
    }
    encoded
}

/// A sequence that encodes nothing stays as it is.
pub(super) fn decode_url(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(|digits| {
            digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16))
        });
        match code {
            Some(Ok(code)) => {
                decoded.push(code);
                at += 3;
            }
            _ => {
                decoded.push(if *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into())
}

/// The text deflated, or as it is in blocks of their own where that is shorter.
fn deflate(text: &str, out: &mut Vec<u8>) -> Option<()> {
    const BLOCK_BYTES_MAX: usize = 65_535;
    let start = out.len();
    DeflateEncoder::new(text.as_bytes(), LEVEL).read_to_end(out).ok()?;
    if out.len() - start <= text.len() {
        return Some(());
    }
    out.truncate(start);
    let mut blocks = text.as_bytes().chunks(BLOCK_BYTES_MAX).peekable();
    if blocks.peek().is_none() {
        out.extend([1, 0, 0, 0xff, 0xff]);
    }
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).ok()?;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    Some(())
}

/// With the header that the engine writes, which says that it was fast. See RFC 1950.
fn compress_zlib(text: &str) -> Option<String> {
    let mut bytes = vec![0x78, 0x01];
    deflate(text, &mut bytes)?;
    bytes.extend(adler32(text.as_bytes()).to_be_bytes());
    Some(BASE64.encode(bytes))
}

/// Without a time or a name. See RFC 1952.
fn compress_gzip(text: &str) -> Option<String> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    deflate(text, &mut bytes)?;
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend(crc.amount().to_le_bytes());
    Some(BASE64.encode(bytes))
}

/// See RFC 1950, 8.2.
fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % MODULUS;
        (a, (b + a) % MODULUS)
    });
    (b << 16) | a
}

/// Empty if the text is no compressed text, an error if that would be too long.
fn decompress<R: Read>(
    args: &Args<'_>,
    name: &str,
    decoder: impl Fn(std::io::Cursor<Vec<u8>>) -> R,
) -> Result<ArrayRef> {
    let text = args.text(0)?;
    args.try_text(|row| {
        let Ok(bytes) = BASE64.decode(text.get(row)) else { return Ok(None) };
        let mut plain = Vec::new();
        let most = STRING_BYTES_MAX as u64 + 1;
        if decoder(std::io::Cursor::new(bytes)).take(most).read_to_end(&mut plain).is_err() {
            return Ok(None);
        }
        bounded(plain.len(), name)?;
        Ok(String::from_utf8(plain).ok())
    })
}

fn code_points(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.text(0)?;
    dynamic_text::make(args, |row| {
        Some(Json::from(text.get(row).chars().map(u32::from).collect::<Vec<_>>()))
    })
}

/// Numbers, arrays of numbers, or both.
fn bind_characters(call: &Call<'_>, arguments: Vec<Expr>) -> Result<Expr, Problem> {
    call.arity(arguments.len(), 1, 64)?;
    let arguments = arguments
        .into_iter()
        .map(|argument| match argument.kql_type {
            KqlType::Dynamic => Ok(argument),
            _ => coerce(argument, Parameter::Long, call.name),
        })
        .collect::<Result<_, _>>()?;
    let name = "unicode_codepoints_to_string";
    Ok(kernel_call(name, characters, arguments, KqlType::String, call.span))
}

fn characters(args: &Args<'_>) -> Result<ArrayRef> {
    enum Part {
        Number(Column<Int64Array>),
        Array(Dynamic),
    }
    let parts = (0..args.len())
        .map(|at| {
            Ok(match args.kql_type(at)? {
                KqlType::Dynamic => Part::Array(Dynamic::read(args, at)?),
                _ => Part::Number(args.long(at)?),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    each_row(args, |row| {
        let mut text = String::new();
        let mut push = |code: Option<i64>| {
            text.extend(code.and_then(|c| u32::try_from(c).ok()).and_then(char::from_u32));
        };
        for part in &parts {
            match part {
                Part::Number(code) => push(code.get(row)),
                Part::Array(codes) => match codes.get(row) {
                    Json::Array(codes) => codes.iter().for_each(|code| push(code.as_i64())),
                    code => push(code.as_i64()),
                },
            }
        }
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_survive() {
        let text = "a b+c/ü?(x)~100%";
        assert_eq!(encode_url(text, true), "a+b%2bc%2f%c3%bc%3f(x)%7e100%25");
        assert_eq!(encode_url("a b", false), "a%20b");
        assert_eq!(decode_url(&encode_url(text, true)), text);
        assert_eq!(decode_url("50%, 5%zz, %4"), "50%, 5%zz, %4");
    }

    #[test]
    fn compression_survives() {
        let plain = |mut decoder: Box<dyn Read>| {
            let mut plain = String::new();
            decoder.read_to_string(&mut plain).expect("compressed text");
            plain
        };
        let random: String = (0..30_000_u32)
            .filter_map(|at| char::from_u32(at.wrapping_mul(2_654_435_761) >> 12))
            .collect();
        for text in ["", "ab", &"to be or not to be ".repeat(20), &random] {
            let bytes = |text: Option<String>| {
                std::io::Cursor::new(BASE64.decode(text.expect("text")).expect("Base64"))
            };
            assert_eq!(plain(Box::new(ZlibDecoder::new(bytes(compress_zlib(text))))), text);
            assert_eq!(plain(Box::new(GzDecoder::new(bytes(compress_gzip(text))))), text);
        }
        assert_eq!(compress_zlib("qxwz").as_deref(), Some("eAEBBAD7/3F4d3oEmAHb"));
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }
}
